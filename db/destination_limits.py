"""Rates of destinations: how many calls began to each lately, of all processes together.

What counts together has one row, with the instants at which its calls were claimed. A claim reads the rows of all that
it has found under a rate by one statement, and writes those of what it took by one more, in its own transaction: a
claim that is rolled back has spent nothing. A call that is given back has spent its own. Between both it holds an
advisory lock of each row's key, for which only a run by hand waits.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping

from sqlalchemy import Connection, text

from db.engine import compact_json
from domain.rate import (
    Grants,
    Limit,
    Rate,
    calls_left,
    limit_of,
    rate_of,
    recent,
    wait_seconds,
)

LOCKS = 0x1A52
"""The first key of the advisory locks; the second is the hash of a row's key."""

CONTENDED_SECONDS = 0.05
"""After which a claim may look again at what another was claiming just then."""

TRY_LOCKS = text("""
SELECT coalesce(json_agg(key), '[]') FROM unnest(CAST(:keys AS text[])) AS wanted(key)
WHERE pg_try_advisory_xact_lock(:locks, hashtext(key))
""")

WAIT_FOR_LOCKS = text("""
SELECT coalesce(json_agg(key), '[]') FROM unnest(CAST(:keys AS text[])) AS wanted(key)
WHERE pg_advisory_xact_lock(:locks, hashtext(key)) IS NOT NULL
""")

READ_GRANTS = text("""
SELECT extract(epoch FROM clock_timestamp())::float8, coalesce(json_object_agg(key, grants), '{}')
FROM destination_limits WHERE key = ANY (CAST(:keys AS text[]))
""")

WRITE_GRANTS = text("""
INSERT INTO destination_limits (key, grants, idle_at)
SELECT key, grants, to_timestamp(idle_at)
FROM json_to_recordset(CAST(:rows AS json)) AS row(key text, grants json, idle_at float8)
ON CONFLICT (key) DO UPDATE SET grants = excluded.grants, idle_at = excluded.idle_at
""")

FORGET_IDLE = text("""
WITH idle AS MATERIALIZED (
    SELECT key FROM destination_limits WHERE idle_at <= statement_timestamp()
    FOR UPDATE SKIP LOCKED
)
DELETE FROM destination_limits l USING idle WHERE l.key = idle.key
""")


class Ledger:
    """What the rates still allow in one claim: opened once, asked for each call, and recorded once.

    `rates` are known by their hosts. `closed` are the targets that are known to allow nothing yet: a claim passes them
    over. `waits` tells of those that refused a call how many seconds from now they may allow one.
    """

    def __init__(self, rates: Mapping[str, Rate] | None = None, closed: Collection[str] = ()) -> None:
        self.waits: dict[str, float] = {}
        self._rates = rates or {}
        self.closed = closed
        self._rate_of: dict[str, Rate | None] = {}
        self._now = 0.0
        self._grants: dict[str, Grants] = {}
        self._taken: Counter[str] = Counter()
        self._windows: dict[str, float] = {}

    def open(
        self, connection: Connection, calls: Iterable[tuple[str, str]], *, is_waiting: bool = False
    ) -> None:
        """Find out what is left for calls to destinations and URLs, until the commit."""
        limits: dict[str, Limit] = {}
        for destination, webhook_url in calls:
            if destination not in self._rate_of:
                self._rate_of[destination] = rate_of(self._rates, destination)
            if rate := self._rate_of[destination]:
                limit = limit_of(rate, destination, webhook_url)
                limits[limit.key] = limit
        if not limits:
            return
        lock = WAIT_FOR_LOCKS if is_waiting else TRY_LOCKS
        keys = connection.execute(lock, {"locks": LOCKS, "keys": sorted(limits)}).scalar_one()
        self._now, found = connection.execute(READ_GRANTS, {"keys": keys}).one()
        self._grants = {key: recent(found.get(key, ()), limits[key].rate, self._now) for key in keys}

    def take(self, destination: str, webhook_url: str) -> str | None:
        """Spend one call; if its rate is used up, the target that refuses it instead."""
        rate = self._rate_of.get(destination)
        if rate is None:
            return None
        limit = limit_of(rate, destination, webhook_url)
        grants = self._grants.get(limit.key)
        if grants is None:
            self.waits[limit.target] = CONTENDED_SECONDS
            return limit.target
        taken = self._taken[limit.key]
        if taken < calls_left(grants, rate):
            self._taken[limit.key] = taken + 1
            self._windows[limit.key] = rate.window_seconds
            return None
        self.waits[limit.target] = wait_seconds([*grants, (self._now, taken)], rate, self._now)
        return limit.target

    def record(self, connection: Connection) -> None:
        """Write what was taken, in the transaction of the claim."""
        rows = [
            {
                "key": key,
                "grants": [*self._grants[key], (self._now, self._taken[key])],
                "idle_at": self._now + window_seconds,
            }
            for key, window_seconds in self._windows.items()
        ]
        if rows:
            connection.execute(WRITE_GRANTS, {"rows": compact_json(rows)})


def forget_idle_limits(connection: Connection) -> None:
    """Drop the rows that no longer count anything."""
    connection.execute(FORGET_IDLE)
