"""The page of a task, and its deletion."""

import json

import pytest
from playwright.sync_api import Browser, expect

from domain.curl_command import parse_curl_command
from tests.acceptance.conftest import Database
from tests.acceptance.server import NOWHERE, Api, Server
from tests.acceptance.ui.test_overview import deactivated
from tests.acceptance.ui.test_sessions import post
from tests.acceptance.ui.watched import LOOKS, Watched
from tests.receiver import Receiver

SECRETS = {
    "webhook_url": f"{NOWHERE}/secret-path",
    "notify_url": f"{NOWHERE}/secret-chat",
    "headers": {"X-Key": "secret-value"},
}


def test_what_a_task_is_and_does_is_told(user: Watched, api: Api, database: Database) -> None:
    with Receiver(lambda received: (200 if received.json["n"] == 1 else 500, b"")) as receiver:
        task = api.create(
            name="Report",
            schedule="30 2 * * *",
            timezone="Europe/Berlin",
            webhook_url=receiver.url,
            payload={"n": 1},
            max_retry=0,
            deactivate_after=2,
        )
        database.make_due(task)
        api.tick()
        api.put(f"/tasks/{task['id']}", {"payload": {"n": 2}})
        database.make_due(task)
        api.tick()
    user.open(f"/ui/tasks/{task['id']}")
    page = user.page
    expect(page.get_by_role("heading", level=1)).to_have_text("Report")
    for part in ("At 02:30", "Europe/Berlin", "after 2 failed runs in a row", "HTTP 200-299 within 10 s"):
        expect(page.get_by_role("main")).to_contain_text(part)
    planned = page.get_by_role("region", name="Next runs").get_by_role("listitem")
    expect(planned).to_have_count(5)
    for part in ("UTC", "02:30 Europe/Berlin", "America/New_York"):
        expect(planned.first).to_contain_text(part)
    days = page.get_by_role("region", name="Last 30 days")
    assert days.locator("a path.fill-success, a path.fill-failed").count() == 2, "side by side in one hour"
    days.get_by_text("As a table").click()
    expect(days.get_by_role("table")).to_contain_text("1 success, 1 failed")
    expect(page.get_by_role("img", name="Of 2 measured runs")).to_be_visible()
    last = page.get_by_role("region", name="Last runs").get_by_role("row")
    expect(last).to_have_count(3)
    expect(last.nth(1)).to_contain_text("HTTP 500")
    expect(last.nth(2)).to_contain_text("HTTP 200")
    expect(page.locator(".card", has_text="Failed in a row")).to_contain_text("1deactivated at 2")
    days.get_by_role("link", name="1 failed").click()
    page.wait_for_url(f"**/ui/logs?task_id={task['id']}&*&status=failed")
    assert [row.partition(" ")[0] for row in page.locator("td .badge").all_inner_texts()] == ["failed"]
    page.go_back()
    page.locator(".days a").last.click()
    expect(page.locator("td .badge")).to_have_text(["failed", "success"])
    page.go_back()
    page.get_by_role("link", name="All runs of this task").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Logs of Report")
    page.locator("tbody").get_by_role("link", name="UTC").first.click()
    page.get_by_role("link", name="Other runs of this task").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Logs of Report")


def test_actions_ask_first_and_do_what_they_say(user: Watched, api: Api) -> None:
    with Receiver() as receiver:
        task = api.create(name="One", webhook_url=receiver.url)
        user.open(f"/ui/tasks/{task['id']}")
        page = user.page
        page.get_by_role("button", name="Run now …").click()
        asked = page.get_by_role("dialog")
        expect(asked).to_contain_text("calls the webhook at 127.0.0.1")
        assert user.faults() == []
        asked.get_by_role("button", name="Cancel").click()
        expect(asked).to_be_hidden()
        page.get_by_role("button", name="Run now …").click()
        asked.get_by_role("button", name="Run now").click()
        expect(page.get_by_role("status")).to_have_text("The run succeeded.")
        assert len(receiver.requests) == 1
    expect(page.locator(".card", has_text="Last run").first).to_contain_text("success by hand")
    page.get_by_role("button", name="Pause …").click()
    page.get_by_role("dialog").get_by_role("button", name="Pause").click()
    expect(page.get_by_role("region", name="Next runs")).to_contain_text("the task is inactive")
    page.get_by_role("button", name="Activate …").click()
    page.get_by_role("dialog").get_by_role("button", name="Activate").click()
    expect(page.get_by_role("region", name="Next runs").get_by_role("listitem")).to_have_count(5)
    page.get_by_role("link", name="Edit").click()
    expect(page.get_by_label("Name")).to_have_value("One")
    page.go_back()
    page.get_by_role("button", name="Duplicate").click()
    expect(page.get_by_label("Name")).to_have_value("One (copy)")


def test_a_deletion_asks_for_the_name_also_without_javascript(
    browser: Browser, server: Server, api: Api
) -> None:
    task = api.create(name="Doomed")
    api.create(name="Kept")
    with Watched(browser, server.url, java_script_enabled=False) as user:
        user.sign_in()
        user.open(f"/ui/tasks/{task['id']}")
        user.page.get_by_role("button", name="Pause …").click()
        user.page.get_by_role("dialog").get_by_role("button", name="Pause").click()
        assert api.get(f"/tasks/{task['id']}")["status"] == "inactive"
        user.page.get_by_role("link", name="Delete …").click()
        user.page.get_by_label("Type its name").fill("Kept")
        user.page.get_by_role("button", name="Delete").click()
        expect(user.page.get_by_role("alert")).to_contain_text("nothing is deleted")
        assert api.get("/tasks/")["total"] == 2
        user.page.get_by_label("Type its name").fill("Doomed")
        user.page.get_by_role("button", name="Delete").click()
        expect(user.page.get_by_role("status")).to_have_text("The task and its logs are deleted.")
        assert [what for what in user.broken if "422" not in what] == []
        user.broken.clear()
    assert [left["name"] for left in api.get("/tasks/")["tasks"]] == ["Kept"]


def test_why_a_task_was_switched_off_is_told_and_it_is_reactivated(
    user: Watched, api: Api, database: Database
) -> None:
    deactivated(api, database, "Broken")
    (task,) = api.get("/tasks/")["tasks"]
    user.open(f"/ui/tasks/{task['id']}")
    reason = user.page.get_by_role("region", name="Switched off by Insignia")
    expect(reason).to_contain_text("HTTP 500")
    user.page.get_by_role("button", name="Reactivate …").click()
    user.page.get_by_role("dialog").get_by_role("button", name="Reactivate").click()
    expect(reason).to_be_hidden()
    assert api.get(f"/tasks/{task['id']}")["status"] == "active"


def test_what_changes_is_refreshed(user: Watched, api: Api) -> None:
    task = api.create()
    user.page.clock.install()
    user.open(f"/ui/tasks/{task['id']}")
    expect(user.page.get_by_role("main")).to_contain_text("It has not run yet.")
    api.log(task, message="Somebody says so.")
    user.page.clock.fast_forward(31_000)
    expect(user.page.get_by_role("region", name="Last runs")).to_contain_text("Somebody says so.")


def test_a_task_is_copied_as_curl_and_as_json_without_its_secrets(user: Watched, api: Api) -> None:
    task = api.create(method="PUT", payload={"it's": [1, "ü"]}, **SECRETS)
    user.open(f"/ui/tasks/{task['id']}")
    assert "secret-" not in user.page.content()
    user.page.get_by_text("As a curl command").click()
    command = parse_curl_command(user.page.get_by_label("The task as a curl command").inner_text())
    assert (command.method, command.url) == ("PUT", "http://127.0.0.1:9/<path>")
    assert command.headers == {"X-Key": "<value>", "Content-Type": "application/json"}
    assert json.loads(command.body or "") == task["payload"]
    user.page.get_by_text("As JSON").click()
    document = json.loads(user.page.get_by_label("The task as JSON").inner_text())
    masked_url = "http://127.0.0.1:9/…"
    masked = {"webhook_url": masked_url, "notify_url": masked_url, "headers": {"X-Key": "…"}}
    assert document == api.get(f"/tasks/{task['id']}") | masked
    assert user.faults() == []


def test_a_page_of_a_large_task_is_small(browser_of: tuple[Api, dict[str, str]], api: Api) -> None:
    somebody, headers = browser_of
    task = api.create(payload=["x" * 1000] * 200)
    page = somebody("GET", f"/ui/tasks/{task['id']}", headers=headers)
    assert "the API has the rest" in page.text
    assert "-d @payload.json" in page.text
    assert len(page.text) < 60_000


def test_there_is_no_page_of_a_task_that_is_deleted(browser_of: tuple[Api, dict[str, str]], api: Api) -> None:
    somebody, headers = browser_of
    task = api.create(name="Gone")
    answer = post(somebody, f"/ui/tasks/{task['id']}/delete", headers, name=" Gone ")
    assert answer.headers["Location"] == "/ui/tasks?notice=deleted"
    assert somebody("GET", f"/ui/tasks/{task['id']}", headers=headers).status_code == 404


@pytest.mark.parametrize("look", LOOKS)
def test_everybody_can_use_the_page(user: Watched, api: Api, database: Database, look: str) -> None:
    deactivated(api, database, "A task with a name that is as long as names sometimes are " * 3)
    (task,) = api.get("/tasks/")["tasks"]
    user.look(look)
    user.open(f"/ui/tasks/{task['id']}")
    assert user.faults() == []
    user.page.get_by_text("As a table").click()
    user.page.get_by_text("As JSON").click()
    assert user.faults() == []
    user.open(f"/ui/tasks/{task['id']}/delete")
    assert user.faults() == []
