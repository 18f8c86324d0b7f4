"""Pictures of the dashboard for the README: `make screenshots` takes them of an Insignia with a month behind it."""

import base64
import shutil
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from playwright.sync_api import Browser, Page, sync_playwright
from sqlalchemy import Connection, text

from db.embedded import EmbeddedPostgres
from db.engine import make_engine, transaction
from db.migrations import upgrade
from tests.acceptance.server import TOKEN, Api, Json, Server, free_port
from tests.receiver import Answer, Received, Receiver

FOLDER = Path(__file__).parents[1] / "docs/screenshots"
LAPTOP: dict[str, Any] = {"viewport": {"width": 1180, "height": 820}}
PHONE: dict[str, Any] = {
    "viewport": {"width": 390, "height": 844},
    "device_scale_factor": 1.5,
    "has_touch": True,
}
QUALITY = 56
MINUTE, HOUR, DAY = 60, 3_600, 86_400


class Planned(NamedTuple):
    """A task and what it has behind it: a run every so many seconds, of which one in `fails_every` failed."""

    name: str
    schedule: str
    timezone: str
    tags: list[str]
    every_seconds: int
    duration_ms: int
    fails_every: int = 1_000_000


TASKS = [
    Planned("Shop heartbeat", "* * * * *", "UTC", ["shop"], 5 * MINUTE, 90, 700),
    Planned("Exchange rates", "*/15 * * * *", "UTC", ["finance"], 15 * MINUTE, 420, 90),
    Planned("Stock levels", "10 * * * *", "Europe/Berlin", ["shop"], HOUR, 900, 25),
    Planned("Search index", "40 */2 * * *", "UTC", ["shop"], 2 * HOUR, 3_800),
    Planned("Nightly backup", "30 2 * * *", "Europe/Berlin", ["ops"], DAY, 14_000),
    Planned("Morning report", "30 8 * * 1-5", "America/New_York", ["finance"], DAY, 2_300, 12),
    Planned("Expired uploads", "@daily", "UTC", ["ops"], DAY, 640),
    Planned("Newsletter", "0 9 * * 2", "Europe/Paris", ["marketing"], 7 * DAY, 5_200),
    Planned("Certificates", "0 4 * * 1", "UTC", ["ops"], 7 * DAY, 310),
]
INVOICES = "Invoice run"

SHOTS = [
    ("overview", "/ui/", LAPTOP, "light"),
    ("tasks", "/ui/tasks?order_by=next_run_at", LAPTOP, "dark"),
    ("task", "/ui/tasks/{task}", LAPTOP, "light"),
    ("run", "/ui/runs/{run}", LAPTOP, "dark"),
    ("logs", "/ui/logs", LAPTOP, "light"),
    ("system", "/ui/system", LAPTOP, "light"),
    ("overview-phone", "/ui/", PHONE, "dark"),
    ("task-phone", "/ui/tasks/{task}", PHONE, "light"),
    ("logs-phone", "/ui/logs?status=failed", PHONE, "light"),
    ("new-phone", "/ui/tasks/new", PHONE, "dark"),
]

INSERT_RUNS = text("""
INSERT INTO task_logs (
    id, task_id, source, status, scheduled_for, execution_time, finished_at, created_at, duration_ms, message,
    attempts, error, retry_count, http_status, revision, lost_leases, throttles)
SELECT gen_random_uuid(), :task_id, 'schedule', CASE WHEN is_failed THEN 'failed' ELSE 'success' END, at,
    at + interval '0.2 s', at + make_interval(secs => 0.2 + ms / 1000.0), at, ms,
    'The webhook answered HTTP ' || CASE WHEN is_failed THEN '500 Internal Server Error.' ELSE '200 OK.' END,
    jsonb_build_array(jsonb_build_object(
        'number', 1, 'lease_id', gen_random_uuid(), 'started_at', at + interval '0.2 s', 'duration_ms', ms,
        'outcome', CASE WHEN is_failed THEN 'failed' ELSE 'success' END)),
    CASE WHEN is_failed THEN 'http' END, 0, CASE WHEN is_failed THEN 500 ELSE 200 END, 1, 0, 0
FROM generate_series(1, 30 * 86400 / :every) number,
LATERAL (SELECT
    to_timestamp(floor(extract(epoch FROM statement_timestamp()) / :every) * :every) - number * :every * interval '1 s'
        + interval '20 min' * mod(:every / 3600, 2) AS at,
    (:ms * (0.7 + 0.6 * (hashint4(number + 7) & 255) / 255.0))::int AS ms,
    mod(hashint4(number) & 65535, :fails_every) = 0 AS is_failed) made
""")
LAST_RUNS = text("""
UPDATE task_state s SET last_run_at = l.execution_time, last_status = l.status
FROM (SELECT DISTINCT ON (task_id) task_id, execution_time, status FROM task_logs ORDER BY task_id, created_at DESC) l
WHERE s.task_id = l.task_id AND s.status = 'active'
""")
INSERT_TICKS = text("""
INSERT INTO ticks (
    kind, started_at, finished_at, due, started, succeeded, failed, retrying, throttled, missed, skipped, cancelled,
    deactivated, late, unsettled, remaining, lag_seconds, duration_seconds)
SELECT 'tick', at, at + make_interval(secs => took), due, due, due - failed, failed, 0, 0, 0, 0, 0, 0, 0, 0, 0, lag,
    took
FROM generate_series(1, 8 * 60) minute,
LATERAL (SELECT 1 + mod(minute, 4) + CASE WHEN mod(minute, 15) = 0 THEN 6 ELSE 0 END AS due,
    (mod(minute, 47) = 0)::int AS failed) counted,
LATERAL (SELECT date_trunc('minute', statement_timestamp()) - (minute - 1) * interval '1 min' AS at,
    CASE WHEN minute = 95 THEN 840 ELSE 0.3 + 1.2 * abs(sin(minute * 2.3)) END AS lag,
    0.4 + due * 0.35 * abs(sin(minute)) + failed * 9 + CASE WHEN minute = 95 THEN 22 ELSE 0 END AS took) timed
WHERE minute NOT BETWEEN 96 AND 108
""")


def main() -> None:
    if (chromium := shutil.which("chromium")) is None:
        sys.stderr.write(
            "chromium is not installed, and the pictures stay as they are; `apt-get install chromium` brings it.\n"
        )
        return
    FOLDER.mkdir(exist_ok=True)
    with TemporaryDirectory() as directory, EmbeddedPostgres(Path(directory) / "data") as database_url:
        upgrade(database_url)
        server = Server(Path(directory) / "server", {"DATABASE_URL": database_url, "PORT": str(free_port())})
        try:
            server.wait_until_ready()
            ids = seed(Api(server.url), database_url)
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
                take_all(browser, server.url, ids)
                browser.close()
        finally:
            server.stop()


def seed(api: Api, database_url: str) -> dict[str, str]:
    """Tasks with a history, and one that has just failed until it was switched off; the ids that the pages need."""
    engine = make_engine(database_url)
    with Receiver(answer) as receiver:
        made = [create(api, receiver.url, planned) for planned in TASKS]
        with transaction(engine) as connection:
            connection.execute(text("SET LOCAL statement_timeout = 0"))
            for task, planned in zip(made, TASKS, strict=True):
                add_history(connection, task, planned)
        invoices = api.create(
            name=INVOICES,
            schedule="0 6 1 * *",
            timezone="Europe/Berlin",
            webhook_url=receiver.url,
            headers={"Authorization": "Bearer token"},
            payload={"month": f"{datetime.now(UTC) - timedelta(days=28):%Y-%m}", "customers": ["all"]},
            tags=["finance"],
            max_retry=2,
        )
        with transaction(engine) as connection:
            connection.execute(
                text("UPDATE task_state SET next_run_at = date_trunc('minute', now()) WHERE task_id = :id"),
                {"id": invoices["id"]},
            )
        api.tick()
        with transaction(engine) as connection:
            connection.execute(LAST_RUNS)
            connection.execute(INSERT_TICKS)
    engine.dispose()
    return {"task": made[2]["id"], "run": api.logs(invoices)[0]["id"]}


def answer(received: Received) -> Answer:
    attempt = int(received.headers["X-Insignia-Attempt"])
    return (
        (503, b"") if attempt < 3 else (422, b'{"error": "customers must be a list of ids", "got": ["all"]}')
    )


def create(api: Api, url: str, planned: Planned) -> Json:
    return api.create(
        name=planned.name,
        schedule=planned.schedule,
        timezone=planned.timezone,
        tags=planned.tags,
        webhook_url=url,
        deactivate_after=5,
    )


def add_history(connection: Connection, task: Json, planned: Planned) -> None:
    connection.execute(
        INSERT_RUNS,
        {
            "task_id": task["id"],
            "every": planned.every_seconds,
            "ms": planned.duration_ms,
            "fails_every": planned.fails_every,
        },
    )


def take_all(browser: Browser, url: str, ids: dict[str, str]) -> None:
    for name, path, device, scheme in SHOTS:
        with browser.new_context(**device | {"color_scheme": scheme}) as context:
            page = context.new_page()
            page.goto(f"{url}/ui/sign-in")
            page.get_by_label("Token").fill(TOKEN)
            page.get_by_role("button", name="Sign in").click()
            page.goto(url + path.format(**ids), wait_until="networkidle")
            take(page, FOLDER / f"{name}.webp")


def take(page: Page, path: Path) -> None:
    """WebP, of which playwright itself takes none: a third of what PNG needs."""
    options = {"format": "webp", "quality": QUALITY}
    picture = page.context.new_cdp_session(page).send("Page.captureScreenshot", options)
    path.write_bytes(base64.b64decode(picture["data"]))


if __name__ == "__main__":
    main()
