"""What plays the model where there is none: it goes by what the tools gave, as a model would, but by rules."""

from __future__ import annotations

import json

from workers.models.untrusted import inside
from workers.scripted import Asked, Call, Reply, Turn, answer


def play(asked: Asked) -> Turn:
    """Ask about the package; then who needs those that need it; then answer from what was found."""
    package = _question(asked)
    if asked.turn == 0:
        return Reply(calls=(Call("describe", {"package": package}), Call("dependents", {"package": package})))
    known = _dependents(asked)
    direct = known.get(package, [])
    if asked.turn == 1 and direct:
        return Reply(calls=tuple(Call("dependents", {"package": name}) for name in direct))
    further = sorted({name for near in direct for name in known.get(near, [])} - {package, *direct})
    if direct:
        advice = (
            f"{len(direct)} packages need it directly, {len(further)} more through those. Remove them first."
        )
    else:
        advice = "No installed package needs it. It can go unless your own code imports it."
    return answer({"package": package, "breaks": [*direct, *further], "advice": advice})


def _question(asked: Asked) -> str:
    said: str = next(one["content"] for one in asked.body["messages"] if one["role"] == "user")
    return said.split("\n", 1)[0].strip()


def _dependents(asked: Asked) -> dict[str, list[str]]:
    """What the tool of this name has given, by the package that it was asked for."""
    found = {}
    for used in asked.used:
        _, gave, _ = inside(used.told)
        if used.tool == "dependents" and gave.startswith("["):  # else an error, in words
            found[used.arguments["package"]] = json.loads(gave)
    return found
