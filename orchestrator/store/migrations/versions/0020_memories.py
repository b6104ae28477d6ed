"""What agents remember beyond a run."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "memories",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        *(sa.Column(name, sa.Text(), nullable=False) for name in ("tenant", "key", "kind", "text")),
        sa.Column("data", postgresql.JSONB(), nullable=False),
        sa.Column("words", postgresql.TSVECTOR(), nullable=False),
        sa.Column("model", sa.Text()),
        sa.Column("vector", postgresql.ARRAY(sa.REAL())),
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("place", sa.BigInteger(), nullable=False),
        sa.Column("remembered_at", _TIME, nullable=False, server_default=sa.func.clock_timestamp()),
        sa.Column("expires_at", _TIME),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_memories")),
        sa.UniqueConstraint("run_id", "path", "place", name=op.f("uq_memories_run_id_path_place")),
        sa.CheckConstraint("(model IS NULL) = (vector IS NULL)", name=op.f("ck_memories_vector_of_model")),
    )
    # Numbers of a vector do not compress.
    op.execute("ALTER TABLE memories ALTER COLUMN vector SET STORAGE EXTERNAL")
    op.create_index("memories_words", "memories", ["words"], postgresql_using="gin")
    op.create_index("memories_of_keys", "memories", ["tenant", "key", "id"])
    op.create_index(
        "memories_expired", "memories", ["expires_at"], postgresql_where=sa.text("expires_at IS NOT NULL")
    )
    # The past runs of a key. Those without one stand in no index.
    op.create_index(
        "runs_of_keys",
        "runs",
        ["tenant", sa.text("(labels ->> 'key')"), "created_at"],
        postgresql_where=sa.text("labels ->> 'key' IS NOT NULL"),
    )
    # When somebody last spoke; without an index, which each message would have to move.
    op.add_column(
        "sessions",
        sa.Column("touched_at", _TIME, nullable=False, server_default=sa.func.clock_timestamp()),
    )
