"""The example of a model agent, played by its script on the packages of this environment."""

from __future__ import annotations

import pytest

from examples import impact
from examples.model import speaker
from schemas.errors import DefinitionError
from schemas.settings import settings
from tests.integration.worker.test_asking import Desk
from tests.integration.worker.test_thinking import ask
from tests.integration.worker.test_thinking import desk as desk


def test_a_model_finds_what_needs_a_package_and_what_needs_that(desk: Desk) -> None:
    run = ask(desk, impact.analyst, "annotated-types")

    output = desk.end(run).output
    assert output["package"] == "annotated-types"
    assert output["breaks"][0] == "pydantic"
    assert {"fastapi", "pydantic-settings"} & set(output["breaks"][1:])


def test_it_hears_of_a_package_that_is_not_there(desk: Desk) -> None:
    run = ask(desk, impact.analyst, "no-such-package")

    assert desk.end(run).output["breaks"] == []


def test_the_environment_names_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BATON_MODEL", "openai:qwen3")
    monkeypatch.setenv("BATON_MODEL_BASE_URL", "http://localhost:11434/v1")
    monkeypatch.setenv("BATON_MODEL_PRICE", "0,0.5")
    settings.cache_clear()
    try:
        given = speaker([])
    finally:
        settings.cache_clear()

    assert given.said == "openai:qwen3"
    assert given.options["base_url"] == "http://localhost:11434/v1"
    assert given.options["price"].output == 0.5


def test_a_price_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BATON_MODEL", "openai:qwen3")
    monkeypatch.setenv("BATON_MODEL_PRICE", "cheap")
    settings.cache_clear()
    try:
        with pytest.raises(DefinitionError, match="is not IN,OUT"):
            speaker([])
    finally:
        settings.cache_clear()
