"""The form of a task: from nothing to the first run, and what is wrong told where it is."""

import re
from datetime import UTC, datetime

import pytest
from playwright.sync_api import expect

from tests.acceptance.conftest import Database
from tests.acceptance.server import NOWHERE, Api
from tests.acceptance.ui.test_sessions import OURS, signed_in
from tests.acceptance.ui.watched import LOOKS, Watched
from tests.receiver import Receiver

SECRET = "a-header-that-is-a-secret"


def test_the_first_task_from_the_empty_overview_to_its_first_successful_run(
    user: Watched, api: Api, database: Database
) -> None:
    with Receiver() as receiver:
        user.page.get_by_role("link", name="Create a task").click()
        user.page.get_by_label("Name").fill("First")
        user.page.get_by_label("Webhook URL").fill(receiver.url)
        user.page.get_by_label("Payload, JSON").fill('{"n": 1}')
        user.page.get_by_role("button", name="Send a test").click()
        expect(user.page.locator("#tested")).to_contain_text("HTTP 200")
        assert receiver.requests[0].json == {"n": 1}
        assert api.get("/tasks/")["total"] == 0, "a test stores nothing"
        user.page.get_by_role("button", name="Create the task").click()
        expect(user.page.get_by_role("status")).to_contain_text("saved")
        (task,) = api.get("/tasks/")["tasks"]
        database.make_due(task)
        api.tick()
        assert receiver.wait_for(2)[1].json == {"n": 1}
    user.page.reload()
    expect(user.page.get_by_role("heading", level=1)).to_have_text("First")
    expect(user.page.get_by_role("region", name="Last runs")).to_contain_text("success")


def test_what_is_typed_is_checked_and_previewed(user: Watched) -> None:
    user.open("/ui/tasks/new")
    schedule = user.page.get_by_label("Schedule")
    schedule.fill("61 * * * *")
    expect(user.page.locator("#error-schedule")).to_contain_text("minute 61 is out of range")
    expect(schedule).to_have_attribute("aria-invalid", "true")
    expect(user.page.locator("#error-name")).to_be_empty()
    schedule.fill("30 2 * * *")
    user.page.get_by_label("Time zone").fill("Europe/Berlin")
    preview = user.page.get_by_role("region", name="Next runs")
    expect(preview).to_contain_text("At 02:30")
    expect(preview.get_by_role("listitem")).to_have_count(5)
    expect(schedule).not_to_have_attribute("aria-invalid", "true")
    user.page.get_by_label("Payload, JSON").fill('{"a": 1,}')
    expect(user.page.locator("#error-payload")).to_contain_text("line 1, column")
    expect(user.page.get_by_label("Payload, JSON")).to_have_value('{"a": 1,}')


def test_each_policy_says_what_it_does(user: Watched) -> None:
    user.open("/ui/tasks/new")
    for label, part in [
        ("Retry after", "5xx only"),
        ("A run while one is under way", "Skip leaves it out"),
        ("Slots that were missed", "the latest only"),
        ("Catch up, seconds", "Older slots"),
    ]:
        expect(user.page.get_by_label(label)).to_have_accessible_description(re.compile(part))


def test_runs_in_another_year_are_told_with_it(user: Watched) -> None:
    user.open("/ui/tasks/new")
    user.page.get_by_label("Schedule").fill("@yearly")
    run = user.page.get_by_role("region", name="Next runs").get_by_role("listitem").nth(1)
    year = datetime.now(UTC).year
    expect(run).to_contain_text(f"01 Jan {year + 2} 00:00 UTC")
    expect(run).to_contain_text(f"31 Dec {year + 1} 19:00 America/New_York")


def test_the_zone_of_the_browser_is_offered(user: Watched) -> None:
    user.open("/ui/tasks/new")
    user.page.get_by_role("button", name="Use America/New_York").click()
    expect(user.page.get_by_label("Time zone")).to_have_value("America/New_York")
    expect(user.page.get_by_role("region", name="Next runs")).to_contain_text("09:00 America/New_York")
    expect(user.page.get_by_role("button", name="Use America/New_York")).to_be_hidden()


def test_a_curl_command_fills_the_form_in(user: Watched) -> None:
    user.open("/ui/tasks/new#curl")
    command = """curl -X PUT https://hooks.example.com/x -H 'X-Key: k' -d '{"a":1}'"""
    user.page.get_by_label("A command that calls the webhook").fill(command)
    user.page.get_by_role("button", name="Fill in the form").click()
    expect(user.page.get_by_label("Webhook URL")).to_have_value("https://hooks.example.com/x")
    expect(user.page.get_by_label("Method")).to_have_value("PUT")
    expect(user.page.get_by_label("Payload, JSON")).to_have_value('{"a":1}')


def test_an_edit_shows_no_secret_and_keeps_what_is_left_empty(api: Api) -> None:
    task = api.create(
        name="Old",
        webhook_url=f"{NOWHERE}/secret-path",
        headers={"X-Key": SECRET},
        notify_url=f"{NOWHERE}/secret-path",
    )
    somebody = Api(api.url, token=None)
    headers = {**OURS, **signed_in(somebody)}
    path = f"/ui/tasks/{task['id']}/edit"
    page = somebody("GET", path, headers=headers)
    assert page.status_code == 200
    assert SECRET not in page.text
    assert "secret-path" not in page.text
    fields = {name: str(task[name]) for name in ("timezone", "method", "status", "success_statuses")}
    fields |= {name: task[name] for name in ("retry_on", "misfire_policy", "overlap_policy", "schedule")}
    fields |= {"name": "New", "headers": "X-Key:\n", "action": "save", "revision": "1"}
    assert somebody("POST", path, data=fields, headers=headers).status_code == 303
    changed = api.get(f"/tasks/{task['id']}")
    assert changed["name"] == "New"
    assert changed["webhook_url"] == task["webhook_url"]
    assert changed["headers"] == {"X-Key": SECRET}
    assert changed["notify_url"] == task["notify_url"]
    late = somebody("POST", path, data=fields | {"name": "Late"}, headers=headers)
    assert late.status_code == 422
    assert "Somebody else has changed this task" in late.text
    assert api.get(f"/tasks/{task['id']}")["name"] == "New"


def test_a_notify_url_is_forgotten_where_that_is_checked(user: Watched, api: Api) -> None:
    task = api.create(notify_url=f"{NOWHERE}/secret-path")
    user.open(f"/ui/tasks/{task['id']}/edit")
    user.page.get_by_text("Headers, retries and policies").click()
    user.page.get_by_label("Tell NOTIFY_URL again").check()
    assert user.faults() == []
    user.page.get_by_role("button", name="Save").click()
    expect(user.page.get_by_role("heading", level=1)).to_have_text(task["name"])
    assert api.get(f"/tasks/{task['id']}")["notify_url"] is None
    user.open(f"/ui/tasks/{task['id']}/edit")
    user.page.get_by_text("Headers, retries and policies").click()
    expect(user.page.get_by_label("Tell NOTIFY_URL again")).to_have_count(0)


@pytest.mark.parametrize("look", LOOKS)
def test_everybody_can_use_the_form(user: Watched, look: str) -> None:
    user.look(look)
    user.open("/ui/tasks/new#curl")
    user.page.get_by_text("Headers, retries and policies").click()
    assert user.faults() == []
