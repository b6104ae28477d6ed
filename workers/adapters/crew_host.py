"""Runs one crew in the environment of CrewAI, for `workers.adapters.crewai_agent`: `python crew_host.py module:name`.

It needs CrewAI and nothing of Baton, whose packages cannot stand beside CrewAI's. It is told the inputs in one line of
JSON, and tells in lines of JSON what happens, one object each:

    {"model": 1, "name": "openai:gpt-5-mini", "said": 812}      before a call of a model: `go` or `stop` answers it
    {"ended": "openai:gpt-5-mini", "input": 203, "output": 12, "heard": 48}      after it
    {"failed": "openai:gpt-5-mini", "why": "..."}
    {"progress": {...}}, {"said": "...", "agent": "..."}
    {"done": {"raw": "...", "typed": {...}, "input": 203, "output": 12, "calls": 1}} or {"error": {...}}, at the end

It ends with whoever started it, and everything that it has started ends with it.
"""

from __future__ import annotations

import importlib
import inspect
import itertools
import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from typing import Any


class Pipe:
    """The pipes to whoever has started this process. Nobody else writes to them: prints of a crew go to stderr."""

    def __init__(self) -> None:
        self._out = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)
        self._writing = threading.Lock()
        self._numbers = itertools.count(1)
        self._answers: dict[int, str | None] = {}
        self._answered = threading.Condition()

    def tell(self, **what: Any) -> None:
        with self._writing:
            self._out.write(json.dumps(what, default=str) + "\n")
            self._out.flush()

    def ask(self, **what: Any) -> str | None:
        """Tell it and wait: None lets it happen, anything else is why not."""
        number = next(self._numbers)
        self.tell(model=number, **what)
        with self._answered:
            self._answered.wait_for(lambda: number in self._answers)
            return self._answers.pop(number)

    def listen(self) -> None:
        """Hear answers until the other side is gone."""
        for line in sys.stdin:
            heard = json.loads(line)
            with self._answered:
                self._answers[heard.get("go") or heard["stop"]] = heard.get("why")
                self._answered.notify_all()
        os.killpg(os.getpgid(0), signal.SIGKILL)


def main() -> None:
    line = Pipe()
    inputs = json.loads(sys.stdin.readline())
    threading.Thread(target=line.listen, daemon=True).start()
    try:
        line.tell(done=run(line, sys.argv[1], inputs))
    except BaseException as error:  # noqa: BLE001  whatever it is, it is told
        line.tell(error=described(error))
    os._exit(0)


def run(line: Pipe, target: str, inputs: dict[str, Any]) -> dict[str, Any]:
    sys.path.insert(0, os.getcwd())
    crew = made(target, inputs)
    events = hooked(line)
    result = crew.kickoff(inputs=inputs)
    events.flush(timeout=None)
    typed = getattr(result, "pydantic", None)
    typed = typed.model_dump(mode="json") if typed is not None else getattr(result, "json_dict", None)
    used = getattr(crew, "usage_metrics", None) or getattr(result, "token_usage", None)
    return {
        "raw": str(getattr(result, "raw", result)),
        "typed": typed,
        "input": getattr(used, "prompt_tokens", 0),
        "output": getattr(used, "completion_tokens", 0),
        "calls": getattr(used, "successful_requests", 0),
    }


def made(target: str, inputs: dict[str, Any]) -> Any:
    """The crew, or what a function or a class of this name makes; a function may take the inputs."""
    module, _, name = target.partition(":")
    found = getattr(importlib.import_module(module), name)
    if isinstance(found, type):
        found = found()
    elif not hasattr(found, "kickoff"):
        found = found(inputs) if inspect.signature(found).parameters else found()
    return found if hasattr(found, "kickoff") else found.crew()


def hooked(line: Pipe) -> Any:
    """Ask before each call of a model, and tell of what happens."""
    from crewai.events import crewai_event_bus as events
    from crewai.events.types.agent_events import AgentExecutionStartedEvent
    from crewai.events.types.llm_events import LLMCallCompletedEvent, LLMCallFailedEvent, LLMStreamChunkEvent
    from crewai.events.types.tool_usage_events import ToolUsageStartedEvent
    from crewai.hooks import HookAborted, register_before_llm_call_hook
    from crewai.types.usage_metrics import UsageMetrics

    def before(context: Any) -> None:
        why = line.ask(name=name_of(context.llm), said=sum(len(str(one)) for one in context.messages))
        if why is not None:
            raise HookAborted(why, source="baton")

    register_before_llm_call_hook(before)

    @events.on(LLMCallCompletedEvent)
    def completed(source: Any, event: Any) -> None:
        used = UsageMetrics.from_provider_dict(event.usage) or UsageMetrics()
        line.tell(
            ended=name_of(source),
            input=used.prompt_tokens,
            output=used.completion_tokens,
            heard=len(str(event.response)),
        )

    @events.on(LLMCallFailedEvent)
    def failed(source: Any, event: Any) -> None:
        line.tell(failed=name_of(source), why=event.error)

    @events.on(LLMStreamChunkEvent)
    def said(source: Any, event: Any) -> None:
        if event.tool_call is None:
            line.tell(said=event.chunk, agent=getattr(event, "agent_role", None) or "")

    @events.on(AgentExecutionStartedEvent)
    def begun(source: Any, event: Any) -> None:
        line.tell(progress={"agent": str(getattr(event.agent, "role", "")).strip()})

    @events.on(ToolUsageStartedEvent)
    def used(source: Any, event: Any) -> None:
        line.tell(progress={"tool": event.tool_name})

    return events


def name_of(model: Any) -> str:
    """The model as gates and prices know it, such as `openai:gpt-5-mini`."""
    name = str(getattr(model, "model", model))
    provider, slash, rest = name.partition("/")
    return f"{provider}:{rest}" if slash else f"{getattr(model, 'provider', None) or 'openai'}:{name}"


def described(error: BaseException) -> dict[str, Any]:
    statuses = (getattr(one, "status_code", None) for one in chain(error))
    return {
        "type": type(error).__name__,
        "message": str(error),
        "status_code": next((one for one in statuses if isinstance(one, int)), None),
        "trace": "".join(traceback.format_exception(error))[-8_000:],
    }


def chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


if __name__ == "__main__":
    main()
