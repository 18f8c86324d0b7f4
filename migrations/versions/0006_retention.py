"""How far the removal of old logs got, the last failures of each task, and vacuum as the tables are written.

Revision: 0006, after 0005. The code of 0005 runs on it, and removes nothing.

The index reads the whole log once, and meanwhile no run is claimed or recorded: seconds for each million logs. A log
that is too long for that can get the index beforehand, by CREATE INDEX CONCURRENTLY: it is not made again.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

VACUUM = """
ALTER TABLE task_state SET (fillfactor = 85, autovacuum_vacuum_scale_factor = 0.01);
ALTER TABLE task_logs SET (autovacuum_vacuum_scale_factor = 0.02);
ALTER TABLE idempotency_keys SET (autovacuum_vacuum_scale_factor = 0.02);
ALTER TABLE ticks SET (autovacuum_vacuum_scale_factor = 0.02);
"""


def upgrade() -> None:
    op.create_table(
        "retention",
        sa.Column("is_only_row", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column(
            "reached_at",
            postgresql.TIMESTAMP(timezone=True),
            server_default=sa.text("'-infinity'"),
            nullable=False,
            comment="The last log that was looked at in this pass: its created_at and id.",
        ),
        sa.Column(
            "reached_id",
            sa.Uuid(),
            server_default=sa.text("'00000000-0000-0000-0000-000000000000'"),
            nullable=False,
        ),
        sa.Column("kept", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column(
            "next_pass_at",
            postgresql.TIMESTAMP(timezone=True),
            server_default=sa.text("'-infinity'"),
            nullable=False,
        ),
        sa.CheckConstraint("is_only_row", name=op.f("retention_one_row")),
        sa.PrimaryKeyConstraint("is_only_row", name=op.f("retention_pkey")),
        comment="How far the removal of old logs got: one row.",
    )
    op.execute("INSERT INTO retention DEFAULT VALUES")
    op.create_index(
        "task_logs_failed_of_task",
        "task_logs",
        ["task_id", sa.literal_column("created_at DESC"), sa.literal_column("id DESC")],
        unique=False,
        postgresql_where=sa.text("status = 'failed'"),
        if_not_exists=True,
    )
    op.execute(VACUUM)
