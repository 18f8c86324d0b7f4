"""What each statement adds to the logs of an hour, or takes from them.

Revision: 0013, after 0012. The code of 0012 runs on it: triggers write it, in the transaction of the statement.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

NOTE_CHANGE = """
CREATE FUNCTION note_task_log_changes() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO task_log_changes (hour, logs)
    SELECT date_bin('1 hour', created_at, '2000-01-01 00:00+00'),
        CASE TG_OP WHEN 'INSERT' THEN count(*) ELSE -count(*) END
    FROM changed GROUP BY 1;
    RETURN NULL;
END
$$
"""


def upgrade() -> None:
    op.create_table(
        "task_log_changes",
        sa.Column("hour", postgresql.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("logs", sa.Integer(), nullable=False, comment="Below zero for logs that were removed."),
        comment="How many logs of an hour a statement added or removed, until a tick adds that to task_log_counts.",
    )
    op.execute(NOTE_CHANGE)
    for event, rows in (("INSERT", "NEW"), ("DELETE", "OLD")):
        op.execute(
            f"CREATE TRIGGER note_{event.lower()} AFTER {event} ON task_logs"
            f" REFERENCING {rows} TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION note_task_log_changes()"
        )
