"""What a call has cost at least is set aside with it, and booked when its worker dies."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for name in ("agent", "model"):
        op.add_column("reservations", sa.Column(name, sa.Text(), server_default="", nullable=False))
    op.add_column(
        "reservations", sa.Column("least_tokens", sa.BigInteger(), server_default="0", nullable=False)
    )
    op.add_column("reservations", sa.Column("least_usd", sa.Numeric(), server_default="0", nullable=False))
    op.add_column(
        "reservations", sa.Column("least_calls", sa.BigInteger(), server_default="0", nullable=False)
    )
    op.add_column("costs", sa.Column("lost", sa.Text()))
    op.create_check_constraint(op.f("ck_costs_lost_known"), "costs", "lost IN ('unheard', 'heard')")
