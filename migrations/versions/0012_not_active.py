"""An index on the tasks that are not active, for lists of them.

Revision: 0012, after 0011. The code of 0011 runs on it, and pays for it only when a task ends or is switched off.
"""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(
        "task_state_not_active",
        "task_state",
        ["status", "task_id"],
        unique=False,
        postgresql_where=sa.text("status <> 'active'"),
    )
