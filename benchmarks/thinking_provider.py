"""The model of the benchmark, in a process of its own: it says its address, and ends with its input."""

from __future__ import annotations

import json
import sys

from workers.scripted import Asked, Call, Reply, ScriptedProvider, answer


def play(asked: Asked) -> Reply:
    """As its task says, which stands in what the user said."""
    said = next(one["content"] for one in asked.body["messages"] if one["role"] == "user")
    task, _ = json.JSONDecoder().raw_decode(said)
    if asked.turn < task["turns"]:
        calls = tuple(Call("note", {"word": "a"}) for _ in range(task["calls"]))
        return Reply(calls=calls, delay=task["delay"])
    return answer({"turns": asked.turn}, delay=task["delay"])


if __name__ == "__main__":
    with ScriptedProvider(play) as provider:
        print(provider.base_url, flush=True)
        sys.stdin.read()
