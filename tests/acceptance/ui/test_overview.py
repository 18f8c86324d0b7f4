"""The overview, in a browser."""

from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, expect

from tests.acceptance.conftest import Database
from tests.acceptance.server import TOKEN, Api, Server
from tests.acceptance.ui.watched import LOOKS, Watched
from tests.receiver import Receiver


def deactivated(api: Api, database: Database, name: str) -> None:
    """A task that Insignia has switched off because its webhook failed."""
    with Receiver(lambda _: (500, b"no")) as receiver:
        task = api.create(name=name, webhook_url=receiver.url, max_retry=0)
        database.make_due(task)
        api.tick()


def test_a_failing_task_is_shown_with_its_reason_and_can_be_reactivated(
    user: Watched, api: Api, database: Database
) -> None:
    deactivated(api, database, "Broken")
    user.open("/ui/")
    attention = user.page.get_by_role("region", name="Needs attention")
    expect(attention).to_contain_text("HTTP 500")
    attention.get_by_role("button", name="Reactivate Broken").click()
    expect(user.page.get_by_role("status")).to_contain_text("active again")
    expect(attention).not_to_be_visible()
    assert api.get("/tasks/")["tasks"][0]["status"] == "active"


def test_the_button_stands_beside_a_long_text(user: Watched, api: Api, database: Database) -> None:
    deactivated(api, database, "A long name " * 16)
    user.open("/ui/")
    attention = user.page.get_by_role("region", name="Needs attention")
    text, button = attention.get_by_role("paragraph").first, attention.get_by_role("button")
    text_box, button_box = text.bounding_box(), button.bounding_box()
    assert text_box is not None
    assert button_box is not None
    assert button_box["x"] >= text_box["x"] + text_box["width"]


def test_the_hours_and_the_cards_count_what_ran(user: Watched, api: Api, database: Database) -> None:
    deactivated(api, database, "Broken")
    api.log(api.create(name="Fine"))
    user.open("/ui/")
    hours = user.page.get_by_role("region", name="Last 24 hours")
    hours.get_by_text("As a table").click()
    expect(hours.get_by_role("table")).to_contain_text("1 success, 1 failed")
    assert hours.locator("rect.fill-failed").count() == 2, "the bar, and its legend"
    for follow in (hours.get_by_role("link", name="1 failed"), hours.locator("a .fill-failed")):
        follow.click()
        expect(user.page.locator("td .badge")).to_have_text(["failed"])
        expect(user.page.locator("tbody")).to_contain_text("Broken")
        user.page.go_back()
        hours.get_by_text("As a table").click()
    hours.locator("a .slot").last.click(position={"x": 1, "y": 1})
    expect(user.page.locator("td .badge")).to_have_text(["success", "failed"])
    user.page.go_back()
    expect(user.page.locator(".card", has_text="Success, 24 h")).to_contain_text("50 %")
    expect(user.page.locator(".card", has_text="Deactivated by us")).to_contain_text("1")


def test_the_next_runs_are_told_in_three_zones(user: Watched, api: Api) -> None:
    soon, later = (f"{datetime.now(UTC) + timedelta(hours=hours):%Y-%m-%dT%H:%M:%SZ}" for hours in (12, 36))
    api.create(name="Soon", schedule=None, run_at=soon, timezone="Asia/Tokyo")
    api.create(name="Much later", schedule=None, run_at=later)
    user.open("/ui/")
    upcoming = user.page.get_by_role("region", name="Next 24 hours")
    for part in ("Soon", "UTC", "Asia/Tokyo", "America/New_York", "in 11 h"):
        expect(upcoming).to_contain_text(part)
    expect(upcoming).not_to_contain_text("Much later")


def test_what_is_live_refreshes_unless_paused(user: Watched, api: Api) -> None:
    user.page.clock.install()
    user.open("/ui/")
    active = user.page.locator(".card", has_text="Active").first
    expect(active).to_contain_text("0")
    api.create()
    user.page.get_by_role("button", name="Pause").click()
    user.page.clock.fast_forward(61_000)
    expect(active).to_contain_text("0")
    user.page.get_by_role("button", name="Pause").click()
    user.page.clock.fast_forward(31_000)
    expect(active).to_contain_text("1")


def test_a_link_signs_in_with_the_token_behind_its_hash_which_is_not_sent(visitor: Watched) -> None:
    requested: list[str] = []
    visitor.page.on("request", lambda request: requested.append(request.url))
    visitor.open(f"/ui/sign-in#token={quote(TOKEN, safe='')}")
    expect(visitor.page.get_by_role("heading", level=1)).to_have_text("Overview")
    expect(visitor.page).to_have_url(f"{visitor.url}/ui/")
    assert not [url for url in requested if TOKEN in url.partition("#")[0]]


def test_it_works_without_javascript(browser: Browser, server: Server, api: Api) -> None:
    with Watched(browser, server.url, java_script_enabled=False) as user:
        user.sign_in()
        expect(user.page.get_by_role("heading", name="Overview")).to_be_visible()
        user.page.get_by_role("button", name="Sign out").click()
        expect(user.page.get_by_role("status")).to_have_text("You are signed out.")


@pytest.mark.parametrize("look", LOOKS)
def test_everybody_can_use_the_pages(user: Watched, api: Api, database: Database, look: str) -> None:
    user.look(look)
    user.open("/ui/sign-in")
    assert user.faults() == []
    user.open("/ui/")
    assert user.faults() == []
    deactivated(api, database, "A task with a name that is as long as names sometimes are in the world " * 2)
    api.create(name="Soon", schedule="* * * * *", timezone="Asia/Tokyo")
    user.open("/ui/")
    assert user.faults() == []
