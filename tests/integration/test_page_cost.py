"""What each page of the dashboard costs beside 10,000 tasks: what travels, and the CPU of the server."""

import gzip
import html
import json
import time
from collections.abc import Callable, Iterator

import flask
import pytest
from sqlalchemy import Engine, text
from werkzeug.test import EnvironBuilder

import main
from db.engine import transaction
from functions import bootstrap
from functions.settings import load
from functions.ui.log_file import COLUMNS
from functions.ui.pages import ASSETS
from functions.ui.sessions import COOKIE, sign_in
from tests.bench.filled import fill
from tests.conftest import url_of

TASKS, LOGS = 10_000, 20_000
MOST_BYTES = 100_000
# 50 ms, the goal, on a quiet machine, where the yardstick takes 10.7 ms of CPU. A busy or slow machine stretches both.
MOST_YARDSTICKS = 4.7
TIMES = 5
FILES = ("{name}", ".csv")
PATHS = [route.path for route in main._pages if route.method == "GET" and not route.path.endswith(FILES)]

INSERT_TICKS = text("""
INSERT INTO ticks (
    kind, started_at, finished_at, due, started, succeeded, failed, retrying, throttled, missed, skipped, cancelled,
    deactivated, late, unsettled, remaining, lag_seconds, duration_seconds)
SELECT kind, at, at, 9, 9, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1
FROM unnest(ARRAY['tick', 'worker', 'worker']) kind, generate_series(1, 24 * 60) minute,
LATERAL (SELECT statement_timestamp() - minute * interval '1 min' AS at) times
""")


@pytest.fixture(scope="module")
def places(admin: Engine) -> Iterator[dict[str, str]]:
    """What stands for the names in paths: a task with a log in each hour, and one of its runs."""
    with admin.connect() as connection:
        connection.execute(text("CREATE DATABASE page_cost"))
    url = url_of(admin.url.render_as_string(hide_password=False), "page_cost")
    filled = fill(url, tasks=TASKS, logs=LOGS)
    with transaction(filled.engine) as connection:
        connection.execute(INSERT_TICKS)
        connection.execute(text("ANALYZE"))
        run_of = text("SELECT id FROM task_logs WHERE task_id = :id LIMIT 1")
        run_id = connection.execute(run_of, {"id": filled.talkative}).scalar_one()
    filled.engine.dispose()
    settings = load({"API_TOKEN": "the-token-of-this-test", "DATABASE_URL": url})
    bootstrap.database.cache_clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bootstrap, "settings", lambda: settings)
        yield {"task_id": str(filled.talkative), "run_id": str(run_id)}
        bootstrap.database().dispose()
    bootstrap.database.cache_clear()


def get(path: str) -> flask.Response:
    cookie = sign_in(bootstrap.settings(), bootstrap.settings().api_tokens[0])
    headers = [("Cookie", f"{COOKIE}={cookie}"), ("Accept-Encoding", "gzip")]
    return main.api(flask.Request(EnvironBuilder(path=path, headers=headers).get_environ()))


@pytest.mark.parametrize("path", PATHS)
def test_a_page_is_small_and_cheap_however_many_tasks_there_are(places: dict[str, str], path: str) -> None:
    answer = get(path.format(**places))
    assert answer.status_code == (303 if path == "/" else 200)
    assert len(gzip.decompress(answer.get_data())) < MOST_BYTES, "also without compression"
    parts = [answer, *(get(f"/ui/assets/{name}") for name in ASSETS)]
    assert sum(len(part.get_data()) for part in parts) < MOST_BYTES
    taken = [(cpu_seconds(lambda: get(path.format(**places))), cpu_seconds(yardstick)) for _ in range(TIMES)]
    of_page, of_yardstick = map(min, zip(*taken, strict=True))
    assert of_page / of_yardstick < MOST_YARDSTICKS


def test_an_exported_file_ends_after_ten_thousand_logs(places: dict[str, str]) -> None:
    lines = gzip.decompress(get("/ui/logs.csv").get_data()).decode("utf-8-sig").split("\r\n")
    assert len(lines) == 1 + 10_000 + 1, "the names of the columns, and nothing after the last line"
    stored_at = [line.split(",")[COLUMNS.index("created_at")] for line in lines[1:-1]]
    assert stored_at == sorted(stored_at, reverse=True)


def cpu_seconds(work: Callable[[], object]) -> float:
    """Of this thread, which other programs do not count into; what still disturbs it only adds: the least counts."""
    began_at = time.thread_time()
    work()
    return time.thread_time() - began_at


def yardstick() -> None:
    """Some of what Python does for a page, without a line of ours."""
    for _ in range(20):
        json.loads(
            json.dumps([{"id": number, "name": html.escape(f"task <{number}>")} for number in range(500)])
        )
