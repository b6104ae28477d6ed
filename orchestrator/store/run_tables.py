"""The tables of runs.

A `definition` is a workflow as it was; a `run` executes one on an input. Every node of the definition that a run
reaches is a `step`: leaves are agents, the others (pipelines, fan-outs) hold their children open. The row of a
step that is done is its checkpoint. `attempts` keeps the finished tries of a step, `journal` what a step has done
inside, and need not do again; `events` tells the run's story, `idempotency_keys` which submissions are repetitions.
A run that a step of another one started is that one's child.

Payloads stand once. A step's input is its own (`input`, an item of an `each`) or a reference (`input_ref`):

    run          the input of the run
    in:PATH      the input of the step at PATH
    out:PATH     the output of the step at PATH
    all:PATH     the outputs of all children of the fan-out or each at PATH

A composite step has an `output_ref`, which is any of them, or an `output` of its own if it made something of what its
parts produced.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Identity,
    Index,
    Integer,
    Interval,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSON, JSONB

from orchestrator.store.metadata import Time, metadata, one_of
from schemas.runs import RUN_ENDED, STEP_ENDED, RunState, StepState

definitions = Table(
    "definitions",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("version", Integer, nullable=False),
    # As text: jsonb would forget the order of the branches.
    Column("body", JSON, nullable=False),
    Column("created_at", Time, nullable=False, server_default=func.now()),
    Index("definitions_name", "name", "created_at"),
)

runs = Table(
    "runs",
    metadata,
    Column("id", Uuid, primary_key=True),
    # No foreign keys here: checking one would lock the same row in every transaction that creates a run or a step.
    Column("definition_id", Text, nullable=False),
    Column("workflow", Text, nullable=False),
    Column("tenant", Text, nullable=False, server_default="default"),
    Column("priority", SmallInteger, nullable=False, server_default="0"),
    Column("labels", JSONB, nullable=False, server_default=text("'{}'::jsonb")),
    Column("input", JSONB, nullable=False),
    Column("state", Text, nullable=False),
    Column("output_ref", Text),
    Column("error", JSONB),
    Column("degraded", Boolean, nullable=False, server_default=text("false")),
    Column("created_at", Time, nullable=False, server_default=func.clock_timestamp()),
    Column("started_at", Time),
    Column("finished_at", Time),
    Column("due_at", Time),
    Column("paused_at", Time),
    Column("pause_reason", Text),
    # What was left until `due_at`, which a paused run has none of.
    Column("time_left", Interval),
    # The run that this one was forked from, and the step from which it goes its own way.
    Column("forked_from", Uuid),
    Column("forked_at", Text),
    # The step that started this run, and whether that step waits for it. A step that went on without one, because it
    # had been cancelled, starts another: `parent_try` counts them.
    Column("parent_run", Uuid),
    Column("parent_step", Text),
    Column("parent_try", SmallInteger),
    Column("awaited", Boolean),
    # What it may consume; whose budgets count what it does consume: its own, and those of the runs that wait for it.
    Column("budget", JSONB),
    Column("accounts", ARRAY(Uuid)),
    # Of workers before 0.4.0, which may run on this schema while they are replaced: a budget stops steps, not runs.
    Column("exhausted", Text),
    CheckConstraint(one_of("state", RunState), name="state_known"),
    CheckConstraint("(state = 'paused') = (paused_at IS NOT NULL)", name="paused_since"),
    CheckConstraint("time_left IS NULL OR state = 'paused'", name="time_left_when_paused"),
    CheckConstraint(f"({one_of('state', sorted(RUN_ENDED))}) = (finished_at IS NOT NULL)", name="finished"),
    CheckConstraint("(state = 'completed') = (output_ref IS NOT NULL)", name="output_when_completed"),
    CheckConstraint("(state = 'failed') <= (error IS NOT NULL)", name="error_when_failed"),
    CheckConstraint("priority BETWEEN 0 AND 9", name="priority_range"),
    CheckConstraint(
        "num_nulls(parent_run, parent_step, parent_try, awaited) IN (0, 4)", name="child_as_a_whole"
    ),
    Index("runs_recent", "created_at"),
    # A step starts a run once, however often it is entered.
    Index(
        "runs_children",
        "parent_run",
        "parent_step",
        "parent_try",
        unique=True,
        postgresql_where=text("parent_run IS NOT NULL"),
    ),
    Index("runs_due", "due_at", postgresql_where=text("due_at IS NOT NULL")),
    Index("runs_labels", "labels", postgresql_using="gin"),
    Index("runs_forks", "forked_from", postgresql_where=text("forked_from IS NOT NULL")),
    # The past runs of a key.
    Index(
        "runs_of_keys",
        "tenant",
        text("(labels ->> 'key')"),
        "created_at",
        postgresql_where=text("labels ->> 'key' IS NOT NULL"),
    ),
)

steps = Table(
    "steps",
    metadata,
    Column("run_id", Uuid, primary_key=True),
    Column("path", Text, primary_key=True),
    Column("parent", Text, nullable=False),
    Column("ordinal", Integer, nullable=False),
    Column("kind", Text, nullable=False),
    Column("agent", Text),
    Column("state", Text, nullable=False),
    Column("attempt", Integer, nullable=False, server_default="0"),
    Column("retries", Integer, nullable=False, server_default="0"),
    Column("losses", Integer, nullable=False, server_default="0"),
    Column("input", JSONB),
    Column("input_ref", Text),
    Column("output", JSONB),
    Column("output_ref", Text),
    Column("error", JSONB),
    Column("usage", JSONB),
    Column("worker_id", Uuid),
    Column("due_at", Time),
    # What was left until `due_at` of a fan-out whose run is paused.
    Column("time_left", Interval),
    Column("ready_at", Time),
    Column("started_at", Time),
    Column("finished_at", Time),
    # The limit that it waits for, while it is ready.
    Column("limited", Text),
    CheckConstraint(one_of("state", StepState), name="state_known"),
    # Kinds grow with every version, like those of events.
    CheckConstraint("kind ~ '^[a-z_]+$'", name="kind_form"),
    CheckConstraint("(kind = 'agent') = (agent IS NOT NULL)", name="agent_when_leaf"),
    CheckConstraint("(input IS NULL) <> (input_ref IS NULL)", name="one_input"),
    CheckConstraint(f"({one_of('state', sorted(STEP_ENDED))}) = (finished_at IS NOT NULL)", name="finished"),
    CheckConstraint(
        "(state = 'done') = (output IS NOT NULL OR output_ref IS NOT NULL)", name="output_when_done"
    ),
    CheckConstraint("output IS NULL OR output_ref IS NULL", name="one_output"),
    CheckConstraint("(state = 'running') <= (worker_id IS NOT NULL AND attempt > 0)", name="running_is_held"),
    CheckConstraint("(state = 'open') <= (kind <> 'agent')", name="open_is_composite"),
    CheckConstraint("kind = 'agent' OR state NOT IN ('ready', 'running')", name="composite_never_runs"),
    # Which child may start next? Those before it are many, and no longer pending.
    Index("steps_pending", "run_id", "parent", "ordinal", postgresql_where=text("state = 'pending'")),
    # Is any child left? From the last one backwards, since the first ones end first. Not on `ordinal` itself, or a
    # plan made on an empty table would look here for those that are pending.
    Index(
        "steps_unfinished",
        "run_id",
        "parent",
        text("(- ordinal)"),
        postgresql_where=text("state IN ('pending', 'ready', 'running', 'open', 'waiting', 'dead')"),
    ),
    # What a dead worker held, and what waits for a worker.
    Index("steps_running", "worker_id", postgresql_where=text("state = 'running'")),
    Index("steps_ready", "agent", "ready_at", postgresql_where=text("state = 'ready'")),
    Index(
        "steps_joins",
        "run_id",
        "path",
        postgresql_where=text("state = 'open' AND kind IN ('fan_out', 'each')"),
    ),
    Index("steps_due", "due_at", postgresql_where=text("due_at IS NOT NULL")),
    # Who waits for this limit?
    Index(
        "steps_limited",
        "limited",
        "due_at",
        postgresql_where=text("limited IS NOT NULL AND state = 'ready' AND ready_at IS NOT NULL"),
    ),
    postgresql_with={"fillfactor": "80"},
)

attempts = Table(
    "attempts",
    metadata,
    Column("run_id", Uuid, primary_key=True),
    Column("path", Text, primary_key=True),
    Column("attempt", Integer, primary_key=True),
    Column("worker_id", Uuid, nullable=False),
    Column("state", Text, nullable=False),
    Column("error", JSONB),
    Column("usage", JSONB),
    Column("started_at", Time, nullable=False),
    Column("finished_at", Time, nullable=False, server_default=func.clock_timestamp()),
    CheckConstraint(
        one_of("state", ("done", "failed", "lost", "released", "skipped", "cancelled", "waiting", "limited")),
        name="state_known",
    ),
)

events = Table(
    "events",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("run_id", Uuid, nullable=False),
    Column("number", Integer),
    Column("kind", Text, nullable=False),
    Column("path", Text, nullable=False, server_default=""),
    Column("data", JSONB, nullable=False, server_default=text("'{}'::jsonb")),
    Column("at", Time, nullable=False, server_default=func.clock_timestamp()),
    # Kinds grow with every version; a list of them here would need a migration each time.
    CheckConstraint("kind ~ '^(run|step)[.][a-z_]+$'", name="kind_form"),
    CheckConstraint("number > 0", name="number_from_one"),
    UniqueConstraint("run_id", "number"),
)

journal = Table(
    "journal",
    metadata,
    Column("run_id", Uuid, primary_key=True),
    Column("path", Text, primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("name", Text, nullable=False),
    Column("value", JSONB, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("at", Time, nullable=False, server_default=func.clock_timestamp()),
)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("run_id", Uuid, nullable=False),
    Column("digest", Text, nullable=False),
    Column("created_at", Time, nullable=False, server_default=func.now()),
    Index("idempotency_keys_of_runs", "run_id"),
)
