"""What is given to a model agent where something else is wanted: found when it is declared, and not when it runs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from pydantic import TypeAdapter

from schemas.errors import Fault
from workers.models.named import Model
from workers.models.providers import PROVIDERS

SETTINGS = frozenset(
    {
        "cache",
        "citations",
        "extra_body",
        "extra_headers",
        "first_event_timeout",
        "framing_announcement",
        "frequency_penalty",
        "logit_bias",
        "max_tokens",
        "parallel_tool_calls",
        "presence_penalty",
        "request_timeout",
        "seed",
        "service_tier",
        "stop_sequences",
        "temperature",
        "thinking",
        "timeout",
        "tool_choice",
        "top_k",
        "top_p",
    }
)
"""The settings that pydantic-ai knows for every model, written down here because it takes a second to load; a test
holds them to what it knows. Those of one provider begin with its name: `openai_reasoning_effort`."""
_OWNERS = frozenset(name.partition("-")[0] for name in PROVIDERS)


def misshapen(
    *,
    tools: Any,
    models: Any,
    fallbacks: Any,
    instructions: Any,
    settings: Any,
    numbers: Mapping[str, Any],
) -> list[Fault]:
    """What has not the form that the rest of the declaration relies on."""
    faults = [
        *_listed("tools", tools, "[search]"),
        *_models("models", models),
        *_models("fallbacks", fallbacks),
        *setting_faults(settings),
    ]
    if not isinstance(instructions, str):
        faults.append(Fault("instructions", f"it is a text, not {instructions!r}"))
    for name, given in numbers.items():
        if isinstance(given, bool) or not isinstance(given, int | float):
            faults.append(Fault(name, f"it is a number, not {given!r}"))
    return faults


def _listed(where: str, given: Any, example: str) -> Iterator[Fault]:
    if isinstance(given, str) or not isinstance(given, Sequence):
        yield Fault(where, f"write a list: {example}")


def _models(where: str, given: Any) -> Iterator[Fault]:
    if found := list(_listed(where, given, '["openai:gpt-5-mini"]')):
        yield from found
        return
    for one in given:
        if not isinstance(one, str | Model):
            yield Fault(where, f"a model is PROVIDER:NAME or Model(...), not {one!r}")


def setting_faults(settings: Any) -> Iterator[Fault]:
    """What is no setting of a model; a misspelt one would be ignored without a word."""
    if settings is None:
        return
    if not isinstance(settings, Mapping):
        yield Fault("settings", f'they are a mapping, such as {{"temperature": 0.2}}, not {settings!r}')
        return
    for name in settings:
        if name not in SETTINGS and str(name).partition("_")[0] not in _OWNERS:
            yield Fault("settings", f"there is no setting {name!r}; {_hint(name)}")
    longest = settings.get("max_tokens", 1)
    if isinstance(longest, bool) or not isinstance(longest, int) or longest < 1:
        yield Fault("settings/max_tokens", f"it is a whole number above 0, not {longest!r}")


def _hint(name: Any) -> str:
    if name == "max_retries":
        return "what is asked again passes limits and budgets again: retry=Retry(...), or fallbacks"
    close = get_close_matches(str(name), SETTINGS, n=1)
    return f"did you mean {close[0]}?" if close else f"there are: {', '.join(sorted(SETTINGS))}"


def unknown_fields(confidence: str, types: Mapping[str, TypeAdapter[Any]]) -> Iterator[Fault]:
    """The fields that this expression wants of `input` or `output` and that those have not: it could never be told."""
    for name, adapter in types.items():
        schema = adapter.json_schema(mode="serialization", by_alias=False)
        known = schema.get("properties", {})
        if not known or schema.get("additionalProperties"):
            continue
        for field in dict.fromkeys(re.findall(rf"\b{name}\.([A-Za-z_]\w*)(?!\w*\()", confidence)):
            if field not in known:
                yield Fault("confidence", f"the {name} has no field {field!r}; it has: {', '.join(known)}")
