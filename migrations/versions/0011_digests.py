"""Digests of notifications: what is told by another one.

Revision: 0011, after 0010. The code of 0010 runs on it, and tells everything one by one.
"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "notifications",
        sa.Column("digest_id", sa.Uuid(), nullable=True, comment="The notification that tells this one."),
    )
    op.drop_constraint(op.f("notifications_outcome_known"), "notifications", type_="check")
    op.create_check_constraint(
        op.f("notifications_outcome_known"), "notifications", "outcome IN ('sent', 'dropped', 'digested')"
    )
    op.create_check_constraint(
        op.f("notifications_digested_by_one"),
        "notifications",
        "(outcome IS NOT DISTINCT FROM 'digested') = (digest_id IS NOT NULL)",
    )
