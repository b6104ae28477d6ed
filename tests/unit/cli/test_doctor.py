"""What the doctor says of facts that no test server can be brought to."""

from __future__ import annotations

from datetime import timedelta

import psycopg
import pytest

from orchestrator.doctor import application, packages, postgres, queues
from orchestrator.doctor.finding import Finding, Level
from orchestrator.doctor.places import check
from orchestrator.loading import Loaded
from orchestrator.places import find
from orchestrator.store.server_facts import ServerFacts
from schemas.errors import Unavailable
from schemas.runs import PoolView
from tests.unit.cli import apps
from tests.unit.cli.views import NOW

FACTS = ServerFacts(
    database="baton",
    user="baton",
    version=180004,
    standby=False,
    read_only=False,
    fsync="on",
    full_page_writes="on",
    synchronous_commit="on",
    encoding="UTF8",
    max_connections=200,
    connections=3,
    clock=NOW,
    may_create=True,
)


def one(findings: object) -> Finding:
    (finding,) = list(findings)  # type: ignore[call-overload]
    return finding  # type: ignore[no-any-return]


def test_an_old_server() -> None:
    assert one(postgres.version(FACTS)).sentence == "Postgres 18.4 answers."
    old = one(postgres.version(FACTS._replace(version=140012)))
    assert (old.level, old.sentence) == (Level.FAIL, "Postgres is version 14.12; Baton needs 15.")


def test_a_standby() -> None:
    assert not list(postgres.writable(FACTS))
    assert one(postgres.writable(FACTS._replace(standby=True))).level is Level.FAIL


def test_another_encoding() -> None:
    assert not list(postgres.encoding(FACTS))
    assert "LATIN1" in one(postgres.encoding(FACTS._replace(encoding="LATIN1"))).sentence


def test_few_or_used_up_connections() -> None:
    few = one(postgres.connections(FACTS._replace(max_connections=20), 4))
    assert (few.level, few.sentence) == (Level.WARN, "max_connections is 20: enough for about 4 processes.")
    assert one(postgres.connections(FACTS._replace(connections=190), 4)).level is Level.WARN
    assert one(postgres.connections(FACTS, 4)).level is Level.OK


def test_clocks() -> None:
    assert one(postgres.clock(FACTS, NOW + timedelta(seconds=1))).level is Level.OK
    assert "90.0 s off" in one(postgres.clock(FACTS, NOW + timedelta(seconds=90))).sentence


@pytest.mark.parametrize(
    ("message", "fix"),
    [
        ('FATAL: password authentication failed for user "x"', "user and password"),
        ("FATAL: no pg_hba.conf entry for host", "pg_hba.conf"),
        ('FATAL: database "x" does not exist', "create the database"),
        ("FATAL: sorry, too many clients already", "max_connections"),
        ("connection refused", "start the server"),
    ],
)
def test_every_refusal_has_its_own_fix(message: str, fix: str) -> None:
    assert fix in postgres.unreachable(psycopg.OperationalError(message)).fix


@pytest.mark.parametrize(
    ("database", "broker", "fault"),
    [
        ("mysql://host/x", "redis://host", "not a Postgres address"),
        ("nonsense", "redis://host", "not a Postgres address"),
        ("postgresql+psycopg://host/x", "redis://host", "SQLAlchemy's scheme"),
        ("postgresql://host/x", "http://host", "not a broker's address"),
        ("postgresql://host/x", "host:6379", "not a broker's address"),
        ("postgresql://host/x", "redis://host:x/0", "is not a URL"),
        ("postgresql://host/x", "redis://host/zero", "a Redis database is a number"),
    ],
)
def test_wrong_addresses(tmp_path: object, database: str, broker: str, fault: str) -> None:
    findings, addresses = check(database, broker, tmp_path)  # type: ignore[arg-type]

    finding = one(findings)
    assert fault in finding.sentence
    assert finding.fix.startswith("set BATON_")
    assert None in addresses
    # Nor does any other command, or a program, go on with them
    with pytest.raises(Unavailable, match=fault) as refused:
        find(database, broker)
    assert str(refused.value.next_step) == finding.fix


def test_several_brokers_are_an_address() -> None:
    several = "amqp://a:5672//;amqp://b:5672//"

    assert find("postgresql://host/x", several).broker_url == several


def test_missing_addresses(tmp_path: object) -> None:
    findings, addresses = check(None, "redis://host", tmp_path)  # type: ignore[arg-type]

    assert one(findings).sentence.startswith("BATON_DATABASE_URL not set")
    assert addresses.broker_url == "redis://host"


def test_the_installed_packages_fit() -> None:
    assert one(packages.check()).level is Level.OK


def test_a_package_that_does_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "version", lambda name: {"celery": "5.4.0"}.get(name, "999"))

    found = {finding.sentence.split(",")[0]: finding for finding in packages.check()}

    assert found["celery is 5.4.0"].fix.startswith("pip install 'celery")
    assert found["celery is 5.4.0"].level is Level.FAIL


def test_visibility_timeouts() -> None:
    assert not list(queues.visibility(60))
    assert one(queues.visibility(86_400)).level is Level.WARN
    assert one(queues.visibility(1)).level is Level.WARN


def test_agents_without_workers() -> None:
    pools = [
        PoolView(agent="draft", queue="agent.draft", workers=0, concurrency=0, ready=1200, running=0),
        PoolView(agent="check", queue="agent.check", workers=1, concurrency=4, ready=0, running=0),
    ]

    found = list(application.unserved(["check", "draft", "merge"], pools))

    assert [(f.sentence, f.fix) for f in found] == [
        ("No worker serves agent.draft, and 1,200 steps wait for one.", "baton worker draft"),
        ("No worker serves agent.merge.", "baton worker merge"),
    ]
    assert one(application.unserved(["check"], pools)).level is Level.OK


def test_agents_that_the_app_does_not_hold() -> None:
    held = Loaded((), workflows={"line": apps.line}, specs={"draft": apps.draft.spec})

    assert one(application.unheld(held)).sentence.startswith("line calls check, which the app does not hold")


def test_an_app_that_cannot_be_imported() -> None:
    finding = one(application.check("no_such_app", None, None))
    assert (finding.level, finding.sentence) == (
        Level.FAIL,
        "There is no module 'no_such_app' that could be imported from here.",
    )
    assert one(application.check("", None, None)).level is Level.WARN
