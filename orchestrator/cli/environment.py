"""Where this command finds its app and its servers: options become environment, and the settings read it."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from orchestrator.client import Client
    from orchestrator.loading import Loaded
    from schemas.workflows import Workflow


def apply(*, app: str | None = None, data_dir: Path | None = None, drain: float | None = None) -> None:
    """Let options win over the environment, for this process and those it starts."""
    from schemas.settings import settings

    if app is not None:
        os.environ["BATON_APP"] = app
    if data_dir is not None:
        os.environ["BATON_DATA_DIR"] = str(data_dir)
    if drain is not None:
        os.environ["BATON_DRAIN_SECONDS"] = str(drain)
    settings.cache_clear()


def with_urls() -> Mapping[str, str]:
    """The environment of a process that must find the same servers."""
    from orchestrator.places import find

    found = find()
    return {
        **os.environ,
        "BATON_DATABASE_URL": found.database_url,
        "BATON_BROKER_URL": found.broker_url,
    }


@contextmanager
def connected() -> Iterator[Client]:
    """A client of the servers that the environment names."""
    from orchestrator.client import Client

    with Client() as client:
        yield client


def loaded() -> Loaded:
    """The app that the environment names, imported."""
    from orchestrator.loading import load
    from schemas.settings import settings

    return load(settings().app)


def find_workflow(name: str) -> Workflow:
    """A workflow of the app; without an app, of the database, in its latest version.

    Raises `NotFound`, naming the most similar one.
    """
    from schemas.settings import settings

    if settings().app:
        return loaded().workflow(name)
    from orchestrator.loading import unknown

    with connected() as client:
        known = client.workflows()
    versions = [workflow for workflow in known if workflow.name == name]
    if not versions:
        names = sorted({workflow.name for workflow in known})
        raise unknown("workflow", name, names, next_step="name the module that holds it with --app")
    return max(versions, key=lambda workflow: workflow.version)


def stored_version(client: Client, name: str, version: int) -> Workflow:
    """The newest stored definition of a workflow that has this version. Raises `NotFound`, naming those there are."""
    from schemas.errors import NotFound

    stored = list(client.versions(name).values())
    for one in stored:
        if one.version == version:
            return one
    known = ", ".join(map(str, sorted({one.version for one in stored}))) or "none"
    raise NotFound(
        f"No version {version} of {name!r} is stored; stored: {known}.",
        next_step="a version is stored when a run of it starts",
    )
