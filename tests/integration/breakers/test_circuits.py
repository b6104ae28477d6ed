"""Circuits in a real Redis: they open, let one probe through, close, and may be forgotten at any time."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from multiprocessing.synchronize import Barrier

import psutil
import pytest
import redis

from orchestrator.breakers import CircuitChange, CircuitPass, Circuits, End, Evidence
from schemas.breakers import Breaker
from tests.support import eventually

QUICK = Breaker(failures=0.5, window=60, minimum=4, open=0.2)
LONG = Breaker(failures=0.5, window=60, minimum=4, open=30)


@pytest.fixture
def circuits(broker: str) -> Iterator[Circuits]:
    made = Circuits(broker, lease=0.4)
    yield made
    made.close()


def ask(circuits: Circuits, breaker: Breaker = QUICK, name: str = "tool bell") -> CircuitPass:
    (passage,) = circuits.ask([(name, breaker)])
    return passage


def ends(circuits: Circuits, *verdicts: Evidence, breaker: Breaker = QUICK) -> list[CircuitChange]:
    """Try once for each of these; what that changed."""
    changes = [circuits.tell([End(ask(circuits, breaker), verdict)])[0] for verdict in verdicts]
    return [change for change in changes if change is not None]


def probe(circuits: Circuits, breaker: Breaker = QUICK) -> CircuitPass:
    """The first probe after the circuit was open."""

    def probes() -> CircuitPass:
        passage = ask(circuits, breaker)
        assert passage.state == "probe"
        return passage

    return eventually(probes)


# --- opening --------------------------------------------------------------------------------------------------------


def test_it_opens_with_half_of_enough_ends_being_failures(circuits: Circuits) -> None:
    assert ends(circuits, "good", "bad", "bad") == []

    assert ends(circuits, "bad") == [CircuitChange("opened", 3, 4)]
    passage = ask(circuits)
    assert passage.state == "open"
    assert 0 < passage.left <= 0.2


def test_fewer_failures_or_fewer_ends_do_not_open_it(circuits: Circuits) -> None:
    assert ends(circuits, *["good"] * 9, *["bad"] * 5, breaker=LONG) == []
    circuits.reset("tool bell")
    assert ends(circuits, "bad", "bad", "bad", breaker=LONG) == []


def test_a_success_may_be_the_end_with_which_there_are_enough(circuits: Circuits) -> None:
    assert ends(circuits, "bad", "bad", "bad", "good") == [CircuitChange("opened", 3, 4)]


def test_what_is_unknown_counts_as_nothing(circuits: Circuits) -> None:
    assert ends(circuits, "bad", "bad", "bad", "unknown", "unknown") == []


def test_old_failures_are_forgotten(circuits: Circuits) -> None:
    brief = Breaker(window=0.3, minimum=4, open=30)
    ends(circuits, "bad", "bad", "bad", breaker=brief)

    def forgotten() -> None:
        (view,) = circuits.views()
        assert view.failed == 0

    eventually(forgotten)
    assert ends(circuits, "bad", breaker=brief) == []


def test_circuits_of_others_are_their_own(circuits: Circuits) -> None:
    ends(circuits, "bad", "bad", "bad", "bad", breaker=LONG)

    assert ask(circuits, LONG).state == "open"
    assert ask(circuits, LONG, "tool gong").state == "closed"


def test_many_are_asked_and_told_at_once(circuits: Circuits) -> None:
    passages = circuits.ask([("tool bell", LONG)] * 6)
    changes = circuits.tell([End(one, "bad") for one in passages])

    # The two that come after it has opened are late.
    assert changes == [None, None, None, CircuitChange("opened", 4, 4), None, None]


# --- half open ------------------------------------------------------------------------------------------------------


def test_one_probe_at_a_time_closes_it_or_opens_it_again(circuits: Circuits) -> None:
    ends(circuits, "bad", "bad", "bad", "bad")
    first = probe(circuits)
    assert [ask(circuits).state for _ in range(3)] == ["open"] * 3

    assert circuits.tell([End(first, "bad")]) == [CircuitChange("reopened")]
    assert ask(circuits).state == "open"
    assert circuits.tell([End(probe(circuits), "good")]) == [CircuitChange("closed")]

    assert [ask(circuits).state for _ in range(3)] == ["closed"] * 3
    assert ends(circuits, "bad", "bad", "bad") == []  # it counts from nothing


def test_a_probe_that_tells_nothing_makes_room_for_the_next(circuits: Circuits) -> None:
    ends(circuits, "bad", "bad", "bad", "bad")

    circuits.tell([End(probe(circuits), "unknown")])

    assert ask(circuits).state == "probe"


def test_a_probe_keeps_its_place_as_long_as_it_says_so(circuits: Circuits) -> None:
    ends(circuits, "bad", "bad", "bad", "bad")
    first = probe(circuits)

    def has_renewed(times: int) -> None:
        nonlocal renewed
        assert circuits.renew(first)
        assert ask(circuits).state == "open"
        renewed += 1
        assert renewed > times

    renewed = 0
    eventually(lambda: has_renewed(10), every=0.1)  # more than twice its lease
    second = probe(circuits)  # it has renewed no more
    assert not circuits.renew(first)
    assert circuits.tell([End(first, "good")]) == [None]
    assert circuits.tell([End(second, "good")]) == [CircuitChange("closed")]


def test_what_began_before_it_opened_changes_nothing_after_it_has_closed(circuits: Circuits) -> None:
    late = circuits.ask([("tool bell", QUICK)] * 4)
    ends(circuits, "bad", "bad", "bad", "bad")
    circuits.tell([End(probe(circuits), "good")])

    assert circuits.tell([End(one, "bad") for one in late]) == [None] * 4
    assert ask(circuits).state == "closed"


# --- a Redis that forgets, or is away -------------------------------------------------------------------------------


def test_what_is_forgotten_is_closed(circuits: Circuits, broker: str) -> None:
    ends(circuits, "bad", "bad", "bad", "bad", breaker=LONG)
    with redis.Redis.from_url(broker) as client:
        client.flushall()
        client.script_flush()

    assert ask(circuits, LONG).state == "closed"
    assert ends(circuits, "bad", "bad", "bad", "bad", breaker=LONG) == [CircuitChange("opened", 4, 4)]


def test_a_probe_may_be_forgotten_while_it_is_under_way(circuits: Circuits, broker: str) -> None:
    ends(circuits, "bad", "bad", "bad", "bad")
    first = probe(circuits)
    with redis.Redis.from_url(broker) as client:
        client.flushall()

    assert not circuits.renew(first)
    assert circuits.tell([End(first, "bad")]) == [None]
    assert ask(circuits).state == "closed"


@pytest.mark.parametrize("url", ["redis://127.0.0.1:1/0", "amqp://127.0.0.1:1//"])
def test_without_redis_everything_is_let_through_and_that_is_said_once(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    circuits = Circuits(url)
    with caplog.at_level(logging.WARNING):
        passages = [ask(circuits) for _ in range(5)]
        assert circuits.tell([End(one, "bad") for one in passages]) == [None] * 5

    assert {one.state for one in passages} == {"blind"}
    assert len([record for record in caplog.records if "circuit breakers" in record.message]) == 1


# --- many processes -------------------------------------------------------------------------------------------------


def hammer(url: str, together: Barrier) -> None:
    """Ask for probes without end; whoever gets one holds it for a while, and writes down when it had it."""
    circuits = Circuits(url, lease=0.5)
    client = redis.Redis.from_url(url)
    clock = threading.Event()
    together.wait(60)
    while not client.exists("over"):
        passage = ask(circuits, LONG)
        if passage.state != "probe":
            clock.wait(0.005)
            continue
        # The server counts who holds one: its clock and its order are everybody's.
        client.rpush("holders", os.getpid())
        client.zadd("most", {"holders": client.incr("holding")}, gt=True)
        clock.wait(0.03)
        client.decr("holding")
        circuits.tell([End(passage, "unknown")])
        client.incr("probes")


def test_processes_that_attack_it_get_one_probe_at_a_time_killed_and_stopped_ones_included(
    circuits: Circuits, broker: str
) -> None:
    ends(circuits, "bad", "bad", "bad", "bad", breaker=LONG)
    client = redis.Redis.from_url(broker)
    client.hincrby("baton.breaker:tool bell", "opened", -31_000)  # it has been open for long enough
    spawn = multiprocessing.get_context("spawn")
    together = spawn.Barrier(4)
    them = [spawn.Process(target=hammer, args=(broker, together)) for _ in range(4)]
    for one in them:
        one.start()

    def holder() -> int:
        """Who holds the probe now, stopped in the middle of it."""
        (pid,) = client.lrange("holders", -1, -1) or [b"0"]
        assert int(pid)
        os.kill(int(pid), signal.SIGSTOP)
        eventually(lambda: psutil.Process(int(pid)).status() == psutil.STATUS_STOPPED)
        if client.get("holding") != b"1" or client.lrange("holders", -1, -1) != [pid]:
            os.kill(int(pid), signal.SIGCONT)
            raise AssertionError("it had given it back")
        return int(pid)

    stopped = eventually(holder, timeout=30)
    held = int(client.get("probes") or 0)
    client.decr("holding")  # as far as the cluster knows, it is dead
    eventually(lambda: int(client.get("probes") or 0) > held, timeout=10)  # and another one probes

    def kill_one() -> int:
        pid = holder()
        assert pid != stopped
        os.kill(pid, signal.SIGKILL)
        return pid

    eventually(kill_one, timeout=30)
    client.decr("holding")
    held = int(client.get("probes") or 0)
    eventually(lambda: int(client.get("probes") or 0) > held + 5, timeout=10)
    most = client.zscore("most", "holders")
    client.set("over", 1)
    os.kill(stopped, signal.SIGCONT)
    for one in them:
        one.join(20)
    client.close()

    assert most == 1
    assert sum(one.exitcode == 0 for one in them) == 3


# --- looking, and resetting -----------------------------------------------------------------------------------------


def test_circuits_are_listed_as_they_stand(circuits: Circuits, broker: str) -> None:
    circuits.tell([End(ask(circuits, LONG, "tool gong"), "good")])
    ends(circuits, "bad", "bad", "bad", "bad", breaker=LONG)

    bell, gong = circuits.views()

    assert (bell.name, bell.state, bell.probing) == ("tool bell", "open", False)
    assert 29 < bell.open_for <= 30
    assert (gong.name, gong.state, gong.failed, gong.ended) == ("tool gong", "closed", 0, 1)
    assert gong.breaker == LONG

    ends(circuits, breaker=LONG)
    with redis.Redis.from_url(broker) as client:
        client.hincrby("baton.breaker:tool bell", "opened", -31_000)
        client.delete("baton.breaker:tool gong")
    passage = ask(circuits, LONG)
    assert passage.state == "probe"
    (bell,) = circuits.views()
    assert (bell.state, bell.probing) == ("half-open", True)


def test_a_circuit_that_is_reset_is_closed(circuits: Circuits) -> None:
    ends(circuits, "bad", "bad", "bad", "bad", breaker=LONG)

    assert circuits.reset("tool bell")
    assert ask(circuits, LONG).state == "closed"
    assert not circuits.reset("tool gong")
    assert circuits.views() == []
