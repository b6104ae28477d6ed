"""The values everything else is made of: ids, retries, states, settings, fits and definitions."""

from __future__ import annotations

import time
from enum import Enum
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from orchestrator.definitions.compile import compile_workflow
from orchestrator.definitions.produced import Shape
from orchestrator.definitions.vocabulary import Part, each, fan_out, workflow
from orchestrator.identify import new_id
from schemas.agents import AgentSpec, Retry
from schemas.errors import DefinitionError
from schemas.fit import faults, inline
from schemas.outcomes import Gathered
from schemas.runs import RUN_ENDED, RUN_MOVES, STEP_ENDED, STEP_MOVES, RunState, StepState
from schemas.settings import Settings
from schemas.tree import walk
from schemas.workflows import FanOut, Leaf, Pipeline, Workflow
from tests.integration.engine.bench import named

# --- ids --------------------------------------------------------------------------------------------------


def test_ids_are_uuids_of_version_7_in_the_order_of_time() -> None:
    before = time.time_ns() // 1_000_000
    ids = [new_id() for _ in range(1_000)]

    assert {(one.version, one.variant) for one in ids} == {(7, "specified in RFC 4122")}
    assert len(set(ids)) == 1_000
    stamps = [one.int >> 80 for one in ids]
    assert stamps == sorted(stamps)
    assert before <= stamps[0] <= stamps[-1] <= time.time_ns() // 1_000_000


# --- retries ----------------------------------------------------------------------------------------------


@given(
    st.builds(
        Retry,
        base=st.floats(0.01, 100),
        factor=st.floats(1, 10),
        cap=st.floats(0.01, 1_000),
        jitter=st.booleans(),
    ),
    st.integers(1, 100),
    st.floats(0, 1, exclude_max=True),
)
def test_a_wait_lies_between_half_and_all_of_its_bound(retry: Retry, number: int, draw: float) -> None:
    full = min(retry.cap, retry.base * retry.factor ** (number - 1))

    assert full / 2 * 0.999 <= retry.delay(number, draw) <= full
    if not retry.jitter:
        assert retry.delay(number, draw) == full


# --- states -----------------------------------------------------------------------------------------------


def test_every_state_has_its_moves_and_only_failures_are_left_again() -> None:
    assert set(RUN_MOVES) == set(RunState)
    assert set(STEP_MOVES) == set(StepState)
    assert {state for state in RUN_ENDED if RUN_MOVES[state]} == {RunState.FAILED}
    assert {state for state in STEP_ENDED if STEP_MOVES[state]} == {StepState.FAILED, StepState.SKIPPED}
    # From every state that is no end, an end can be reached
    for moves, ended in ((RUN_MOVES, RUN_ENDED), (STEP_MOVES, STEP_ENDED)):
        assert all(state in ended or ended & following for state, following in moves.items())


# --- settings ---------------------------------------------------------------------------------------------


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DATABASE_URL", "BROKER_URL", "APP", "DATA_DIR", "HEARTBEAT", "LEASE", "POOL_SIZE"):
        monkeypatch.delenv(f"BATON_{name}", raising=False)
    plain = Settings()
    assert (plain.database_url, plain.app, plain.data_dir) == (None, "", Path(".baton"))

    monkeypatch.setenv("BATON_LEASE", "7.5")
    monkeypatch.setenv("BATON_APP", "one,two")
    assert (Settings().lease, Settings().app) == (7.5, "one,two")

    monkeypatch.setenv("BATON_LEASE", "-1")
    with pytest.raises(ValidationError, match="greater than 0"):
        Settings()


# --- fit --------------------------------------------------------------------------------------------------


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Tree(BaseModel):
    name: str
    parts: list[Tree] = []


class Person(BaseModel):
    name: str
    age: int | None = None


class Named(BaseModel):
    name: str


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str


class Inner(BaseModel):
    person: Person


class Wanting(BaseModel):
    person: Strict


def told(produced: Any, wanted: Any) -> list[str]:
    give = TypeAdapter(produced).json_schema(mode="serialization")
    take = TypeAdapter(wanted).json_schema(mode="validation")
    return [str(fault) for fault in faults(give, take)]


@pytest.mark.parametrize(
    ("produced", "wanted"),
    [
        (int, int),
        (int, float),
        (int, int | str),
        (int | str, str | int | None),
        (Literal["red"], Colour),
        (Colour, str),
        (Person, Named),
        (Named, Person),
        (Tree, Tree),
        (list[Person], list[Named]),
        (dict[str, int], dict[str, int]),
        (Any, Person),
        (Person, Any),
        (str, Literal["red"]),  # cannot be decided: left to validation
    ],
)
def test_what_fits_is_let_through(produced: Any, wanted: Any) -> None:
    assert told(produced, wanted) == []


@pytest.mark.parametrize(
    ("produced", "wanted", "fault"),
    [
        (str, int, "is string, but integer is wanted"),
        (float, int, "is number, but integer is wanted"),
        (int | None, int, "is null, but integer is wanted"),
        (int | str, int | None, "may be string, but integer or null is wanted"),
        (Literal["green", "red"], Colour, "may be 'green', which is none of ['red', 'blue']"),
        (Named, Tree, ""),
        (Named, Inner, "person: is wanted but Named has no such field"),
        (Person, Strict, "age: is produced but Strict forbids other fields"),
        (Inner, Wanting, "person.age: is produced but Strict forbids other fields"),
        (list[int], list[str], "[]: is integer, but string is wanted"),
        (list[list[int]], list[list[str]], "[][]: is integer, but string is wanted"),
        (int, list[int], "is integer, but array is wanted"),
    ],
)
def test_what_does_not_fit_is_named_with_its_place(produced: Any, wanted: Any, fault: str) -> None:
    assert told(produced, wanted) == ([fault] if fault else [])


def test_a_recursive_type_is_compared_and_inlined_without_end() -> None:
    schema = TypeAdapter(Tree).json_schema()

    flat = inline(schema)

    assert "$ref" not in str(flat)
    assert flat["properties"]["parts"]["items"] == {}


# --- definitions ------------------------------------------------------------------------------------------

TEXT, NUMBER = {"type": "string"}, {"type": "integer"}
a = named("a", takes=TEXT, gives=NUMBER)
b = named("b", takes=NUMBER, gives=TEXT)
lister = named("lister", takes=TEXT, gives={"type": "array", "items": TEXT})


def test_a_workflow_survives_json_and_its_id_names_its_content() -> None:
    body = a >> fan_out(b, other=b >> a, join=named("j"), require=1, within=5) >> each(a, items="x")
    made = workflow("w", a >> b, description="d", timeout=9)
    nested = workflow("n", named("s") >> fan_out(b, x=each(a, parallel=3)))

    for one in (made, nested):
        again = Workflow.model_validate_json(one.model_dump_json())
        assert again == one
        assert again.id == one.id
    assert made.id != made.model_copy(update={"version": 2}).id
    assert made.id != made.model_copy(update={"timeout": 8}).id
    assert body.node.pattern == "pipeline"
    # The order of keys is no difference
    data = made.model_dump(mode="json")
    assert Workflow.model_validate(dict(reversed(data.items()))).id == made.id
    assert made.id == workflow("w", a >> b, description="d", timeout=9).id


def test_faults_are_named_all_at_once_with_their_places() -> None:
    body = a >> a >> fan_out(b, lister, join=named("j", takes={"type": "array"}), require="any") >> each(b)

    with pytest.raises(DefinitionError) as refused:
        workflow("w", body)

    assert [str(fault) for fault in refused.value.faults] == [
        "1 (a): input is integer, but string is wanted",
        "2/lister (lister): input is integer, but string is wanted",
        "2/join (j): input takes a bare list, but a branch may be missing: take Gathered[...]",
    ]


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        (each(a, items="x") >> each(b, items="nothing"), "1 (each): its input has no field 'nothing'"),
        (a >> each(b), "1 (each): needs a list, but receives integer"),
        (lister >> each(b), "1/* (b): input is string, but integer is wanted"),
        (fan_out(a, require=2), "0: require=2, but there are only 1 branches"),
        (fan_out(a, require=-1), "0: require must not be negative"),
        (fan_out(join=None, gaps=a), "0/gaps: 'gaps' is a reserved name: rename the branch"),
        (
            fan_out(a, join=named("j", takes={"type": "object", "required": ["b"]})),
            "0/join (j): input b: is wanted but object has no such field",
        ),
    ],
)
def test_each_kind_of_fault_is_refused(body: Part, fault: str) -> None:
    with pytest.raises(DefinitionError) as refused:
        workflow("w", body)
    assert fault in [str(one) for one in refused.value.faults]


def test_an_unknown_agent_is_refused() -> None:
    spec = AgentSpec(name="a", input_schema={}, output_schema={})
    body = Pipeline(stages=(Leaf(agent="a"), FanOut(branches={"x": Leaf(agent="b")})))

    with pytest.raises(DefinitionError, match="1/x: there is no agent 'b'"):
        compile_workflow(Workflow(name="w", body=body, agents={"a": spec}))


def test_sugar_refuses_what_has_no_name() -> None:
    with pytest.raises(DefinitionError, match="a pipeline needs a name"):
        fan_out(a >> b)
    with pytest.raises(DefinitionError, match="'a' is there twice"):
        fan_out(a, a)
    with pytest.raises(DefinitionError, match="it has no branches"):
        fan_out()
    with pytest.raises(DefinitionError, match="a join is an agent, not a pipeline"):
        fan_out(a, join=a >> b)
    with pytest.raises(DefinitionError, match="two different agents have this name"):
        workflow("w", a >> named("a", gives=TEXT))


def test_the_shape_of_results_follows_who_takes_them() -> None:
    gathered = TypeAdapter(Gathered[int]).json_schema()
    takers = {
        Shape.NAMED: named("t"),
        Shape.NAMED_WITH_GAPS: named(
            "t", takes={"type": "object", "properties": {"gaps": {"type": "array"}}}
        ),
        Shape.GATHERED: named("t", takes=gathered),
        Shape.LIST: named("t", takes={"type": "array", "items": NUMBER}),
    }
    for shape, taker in takers.items():
        plan = compile_workflow(workflow("w", fan_out(a, x=a) >> taker))
        assert plan.shape("1", "0") is shape


def test_steps_find_their_node_below_any_item() -> None:
    plan = compile_workflow(
        workflow("w", named("s") >> each(each(named("t") >> named("u")), join=named("j")))
    )

    assert plan.at("1/7/3/1").path == "1/*/*/1"
    assert plan.at("1/join").node == Leaf(agent="j")
    assert [path for path, _ in walk(plan.workflow.body)] == [
        "", "0", "1", "1/*", "1/*/*", "1/*/*/0", "1/*/*/1", "1/join",
    ]  # fmt: skip


def test_the_input_of_a_workflow_is_what_its_first_agents_take() -> None:
    def schema(body: Part) -> Any:
        return compile_workflow(workflow("w", body)).input_schema

    assert schema(a >> b) == TEXT
    assert schema(fan_out(a, x=a)) == TEXT
    assert schema(fan_out(a, b)) == {"allOf": [TEXT, NUMBER]}
    assert schema(each(a, max_items=5)) == {"type": "array", "items": TEXT, "maxItems": 5}
    assert schema(each(a, items="x"))["properties"]["x"]["items"] == TEXT
