"""Notifications that wait to be told, and those that were.

Revision: 0007, after 0006. The code of 0006 runs on it, and tells nobody.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    instant = postgresql.TIMESTAMP(timezone=True)
    op.create_table(
        "notifications",
        sa.Column("id", sa.Uuid(), nullable=False, comment="Also the webhook-id of its calls."),
        sa.Column(
            "url", sa.Text(), nullable=False, comment="Empty for NOTIFY_URL, whatever that is by then."
        ),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("happened_at", instant, nullable=False),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column(
            "available_at",
            instant,
            server_default=sa.text("clock_timestamp()"),
            nullable=True,
            comment="Next attempt, or lease expiry while one is under way; null at its end.",
        ),
        sa.Column("lease_id", sa.Uuid(), nullable=True, comment="New for every attempt."),
        sa.Column("outcome", sa.Text(), nullable=True),
        sa.Column("ended_at", instant, nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.CheckConstraint("outcome IN ('sent', 'dropped')", name=op.f("notifications_outcome_known")),
        sa.CheckConstraint(
            "(available_at IS NULL) = (outcome IS NOT NULL) AND (outcome IS NULL) = (ended_at IS NULL)",
            name=op.f("notifications_waits_or_ended"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("notifications_pkey")),
        comment="What is told of changes: written with the change, sent by ticks.",
        postgresql_with={"autovacuum_vacuum_scale_factor": 0.02},
    )
    op.create_index(
        "notifications_waiting",
        "notifications",
        ["available_at"],
        unique=False,
        postgresql_where=sa.text("available_at IS NOT NULL"),
    )
    op.create_index("notifications_happened_at", "notifications", ["happened_at"], unique=False)
