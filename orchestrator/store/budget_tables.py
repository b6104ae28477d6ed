"""The tables of what may be consumed and what was.

A `budget` is what an operator, or an agent's code, lets a tenant, an agent or everybody consume in a window of time: an
hour, a day or a month, as UTC has them. Its account is `day:tenant:acme`; that of a run, whose budget stands in its
row, is `run:<id>`. `spendings` counts what was consumed by a run with a budget, `budget_windows` what was in a window
of the others: a new one begins with its first row. A `reservation` is the most that a call in flight can cost, in each
account that it counts in; like a permit it counts while its attempt runs, so nobody has to give it back. If nobody has
told of its end by then, the least that the call has cost is booked. One without a model is of an attempt as a whole.
`budget_warnings` says which were told that little is left, or nothing.

`costs` has a row for each model call that was paid, and for what an attempt has told besides; `cost_days` what they
came to of runs that were pruned.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Date,
    Index,
    Integer,
    Numeric,
    SmallInteger,
    Table,
    Text,
    Uuid,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from orchestrator.store.metadata import Time, metadata

budgets = Table(
    "budgets",
    metadata,
    Column("account", Text, primary_key=True),
    Column("scope", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("per", Text, nullable=False),
    Column("terms", JSONB, nullable=False),
    Column("origin", Text, nullable=False),
    Column("created_at", Time, nullable=False, server_default=func.now()),
    CheckConstraint("scope IN ('tenant', 'agent', 'all')", name="scope_known"),
    CheckConstraint("(scope = 'all') = (name = '')", name="name_unless_all"),
    CheckConstraint("per IN ('hour', 'day', 'month')", name="per_known"),
    CheckConstraint("origin IN ('operator', 'code')", name="origin_known"),
    CheckConstraint("account = per || ':' || scope || ':' || name", name="account_form"),
)

spendings = Table(
    "spendings",
    metadata,
    Column("run_id", Uuid, primary_key=True),
    # Of many writers, so that they seldom wait for each other.
    Column("stripe", SmallInteger, primary_key=True, autoincrement=False),
    Column("tokens", Numeric, nullable=False),
    Column("usd", Numeric, nullable=False),
    Column("model_calls", Numeric, nullable=False),
    Column("seconds", Numeric, nullable=False, server_default="0"),
    postgresql_with={"fillfactor": "50"},
)

budget_windows = Table(
    "budget_windows",
    metadata,
    Column("account", Text, primary_key=True),
    Column("opens_at", Time, primary_key=True),
    # Of many writers, so that they seldom wait for each other.
    Column("stripe", SmallInteger, primary_key=True, autoincrement=False),
    Column("tokens", Numeric, nullable=False),
    Column("usd", Numeric, nullable=False),
    Column("model_calls", Numeric, nullable=False),
    Column("seconds", Numeric, nullable=False),
    postgresql_with={"fillfactor": "50"},
)

budget_warnings = Table(
    "budget_warnings",
    metadata,
    Column("account", Text, primary_key=True),
    Column("opens_at", Time, primary_key=True),
    # How much of it was used up, in percent.
    Column("level", SmallInteger, primary_key=True, autoincrement=False, server_default="80"),
)

reservations = Table(
    "reservations",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("account", Text, primary_key=True),
    Column("run_id", Uuid, nullable=False),
    Column("path", Text, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("tokens", BigInteger, nullable=False),
    Column("usd", Numeric, nullable=False),
    Column("model_calls", BigInteger, nullable=False),
    # What is booked if nobody tells of its end, and as whose.
    Column("agent", Text, nullable=False, server_default=""),
    Column("model", Text, nullable=False, server_default=""),
    Column("least_tokens", BigInteger, nullable=False, server_default="0"),
    Column("least_usd", Numeric, nullable=False, server_default="0"),
    Column("least_calls", BigInteger, nullable=False, server_default="0"),
    Index("reservations_of_accounts", "account"),
    Index("reservations_of_runs", "run_id"),
)

costs = Table(
    "costs",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("run_id", Uuid, nullable=False),
    Column("path", Text, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("agent", Text, nullable=False),
    # Empty for what an attempt has told by itself.
    Column("model", Text, nullable=False),
    Column("tokens", BigInteger, nullable=False),
    Column("output_tokens", BigInteger, nullable=False),
    Column("usd", Numeric, nullable=False),
    Column("model_calls", BigInteger, nullable=False),
    Column("at", Time, nullable=False, server_default=func.clock_timestamp()),
    # Of a call whose attempt was over before anybody had told of its end: it costs its least, `unheard`, until somebody
    # does. No attempt tells of it.
    Column("lost", Text),
    CheckConstraint("lost IN ('unheard', 'heard')", name="lost_known"),
    Index("costs_of_runs", "run_id"),
    Index("costs_recent", "at"),
    # Who tells by themselves what they consume.
    Index("costs_told", "agent", postgresql_where=text("model = ''")),
)

cost_days = Table(
    "cost_days",
    metadata,
    Column("day", Date, primary_key=True),
    Column("workflow", Text, primary_key=True),
    Column("agent", Text, primary_key=True),
    Column("model", Text, primary_key=True),
    Column("tenant", Text, primary_key=True),
    Column("user", Text, primary_key=True),
    Column("tokens", BigInteger, nullable=False),
    Column("output_tokens", BigInteger, nullable=False),
    Column("usd", Numeric, nullable=False),
    Column("model_calls", BigInteger, nullable=False),
)
