"""The doctor on real servers, misconfigured for real."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
from redis import Redis as Client

from orchestrator.doctor import postgres, queues, redis
from orchestrator.doctor.finding import Finding, Level
from orchestrator.local.redis import Redis, free_port
from orchestrator.store import schema


def bad(findings: list[Finding]) -> list[str]:
    """The sentences of all that is not in order."""
    assert all(finding.fix for finding in findings if finding.level is not Level.OK)
    return [finding.sentence for finding in findings if finding.level is not Level.OK]


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[str]:
    """A Redis that a test may misconfigure."""
    server = Redis(tmp_path)
    server.start()
    yield server.url
    server.stop()


def test_a_database_in_order(database: str) -> None:
    schema.upgrade(database)
    assert bad(postgres.check(database, pool_size=4)) == []


def test_missing_tables(database: str) -> None:
    assert bad(postgres.check(database, pool_size=4)) == [
        f"The tables are missing; this version needs {schema.head()}."
    ]


def test_a_user_who_may_not_create_tables(database: str) -> None:
    with psycopg.connect(database, autocommit=True) as conn:
        conn.execute("CREATE ROLE poor LOGIN")
        conn.execute("REVOKE CREATE ON SCHEMA public FROM public")
    try:
        found = bad(postgres.check(database.replace("baton@", "poor@", 1), pool_size=4))
        assert "The user 'poor' may not create tables." in found
    finally:
        with psycopg.connect(database, autocommit=True) as conn:
            conn.execute("DROP ROLE poor")


@pytest.mark.parametrize(
    ("setting", "value", "sentence"),
    [
        ("synchronous_commit", "off", "synchronous_commit is off"),
        ("default_transaction_read_only", "on", "Transactions are read-only by default"),
    ],
)
def test_settings_of_the_database(database: str, setting: str, value: str, sentence: str) -> None:
    schema.upgrade(database)
    name = urlsplit(database).path[1:]
    with psycopg.connect(database, autocommit=True) as conn:
        conn.execute(f'ALTER DATABASE "{name}" SET {setting} = {value}')  # type: ignore[call-overload]

    assert [line for line in bad(postgres.check(database, pool_size=4)) if line.startswith(sentence)]


def test_no_server_at_the_port() -> None:
    (finding,) = postgres.check(f"postgresql://baton@127.0.0.1:{free_port()}/baton", pool_size=4)
    assert finding.level is Level.FAIL
    assert "start the server" in finding.fix


def test_a_database_that_does_not_exist(database: str) -> None:
    name = urlsplit(database).path
    (finding,) = postgres.check(database.replace(name, "/no_such_database", 1), pool_size=4)
    assert 'database "no_such_database" does not exist' in finding.sentence
    assert "create the database" in finding.fix


def test_a_redis_in_order(own_redis: str) -> None:
    assert bad(redis.check(own_redis)) == []
    assert bad(queues.check(own_redis)) == []


def test_a_redis_that_evicts(own_redis: str) -> None:
    with Client.from_url(own_redis) as client:
        client.config_set("maxmemory-policy", "allkeys-lru")

    assert bad(redis.check(own_redis)) == [
        "maxmemory-policy is allkeys-lru: a full Redis throws messages away and says nothing."
    ]


def test_a_redis_that_is_nearly_full(own_redis: str) -> None:
    with Client.from_url(own_redis) as client:
        client.config_set("maxmemory", client.info("memory")["used_memory"])  # type: ignore[index]

    assert any("of its maxmemory" in sentence for sentence in bad(redis.check(own_redis)))


def test_a_replica(own_redis: str) -> None:
    with Client.from_url(own_redis) as client:
        client.replicaof("127.0.0.1", str(free_port()))

    assert bad(redis.check(own_redis)) == ["This Redis is a read-only replica."]


def test_a_wrong_password(own_redis: str) -> None:
    password = urlsplit(own_redis).password or ""
    for wrong in (own_redis.replace(password, "guess"), own_redis.replace(f":{password}@", "")):
        (finding,) = redis.check(wrong)
        assert finding.fix == "mend the user and password in BATON_BROKER_URL"
        assert queues.check(wrong) == []


def test_a_database_number_that_redis_does_not_have(own_redis: str) -> None:
    (finding,) = redis.check(own_redis.removesuffix("/0") + "/99")
    assert "smaller database number" in finding.fix


def test_no_redis_at_the_port() -> None:
    (finding,) = redis.check(f"redis://127.0.0.1:{free_port()}/0")
    assert "start the server" in finding.fix


def test_no_rabbitmq_at_the_port() -> None:
    finding, _ = redis.check(f"amqp://guest:guest@127.0.0.1:{free_port()}//")
    assert finding.level is Level.FAIL


def test_breakers_beside_another_broker_want_a_redis_of_their_own(own_redis: str) -> None:
    rabbit = f"amqp://guest:guest@127.0.0.1:{free_port()}//"

    assert bad(redis.check(rabbit))[1:] == [
        "The broker is no Redis, so circuit breakers let everything through."
    ]
    assert len(bad(redis.check(rabbit, own_redis))) == 1
    assert "mend BATON_BREAKERS_URL" in redis.check(rabbit, f"redis://127.0.0.1:{free_port()}/0")[1].fix
    assert "mend BATON_BREAKERS_URL" in redis.check(rabbit, rabbit)[1].fix


def test_messages_of_another_program(own_redis: str) -> None:
    ours = json.dumps({"headers": {"task": "agent.draft"}, "body": ""})
    with Client.from_url(own_redis) as client:
        client.rpush("agent.draft", ours, "rubbish", json.dumps({"headers": {"task": "shop.pay"}}))
        client.rpush("agent.draft\x06\x163", ours)
        client.rpush("celery", ours, ours)

    assert bad(queues.check(own_redis)) == [
        "agent.draft holds 2 messages that are not Baton's, so another program publishes there.",
        "2 messages lie in Celery's default queue, which no agent serves.",
    ]
