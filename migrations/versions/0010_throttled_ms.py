"""For how long runs were held back by the limits of their destinations.

Revision: 0010, after 0009. The code of 0009 runs on it, and counts no such time.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "task_logs",
        sa.Column(
            "throttled_ms",
            sa.Integer(),
            server_default="0",
            nullable=False,
            comment="For how long it was due and its destination allowed no call.",
        ),
    )
    op.add_column(
        "destination_limits",
        sa.Column(
            "held_since",
            postgresql.TIMESTAMP(timezone=True),
            comment="A call had to be left then: no place, no rate, or a Retry-After.",
        ),
    )
    op.add_column(
        "destination_limits",
        sa.Column(
            "held_until",
            postgresql.TIMESTAMP(timezone=True),
            comment="Of a Retry-After; else until a claim has to leave none.",
        ),
    )
    op.alter_column(
        "destination_limits",
        "key",
        existing_type=sa.Text(),
        existing_nullable=False,
        comment="A destination, a host, or a host and the hash of a URL.",
        existing_comment="A host; or a host and the hash of a URL.",
    )
    op.create_table_comment(
        "destination_limits",
        "Destinations with a rate that were called lately, and those that hold calls back.",
        existing_comment="Destinations with a rate that were called lately.",
        schema=None,
    )
