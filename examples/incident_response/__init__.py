"""Alerts become incidents: those of one service together, with what was deployed before, until somebody resolves them.

Events start everything. Deployments are remembered for each service; a burst of alerts starts one incident, which
looks for its cause there, waits without a worker for `alert.resolved`, and otherwise calls the next in line. The agents
are rules in plain functions, not language models.

    baton up --app examples.incident_response
    baton events load examples/incident_response/events.jsonl
    baton runs ls                                                # and: baton runs explain RUN
    baton schedules add digest incident-digest --cron "0 7 * * *" --app examples.incident_response
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel

from orchestrator import on, wait_for, workflow
from workers import Context, agent

QUIET = 1.0
"""Seconds without another alert after which an incident begins."""

PATIENCE = 15 * 60.0
"""Seconds for which an incident may stay open before the next in line is called."""

SUSPECT = 2
"""Deployments before an alert that may have caused it."""


class Deployment(BaseModel):
    service: str
    version: str
    at: str
    changed: list[str] = []


class Alert(BaseModel):
    service: str
    severity: Literal["low", "high", "critical"]
    signal: str
    at: str


class Burst(BaseModel):
    service: str
    alerts: list[Alert]


class Incident(BaseModel):
    number: int
    """Of the service."""
    service: str
    since: str
    signals: list[str]
    suspect: str | None


class Resolution(BaseModel):
    by: str
    how: str
    at: str


class Report(BaseModel):
    incident: Incident
    resolution: Resolution
    story: list[str]
    """What has happened to the service lately."""


@agent
async def remember(ctx: Context, deployment: Deployment) -> Deployment:
    """Keeps a deployment with its service."""
    await ctx.shared().merge("deployments", deployment.model_dump(), "append")
    await ctx.session().append(f"{deployment.at} version {deployment.version} was deployed")
    return deployment


@agent
async def open_incident(ctx: Context, burst: Burst) -> Incident:
    """Gives the incident its number, and looks for a deployment that may be the cause."""
    first = min(burst.alerts, key=lambda alert: alert.at)
    before = [Deployment(**one) for one in await ctx.shared().get("deployments", [])]
    before = sorted((one for one in before if one.at <= first.at), key=lambda one: one.at)[-SUSPECT:]
    suspect = before[-1].version if before else None
    ctx.decide(
        f"version {suspect}" if suspect else "no deployment",
        f"it was deployed last before {first.at}" if suspect else "nothing was deployed before",
        [f"version {one.version}" for one in before[:-1]],
    )
    incident = Incident(
        number=await ctx.shared().merge("incidents", 1, "add"),
        service=burst.service,
        since=first.at,
        signals=[alert.signal for alert in sorted(burst.alerts, key=lambda alert: alert.at)],
        suspect=suspect,
    )
    await ctx.state.set("incident", incident.model_dump())
    await ctx.session().append(f"{incident.since} incident {incident.number} began: {incident.signals[0]}")
    return incident


@agent
async def close_incident(ctx: Context, resolution: Resolution) -> Report:
    """Writes down how it ended, for the service and for the digest."""
    incident = Incident(**await ctx.state.get("incident"))
    ending = f"{resolution.at} incident {incident.number} ended: {resolution.how}"
    await ctx.session().append(ending)
    await ctx.shared("digest").merge("lines", f"{incident.service}: {ending}", "append")
    story = [message.message for message in await ctx.session().history(last=10)]
    return Report(incident=incident, resolution=resolution, story=story)


@agent
async def digest(ctx: Context, since: dict[str, Any]) -> list[str]:
    """All incidents that ended since the digest before this one."""
    shared = ctx.shared("digest")
    lines: list[str] = await shared.get("lines", [])
    told: int = await shared.get("told", 0)
    await shared.merge("told", len(lines), "max")
    return lines[told:]


remember_deployment = workflow("remember-deployment", remember)

incident = workflow(
    "incident",
    open_incident
    >> wait_for(
        "alert.resolved",
        key="input.service",
        when="event.at >= input.since",
        lookback=3600,  # it may be over before the incident has begun
        within=PATIENCE,
        default=Resolution(by="nobody", how="called the next in line", at="-"),
        output=Resolution,
    )
    >> close_incident,
    description="Opens an incident, waits for its end, and writes down how it came.",
)

incident_digest = workflow("incident-digest", digest, description="What ended since the last digest.")

deployments = on("deploy.finished", key="event.service", start=remember_deployment, name="deployments")

alerts = on(
    "alert.fired",
    when="event.severity != 'low'",
    key="event.service",
    input="{'service': event.service, 'alerts': events}",
    debounce=QUIET,
    take="all",
    start=incident,
    name="alerts",
)
