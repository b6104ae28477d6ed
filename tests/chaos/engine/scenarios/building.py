"""What every scenario is built of.

A scenario is a generator: it prepares what it needs, yields the verb to be disturbed, and then does what the verb's
caller would do, having been sent the verb's answer, or the error that it raised. It returns the runs it has made.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator
from typing import Any
from uuid import UUID

from orchestrator.definitions.vocabulary import Composable, workflow
from schemas.errors import Conflict
from schemas.outcomes import Choice
from schemas.workflows import Workflow
from tests.chaos.engine.stage import Stage
from tests.integration.engine.bench import named

Verb = Callable[[], Any]
Story = Generator[Verb, Any, list[UUID]]
Scenario = Callable[[Stage], Story]

A, B, C, D, JOIN = (named(name) for name in "abcdj")
CHOOSER = named("c", gives=Choice.model_json_schema())
GAPS = named("j", takes={"type": "object", "properties": {"results": {}, "gaps": {}}})

numbers = itertools.count()


def new(body: Composable, **options: Any) -> Workflow:
    """A definition that no engine has met."""
    return workflow(f"w{next(numbers)}", body, **options)


def do(stage: Stage, run: UUID, *paths: str, value: Any = None) -> None:
    """Work these steps off."""
    for path in paths:
        assert stage.finish(stage.claim(run, path), value).accepted


def asked_again(verb: Verb, answer: Any, unless: str) -> Any:
    """The answer of a verb to a person who saw an error and asks once more, and may then be told that it was done."""
    if not isinstance(answer, Exception):
        return answer
    try:
        return verb()
    except Conflict as conflict:
        if unless not in str(conflict):
            raise
        return []
