"""Workers: a row of `ticks` says whether it is of a tick or of a worker.

Revision: 0004, after 0003. The code of 0003 runs on it: its rows are those of ticks.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("ticks", sa.Column("kind", sa.Text(), server_default="tick", nullable=False))
    op.create_check_constraint(op.f("ticks_kind_known"), "ticks", "kind IN ('tick', 'worker')")
    op.create_table_comment(
        "ticks",
        "One row per tick, and per worker that a tick has woken; kept 7 days.",
        existing_comment="One row per tick, kept 7 days.",
    )
