"""Statements of notifications: written with the change that they tell, claimed and sent by ticks.

A notification waits, is claimed with a lease as a run is (db/run_claims.py), and ends; a call whose process
died is made again when its lease is over. One thing is different: a URL is told one thing after another, in the
order in which they were written, so that what is new waits behind what its receiver has not taken.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from itertools import groupby, islice
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Connection, text

from db.json_rows import json_rows, read_json
from domain.notification import EVERYBODY, Change, ChangeKind, Notification, Told, digest_of, is_digested

MOST_LOOKED_AT = 100
"""Rows that a claim locks, more than a digest names; what waits beyond them is found by a later claim."""

KEPT_DAYS = 7

LOCK = 0x1A53
"""The first key of the advisory lock of all claims, beside those of db/places.py; there is one such lock."""

TRY_LOCK = text("SELECT pg_try_advisory_xact_lock(:lock, 0)")

WRITE = text("""
INSERT INTO notifications (id, url, kind, happened_at, data)
SELECT * FROM json_to_recordset(CAST(:rows AS json)) AS row(
    id uuid, url text, kind text, happened_at timestamptz, data json)
ON CONFLICT (id) DO NOTHING
""")

LOCK_DUE = text("""
SELECT coalesce(json_agg(due), '[]')::text FROM (
    SELECT id, url, kind, happened_at, data, attempts, statement_timestamp() AS claimed_at FROM notifications
    WHERE available_at <= statement_timestamp() AND (url <> '' OR :is_for_everybody) AND url NOT IN (
        SELECT url FROM notifications WHERE available_at > statement_timestamp())
    ORDER BY url, number LIMIT :limit
    FOR UPDATE SKIP LOCKED
) due
""")

DIGEST = text("""
WITH member AS MATERIALIZED (
    SELECT id FROM notifications
    WHERE url = :url AND available_at <= statement_timestamp() AND attempts = 0
    FOR UPDATE SKIP LOCKED
), digested AS (
    UPDATE notifications n SET
        available_at = NULL, outcome = 'digested', ended_at = clock_timestamp(), digest_id = :digest_id
    FROM member WHERE n.id = member.id
    RETURNING kind, happened_at
)
SELECT json_build_object('counts', json_object_agg(kind, number), 'until', max(until))::text
FROM (SELECT kind, count(*) AS number, max(happened_at) AS until FROM digested GROUP BY kind) counted
""")

LEASE = text("""
UPDATE notifications n SET
    attempts = n.attempts + 1,
    lease_id = lease.lease_id,
    available_at = clock_timestamp() + make_interval(secs => :lease_seconds)
FROM json_to_recordset(CAST(:leases AS json)) AS lease(id uuid, lease_id uuid)
WHERE n.id = lease.id
""")

RECORD = text("""
UPDATE notifications n SET
    attempts = n.attempts - (NOT was_sent)::int,
    available_at = CASE WHEN told.outcome IS NULL THEN clock_timestamp() + make_interval(secs => delay_seconds) END,
    outcome = told.outcome,
    ended_at = CASE WHEN told.outcome IS NOT NULL THEN clock_timestamp() END,
    error = told.error
FROM json_to_recordset(CAST(:told AS json)) AS told(
    id uuid, lease_id uuid, outcome text, delay_seconds float8, error text, was_sent bool)
WHERE n.id = told.id AND n.lease_id = told.lease_id AND n.outcome IS NULL
""")


REMOVE_OLD = text("""
DELETE FROM notifications WHERE id = ANY (ARRAY(
    SELECT id FROM notifications WHERE happened_at < statement_timestamp() - make_interval(days => :days)
    ORDER BY happened_at LIMIT :limit FOR UPDATE SKIP LOCKED))
""")


def write_notifications(connection: Connection, changes: Sequence[Change]) -> None:
    """Write down what is to be told, in the transaction of the changes; what has an id is written once."""
    rows = [
        {
            "id": str(change.id or uuid4()),
            "url": change.notify_url or EVERYBODY,
            "kind": change.kind,
            "happened_at": change.happened_at.isoformat(),
            "data": change.data,
        }
        for change in changes
    ]
    connection.execute(WRITE, {"rows": json_rows(rows)})


def claim_notifications(
    connection: Connection, limit: int, *, lease_seconds: float, is_for_everybody: bool
) -> list[Notification] | None:
    """Claim at most `limit` that are due; `is_for_everybody`: those of no task's own too. None while another claims.

    The oldest of each URL, and none where a call is under way or is to be repeated later. Where many wait that
    were not tried before, a digest is written in their place.
    """
    # two claims at once would each take something of one URL
    if not connection.execute(TRY_LOCK, {"lock": LOCK}).scalar_one():
        return None
    values = {"limit": MOST_LOOKED_AT, "is_for_everybody": is_for_everybody}
    due = read_json(connection, LOCK_DUE, values)
    if not due:
        return []
    claimed = [
        first_of(connection, list(waiting))
        for _, waiting in islice(groupby(map(notification_of, due), lambda one: one.url), limit)
    ]
    leases = [{"id": str(one.id), "lease_id": str(one.lease_id)} for one in claimed]
    connection.execute(LEASE, {"leases": json_rows(leases), "lease_seconds": lease_seconds})
    return claimed


def first_of(connection: Connection, waiting: Sequence[Notification]) -> Notification:
    """What a URL is told next of what waits for it, of which these are the first: the oldest, or a digest of all."""
    oldest = waiting[0]
    if not is_digested(waiting):
        return oldest
    id = uuid4()
    found = read_json(connection, DIGEST, {"url": oldest.url, "digest_id": id})
    digest = digest_of(waiting, found["counts"], datetime.fromisoformat(found["until"]), id)
    write_notifications(connection, [digest])
    return replace(oldest, id=id, kind=digest.kind, happened_at=digest.happened_at, data=digest.data)


def record_told(connection: Connection, all_told: Sequence[Told]) -> None:
    """Write what came of attempts, of those whose lease still holds."""
    rows = [
        {
            "id": str(told.notification.id),
            "lease_id": str(told.notification.lease_id),
            "outcome": told.outcome,
            "delay_seconds": told.delay_seconds,
            "error": told.error,
            "was_sent": told.was_sent,
        }
        for told in all_told
    ]
    connection.execute(RECORD, {"told": json_rows(rows)})


def remove_old_notifications(connection: Connection, limit: int) -> bool:
    """Remove at most `limit` of those of more than KEPT_DAYS ago, told or not; True when there may be more."""
    return connection.execute(REMOVE_OLD, {"days": KEPT_DAYS, "limit": limit}).rowcount == limit


def notification_of(row: dict[str, Any]) -> Notification:
    """With a lease of its own, which is still to be written."""
    return Notification(
        id=UUID(row["id"]),
        lease_id=uuid4(),
        url=row["url"],
        kind=ChangeKind(row["kind"]),
        happened_at=datetime.fromisoformat(row["happened_at"]),
        claimed_at=datetime.fromisoformat(row["claimed_at"]),
        data=row["data"],
        number=row["attempts"] + 1,
    )
