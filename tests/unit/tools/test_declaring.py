"""Tools as they are declared, and as `baton tools ls` shows them."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import Base64Bytes, Field, SecretStr
from typer.testing import CliRunner

from orchestrator.cli.app import app
from orchestrator.loading import load
from schemas import Limit
from schemas.errors import DefinitionError, ToolError
from schemas.settings import settings
from workers import ToolCall, ask_first, fallback, schema_tool, tool
from workers.tools import http_fetch
from workers.tools.flights import key_of


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("BATON_APP", "")
    settings.cache_clear()
    yield
    settings.cache_clear()


def search(call: ToolCall, query: str, most: int = 5) -> list[str]:
    """Look it up."""
    return [query] * most


def test_a_tool_says_what_it_is_and_is_still_a_function() -> None:
    made = tool(timeout=5, limits=[Limit(concurrency=3)], cache=60, risk="medium", idempotent=False)(search)

    spec = made.spec
    assert (spec.name, spec.description, spec.timeout, spec.cache, spec.risk) == (
        "search", "Look it up.", 5, 60, "medium"
    )  # fmt: skip
    assert made.limits == (Limit(concurrency=3),)
    assert set(spec.parameters["properties"]) == {"query", "most"}
    assert spec.parameters["required"] == ["query"]
    assert made(None, "tides", 2) == ["tides", "tides"]
    assert made.check({"query": "tides"}) == {"query": "tides", "most": 5}
    assert tool(name="find", description="")(search).spec.model_dump(include={"name", "description"}) == {
        "name": "find",
        "description": "",
    }


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: tool(name="no spaces")(search), "name: String should match"),
        (lambda: tool(timeout=0)(search), "timeout: Input should be greater than 0"),
        (lambda: tool(cache=-1)(search), "cache: Input should be greater than 0"),
        (lambda: tool(functools.partial(search, most=2)), "its types cannot be read"),
        (lambda: tool(cache=True)(search), "cache: Input should be a valid number"),
        (lambda: tool("search"), "'search' is no function"),  # type: ignore[call-overload]
        (lambda: ask_first(search, expires=-1), "expires: it is seconds above 0"),
        (lambda: fallback("search", search), "write a list"),  # type: ignore[arg-type]
        (lambda: http_fetch("example.org"), "hosts: write a list: ['example.org']"),
        (lambda: tool(lambda query: query), "the type of query is not annotated"),
        (lambda: fallback("search", []), "name the tools that are tried"),
        (lambda: fallback("search", [search, narrow]), "it does not take most, which search does"),
        (lambda: fallback("search", [narrow, wide]), "it needs depth, which narrow does not take"),
        (lambda: fallback("search", [search, gated()]), "ask before the whole"),
        (lambda: fallback("no spaces", [search]), "String should match"),
        (lambda: schema_tool("look", search, parameters={"type": 7}), "is not valid"),
        (lambda: schema_tool("look", search, parameters={}, timeout=-1), "timeout"),
    ],
)
def test_faults_are_named_when_it_is_declared(make: Any, reason: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        make()

    assert reason in str(caught.value)


def test_arguments_may_have_any_name_and_keep_what_they_declare() -> None:
    def find(
        schema: str,
        _below: int,
        model_config: str,
        model_dump: str = "",
        copy: int = Field(3, ge=1, description="Of it."),
    ) -> str:
        return f"{schema} {_below} {model_config} {model_dump} {copy}"

    made = tool(find)

    assert list(made.spec.parameters["properties"]) == [
        "schema",
        "_below",
        "model_config",
        "model_dump",
        "copy",
    ]
    assert made.spec.parameters["required"] == ["schema", "_below", "model_config"]
    assert made.spec.parameters["properties"]["copy"] == {
        "default": 3,
        "description": "Of it.",
        "minimum": 1,
        "title": "Copy",
        "type": "integer",
    }
    assert made(**made.check({"schema": "s", "_below": 1, "model_config": "c"})) == "s 1 c  3"
    with pytest.raises(ToolError, match="copy: Input should be greater than or equal to 1"):
        made.check({"schema": "s", "_below": 1, "model_config": "c", "copy": 0})


def narrow(query: str) -> str:
    return query


def wide(query: str, depth: int) -> str:
    return query


def gated() -> Any:
    from workers.tools.declared import tool_of

    return tool_of(ask_first(search))


def test_a_chain_is_as_risky_as_its_riskiest_and_is_flat() -> None:
    risky = tool(risk="high", name="risky")(narrow)
    inner = fallback("inner", [narrow, risky])
    outer = fallback("outer", [inner, tool(name="last")(narrow)])

    assert outer.spec.risk == "high"
    assert outer.spec.fallbacks == ("narrow", "risky", "last")


def test_arguments_by_schema_are_checked_by_schema() -> None:
    look = schema_tool("look", search, parameters={"type": "object", "required": ["title"]})

    assert look.check({"title": "Tides"}) == {"arguments": {"title": "Tides"}}
    with pytest.raises(ToolError, match='"title" is a required property'):
        look.check({})


def test_the_tools_of_an_app_are_listed_with_those_who_may_call_them() -> None:
    result = CliRunner().invoke(app, ["tools", "ls", "--app", "tests.agents.tooled", "--json"])

    found = {one["name"]: one for one in json.loads(result.stdout)}
    assert {name: one["agents"] for name, one in found.items()} == {
        "look_up": [],
        "pay": ["buyer"],
        "search": ["writer", "buyer"],
        "guess": ["writer"],
        "library/*": ["writer"],
    }
    assert found["pay"]["asks"] == ["buyer"]
    assert found["search"]["spec"]["fallbacks"] == ["look_up", "guess"]
    table = CliRunner().invoke(app, ["tools", "ls", "--app", "tests.agents.tooled"]).stdout
    assert "buyer (asks first)" in table
    assert "2 at a time and 60/m, 5/s per tenant" in table
    assert "look_up then guess" in table


def test_an_app_whose_agents_name_what_is_not_there_is_refused() -> None:
    with pytest.raises(DefinitionError) as caught:
        load("tests.agents.untooled")

    assert "agent writer: 2 tools have the name 'look_up'" in str(caught.value)
    assert "agent writer: There is no tool 'serch'; did you mean 'search'?" in str(caught.value)


def test_calls_are_equal_whose_arguments_are_and_no_others() -> None:
    @tool(cache=60)
    def secret(of: SecretStr) -> str:
        return of.get_secret_value()

    @tool(cache=60)
    def binary(of: Base64Bytes) -> int:
        return len(of)

    @tool(cache=60)
    def plain(of: Any = 1, *, often: int = 2) -> Any:
        return of

    def keys(of: Any, *values: Any) -> set[str]:
        return {key_of(of, {"of": value}, "acme") for value in values}

    assert len(keys(secret, "one", "two")) == 2  # as JSON, both are asterisks
    assert len(keys(binary, "/w==", "/g==")) == 2  # bytes that are no text
    assert len(keys(plain, 1, 1.0, True, "1", None, [1], "\u00e9", "e\u0301")) == 8
    assert keys(plain, 1) == {key_of(plain, {}, "acme"), key_of(plain, {"often": 2}, "acme")}
    assert key_of(plain, {}, "acme") != key_of(plain, {}, "other")


def test_what_is_nested_too_deeply_is_no_result() -> None:
    @tool
    def deep(levels: int) -> Any:
        return functools.reduce(lambda inner, _: [inner], range(levels), 1)

    around: list[Any] = []
    around.append(around)

    assert deep.give(deep(1)) == [1]
    for returned in (deep(300), deep(3_000), around):
        with pytest.raises(ToolError, match="tool deep returned what has no JSON form"):
            deep.give(returned)
