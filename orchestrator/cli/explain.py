"""`baton runs explain`: why a run went the way it went."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.text import Text

from orchestrator.cli import options
from orchestrator.cli.output import as_json, print_hanging, print_json
from orchestrator.cli.runs import resolve

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from schemas.events import Event

SHOWN = 120
"""Characters of a query or a memory that are shown."""


def explain(
    run: options.Run,
    step: Annotated[str | None, typer.Argument(help="Only the decisions of this step.")] = None,
    json: options.Json = False,
) -> None:
    """Say why a run went the way it went: its decisions and warnings, what was masked or cut, and what was read."""
    from orchestrator.cli.environment import connected
    from orchestrator.cli.tree import names
    from schemas.events import EventKind

    told = (
        EventKind.STEP_DECIDED,
        EventKind.STEP_WARNING,
        EventKind.STEP_MASKED,
        EventKind.STEP_CUT,
        EventKind.STEP_INJECTION,
        EventKind.STEP_RECALLED,
        EventKind.STEP_FORGOTTEN,
        EventKind.RUN_BUDGET_WARNING,
        EventKind.RUN_BUDGET_EXHAUSTED,
    )
    with connected() as client:
        run_id = resolve(client, run)
        found = [
            event for event in client.events(run_id) if event.kind in told and step in (None, event.path)
        ]
        texts = client.memory.texts(run_id, _read_by(found))
        called = names(client.run(run_id)) if found and not json else {}
    if json:
        print_json(found)
        return
    if not found:
        typer.echo(
            "Nothing was decided in this run: no router, supervisor or debate was reached, no loop warned,"
            " and no agent read its memory."
        )
    for event in found:
        where = _where(event, called)
        recalled = event.kind is EventKind.STEP_RECALLED
        for line in _recalled(event, where, texts) if recalled else _lines(event, where):
            print_hanging(Text.from_markup(line))


def _where(event: Event, called: Mapping[str, str]) -> str:
    """The step's path, with what it is called."""
    name = called.get(event.path)
    return f"[bold]{escape(event.path or 'run')}[/]{f' {escape(name)}' if name else ''}"


def _lines(event: Event, where: str) -> list[str]:
    data: dict[str, Any] = event.data
    if "message" in data:
        return [f"{where}  [yellow]{escape(data['message'])}[/]"]
    sure = f", confidence {data['confidence']:g}" if "confidence" in data else ""
    lines = [f"{where}  {_way(data)}{sure}: {escape(data['reason'])}"]
    if "question" in data:
        lines.append(f"    {escape(data['question'])}{_answer(data)}")
    lines += [
        f"    {escape(name)}: {escape(_found(found))}" for name, found in data.get("features", {}).items()
    ]
    rivals = sorted(data.get("alternatives", {}).items(), key=lambda one: -(one[1] or 0))
    if rivals:
        told = (escape(name) if sure is None else f"{escape(name)} {sure:g}" for name, sure in rivals)
        lines.append(f"    alternatives: {', '.join(told)}")
    return lines


def _answer(data: Mapping[str, Any]) -> str:
    """What somebody has answered; an answer that was too long to be kept is not told."""
    kept = data.get("answer", {})
    return f" {escape(as_json(kept['shown']))}" if "shown" in kept else ""


def _read_by(events: Sequence[Event]) -> list[int]:
    """The ids of the memories that were read."""
    return [one["id"] for event in events for one in event.data.get("found", ())]


def _recalled(event: Event, where: str, texts: Mapping[int, str]) -> list[str]:
    """What a step has read, best first, with what it still says."""
    data: dict[str, Any] = event.data
    if "episodes" in data:
        runs = ", ".join(data["episodes"]) or "none"
        return [f"{where}  read past runs of {escape(data['keys'][0])}: {runs}"]
    query = " ".join(data["query"].split())
    query = query if len(query) <= SHOWN else f"{query[:SHOWN]}…"
    found = data["found"]
    lines = [
        f"{where}  read {len(found)} {'memory' if len(found) == 1 else 'memories'}"
        f" for {escape(query)!r}, searched by {data['searched']}"
    ]
    for one in found:
        text = " ".join(texts.get(one["id"], "(forgotten since)").split())
        text = text if len(text) <= SHOWN else f"{text[:SHOWN]}…"
        lines.append(f"    {one['id']}  {one['score']:.2f} by {one['by']}  {escape(text)}")
    return lines


def _way(data: dict[str, Any]) -> str:
    """What was decided, and by whom."""
    if data["by"] == "event":
        return f"took the event [bold]{escape(data['choice'])}[/]"
    if data["by"] == "step":
        return f"decided for [bold]{escape(data['choice'])}[/]"
    return f"{data.get('verb', 'went to')} [bold]{escape(data['choice'])}[/] by {escape(data['by'])}"


def _found(found: Any) -> str:
    match found:
        case True:
            return "holds"
        case False | []:
            return "does not hold"
        case list():
            return f"found {', '.join(map(str, found))}"
    return str(found)
