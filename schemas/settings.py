"""Everything Baton reads from its environment, read here and nowhere else."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

Policy = Literal["mask", "refuse", "allow"]
"""What becomes of what is found in an output."""


class Settings(BaseSettings):
    """The environment of one process; every field is the variable `BATON_<NAME>`."""

    model_config = SettingsConfigDict(env_prefix="BATON_", frozen=True)

    database_url: str | None = None
    """`postgresql://user:password@host:port/name`; unset, the servers of `data_dir` are used."""

    broker_url: str | None = None
    """`redis://host:port/0` (or `amqp://…`); unset, the servers of `data_dir` are used."""

    breakers_url: str | None = None
    """The Redis of the circuit breakers; unset, the broker, if that is one."""

    app: str = ""
    """Modules that hold agents and workflows, separated by commas, e.g. `examples.text_digest`."""

    data_dir: Path = Path(".baton")
    """Where the embedded PostgreSQL and Redis keep their files."""

    heartbeat: float = Field(default=1.0, gt=0)
    """Seconds between a worker's heartbeats."""

    lease: float = Field(default=3.0, gt=0)
    """Seconds after its last heartbeat at which a worker counts as dead."""

    loss_limit: int = Field(default=3, ge=1)
    """Workers that one step may lose before it is set aside and its run paused."""

    drain_seconds: float = Field(default=30.0, ge=0)
    """Seconds for which a worker that was told to end may finish its steps; what still runs then goes to others."""

    webhook_secret: str = ""
    """What signs the events that `baton events listen` takes in: `whsec_…`, two while one is replaced."""

    notify: str = ""
    """Who is told what waits for people, separated by commas: URLs of webhooks, or `module:function`."""

    notify_secret: str = ""
    """What signs those webhooks: `whsec_…`, two while one is replaced."""

    personal: Policy = "allow"
    """What becomes of personal data that agents give, where their guards do not say."""

    model: str | None = None
    """The language model of the examples, e.g. `openai:gpt-5-mini`; unset, a script plays one."""

    model_base_url: str | None = None
    """Where it is asked, if it is no provider's: any server that speaks OpenAI's chat completions."""

    model_key: str | None = None
    """The variable with the key of that server, if it wants one."""

    model_price: str | None = None
    """What the model costs if nobody knows it: `IN,OUT`, US dollars for a million tokens."""

    vectors: bool = True
    """Whether memory is searched by meaning where the server has pgvector; else by words alone."""

    pool_size: int = Field(default=4, ge=1)
    """Postgres connections that one process may hold; a worker has one more, for its heart, and half
    as many again if its agents share state."""


@cache
def settings() -> Settings:
    """The settings of this process, read once."""
    return Settings()
