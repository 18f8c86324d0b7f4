"""The page of the system."""

from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from functions import VERSION
from functions.ui.system import UNFOLDED
from tests.acceptance.conftest import Database
from tests.acceptance.server import NOWHERE, TOKEN, Api, Server
from tests.acceptance.ui.test_sessions import OURS, signed_in
from tests.acceptance.ui.watched import LOOKS, Watched

PATH = "/ui/system"
COPY_TICK = text("""
INSERT INTO ticks OVERRIDING USER VALUE SELECT copy.* FROM ticks one, jsonb_populate_record(one, jsonb_build_object(
    'kind', CAST(:kind AS text), 'started_at', one.started_at - make_interval(mins => :minutes_ago),
    'lag_seconds', CAST(:lag AS float), 'succeeded', 3, 'retrying', 1
)) copy
WHERE one.id = (SELECT min(id) FROM ticks)
""")


def add_tick(rows: Engine, *, minutes_ago: int, kind: str = "tick", lag: float = 0.2) -> None:
    """A copy of the first one, with other counts."""
    with rows.begin() as connection:
        connection.execute(COPY_TICK, {"kind": kind, "minutes_ago": minutes_ago, "lag": lag})


def test_ticks_are_listed_and_minutes_without_one_are_told(
    browser_of: tuple[Api, dict[str, str]], api: Api, rows: Engine
) -> None:
    somebody, headers = browser_of
    api.tick()
    for minutes_ago in (1, 2, 15):
        add_tick(rows, minutes_ago=minutes_ago)
    add_tick(rows, minutes_ago=1, kind="worker")
    page = somebody("GET", PATH, headers=headers).text
    assert page.count("3 delivered, 1 to be tried again") == 4
    assert page.count("nothing was due") == 1
    assert page.count(">worker<") == 1
    assert "Lag of the 4 ticks of the last 6 hours" in page
    assert "Minutes without a tick" in page
    assert "12 min" in page
    assert 'class="card reason failed"' not in page


def test_what_does_not_work_is_told_with_what_to_do(
    browser_of: tuple[Api, dict[str, str]], api: Api, rows: Engine, database: Database
) -> None:
    somebody, headers = browser_of
    assert "No tick has run yet" in somebody("GET", PATH, headers=headers).text
    api.tick()
    with rows.begin() as connection:
        late = "clock_timestamp() - interval '2 h'"
        connection.execute(text(f"UPDATE ticks SET started_at = {late}, finished_at = {late}"))  # noqa: S608
    page = somebody("GET", PATH, headers=headers).text
    assert "The last tick ended 2 h ago: no webhook is called." in page
    assert "make run" in page
    assert "1 h 59 min" in page
    api.tick()
    database.make_due(api.create(webhook_url=NOWHERE), seconds_ago=600)
    assert "The oldest due task has waited for 10 min" in somebody("GET", PATH, headers=headers).text


def test_version_schema_and_settings_are_told_and_no_secret(
    browser_of: tuple[Api, dict[str, str]], server_database: str
) -> None:
    somebody, headers = browser_of
    page = somebody("GET", PATH, headers=headers).text
    for told in (VERSION, "this code needs 0", "DELIVERY_CONCURRENCY", "500", "API_TOKEN", "not set"):
        assert told in page
    assert TOKEN not in page
    assert server_database not in page


def test_without_a_database_it_says_so_and_what_is_known(tmp_path: Path) -> None:
    server = Server(tmp_path, {"DATABASE_URL": "postgresql://postgres@127.0.0.1:9/insignia"})
    try:
        server.wait_until_ready()
        somebody = Api(server.url, token=None)
        answer = somebody("GET", PATH, headers={**OURS, **signed_in(somebody)})
    finally:
        server.stop()
    assert answer.status_code == 200
    for told in ("the database is away", "does not answer", VERSION, "DELIVERY_CONCURRENCY"):
        assert told in answer.text


@pytest.mark.parametrize("look", LOOKS)
def test_everybody_can_use_the_page(user: Watched, api: Api, rows: Engine, look: str) -> None:
    user.look(look)
    user.open(PATH)
    assert user.faults() == []
    api.tick()
    add_tick(rows, minutes_ago=30, lag=500)
    for minutes_ago in range(1, UNFOLDED):
        add_tick(rows, minutes_ago=minutes_ago, kind="worker")
    user.open(PATH)
    assert user.faults() == []
    for folded in ("Those before them", "Settings"):
        user.page.get_by_text(folded, exact=True).click()
    assert user.faults() == []
