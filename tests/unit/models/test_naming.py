"""Names of models: what is wrong with them is told when an agent is declared, and what they want of an environment."""

from __future__ import annotations

import ast
import inspect

import pytest
from pydantic import ValidationError

from schemas import Limit, Price
from schemas.errors import DefinitionError
from workers import Model, llm_agent
from workers.models.providers import PROVIDERS, wanted

NO_MODELS = {"elevenlabs", "sentence-transformers", "voyageai"}
"""Providers of other things than models that answer."""


def declared(**options: object) -> None:
    given: dict[str, object] = {"input": str, "output": str, "instructions": "Write."}
    llm_agent("clerk", **(given | options))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"model": "openia:gpt-5"}, "model: there is no provider 'openia'; did you mean openai?"),
        ({"model": "Anthropic:claude"}, "did you mean anthropic?"),
        ({"models": ["openai:gpt-5-nano", "grok:4"]}, "did you mean groq?"),
        (
            {"model": "openai:gpt-5", "fallbacks": ["antropic:claude-haiku-4-5"]},
            "fallbacks/model: there is no provider 'antropic'; did you mean anthropic?",
        ),
        ({"model": "qqq:x"}, "there is no provider 'qqq'; there are: alibaba, anthropic, "),
        (
            {"model": Model("opnai:x", base_url="http://h/v1", price=Price(input=0, output=0))},
            "did you mean openai?",
        ),
    ],
)
def test_a_provider_that_nobody_knows_is_refused_where_it_is_declared(
    options: dict[str, object], told: str
) -> None:
    with pytest.raises(DefinitionError) as caught:
        declared(**options)
    assert told in str(caught.value)
    assert len(caught.value.faults) == 1, "each is told once"


def test_providers_that_are_known_are_declared_as_ever() -> None:
    for name in (*PROVIDERS, "gateway/openai", "gateway/groq"):
        declared(model=f"{name}:some-model")


def test_the_table_holds_what_pydantic_ai_knows() -> None:
    from pydantic_ai.models import known_model_names
    from pydantic_ai.providers import infer_provider_class

    tree = ast.parse(inspect.getsource(infer_provider_class))
    known = {one.value for case in ast.walk(tree) if isinstance(case, ast.match_case) for one in _texts(case)}
    assert set(PROVIDERS) == known - NO_MODELS
    named = {name.partition(":")[0] for name in known_model_names() if ":" in name}
    assert not {one for one in named if not one.startswith("gateway/")} - set(PROVIDERS)


def test_a_model_takes_its_limits_as_a_list_too() -> None:
    # Its client is found by it, so it is hashed in each call
    limits = [Limit(rate="500/m", burst=20)]
    listed = Model("openai:gpt-5-mini", limits=limits)

    assert hash(listed) == hash(Model("openai:gpt-5-mini", limits=tuple(limits)))
    assert listed.limits == tuple(limits)
    declared(model=listed)


def _texts(case: ast.match_case) -> list[ast.Constant]:
    return [
        one for one in ast.walk(case.pattern) if isinstance(one, ast.Constant) and isinstance(one.value, str)
    ]


@pytest.mark.filterwarnings("ignore:.GitHubProvider. is deprecated")
@pytest.mark.parametrize("provider", [name for name, wants in PROVIDERS.items() if wants])
def test_pydantic_ai_asks_for_the_same_variable(provider: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from pydantic_ai.exceptions import UserError
    from pydantic_ai.providers import infer_provider

    for name in {one for names in PROVIDERS.values() for one in names}:
        monkeypatch.delenv(name, raising=False)
    # What it wants beside that.
    monkeypatch.setenv("SNOWFLAKE_ACCOUNT", "a-b")
    monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", "https://example.org")
    monkeypatch.setenv("OPENAI_API_VERSION", "2026-01-01")
    with pytest.raises((UserError, ImportError), match=f"{wanted(provider)[0]}|Please install"):
        infer_provider(provider)


@pytest.mark.parametrize("price", [float("inf"), float("nan"), -1.0])
def test_a_price_that_is_no_amount_is_refused_where_it_is_written(price: float) -> None:
    """Its first call would be without measure, and fail."""
    with pytest.raises(ValidationError):
        Price(input=price, output=0)
    with pytest.raises(ValidationError):
        Price(input=0, output=price)
