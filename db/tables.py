"""The tables; migrations/ creates them, and a test holds both together."""

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    MetaData,
    SmallInteger,
    Table,
    Text,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, TIMESTAMP

metadata = MetaData(
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "fk": "%(table_name)s_%(column_0_name)s_fkey",
        "ck": "%(table_name)s_%(constraint_name)s",
    }
)

INSTANT = TIMESTAMP(timezone=True)

tasks = Table(
    "tasks",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("name", Text, nullable=False),
    Column("schedule", Text),
    Column("timezone", Text, nullable=False),
    Column("run_at", INSTANT),
    Column("start_at", INSTANT),
    Column("end_at", INSTANT),
    Column("webhook_url", Text, nullable=False),
    Column("method", Text, nullable=False),
    Column("headers", JSON, nullable=False),
    Column("payload", JSON, nullable=False),
    Column("signing_secrets", JSON, nullable=False),
    Column("tags", ARRAY(Text), nullable=False, server_default="{}"),
    Column("success_statuses", Text, nullable=False),
    Column("max_retry", SmallInteger, nullable=False),
    Column("retry_on", Text, nullable=False),
    Column("deactivate_after", Integer, nullable=False),
    Column("misfire_policy", Text, nullable=False),
    Column("catchup_window_seconds", Integer, nullable=False),
    Column("overlap_policy", Text, nullable=False),
    Column("notify_url", Text, comment="Null where NOTIFY_URL is told of the task."),
    Column("created_at", INSTANT, nullable=False),
    Column("updated_at", INSTANT, nullable=False),
    CheckConstraint("char_length(name) BETWEEN 1 AND 200", name="name_length"),
    CheckConstraint("(schedule IS NULL) <> (run_at IS NULL)", name="schedule_or_run_at"),
    CheckConstraint("max_retry BETWEEN 0 AND 20", name="max_retry_range"),
    CheckConstraint("method IN ('POST', 'PUT', 'PATCH', 'GET', 'DELETE')", name="method_known"),
    CheckConstraint("retry_on IN ('all', 'transient')", name="retry_on_known"),
    CheckConstraint("deactivate_after >= 0", name="deactivate_after_not_negative"),
    CheckConstraint("misfire_policy IN ('run_once', 'skip', 'run_all')", name="misfire_policy_known"),
    CheckConstraint("catchup_window_seconds >= 0", name="catchup_window_not_negative"),
    CheckConstraint("overlap_policy IN ('skip', 'allow')", name="overlap_policy_known"),
    Index("tasks_created_at_id", "created_at", "id"),
    Index("tasks_name_id", "name", "id"),
    Index("tasks_tags", "tags", postgresql_using="gin"),
    Index(
        "tasks_name_trigram",
        "name",
        postgresql_using="gin",
        postgresql_ops={"name": "gin_trgm_ops"},
    ),
    comment="What users define: wide and cold, never written by a tick.",
)

task_state = Table(
    "task_state",
    metadata,
    Column("task_id", Uuid, ForeignKey("tasks.id", ondelete="CASCADE"), primary_key=True),
    Column("status", Text, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("next_run_at", INSTANT),
    Column("timeout_seconds", SmallInteger, nullable=False, comment="The user's; every claim asks for it."),
    Column("destination", Text, nullable=False, comment="Scheme, host and port of the webhook."),
    Column("is_catching_up", Boolean, nullable=False, comment="The next slot waits for the run of this one."),
    Column("consecutive_failures", Integer, nullable=False),
    Column("last_run_at", INSTANT),
    Column("last_status", Text),
    Column("deactivated_at", INSTANT),
    Column("deactivated_reason", Text),
    CheckConstraint("status IN ('active', 'inactive', 'completed')", name="status_known"),
    CheckConstraint("status = 'active' OR next_run_at IS NULL", name="only_active_has_next_run"),
    CheckConstraint("timeout_seconds BETWEEN 1 AND 45", name="timeout_range"),
    CheckConstraint("revision >= 1", name="revision_positive"),
    CheckConstraint("consecutive_failures >= 0", name="failures_not_negative"),
    CheckConstraint("(last_run_at IS NULL) = (last_status IS NULL)", name="last_run_has_status"),
    CheckConstraint("last_status IN ('success', 'failed')", name="last_status_known"),
    CheckConstraint(
        "(deactivated_at IS NULL) = (deactivated_reason IS NULL)", name="deactivation_has_reason"
    ),
    CheckConstraint("deactivated_at IS NULL OR status = 'inactive'", name="deactivated_is_inactive"),
    Index(
        "task_state_ending",
        "task_id",
        postgresql_where=text("status = 'active' AND next_run_at IS NULL"),
    ),
    Index("task_state_next", "next_run_at", "task_id", postgresql_where=text("status = 'active'")),
    Index("task_state_not_active", "status", "task_id", postgresql_where=text("status <> 'active'")),
    Index("task_state_deactivated", "task_id", postgresql_where=text("deactivated_at IS NOT NULL")),
    postgresql_with={"fillfactor": 85, "autovacuum_vacuum_scale_factor": 0.01},
    comment="What the engine keeps about a task: narrow and hot; the row that every claim locks.",
)

task_logs = Table(
    "task_logs",
    metadata,
    Column("id", Uuid, primary_key=True, comment="Also the webhook-id of every call of the run."),
    Column("task_id", Uuid, nullable=False, comment="No foreign key: see deleted_tasks."),
    Column("source", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("scheduled_for", INSTANT),
    Column("execution_time", INSTANT, nullable=False),
    Column("finished_at", INSTANT),
    Column("retry_count", Integer, nullable=False),
    Column("message", Text),
    Column("duration_ms", Integer),
    Column("http_status", SmallInteger),
    Column("error", Text),
    Column("response_excerpt", Text),
    Column("attempts", JSONB, nullable=False),
    Column("revision", Integer, comment="The task's revision when the slot was claimed."),
    Column("available_at", INSTANT, comment="Retry time of a waiting run, lease expiry of a running one."),
    Column(
        "lease_id", Uuid, comment="New for every attempt; kept after it, so that a repeated settle is known."
    ),
    Column("lost_leases", SmallInteger, nullable=False),
    Column("throttles", SmallInteger, nullable=False, comment="Attempts that a Retry-After sent away."),
    Column("missed_from", INSTANT),
    Column("missed_to", INSTANT),
    Column("missed_count", Integer),
    Column("created_at", INSTANT, nullable=False),
    Column("retry_of", Uuid, comment="The log that a manual run makes up for."),
    Column(
        "throttled_ms",
        Integer,
        nullable=False,
        server_default="0",
        comment="For how long it was due and its destination allowed no call.",
    ),
    CheckConstraint("source IN ('schedule', 'manual', 'api')", name="source_known"),
    CheckConstraint(
        "status IN ('running', 'retrying', 'success', 'failed', 'cancelled', 'missed', 'skipped')",
        name="status_known",
    ),
    CheckConstraint(
        "(status IN ('running', 'retrying')) = (available_at IS NOT NULL)", name="under_way_is_available"
    ),
    CheckConstraint("status <> 'running' OR lease_id IS NOT NULL", name="running_has_lease"),
    CheckConstraint(
        "source = 'api' OR (status IN ('running', 'retrying')) = (finished_at IS NULL)",
        name="ended_is_finished",
    ),
    CheckConstraint("source <> 'api' OR status IN ('success', 'failed')", name="api_is_ended"),
    CheckConstraint("source = 'api' OR scheduled_for IS NOT NULL", name="scheduled_has_slot"),
    CheckConstraint("retry_of IS NULL OR source = 'manual'", name="only_manual_retries"),
    CheckConstraint("source = 'api' OR revision IS NOT NULL", name="run_has_revision"),
    CheckConstraint(
        "num_nonnulls(missed_from, missed_to, missed_count) IN (0, 3)"
        " AND (status <> 'missed' OR missed_count IS NOT NULL)",
        name="missed_has_stretch",
    ),
    CheckConstraint("retry_count >= 0", name="retry_count_not_negative"),
    CheckConstraint("jsonb_typeof(attempts) = 'array'", name="attempts_is_array"),
    Index(
        "task_logs_slot",
        "task_id",
        "scheduled_for",
        unique=True,
        postgresql_where=text("source = 'schedule'"),
    ),
    Index(
        "task_logs_under_way",
        "available_at",
        postgresql_where=text("status IN ('running', 'retrying')"),
    ),
    Index(
        "task_logs_under_way_of_task",
        "task_id",
        postgresql_where=text("status IN ('running', 'retrying')"),
    ),
    Index("task_logs_newest", text("created_at DESC"), text("id DESC")),
    Index("task_logs_of_task_newest", "task_id", text("created_at DESC"), text("id DESC")),
    Index(
        "task_logs_unsuccessful_newest",
        "status",
        text("created_at DESC"),
        text("id DESC"),
        postgresql_where=text("status IN ('failed', 'cancelled', 'missed', 'skipped')"),
    ),
    Index(
        "task_logs_failed_of_task",
        "task_id",
        text("created_at DESC"),
        text("id DESC"),
        postgresql_where=text("status = 'failed'"),
    ),
    Index(
        "task_logs_unscheduled_newest",
        "source",
        text("created_at DESC"),
        text("id DESC"),
        postgresql_where=text("source IN ('manual', 'api')"),
    ),
    postgresql_with={"autovacuum_vacuum_scale_factor": 0.02},
    comment="One row per run, from its claim to its end, and what was stored over the API.",
)

task_log_changes = Table(
    "task_log_changes",
    metadata,
    Column("hour", INSTANT, nullable=False),
    Column("logs", Integer, nullable=False, comment="Below zero for logs that were removed."),
    comment="How many logs of an hour a statement added or removed, until a tick adds that to task_log_counts.",
)

task_log_counts = Table(
    "task_log_counts",
    metadata,
    Column("hour", INSTANT, primary_key=True, comment="In which logs were made, in UTC."),
    Column("logs", Integer, nullable=False),
    comment="How many logs there are of each hour, but for task_log_changes.",
)

retention = Table(
    "retention",
    metadata,
    Column("is_only_row", Boolean, primary_key=True, server_default=text("true")),
    Column(
        "reached_at",
        INSTANT,
        nullable=False,
        server_default=text("'-infinity'"),
        comment="The last log that was looked at in this pass: its created_at and id.",
    ),
    Column("reached_id", Uuid, nullable=False, server_default=text("'00000000-0000-0000-0000-000000000000'")),
    Column("kept", BigInteger, nullable=False, server_default=text("0")),
    Column("next_pass_at", INSTANT, nullable=False, server_default=text("'-infinity'")),
    CheckConstraint("is_only_row", name="one_row"),
    comment="How far the removal of old logs got: one row.",
)

throttled_destinations = Table(
    "throttled_destinations",
    metadata,
    Column("destination", Text, primary_key=True),
    Column("available_at", INSTANT, nullable=False),
    comment="Destinations that asked with Retry-After to be left alone, and until when.",
)

destination_limits = Table(
    "destination_limits",
    metadata,
    Column("key", Text, primary_key=True, comment="A destination, a host, or a host and the hash of a URL."),
    Column("grants", JSON, nullable=False, comment="When calls were claimed (epoch), and how many at once."),
    Column("idle_at", INSTANT, nullable=False, comment="From then on nothing of it counts."),
    Column("held_since", INSTANT, comment="A call had to be left then: no place, no rate, or a Retry-After."),
    Column("held_until", INSTANT, comment="Of a Retry-After; else until a claim has to leave none."),
    postgresql_with={"fillfactor": 50, "autovacuum_vacuum_scale_factor": 0.02},
    comment="Destinations with a rate that were called lately, and those that hold calls back.",
)

deleted_tasks = Table(
    "deleted_tasks",
    metadata,
    Column("task_id", Uuid, primary_key=True),
    comment="Deleted tasks whose long history is still being removed, by ticks, in batches.",
)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("key", Text, primary_key=True),
    Column("fingerprint", Text, nullable=False, comment="Of the request: method, path and body."),
    Column("created_at", INSTANT, nullable=False),
    Column("status", SmallInteger),
    Column("headers", JSON),
    Column("body", Text),
    CheckConstraint("num_nonnulls(status, headers, body) IN (0, 3)", name="answer_is_whole"),
    Index("idempotency_keys_created_at", "created_at"),
    postgresql_with={"autovacuum_vacuum_scale_factor": 0.02},
    comment="Answers to requests with an Idempotency-Key, kept 24 hours; committed with what they made.",
)

notifications = Table(
    "notifications",
    metadata,
    Column("id", Uuid, primary_key=True, comment="Also the webhook-id of its calls."),
    Column("url", Text, nullable=False, comment="Empty for NOTIFY_URL, whatever that is by then."),
    Column("kind", Text, nullable=False),
    Column("happened_at", INSTANT, nullable=False),
    Column("data", JSON, nullable=False),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column(
        "available_at",
        INSTANT,
        server_default=text("clock_timestamp()"),
        comment="Next attempt, or lease expiry while one is under way; null at its end.",
    ),
    Column("lease_id", Uuid, comment="New for every attempt."),
    Column("outcome", Text),
    Column("ended_at", INSTANT),
    Column("error", Text),
    Column("number", BigInteger, Identity(always=True), nullable=False),
    Column("digest_id", Uuid, comment="The notification that tells this one."),
    CheckConstraint("outcome IN ('sent', 'dropped', 'digested')", name="outcome_known"),
    CheckConstraint(
        "(outcome IS NOT DISTINCT FROM 'digested') = (digest_id IS NOT NULL)", name="digested_by_one"
    ),
    CheckConstraint(
        "(available_at IS NULL) = (outcome IS NOT NULL) AND (outcome IS NULL) = (ended_at IS NULL)",
        name="waits_or_ended",
    ),
    Index("notifications_waiting", "available_at", postgresql_where=text("available_at IS NOT NULL")),
    Index("notifications_happened_at", "happened_at"),
    postgresql_with={"autovacuum_vacuum_scale_factor": 0.02},
    comment="What is told of changes: written with the change, sent by ticks.",
)

ticks = Table(
    "ticks",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("started_at", INSTANT, nullable=False),
    Column("finished_at", INSTANT, nullable=False),
    *(
        Column(name, Integer, nullable=False)
        for name in (
            "due",
            "started",
            "succeeded",
            "failed",
            "retrying",
            "throttled",
            "missed",
            "skipped",
            "cancelled",
            "deactivated",
            "late",
            "unsettled",
            "remaining",
        )
    ),
    Column("lag_seconds", Double, nullable=False),
    Column("duration_seconds", Double, nullable=False),
    Column("kind", Text, nullable=False, server_default="tick"),
    CheckConstraint("kind IN ('tick', 'worker')", name="kind_known"),
    Index("ticks_started_at", "started_at"),
    postgresql_with={"autovacuum_vacuum_scale_factor": 0.02},
    comment="One row per tick, and per worker that a tick has woken; kept 7 days.",
)
