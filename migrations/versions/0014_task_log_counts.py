"""How many logs there are of each hour, and the first count of them.

Revision: 0014, after 0013. The code of 0013 runs on it. It is a revision of its own because the logs are counted while
others go on writing: since 0013 has been committed, what they write meanwhile is in task_log_changes.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

RECOUNT = """
INSERT INTO task_log_changes (hour, logs)
SELECT hour, sum(logs) FROM (
    SELECT date_bin('1 hour', created_at, '2000-01-01 00:00+00') AS hour, count(*) AS logs FROM task_logs GROUP BY 1
    UNION ALL SELECT hour, -logs FROM task_log_counts
    UNION ALL SELECT hour, -logs FROM task_log_changes
) difference GROUP BY hour HAVING sum(logs) <> 0
"""
"""One statement, so one moment: what is committed then is a log and a change, and what is not is neither."""

RECOUNT_FUNCTION = f"""
CREATE FUNCTION recount_task_logs() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    {RECOUNT};
    RETURN NULL;
END
$$
"""


def upgrade() -> None:
    op.create_table(
        "task_log_counts",
        sa.Column(
            "hour",
            postgresql.TIMESTAMP(timezone=True),
            nullable=False,
            comment="In which logs were made, in UTC.",
        ),
        sa.Column("logs", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("hour", name=op.f("task_log_counts_pkey")),
        comment="How many logs there are of each hour, but for task_log_changes.",
    )
    op.execute(RECOUNT)
    op.execute(RECOUNT_FUNCTION)
    for event in ("TRUNCATE", "UPDATE OF created_at"):
        op.execute(
            f"CREATE TRIGGER recount_{event.split()[0].lower()} AFTER {event} ON task_logs"
            " FOR EACH STATEMENT EXECUTE FUNCTION recount_task_logs()"
        )
