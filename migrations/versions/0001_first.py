"""Tasks, their state, task logs and ticks.

Revision: 0001, the first.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("CREATE EXTENSION IF NOT EXISTS pg_trgm")
    op.create_table(
        "deleted_tasks",
        sa.Column("task_id", sa.Uuid(), nullable=False),
        sa.PrimaryKeyConstraint("task_id", name=op.f("deleted_tasks_pkey")),
        comment="Deleted tasks whose long history is still being removed, by ticks, in batches.",
    )
    op.create_table(
        "task_logs",
        sa.Column("id", sa.Uuid(), nullable=False, comment="Also the webhook-id of every call of the run."),
        sa.Column("task_id", sa.Uuid(), nullable=False, comment="No foreign key: see deleted_tasks."),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("scheduled_for", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("execution_time", postgresql.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("finished_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("retry_count", sa.Integer(), nullable=False),
        sa.Column("message", sa.Text(), nullable=True),
        sa.Column("duration_ms", sa.Integer(), nullable=True),
        sa.Column("http_status", sa.SmallInteger(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("response_excerpt", sa.Text(), nullable=True),
        sa.Column("attempts", postgresql.JSONB(), nullable=False),
        sa.Column(
            "revision", sa.Integer(), nullable=True, comment="The task's revision when the slot was claimed."
        ),
        sa.Column(
            "available_at",
            postgresql.TIMESTAMP(timezone=True),
            nullable=True,
            comment="Retry time of a waiting run, lease expiry of a running one.",
        ),
        sa.Column(
            "lease_id",
            sa.Uuid(),
            nullable=True,
            comment="New for every attempt; kept after it, so that a repeated settle is known.",
        ),
        sa.Column("lost_leases", sa.SmallInteger(), nullable=False),
        sa.Column(
            "throttles", sa.SmallInteger(), nullable=False, comment="Attempts that a Retry-After sent away."
        ),
        sa.Column("missed_from", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("missed_to", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("missed_count", sa.Integer(), nullable=True),
        sa.Column("created_at", postgresql.TIMESTAMP(timezone=True), nullable=False),
        sa.CheckConstraint(
            "(status IN ('running', 'retrying')) = (available_at IS NOT NULL)",
            name=op.f("task_logs_under_way_is_available"),
        ),
        sa.CheckConstraint("jsonb_typeof(attempts) = 'array'", name=op.f("task_logs_attempts_is_array")),
        sa.CheckConstraint(
            "num_nonnulls(missed_from, missed_to, missed_count) IN (0, 3)"
            " AND (status <> 'missed' OR missed_count IS NOT NULL)",
            name=op.f("task_logs_missed_has_stretch"),
        ),
        sa.CheckConstraint(
            "source <> 'api' OR status IN ('success', 'failed')", name=op.f("task_logs_api_is_ended")
        ),
        sa.CheckConstraint(
            "source <> 'schedule' OR scheduled_for IS NOT NULL", name=op.f("task_logs_scheduled_has_slot")
        ),
        sa.CheckConstraint(
            "source = 'api' OR (status IN ('running', 'retrying')) = (finished_at IS NULL)",
            name=op.f("task_logs_ended_is_finished"),
        ),
        sa.CheckConstraint("source = 'api' OR revision IS NOT NULL", name=op.f("task_logs_run_has_revision")),
        sa.CheckConstraint("source IN ('schedule', 'api')", name=op.f("task_logs_source_known")),
        sa.CheckConstraint(
            "status <> 'running' OR lease_id IS NOT NULL", name=op.f("task_logs_running_has_lease")
        ),
        sa.CheckConstraint(
            "status IN ('running', 'retrying', 'success', 'failed', 'cancelled', 'missed', 'skipped')",
            name=op.f("task_logs_status_known"),
        ),
        sa.CheckConstraint("retry_count >= 0", name=op.f("task_logs_retry_count_not_negative")),
        sa.PrimaryKeyConstraint("id", name=op.f("task_logs_pkey")),
        comment="One row per run, from its claim to its end, and what was stored over the API.",
    )
    op.create_index(
        "task_logs_newest",
        "task_logs",
        [sa.literal_column("created_at DESC"), sa.literal_column("id DESC")],
        unique=False,
    )
    op.create_index(
        "task_logs_of_task_newest",
        "task_logs",
        ["task_id", sa.literal_column("created_at DESC"), sa.literal_column("id DESC")],
        unique=False,
    )
    op.create_index(
        "task_logs_slot",
        "task_logs",
        ["task_id", "scheduled_for"],
        unique=True,
        postgresql_where=sa.text("source = 'schedule'"),
    )
    op.create_index(
        "task_logs_under_way",
        "task_logs",
        ["available_at"],
        unique=False,
        postgresql_where=sa.text("status IN ('running', 'retrying')"),
    )
    op.create_index(
        "task_logs_under_way_of_task",
        "task_logs",
        ["task_id"],
        unique=False,
        postgresql_where=sa.text("status IN ('running', 'retrying')"),
    )
    op.create_table(
        "tasks",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("schedule", sa.Text(), nullable=True),
        sa.Column("timezone", sa.Text(), nullable=False),
        sa.Column("run_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("start_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("end_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("webhook_url", sa.Text(), nullable=False),
        sa.Column("method", sa.Text(), nullable=False),
        sa.Column("headers", sa.JSON(), nullable=False),
        sa.Column("payload", sa.JSON(), nullable=False),
        sa.Column("signing_secrets", sa.JSON(), nullable=False),
        sa.Column("tags", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("success_statuses", sa.Text(), nullable=False),
        sa.Column("max_retry", sa.SmallInteger(), nullable=False),
        sa.Column("retry_on", sa.Text(), nullable=False),
        sa.Column("deactivate_after", sa.Integer(), nullable=False),
        sa.Column("misfire_policy", sa.Text(), nullable=False),
        sa.Column("catchup_window_seconds", sa.Integer(), nullable=False),
        sa.Column("overlap_policy", sa.Text(), nullable=False),
        sa.Column("created_at", postgresql.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("updated_at", postgresql.TIMESTAMP(timezone=True), nullable=False),
        sa.CheckConstraint(
            "method IN ('POST', 'PUT', 'PATCH', 'GET', 'DELETE')", name=op.f("tasks_method_known")
        ),
        sa.CheckConstraint(
            "misfire_policy IN ('run_once', 'skip', 'run_all')", name=op.f("tasks_misfire_policy_known")
        ),
        sa.CheckConstraint("overlap_policy IN ('skip', 'allow')", name=op.f("tasks_overlap_policy_known")),
        sa.CheckConstraint("retry_on IN ('all', 'transient')", name=op.f("tasks_retry_on_known")),
        sa.CheckConstraint("(schedule IS NULL) <> (run_at IS NULL)", name=op.f("tasks_schedule_or_run_at")),
        sa.CheckConstraint("catchup_window_seconds >= 0", name=op.f("tasks_catchup_window_not_negative")),
        sa.CheckConstraint("char_length(name) BETWEEN 1 AND 200", name=op.f("tasks_name_length")),
        sa.CheckConstraint("deactivate_after >= 0", name=op.f("tasks_deactivate_after_not_negative")),
        sa.CheckConstraint("max_retry BETWEEN 0 AND 20", name=op.f("tasks_max_retry_range")),
        sa.PrimaryKeyConstraint("id", name=op.f("tasks_pkey")),
        comment="What users define: wide and cold, never written by a tick.",
    )
    op.create_index("tasks_created_at_id", "tasks", ["created_at", "id"], unique=False)
    op.create_index("tasks_name_id", "tasks", ["name", "id"], unique=False)
    op.create_index("tasks_tags", "tasks", ["tags"], unique=False, postgresql_using="gin")
    op.create_index(
        "tasks_name_trigram",
        "tasks",
        ["name"],
        unique=False,
        postgresql_using="gin",
        postgresql_ops={"name": "gin_trgm_ops"},
    )
    op.create_table(
        "throttled_destinations",
        sa.Column("destination", sa.Text(), nullable=False),
        sa.Column("available_at", postgresql.TIMESTAMP(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("destination", name=op.f("throttled_destinations_pkey")),
        comment="Destinations that asked with Retry-After to be left alone, and until when.",
    )
    op.create_table(
        "ticks",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("started_at", postgresql.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("finished_at", postgresql.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("due", sa.Integer(), nullable=False),
        sa.Column("started", sa.Integer(), nullable=False),
        sa.Column("succeeded", sa.Integer(), nullable=False),
        sa.Column("failed", sa.Integer(), nullable=False),
        sa.Column("retrying", sa.Integer(), nullable=False),
        sa.Column("throttled", sa.Integer(), nullable=False),
        sa.Column("missed", sa.Integer(), nullable=False),
        sa.Column("skipped", sa.Integer(), nullable=False),
        sa.Column("cancelled", sa.Integer(), nullable=False),
        sa.Column("deactivated", sa.Integer(), nullable=False),
        sa.Column("late", sa.Integer(), nullable=False),
        sa.Column("unsettled", sa.Integer(), nullable=False),
        sa.Column("remaining", sa.Integer(), nullable=False),
        sa.Column("lag_seconds", sa.Double(), nullable=False),
        sa.Column("duration_seconds", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("ticks_pkey")),
        comment="One row per tick, kept 7 days.",
    )
    op.create_index("ticks_started_at", "ticks", ["started_at"], unique=False)
    op.create_table(
        "task_state",
        sa.Column("task_id", sa.Uuid(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("next_run_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.Column(
            "timeout_seconds",
            sa.SmallInteger(),
            nullable=False,
            comment="The user's; every claim asks for it.",
        ),
        sa.Column("destination", sa.Text(), nullable=False, comment="Scheme, host and port of the webhook."),
        sa.Column(
            "is_catching_up",
            sa.Boolean(),
            nullable=False,
            comment="The next slot waits for the run of this one.",
        ),
        sa.Column("consecutive_failures", sa.Integer(), nullable=False),
        sa.Column("last_run_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("last_status", sa.Text(), nullable=True),
        sa.Column("deactivated_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("deactivated_reason", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "deactivated_at IS NULL OR status = 'inactive'", name=op.f("task_state_deactivated_is_inactive")
        ),
        sa.CheckConstraint("last_status IN ('success', 'failed')", name=op.f("task_state_last_status_known")),
        sa.CheckConstraint(
            "status = 'active' OR next_run_at IS NULL", name=op.f("task_state_only_active_has_next_run")
        ),
        sa.CheckConstraint(
            "status IN ('active', 'inactive', 'completed')", name=op.f("task_state_status_known")
        ),
        sa.CheckConstraint(
            "(deactivated_at IS NULL) = (deactivated_reason IS NULL)",
            name=op.f("task_state_deactivation_has_reason"),
        ),
        sa.CheckConstraint(
            "(last_run_at IS NULL) = (last_status IS NULL)", name=op.f("task_state_last_run_has_status")
        ),
        sa.CheckConstraint("consecutive_failures >= 0", name=op.f("task_state_failures_not_negative")),
        sa.CheckConstraint("revision >= 1", name=op.f("task_state_revision_positive")),
        sa.CheckConstraint("timeout_seconds BETWEEN 1 AND 45", name=op.f("task_state_timeout_range")),
        sa.ForeignKeyConstraint(
            ["task_id"], ["tasks.id"], name=op.f("task_state_task_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("task_id", name=op.f("task_state_pkey")),
        comment="What the engine keeps about a task: narrow and hot; the row that every claim locks.",
    )
    op.create_index(
        "task_state_due",
        "task_state",
        ["next_run_at"],
        unique=False,
        postgresql_where=sa.text("status = 'active'"),
    )
    op.create_index(
        "task_state_ending",
        "task_state",
        ["task_id"],
        unique=False,
        postgresql_where=sa.text("status = 'active' AND next_run_at IS NULL"),
    )
