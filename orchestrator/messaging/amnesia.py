"""Notices that a Redis has lost its memory, and that it may have: by a mark in it, not by guessing.

The mark is the id that a Redis server gives itself when it starts. It is missing after FLUSHALL and in a server that
came up empty; it is another one's after a restart from a file or a failover, which may have lost the latest messages.
Whoever notices takes the turn to send everything again, and sets the mark when that is done. The turn is a key with
a short life: when its owner dies, somebody else takes it; when the broker forgets again meanwhile, it begins anew.
"""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from redis.exceptions import ResponseError

MARK = "baton.mark"
TURN = "baton.mark.turn"

LONGEST = 10_000
"""Milliseconds that a turn lasts, unless it is renewed."""

_RENEW = "return redis.call('get', KEYS[1]) == ARGV[1] and redis.call('pexpire', KEYS[1], ARGV[2]) or 0"
_FINISH = """
if redis.call('get', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('set', KEYS[2], ARGV[2])
return redis.call('del', KEYS[1])
"""


class BrokerMemory:
    """The memory of one Redis, as one process sees it. Each method takes a client of that Redis."""

    def __init__(self) -> None:
        self._me = uuid4().hex

    def is_lost(self, client: Any) -> bool:
        """Whether everything has to be sent again, and it is this process's turn to do so."""
        known = client.get(MARK)
        if known is not None and known.decode() == _server(client):
            return False
        return bool(client.set(TURN, self._me, nx=True, px=LONGEST))

    def goes_on(self, client: Any) -> bool:
        """Renew the turn. False if it is no longer ours: the memory was lost once more, or we were too slow."""
        return bool(client.eval(_RENEW, 1, TURN, self._me, LONGEST))

    def is_restored(self, client: Any) -> bool:
        """All has been sent: end the turn and set the mark. False if the turn is no longer ours."""
        return bool(client.eval(_FINISH, 2, TURN, MARK, self._me, _server(client)))


def _server(client: Any) -> str:
    """What this server calls itself; nothing if it does not tell."""
    try:
        return str(client.info("server").get("run_id", ""))
    except ResponseError:
        return ""
