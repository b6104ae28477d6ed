"""What would break if a package of this Python environment were gone? A language model finds out, with tools.

    baton run impact pydantic --app examples.impact --watch

The model is the one that the environment names (see `examples.model`); without one, a script plays it.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, distribution, distributions

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from pydantic import BaseModel, Field

from examples.impact.script import play
from examples.model import speaker
from orchestrator import workflow
from schemas import Budget
from workers import ToolError, llm_agent

MOST = 40
"""Names that a tool gives at once."""

SPEAKER = speaker(play)


class Package(BaseModel):
    name: str
    version: str
    summary: str
    requires: list[str] = Field(description="What it cannot do without.")


class Impact(BaseModel):
    package: str
    breaks: list[str] = Field(
        description="The packages that would stop working, those that need it directly first."
    )
    advice: str = Field(description="Two sentences for whoever wants to remove it.")


def describe(package: str) -> Package:
    """What an installed package is for, and what it requires."""
    try:
        found = distribution(package)
    except (PackageNotFoundError, ValueError):
        raise ToolError(f"no package {package!r} is installed here") from None
    facts = found.metadata
    return Package(
        name=facts["Name"],
        version=found.version,
        summary=facts["Summary"] or "",
        requires=_required(found.requires),
    )


def dependents(package: str) -> list[str]:
    """The installed packages that require this one directly."""
    wanted = canonicalize_name(package)
    found = {one.metadata["Name"] for one in distributions() if wanted in _required(one.requires)}
    return sorted(found, key=str.lower)[:MOST]


def _required(lines: list[str] | None) -> list[str]:
    """Names out of requirements that hold here, without extras."""
    names = set()
    for line in lines or ():
        try:
            requirement = Requirement(line)
        except InvalidRequirement:
            continue
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            names.add(canonicalize_name(requirement.name))
    return sorted(names)


analyst = llm_agent(
    "analyst",
    **SPEAKER.options,
    input=str,
    output=Impact,
    instructions="You are given the name of a Python package. Find out which installed packages would stop working "
    "without it, directly or through others, two levels deep. Use the tools; do not guess.",
    tools=[describe, dependents],
    description=f"Finds out what needs a package. Its language model is {SPEAKER.said}.",
    timeout=120,
)

impact = workflow("impact", analyst, budget=Budget(usd=0.05), timeout=180)
