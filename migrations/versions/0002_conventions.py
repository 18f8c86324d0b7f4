"""Tags, indexes for lists that are read page by page, and answers kept by Idempotency-Key.

Revision: 0002, after 0001. The code of 0001 runs on it: a task without tags gets none, and task_state_next
serves what task_state_due served.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "tasks", sa.Column("tags", postgresql.ARRAY(sa.Text()), server_default="{}", nullable=False)
    )
    op.create_index("tasks_tags", "tasks", ["tags"], unique=False, postgresql_using="gin")
    op.create_index("tasks_name_id", "tasks", ["name", "id"], unique=False)
    op.create_index(
        "task_state_next",
        "task_state",
        ["next_run_at", "task_id"],
        unique=False,
        postgresql_where=sa.text("status = 'active'"),
    )
    op.drop_index("task_state_due", table_name="task_state")
    op.create_index(
        "task_logs_unsuccessful_newest",
        "task_logs",
        ["status", sa.literal_column("created_at DESC"), sa.literal_column("id DESC")],
        unique=False,
        postgresql_where=sa.text("status IN ('failed', 'cancelled', 'missed', 'skipped')"),
    )
    op.create_table(
        "idempotency_keys",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False, comment="Of the request: method, path and body."),
        sa.Column("created_at", postgresql.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("status", sa.SmallInteger(), nullable=True),
        sa.Column("headers", sa.JSON(), nullable=True),
        sa.Column("body", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "num_nonnulls(status, headers, body) IN (0, 3)", name=op.f("idempotency_keys_answer_is_whole")
        ),
        sa.PrimaryKeyConstraint("key", name=op.f("idempotency_keys_pkey")),
        comment="Answers to requests with an Idempotency-Key, kept 24 hours; committed with what they made.",
    )
    op.create_index("idempotency_keys_created_at", "idempotency_keys", ["created_at"], unique=False)
