"""`deploy/compose.yaml` says what the code says, and is safe as it stands."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

DEPLOY = Path(__file__).resolve().parents[3] / "deploy"
TEXT = (DEPLOY / "compose.yaml").read_text()
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(TEXT)["services"]
POOLS = {name: service for name, service in SERVICES.items() if name.startswith("pool-")}


def seconds(duration: str) -> float:
    return float(duration.removesuffix("s"))


def test_every_agent_of_the_example_has_a_pool_on_its_queue() -> None:
    from orchestrator.loading import load

    agents = set(load("examples.dependency_review").agents)

    served = {service["command"][1] for service in POOLS.values()}
    assert served == agents
    assert all(service["command"][0] == "worker" for service in POOLS.values())
    assert {name.removeprefix("pool-").replace("-", "_") for name in POOLS} == agents


def test_nothing_that_needs_the_schema_starts_before_it_is_there() -> None:
    assert SERVICES["upgrade"]["command"] == ["db", "upgrade"]

    for service in [*POOLS.values(), SERVICES["flower"]]:
        assert service["depends_on"]["upgrade"] == {"condition": "service_completed_successfully"}


@pytest.mark.parametrize("server", ["postgres", "redis"])
def test_servers_publish_nothing_and_have_no_way_out(server: str) -> None:
    assert "ports" not in SERVICES[server]
    assert SERVICES[server]["networks"] == ["servers"]
    assert yaml.safe_load(TEXT)["networks"]["servers"] == {"internal": True}
    assert SERVICES[server]["healthcheck"]["test"]


def test_only_flower_is_published_and_on_this_host_only() -> None:
    assert {name: s["ports"] for name, s in SERVICES.items() if "ports" in s} == {
        "flower": ["127.0.0.1:5555:5555"]
    }
    assert "--read_only=True" in SERVICES["flower"]["command"]
    assert ":?" in SERVICES["flower"]["environment"]["FLOWER_BASIC_AUTH"]


def test_no_secret_has_a_default() -> None:
    secrets = re.findall(r"\$\{(\w*(?:PASSWORD|AUTH)\w*)([^}]*)\}", TEXT)

    assert {name for name, _ in secrets} == {
        "POSTGRES_PASSWORD",
        "REDIS_PASSWORD",
        "REDISCLI_AUTH",
        "FLOWER_BASIC_AUTH",
    }
    assert all(rest.startswith(":?") or rest == "-" for _, rest in secrets)


def test_the_example_environment_names_every_variable() -> None:
    example = (DEPLOY / "example.env").read_text()
    offered = set(re.findall(r"^(?:# )?([A-Z_]+)=", example, re.MULTILINE))
    used = set(re.findall(r"(?<!\$)\$\{([A-Z_]+)", TEXT))

    assert offered == used | {"COMPOSE_PROFILES"}
    assert re.findall(r"^\w*(?:PASSWORD|AUTH)=(.+)$", example, re.MULTILINE) == []


def test_redis_refuses_when_it_is_full() -> None:
    assert "--maxmemory-policy noeviction" in SERVICES["redis"]["command"][-1]


def test_a_leaving_worker_has_time_to_drain() -> None:

    from schemas.settings import Settings
    from workers.drain import GRACE

    drain = Settings.model_fields["drain_seconds"].default
    assert f"${{BATON_DRAIN_SECONDS:-{drain:g}}}" in TEXT
    assert all(seconds(service["stop_grace_period"]) > drain + 2 * GRACE for service in POOLS.values())


@pytest.mark.parametrize("name", ["flower", "upgrade", *POOLS])
def test_baton_runs_without_rights_it_does_not_need(name: str) -> None:
    service = SERVICES[name]

    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]


def test_the_image_is_not_root_and_has_no_shell_before_its_process() -> None:
    stages = (DEPLOY / "Dockerfile").read_text().split("\nFROM ")
    final = stages[-1].splitlines()

    assert any(re.fullmatch(r"USER [1-9]\d*", line) for line in final)
    assert 'ENTRYPOINT ["baton"]' in final
