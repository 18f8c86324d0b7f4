"""Statements that remove old logs, oldest first, in passes through the log (docs/engine.md, Retention)."""

from sqlalchemy import Connection, text

from domain.retention import Retention

LOCK_PLACE = text("SELECT reached_at FROM retention FOR UPDATE SKIP LOCKED")

REMOVE_SOME_LOGS = text("""
WITH examined AS MATERIALIZED (
    SELECT id, task_id, source, status, scheduled_for, created_at,
        statement_timestamp() - created_at AS age FROM task_logs
    WHERE (created_at, id) > (SELECT reached_at, reached_id FROM retention)
        AND created_at <= statement_timestamp()
            - make_interval(hours => 24 * least(CAST(:success_days AS int), CAST(:other_days AS int)))
    ORDER BY created_at, id LIMIT :limit
), expired AS MATERIALIZED (
    SELECT * FROM examined
    WHERE status NOT IN ('running', 'retrying') AND age >= make_interval(hours => 24 *
        CASE status WHEN 'success' THEN CAST(:success_days AS int) ELSE CAST(:other_days AS int) END)
), task AS MATERIALIZED (
    SELECT wanted.task_id, newest.created_at, newest.id, failure.id AS failure_id, last.slot
    FROM (SELECT DISTINCT task_id FROM expired) wanted
    CROSS JOIN LATERAL (
        SELECT created_at, id FROM task_logs l WHERE l.task_id BETWEEN wanted.task_id AND wanted.task_id
        ORDER BY l.task_id, created_at DESC, id DESC OFFSET 19 LIMIT 1
    ) newest
    LEFT JOIN LATERAL (
        SELECT id FROM task_logs l
        WHERE l.task_id BETWEEN wanted.task_id AND wanted.task_id AND status = 'failed'
        ORDER BY l.task_id, created_at DESC, id DESC LIMIT 1
    ) failure ON true
    LEFT JOIN LATERAL (
        SELECT scheduled_for AS slot FROM task_logs l
        WHERE l.task_id BETWEEN wanted.task_id AND wanted.task_id AND source = 'schedule'
        ORDER BY l.task_id DESC, scheduled_for DESC LIMIT 1
    ) last ON true
), unneeded AS MATERIALIZED (
    SELECT id FROM task_logs WHERE id = ANY (ARRAY(
        SELECT expired.id FROM expired JOIN task USING (task_id)
        WHERE (expired.created_at, expired.id) < (task.created_at, task.id)
            AND expired.id IS DISTINCT FROM failure_id
            AND (source <> 'schedule' OR scheduled_for < slot)
    )) FOR UPDATE SKIP LOCKED
), removed AS (
    DELETE FROM task_logs WHERE id = ANY (ARRAY(SELECT id FROM unneeded))
), moved AS (
    UPDATE retention SET (reached_at, reached_id) = (
        SELECT created_at, id FROM examined ORDER BY created_at DESC, id DESC LIMIT 1
    ), kept = kept + (SELECT count(*) FROM examined) - (SELECT count(*) FROM unneeded)
    WHERE EXISTS (SELECT FROM examined)
)
SELECT count(*) FROM examined
""")
"""BETWEEN and the order by task leave only the indexes of a task's logs, as in db/task_logs.py."""

BEGIN_PASS = text("""
UPDATE retention SET
    reached_at = DEFAULT, reached_id = DEFAULT, kept = 0,
    next_pass_at = statement_timestamp()
        + least(greatest(kept - 1000, 0) * interval '10 milliseconds', interval '1 day')
WHERE next_pass_at <= statement_timestamp()
""")
"""What was kept may be removed by a later pass; the more was kept, the less often there is one."""


def remove_expired_logs(connection: Connection, limit: int, retention: Retention) -> bool:
    """Look at no more than `limit` old logs and remove those that nobody needs; True when there may be more.

    Kept whatever their age: runs under way, of each task the newest 20 logs and the last failure, and the log of
    the last slot that was claimed (`last_claimed_slot` asks for it). How far this got is kept with it: another
    tick goes on there. While another tick is at it, there is nothing to do.
    """
    if connection.execute(LOCK_PLACE).one_or_none() is None:
        return False
    days = {"success_days": retention.success_days, "other_days": retention.other_days}
    examined: int = connection.execute(REMOVE_SOME_LOGS, days | {"limit": limit}).scalar_one()
    if examined < limit:
        connection.execute(BEGIN_PASS)
    return examined == limit
