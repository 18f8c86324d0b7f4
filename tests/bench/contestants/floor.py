"""The floor: the least that can be done with libcurl's multi interface and two statements for each batch.

No retries, no leases, no limits, no guard: it claims 500 at once, keeps up to 500 in flight, and writes results and
next runs in one statement for each batch. It shares no code with Insignia.
"""

import json
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from io import BytesIO
from typing import Any
from urllib.parse import parse_qs, urlsplit
from zoneinfo import ZoneInfo

import pg8000.native
import pycurl
from croniter import croniter

from tests.bench.webhooks import Webhook

IN_FLIGHT = 500
BATCH = 500

TABLES = """
CREATE TABLE tasks (
    id int PRIMARY KEY, schedule text NOT NULL, timezone text NOT NULL, webhook_url text NOT NULL,
    payload json NOT NULL, next_run_at timestamptz NOT NULL
);
CREATE INDEX ON tasks (next_run_at);
CREATE TABLE task_logs (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, task_id int NOT NULL, status text NOT NULL,
    http_status int NOT NULL, execution_time timestamptz NOT NULL
);
CREATE INDEX ON task_logs (task_id)
"""
CLAIM = """
SELECT json_agg(json_build_array(id, webhook_url, payload, schedule, timezone)) FROM (
    SELECT * FROM tasks WHERE next_run_at <= now() AND id > :after ORDER BY id LIMIT :batch
) due
"""
SETTLE = """
WITH results AS (
    SELECT * FROM json_to_recordset(CAST(:results AS json)) AS r(id int, http_status int, next timestamptz)
), moved AS (
    UPDATE tasks SET next_run_at = next FROM results WHERE tasks.id = results.id
)
INSERT INTO task_logs (task_id, status, http_status, execution_time)
SELECT id, CASE WHEN http_status BETWEEN 200 AND 299 THEN 'success' ELSE 'failed' END, http_status, now() FROM results
"""


@cache
def database() -> pg8000.native.Connection:
    url = urlsplit(os.environ["DATABASE_URL"])
    (socket,) = parse_qs(url.query)["unix_sock"]
    return pg8000.native.Connection(user=url.username or "", database=url.path[1:], unix_sock=socket)


def prepare(webhooks: Sequence[Webhook]) -> None:
    for statement in TABLES.split(";"):
        database().run(statement)
    rows = [
        {
            "id": webhook.number,
            "schedule": webhook.schedule,
            "timezone": webhook.timezone,
            "webhook_url": webhook.url,
            "payload": webhook.payload,
            "next_run_at": "infinity",
        }
        for webhook in webhooks
    ]
    database().run(
        "INSERT INTO tasks SELECT * FROM json_populate_recordset(NULL::tasks, CAST(:rows AS json))",
        rows=json.dumps(rows),
    )


def make_due() -> None:
    database().run("UPDATE tasks SET next_run_at = now()")


class Floor:
    def __init__(self) -> None:
        self.now = datetime.now(UTC)
        self.multi = pycurl.CurlMulti()
        self.multi.setopt(pycurl.M_MAXCONNECTS, 2 * IN_FLIGHT)  # otherwise 4 for each handle in flight
        self.spare: list[pycurl.Curl] = []
        self.calls: dict[pycurl.Curl, tuple[int, str, str]] = {}
        self.results: list[dict[str, Any]] = []
        self.next_runs: dict[tuple[str, str], str] = {}
        self.claimed: list[Any] = []
        self.last = -1

    def run(self) -> None:
        while self.claim() or self.calls:
            while self.claimed and len(self.calls) < IN_FLIGHT:
                self.start(*self.claimed.pop())
            self.multi.perform()
            if not self.collect():
                self.multi.select(1.0)
            if len(self.results) >= BATCH:
                self.settle()
        self.settle()

    def claim(self) -> bool:
        if not self.claimed and self.last is not None and len(self.calls) < IN_FLIGHT:
            ((rows,),) = database().run(CLAIM, after=self.last, batch=BATCH)
            self.claimed = rows or []
            self.last = max((row[0] for row in self.claimed), default=self.last)
            if not rows:
                self.last = 2**31 - 1
        return bool(self.claimed)

    def start(self, task: int, url: str, payload: object, schedule: str, timezone: str) -> None:
        curl = self.spare.pop() if self.spare else self.handle()
        curl.setopt(pycurl.URL, url)
        curl.setopt(pycurl.POSTFIELDS, json.dumps(payload))
        curl.setopt(pycurl.WRITEDATA, BytesIO())
        self.calls[curl] = (task, schedule, timezone)
        self.multi.add_handle(curl)

    def handle(self) -> pycurl.Curl:
        curl = pycurl.Curl()
        curl.setopt(pycurl.NOSIGNAL, 1)
        curl.setopt(pycurl.TIMEOUT, 10)
        curl.setopt(pycurl.CAINFO, os.environ["SSL_CERT_FILE"])
        curl.setopt(pycurl.HTTPHEADER, ["Content-Type: application/json"])
        return curl

    def collect(self) -> bool:
        _, succeeded, failed = self.multi.info_read(1000)
        finished = succeeded + [curl for curl, _, _ in failed]
        for curl in finished:
            self.multi.remove_handle(curl)
            task, schedule, timezone = self.calls.pop(curl)
            status = curl.getinfo(pycurl.RESPONSE_CODE)
            self.results.append(
                {"id": task, "http_status": status, "next": self.next_run(schedule, timezone)}
            )
            self.spare.append(curl)
        return bool(finished)

    def next_run(self, schedule: str, timezone: str) -> str:
        key = (schedule, timezone)
        if key not in self.next_runs:
            local = self.now.astimezone(ZoneInfo(timezone))
            self.next_runs[key] = croniter(schedule, local).get_next(datetime).isoformat()
        return self.next_runs[key]

    def settle(self) -> None:
        if self.results:
            database().run(SETTLE, results=json.dumps(self.results))
            self.results = []


def run() -> None:
    Floor().run()


def outcomes() -> list[tuple[int, str]]:
    return [(task, status) for task, status in database().run("SELECT task_id, status FROM task_logs")]
