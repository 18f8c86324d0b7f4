"""An index on the tasks that Insignia has switched off, which /health counts.

Revision: 0005, after 0004. The code of 0004 runs on it, and pays for it only when it switches a task off.
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(
        "task_state_deactivated",
        "task_state",
        ["task_id"],
        unique=False,
        postgresql_where=sa.text("deactivated_at IS NOT NULL"),
    )
