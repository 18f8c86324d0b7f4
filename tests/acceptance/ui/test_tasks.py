"""The table of tasks."""

from datetime import UTC, datetime, timedelta

import pytest
from playwright.sync_api import expect

from tests.acceptance.conftest import Database
from tests.acceptance.server import Api, wait_until
from tests.acceptance.ui.test_sessions import post
from tests.acceptance.ui.watched import LOOKS, Watched
from tests.receiver import Receiver


def names(user: Watched) -> list[str]:
    return user.page.locator(".name").all_inner_texts()


def test_tasks_are_found_and_sorted_by_the_url(user: Watched, api: Api) -> None:
    api.create(name="Beta", tags=["x"])
    api.create(name="Alpha", status="inactive")
    api.create(name="Gamma & Söhne", schedule="*/5 * * * *")
    user.open("/ui/tasks")
    assert names(user) == ["Gamma & Söhne", "Alpha", "Beta"]
    expect(user.page.get_by_role("row", name="Gamma")).to_contain_text("Every 5 minutes")
    user.page.get_by_role("link", name="Name", exact=True).click()
    user.page.wait_for_url("**/ui/tasks?order_by=name")
    assert names(user) == ["Alpha", "Beta", "Gamma & Söhne"]
    user.page.get_by_label("Name contains").fill("& sö")
    expect(user.page.locator(".name")).to_have_text(["Gamma & Söhne"])
    expect(user.page.get_by_label("Name contains")).to_be_focused()
    user.page.wait_for_url("**/ui/tasks?search=*")
    user.page.reload()
    assert names(user) == ["Gamma & Söhne"]
    user.open("/ui/tasks?status=inactive")
    assert names(user) == ["Alpha"]
    user.open("/ui/tasks?tag=x")
    assert names(user) == ["Beta"]


def test_a_task_is_run_now_paused_and_duplicated(user: Watched, api: Api) -> None:
    with Receiver() as receiver:
        api.create(name="One", webhook_url=receiver.url)
        user.open("/ui/tasks?search=One")
        user.page.get_by_role("button", name="Run now: One").click()
        expect(user.page.get_by_role("status")).to_have_text("The run succeeded.")
        assert len(receiver.requests) == 1
    assert user.page.get_by_role("img", name="Last runs: 1 success").is_visible()
    row = user.page.get_by_role("row", name="One")
    row.get_by_text("not by its schedule").click()
    expect(user.page.locator("tbody")).to_contain_text("by hand")
    user.page.go_back()
    user.page.get_by_role("button", name="Pause: One").click()
    expect(user.page.get_by_role("button", name="Activate: One")).to_be_visible()
    user.page.get_by_role("button", name="Duplicate: One").click()
    expect(user.page.get_by_label("Name")).to_have_value("One (copy)")
    one, copy = api.get("/tasks/")["tasks"]
    assert copy["webhook_url"] == one["webhook_url"]
    assert (one["status"], copy["status"]) == ("inactive", "inactive")


def test_many_are_changed_at_once_and_deleted_after_a_question(user: Watched, api: Api) -> None:
    for name in ("One", "Two", "Three"):
        api.create(name=name)
    user.open("/ui/tasks?order_by=name")
    for name in ("One", "Two"):
        user.page.get_by_label(f"Choose {name}").check()
    user.page.get_by_role("button", name="Delete …").click()
    expect(user.page.get_by_role("heading", level=1)).to_have_text("Delete 2 tasks and their logs?")
    assert user.faults() == []
    user.page.get_by_role("button", name="Delete").click()
    expect(user.page.locator(".name")).to_have_text(["Three"])
    assert [task["name"] for task in api.get("/tasks/")["tasks"]] == ["Three"]


def test_what_is_done_to_many_is_done_to_all_or_none(
    browser_of: tuple[Api, dict[str, str]], api: Api
) -> None:
    somebody, headers = browser_of
    task = api.create(status="inactive")
    missing = "0b0e7a52-6d0f-4d5e-9a53-1f6d2a1c7f10"
    fields = {"action": "activate", "task_id": [missing, task["id"]]}
    assert somebody("POST", "/ui/tasks/bulk", data=fields, headers=headers).status_code == 404
    assert api.get(f"/tasks/{task['id']}")["status"] == "inactive"
    fields["task_id"] = [task["id"]]
    answer = somebody("POST", "/ui/tasks/bulk", data=fields, headers=headers)
    assert answer.headers["Location"] == "/ui/tasks?notice=bulk-activated"
    assert api.get(f"/tasks/{task['id']}")["status"] == "active"


def test_a_task_that_is_completed_is_not_offered_to_be_activated(
    browser_of: tuple[Api, dict[str, str]], api: Api, database: Database
) -> None:
    somebody, headers = browser_of
    with Receiver() as receiver:
        run_at = f"{datetime.now(UTC) + timedelta(seconds=2):%Y-%m-%dT%H:%M:%S.%fZ}"
        task = api.create(name="Once", schedule=None, run_at=run_at, webhook_url=receiver.url)
        wait_until(lambda: api.tick()["succeeded"], 10, "the run of the task")
    assert api.get(f"/tasks/{task['id']}")["status"] == "completed"
    for path in ("/ui/tasks", f"/ui/tasks/{task['id']}"):
        page = somebody("GET", path, headers=headers).text
        assert "completed" in page
        assert "/activate" not in page
    assert "makes it active again" in page
    other = api.create(name="Other", status="inactive")
    fields = {"action": "activate", "task_id": [other["id"], task["id"]]}
    answer = somebody("POST", "/ui/tasks/bulk", data=fields, headers=headers)
    assert answer.status_code == 422
    assert "Nothing was changed, because of &#39;Once&#39;: run_at is in the past" in answer.text
    assert api.get(f"/tasks/{other['id']}")["status"] == "inactive"


def test_a_form_leads_back_to_our_pages_only(browser_of: tuple[Api, dict[str, str]], api: Api) -> None:
    somebody, headers = browser_of
    path = f"/ui/tasks/{api.create()['id']}/pause"
    assert post(somebody, path, headers, back="/ui/tasks?search=a").headers["Location"] == (
        "/ui/tasks?search=a&notice=paused"
    )
    assert post(somebody, path, headers, back="//example.com").headers["Location"] == (
        "/ui/tasks?notice=paused"
    )


def test_a_wrong_url_of_the_table_is_told(browser_of: tuple[Api, dict[str, str]]) -> None:
    somebody, headers = browser_of
    answer = somebody("GET", "/ui/tasks?status=sleeping", headers=headers)
    assert answer.status_code == 422
    assert "status must be" in answer.text


@pytest.mark.parametrize("look", LOOKS)
def test_everybody_can_use_the_table(user: Watched, api: Api, look: str) -> None:
    api.log(api.create(name="A name " * 20, timezone="America/Argentina/ComodRivadavia", tags=["t" * 50]))
    user.look(look)
    user.open("/ui/tasks?order_by=name")
    assert user.faults() == []
    user.open("/ui/tasks?search=nothing")
    assert user.faults() == []
