"""When destinations with a rate were called.

Revision: 0008, after 0007. The code of 0007 runs on it, and keeps no rate.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "destination_limits",
        sa.Column("key", sa.Text(), nullable=False, comment="A host; or a host and the hash of a URL."),
        sa.Column(
            "grants",
            sa.JSON(),
            nullable=False,
            comment="When calls were claimed (epoch), and how many at once.",
        ),
        sa.Column(
            "idle_at",
            postgresql.TIMESTAMP(timezone=True),
            nullable=False,
            comment="From then on nothing of it counts.",
        ),
        sa.PrimaryKeyConstraint("key", name=op.f("destination_limits_pkey")),
        comment="Destinations with a rate that were called lately.",
        postgresql_with={"fillfactor": 50, "autovacuum_vacuum_scale_factor": 0.02},
    )
