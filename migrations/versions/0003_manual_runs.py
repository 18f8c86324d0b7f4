"""Manual runs: a third source of task logs, the log that a run repeats, and an index on what no schedule made.

Revision: 0003, after 0002. The code of 0002 runs on it: it writes the two sources it knows, and no repetitions.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "task_logs",
        sa.Column("retry_of", sa.Uuid(), nullable=True, comment="The log that a manual run makes up for."),
    )
    for name in ("source_known", "scheduled_has_slot"):
        op.drop_constraint(op.f(f"task_logs_{name}"), "task_logs")
    for name, condition in (
        ("source_known", "source IN ('schedule', 'manual', 'api')"),
        ("scheduled_has_slot", "source = 'api' OR scheduled_for IS NOT NULL"),
        ("only_manual_retries", "retry_of IS NULL OR source = 'manual'"),
    ):
        op.create_check_constraint(op.f(f"task_logs_{name}"), "task_logs", condition)
    op.create_index(
        "task_logs_unscheduled_newest",
        "task_logs",
        ["source", sa.literal_column("created_at DESC"), sa.literal_column("id DESC")],
        unique=False,
        postgresql_where=sa.text("source IN ('manual', 'api')"),
    )
