"""The examples of the adapters run without a key, and tell that no model has answered."""

from __future__ import annotations

import gc
from importlib import import_module

import pytest

from examples.adapters.provider import NOT_A_MODEL
from tests.architecture.house import ROOT
from tests.integration.adapters.shop import Shop
from tests.integration.adapters.shop import shop as shop


@pytest.mark.filterwarnings("ignore")  # clients of examples end with their process
@pytest.mark.parametrize("framework", ["autogen", "crewai", "langgraph", "openai_agents", "pydantic_ai"])
def test_an_example_answers_by_its_script(
    shop: Shop, framework: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.chdir(ROOT)
    example = import_module(f"examples.adapters.with_{framework}")

    end = shop.ask(example.desk, {"text": "My invoice is wrong."})

    assert end.output["team"] == "billing"
    assert NOT_A_MODEL in end.output["reply"]
    assert shop.spent.usd > 0
    gc.collect()
