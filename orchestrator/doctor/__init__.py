"""Finds misconfigurations of Postgres, Redis, Celery and the app: one small function per check."""

from __future__ import annotations

from orchestrator.doctor import application, packages, places, postgres, queues, redis
from orchestrator.doctor.finding import Finding, Level
from schemas.settings import settings

__all__ = ["Finding", "Level", "examine"]


def examine() -> list[Finding]:
    """Check everything that the environment names; a check that cannot be made says so."""
    given = settings()
    found, urls = places.check(given.database_url, given.broker_url, given.data_dir)
    findings = [*packages.check(), *found]
    if urls.database_url:
        findings += postgres.check(urls.database_url, pool_size=given.pool_size)
    if urls.broker_url:
        findings += redis.check(urls.broker_url, given.breakers_url)
        findings += queues.check(urls.broker_url)
    findings += application.check(given.app, urls.database_url, urls.broker_url)
    return findings
