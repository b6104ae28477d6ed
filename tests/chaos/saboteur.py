"""Breaks things, one after the other, in an order that a seed decides.

A later fault joins by a function in `FAULTS`. It strikes, replaces whom it killed, promises with `later` what has to be
mended, and says whom it hit.
"""

from __future__ import annotations

import random
import signal
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NamedTuple

import psutil
import psycopg

from tests.chaos.arena import POOLS, Arena, Pool, Worker, ready
from tests.chaos.checker import Strike
from tests.chaos.proxy import Proxy

WAITING = """
SELECT run_id, path FROM steps WHERE state = 'ready' AND due_at IS NULL ORDER BY ready_at LIMIT 20
"""


class Saboteur:
    """A fleet of workers and what is done to them and to their servers."""

    def __init__(self, arena: Arena, seed: int, pools: Sequence[Pool] = POOLS) -> None:
        self.arena = arena
        self.random = random.Random(seed)
        self.strikes: list[Strike] = []
        self.fleet = [arena.begin(pool) for pool in pools for _ in range(pool.size)]
        self.died: list[str] = []
        """Workers that ended though nobody had killed them; the log of each says why."""
        self._promised: list[threading.Timer] = []
        for worker in self.fleet:
            ready(worker)

    def strike(self, kind: str) -> Strike:
        """Do it, and write it down."""
        waiting = tuple(self.arena.query(WAITING))
        at = time.time()
        hit = FAULTS[kind](self)
        until = max(hit.until, time.time())
        made = Strike(kind, at, until, tuple(one.name for one in hit.workers), hit.cut_off, waiting)
        self.strikes.append(made)
        return made

    def tend(self) -> None:
        """Start anew who has ended by itself, as any supervisor does."""
        for worker in [one for one in self.fleet if not one.process.alive]:
            self.died.append(worker.name)
            self.replace(worker)

    def calm(self) -> None:
        """Wait for the end of what still goes on."""
        for promise in self._promised:
            promise.join()

    # --- what faults are made of --------------------------------------------------------------------------

    def victim(self, kind: str | None = None) -> Worker:
        """Any worker of the fleet, or of its pools of this kind."""
        return self.random.choice([one for one in self.fleet if kind is None or one.pool.kind == kind])

    def later(self, seconds: float, mend: Callable[[], object]) -> float:
        """Have this done in a while, by a thread of its own; when that is."""
        promise = threading.Timer(seconds, mend)
        promise.start()
        self._promised.append(promise)
        return time.time() + seconds

    def replace(self, worker: Worker) -> None:
        """Start another one for it."""
        self.fleet.remove(worker)
        self.fleet.append(self.arena.begin(worker.pool))


class Hit(NamedTuple):
    """Whom a fault hit."""

    workers: Sequence[Worker] = ()
    cut_off: frozenset[int] = frozenset()
    """Processes that may go on with what they had begun, and do not know that others have taken over."""
    until: float = 0.0
    """When it is over, if that is later than now."""


def _kill(saboteur: Saboteur, victims: Sequence[Worker]) -> Hit:
    for worker in victims:
        worker.process.kill()
    for worker in victims:
        saboteur.replace(worker)
    return Hit(victims)


def kill_worker(saboteur: Saboteur) -> Hit:
    """SIGKILL one worker with all of its children, as a lost machine would."""
    return _kill(saboteur, [saboteur.victim()])


def kill_parent(saboteur: Saboteur) -> Hit:
    """SIGKILL the main process only; a prefork pool's children become orphans."""
    victim = saboteur.victim("prefork")
    orphans = frozenset(child.pid for child in victim.children())
    victim.kill_alone()
    saboteur.replace(victim)
    return Hit([victim], orphans)


def kill_child(saboteur: Saboteur) -> Hit:
    """SIGKILL one child of a prefork pool."""
    victim = saboteur.victim("prefork")
    if children := victim.children():
        with suppress(psutil.NoSuchProcess):
            saboteur.random.choice(children).kill()
    return Hit([victim])


def kill_pool(saboteur: Saboteur) -> Hit:
    """SIGKILL all workers of one pool, so that nobody serves its queues until a new one has started."""
    pool = saboteur.victim().pool
    return _kill(saboteur, [one for one in saboteur.fleet if one.pool is pool])


def kill_all(saboteur: Saboteur) -> Hit:
    """SIGKILL every worker."""
    return _kill(saboteur, list(saboteur.fleet))


def freeze(saboteur: Saboteur) -> Hit:
    """SIGSTOP a worker for less or more than its lease, then SIGCONT."""
    victim = saboteur.victim()
    victim.signal(signal.SIGSTOP)

    def thaw() -> None:
        with suppress(ProcessLookupError):
            victim.signal(signal.SIGCONT)

    until = saboteur.later(saboteur.random.uniform(0.5, 7.0), thaw)
    return Hit([victim], victim.pids(), until)


def ask_to_end(saboteur: Saboteur) -> Hit:
    """SIGTERM, as a deploy does, with another worker in its place."""
    victim = saboteur.victim()
    victim.process.signal(signal.SIGTERM)
    saboteur.replace(victim)
    return Hit([victim])


def wipe(saboteur: Saboteur) -> Hit:
    """FLUSHALL."""
    saboteur.arena.flush()
    return Hit()


def lose_queues(saboteur: Saboteur) -> Hit:
    """Delete every queue, but no other key: the broker's mark is still there."""
    with saboteur.arena.broker() as client:
        queues = [key for key in client.keys("agent.*") if client.type(key) == b"list"]
        if queues:
            client.delete(*queues)
    return Hit()


def restart_redis(saboteur: Saboteur) -> Hit:
    """A new, empty Redis at the same address."""
    saboteur.arena.servers.restart_redis()
    return Hit()


def restart_postgres(saboteur: Saboteur) -> Hit:
    """A fast shutdown: every session is ended."""
    saboteur.arena.servers.restart_postgres()
    return Hit()


def crash_postgres(saboteur: Saboteur) -> Hit:
    """An immediate shutdown: it comes back by its log."""
    saboteur.arena.servers.restart_postgres(immediately=True)
    return Hit()


def end_backends(saboteur: Saboteur) -> Hit:
    """pg_terminate_backend for about half of the connections."""
    with psycopg.connect(saboteur.arena.direct_url, autocommit=True) as conn:
        found = conn.execute(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            " ORDER BY pid"
        ).fetchall()
        for (pid,) in found:
            if saboteur.random.random() < 0.5:
                conn.execute("SELECT pg_terminate_backend(%s)", [pid])
    return Hit()


def drop_connections(saboteur: Saboteur) -> Hit:
    """Reset every connection to one of the servers."""
    way = saboteur.random.choice([saboteur.arena.postgres_way, saboteur.arena.redis_way])
    way.drop()
    return Hit()


def cut_off(saboteur: Saboteur) -> Hit:
    """A network that passes nothing on for a while, to one of the servers."""
    way: Proxy = saboteur.random.choice([saboteur.arena.postgres_way, saboteur.arena.redis_way])
    cut_off = frozenset().union(*(worker.pids() for worker in saboteur.fleet))
    way.stall()
    until = saboteur.later(saboteur.random.uniform(0.5, 6.0), way.flow)
    return Hit(saboteur.fleet[:], cut_off, until)


FAULTS: dict[str, Callable[[Saboteur], Hit]] = {
    "kill a worker": kill_worker,
    "kill a parent": kill_parent,
    "kill a child": kill_child,
    "kill a pool": kill_pool,
    "kill all": kill_all,
    "freeze a worker": freeze,
    "ask one to end": ask_to_end,
    "wipe the broker": wipe,
    "lose the queues": lose_queues,
    "redis restarts": restart_redis,
    "postgres restarts": restart_postgres,
    "postgres crashes": crash_postgres,
    "end backends": end_backends,
    "drop connections": drop_connections,
    "cut off": cut_off,
}

WEIGHTS = {
    "kill a worker": 8,
    "kill a parent": 3,
    "kill a child": 3,
    "kill a pool": 2,
    "freeze a worker": 2,
    "ask one to end": 2,
    "wipe the broker": 2,
    "drop connections": 2,
    "cut off": 2,
}
"""How often a fault comes in each round, if not once."""


def script(count: int, rng: random.Random) -> list[str]:
    """Kinds of faults in random order: each once, then round after round as often as it weighs."""
    drawn, round_ = list(FAULTS), [kind for kind in FAULTS for _ in range(WEIGHTS.get(kind, 1))]
    rng.shuffle(drawn)
    while len(drawn) < count:
        rng.shuffle(round_)
        drawn += round_
    return drawn[:count]
