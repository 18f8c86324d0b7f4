"""Whom a task's own changes are told, and in which order.

Revision: 0009, after 0008. The code of 0008 runs on it, and tells the URL of all tasks.
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "tasks",
        sa.Column(
            "notify_url", sa.Text(), nullable=True, comment="Null where NOTIFY_URL is told of the task."
        ),
    )
    op.add_column(
        "notifications",
        sa.Column("number", sa.BigInteger(), sa.Identity(always=True), nullable=False),
    )
