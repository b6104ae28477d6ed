"""What the engine does, one verb at a time, so that a fault can be put at each of its statements."""

from __future__ import annotations

from orchestrator.definitions.vocabulary import approve, child, each, fan_out, loop, route
from tests.chaos.engine.scenarios import children, cluster, events, intake, runs, steps, teams, waits
from tests.chaos.engine.scenarios.building import JOIN, A, B, C, Scenario, new

NESTED = fan_out(a=A, each=each(B >> C, parallel=1, within=3600), join=JOIN, require="any", within=3600)

SCENARIOS: dict[str, Scenario] = {
    "submit a pipeline": intake.submitting(A >> B),
    "submit a fan-out, later": intake.submitting(fan_out(A, B, parallel=1), delay=3600),
    "submit an each, three times": intake.submitting(each(A, join=JOIN), [1, 2], count=3),
    "register": intake.registering,
    "claim": steps.claiming(A >> B, None, "0"),
    "claim branches together": steps.claiming(fan_out(A, B), None, "0/a", "0/b"),
    "claim a join": steps.claiming(fan_out(A, B, join=JOIN), None, "0/join", before=("0/a", "0/b")),
    "claim under limits": steps.claiming_within,
    "make room under a limit": steps.making_room,
    "record the first stage": steps.recording(A >> B, "0", progress=2),
    "record a stage and go on": steps.recording(A >> B >> C, "0", goes_on=True),
    "record the last stage": steps.recording(A >> B, "1", before=("0",)),
    "record a failure": steps.recording(A >> B, "0", fails=True),
    "record a retry": steps.recording(A >> B, "0", fails=True, retry_in=0.0),
    "record what an each takes": steps.recording(A >> each(B, parallel=1), "0", value=[1, 2]),
    "record what an each takes from a fan-out": steps.recording(
        each(A) >> each(B), "0/1", value=[1, 2], before=("0/0",)
    ),
    "record a branch, the next one starts": steps.recording(each(A, parallel=1), "0/0", value=[1, 2]),
    "record a branch that opens a nest": steps.recording(
        each(NESTED, parallel=1),
        "0/0/join",
        value=[[1], [2]],
        before=("0/0/a", "0/0/each/0/0", "0/0/each/0/1"),
    ),
    "record what starts a child": steps.recording(A >> child(new(B)) >> C, "0"),
    "record the end of a child": children.ending,
    "cancel a run and its child": children.cancelling,
    "resume a run and its child": children.resuming,
    "record what exceeds a budget": children.exceeding,
    "record the last branch": steps.recording(
        fan_out(A, B, join=JOIN, within=3600) >> C, "0/b", before=("0/a",)
    ),
    "record one of the last branches": steps.recording(
        fan_out(A, B, join=JOIN), "0/b", before=("0/a",), meanwhile=steps.join_is_looked_at
    ),
    "record too few branches": steps.recording(
        fan_out(A, B, require=2) >> C, "0/b", before=("0/a",), fails=True
    ),
    "record what a loop goes on with": steps.recording(loop(A, max_rounds=2) >> B, "0/0", value=1),
    "record who decides the way": steps.recording(
        route(a=A, b=B, by=C, fallback="b"), "0/by", value={"choice": "a", "confidence": 1.0}
    ),
    "record a stage that fails, another takes its place": steps.recording(
        A.otherwise(B) >> C, "0/do", fails=True
    ),
    "record a plan, its assignments begin": teams.ending("0/0/plan"),
    "record the last assignment, the review begins": teams.ending(teams.WORKED[-1], *teams.WORKED[:-1]),
    "record a review, the next round begins": teams.ending("0/0/review", *teams.WORKED),
    "record the last debater, they agree": teams.answering("0/positions/b", "0/positions/a"),
    "record many runs": steps.recording_of_many_runs,
    "release": cluster.releasing,
    "beat": cluster.beating,
    "stop": cluster.stopping,
    "send what the server forgot": cluster.claiming_what_the_server_forgot,
    "set a message aside": cluster.setting_a_message_aside,
    "sweep: a worker died": cluster.sweeping(cluster.a_worker_died),
    "sweep: messages were lost": cluster.sweeping(cluster.messages_were_lost),
    "sweep: the broker forgot": cluster.sweeping(cluster.the_broker_forgot),
    "sweep: a join was forgotten": cluster.sweeping(cluster.a_join_was_forgotten),
    "look: a delayed start is due": cluster.looking(cluster.a_delayed_start_is_due),
    "look: a run is late": cluster.looking(cluster.a_run_is_late),
    "look: a fan-out is late": cluster.looking(cluster.a_fan_out_is_late),
    "record what is to be approved": steps.recording(A >> approve("ask", expires=0.001), "0"),
    "record a question": waits.asking,
    "answer": waits.answering,
    "keep what was done": waits.keeping,
    "look: people are to be told": waits.telling,
    "record what goes on and is told": steps.recording(A >> approve("ask", risk="medium") >> B, "0"),
    "approve": waits.deciding("approved"),
    "reject": waits.deciding("rejected"),
    "look: a wait is late": cluster.looking(waits.a_wait_is_late),
    "look: events start runs": events.at_once,
    "look: events start runs at their pace": events.at_a_pace,
    "look: events wake steps": cluster.looking(events.steps_wait),
    "cancel": runs.cancelling,
    "pause": runs.pausing,
    "resume what was paused": runs.resuming_what_was_paused,
    "set a step aside": cluster.setting_a_step_aside,
    "retry what was set aside": cluster.deciding("retry_step"),
    "drop what was set aside": cluster.deciding("drop_step"),
    "submit in a transaction of the caller": intake.lending,
    "fork": runs.forking,
    "prune": runs.pruning,
    "resume": runs.resuming,
    "number events": runs.numbering,
}
"""Every verb, in every way that makes a difference to its statements."""


SHORT = frozenset(
    {
        "claim under limits",
        "make room under a limit",
        "submit a pipeline",
        "submit in a transaction of the caller",
        "register",
        "claim",
        "record the first stage",
        "record a stage and go on",
        "record the last stage",
        "record a retry",
        "record what an each takes from a fan-out",
        "record a branch, the next one starts",
        "record one of the last branches",
        "release",
        "beat",
        "stop",
        "send what the server forgot",
        "set a message aside",
        "sweep: a worker died",
        "sweep: the broker forgot",
        "look: a fan-out is late",
        "record what is to be approved",
        "approve",
        "record a question",
        "keep what was done",
        "look: people are to be told",
        "record what goes on and is told",
        "look: a wait is late",
        "look: events start runs",
        "look: events start runs at their pace",
        "look: events wake steps",
        "set a step aside",
        "retry what was set aside",
        "drop what was set aside",
        "fork",
        "prune",
        "record what a loop goes on with",
        "record a review, the next round begins",
        "record the last debater, they agree",
        "pause",
        "resume what was paused",
        "resume",
        "cancel",
        "number events",
    }
)
"""Among them every statement that writes; the others are for the long run."""
