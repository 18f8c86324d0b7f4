"""The page of logs."""

import csv
import io
import re
from datetime import UTC, datetime, timedelta

import pytest
import requests
from playwright.sync_api import Browser, Locator, expect
from sqlalchemy import Engine, text

from tests.acceptance.conftest import Database
from tests.acceptance.server import NOWHERE, Api, Json, Server
from tests.acceptance.ui.test_overview import deactivated
from tests.acceptance.ui.watched import LOOKS, Watched

LOGS = "/ui/logs"
UNKNOWN = "0b0e7a52-6d0f-4d5e-9a53-1f6d2a1c7f10"


def messages(api: Api, task: Json, count: int) -> list[str]:
    """Of so many logs that are stored for a task; the newest first."""
    stored = [f"Number {number}." for number in range(count)]
    for message in stored:
        api.log(task, message=message)
    return stored[::-1]


def expect_page(user: Watched, messages: list[str], links: list[str]) -> Locator:
    """The links to other pages, once these logs are there."""
    expect(user.page.locator("td.message")).to_have_text(messages)
    follow = user.page.get_by_role("navigation", name="Pages of the list").get_by_role("link")
    expect(follow).to_have_text(links)
    return follow


def store_earlier(rows: Engine, log: Json, *, hours: int) -> None:
    with rows.begin() as connection:
        connection.execute(
            text(
                "UPDATE task_logs SET created_at = created_at - make_interval(hours => :hours) WHERE id = :id"
            ),
            {"hours": hours, "id": log["id"]},
        )


def test_logs_are_filtered_by_what_is_typed_and_by_the_url(user: Watched, api: Api) -> None:
    report, backup = api.create(name="Daily report"), api.create(name="Backup & co", webhook_url=NOWHERE)
    api.log(report, message="Fine.")
    api.log(report, status="failed", message="Broken.")
    api.ok("POST", f"/tasks/{backup['id']}/run", status=202)
    page = user.page
    user.open(LOGS)
    rows = page.get_by_role("region", name="Logs").get_by_role("row")
    expect(rows).to_have_count(4)
    expect(rows.nth(1)).to_contain_text("Backup & co")
    expect(rows.nth(1)).to_contain_text("by hand")
    expect(rows.nth(1)).to_contain_text("Nobody answered at the address of the webhook")
    page.get_by_label("Task: part of its name").fill("REPORT")
    expect(rows).to_have_count(3)
    page.get_by_label("Status").select_option("failed")
    expect(rows).to_have_count(2)
    page.wait_for_url("**/ui/logs?task=REPORT&status=failed*")
    page.reload()
    expect(rows.nth(1)).to_contain_text("Broken.")
    expect(page.get_by_label("Status")).to_have_value("failed")
    user.open(f"{LOGS}?source=manual")
    expect(rows).to_have_count(2)
    expect(rows.nth(1)).to_contain_text("Backup & co")
    rows.nth(1).get_by_role("link", name="Backup & co").click()
    page.wait_for_url(f"**/ui/tasks/{backup['id']}")
    page.go_back()
    rows.nth(1).get_by_role("link", name="UTC").click()
    page.wait_for_url("**/ui/runs/*")


def test_the_pages_lead_from_the_newest_log_to_the_oldest_and_back_without_javascript(
    browser: Browser, server: Server, api: Api
) -> None:
    task = api.create(name="Other")
    api.log(api.create(name="One"), message="Not this.")
    stored = messages(api, task, 7)
    with Watched(browser, server.url, java_script_enabled=False) as user:
        user.sign_in()
        user.open(f"{LOGS}?task_id={task['id']}&limit=3")
        expect_page(user, stored[:3], ["Older"]).get_by_text("Older").click()
        expect_page(user, stored[3:6], ["Newest", "Newer", "Older"]).get_by_text("Older").click()
        expect_page(user, stored[6:], ["Newest", "Newer"]).get_by_text("Newer").click()
        expect_page(user, stored[3:6], ["Newest", "Newer", "Older"]).get_by_text("Newer").click()
        expect_page(user, stored[:3], ["Older"])
        user.page.get_by_role("link", name="any task").click()
        user.page.get_by_label("Task: part of its name").fill("one")
        user.page.get_by_role("button", name="Show").click()
        expect_page(user, ["Not this."], [])


def test_a_page_that_reaches_the_newest_logs_is_full(
    browser_of: tuple[Api, dict[str, str]], api: Api
) -> None:
    somebody, headers = browser_of
    task = api.create()
    stored = messages(api, task, 5)
    newer_than_second = api.get("/task-logs/", order_by="created_at", page_token="", limit=3)[
        "next_page_token"
    ]
    query = {"order_by": "created_at", "limit": "4", "page_token": newer_than_second}
    page = somebody("GET", LOGS, params=query, headers=headers).text
    assert [message for message in stored if message in page] == stored[:4]
    assert ">Newer<" not in page


def test_logs_are_found_by_when_they_were_stored(
    browser_of: tuple[Api, dict[str, str]], api: Api, rows: Engine
) -> None:
    somebody, headers = browser_of
    task = api.create()
    for hours in (0, 2, 48, 240):
        store_earlier(rows, api.log(task, message=f"{hours} h ago."), hours=hours)

    def found(**query: str) -> list[str]:
        page = somebody("GET", LOGS, params=query, headers=headers).text
        return [f"{hours} h" for hours in (0, 2, 48, 240) if f">{hours} h ago." in page]

    day_ago, hour_ago = (f"{datetime.now(UTC) - timedelta(hours=hours):%Y-%m-%dT%H:%M}" for hours in (24, 1))
    assert found() == ["0 h", "2 h", "48 h", "240 h"]
    assert found(span="1h") == ["0 h"]
    assert found(span="24h") == ["0 h", "2 h"]
    assert found(span="7d") == ["0 h", "2 h", "48 h"]
    assert found(since=day_ago) == ["0 h", "2 h"]
    assert found(since=day_ago, until=hour_ago, status="", source="") == ["2 h"]
    assert found(span="1h", since=day_ago) == ["0 h"], "all has to be met"
    assert found(until=day_ago) == ["48 h", "240 h"]


def test_a_name_that_several_tasks_have_leads_to_a_choice(user: Watched, api: Api) -> None:
    for name in ("Report of today", "Report of <b>yesterday</b>"):
        api.log(api.create(name=name), status="failed", message=f"Of {name}.")
    user.open(f"{LOGS}?task=report&status=failed")
    which = user.page.get_by_role("region", name="Which of these tasks?")
    which.get_by_role("link", name="Report of <b>yesterday</b>").click()
    expect(user.page.get_by_role("heading", level=1)).to_have_text("Logs of Report of <b>yesterday</b>")
    expect(user.page.locator("td.message")).to_contain_text("Of Report of <b>yesterday</b>.")
    expect(user.page.get_by_label("Status")).to_have_value("failed")
    for number in range(9):
        api.create(name=f"Report {number}")
    user.open(f"{LOGS}?task=report")
    expect(which.get_by_role("link")).to_have_count(10)
    expect(which).to_contain_text("write more of the name")


def test_a_task_that_is_not_there_is_told(browser_of: tuple[Api, dict[str, str]], api: Api) -> None:
    somebody, headers = browser_of
    task = api.create(name="Gone")
    api.log(task)
    found = somebody("GET", LOGS, params={"task": task["id"].upper()}, headers=headers).text
    assert f"/ui/tasks/{task['id']}" in found
    api.delete(f"/tasks/{task['id']}")
    for query in ({"task_id": task["id"]}, {"task": UNKNOWN}, {"task": "Gone"}):
        answer = somebody("GET", LOGS, params=query, headers=headers)
        assert answer.status_code == 200
        assert "its logs are deleted with it" in answer.text


def test_nothing_found_is_told_with_what_to_do(browser_of: tuple[Api, dict[str, str]], api: Api) -> None:
    somebody, headers = browser_of
    assert "Nothing has run yet" in somebody("GET", LOGS, headers=headers).text
    api.log(api.create())
    page = somebody("GET", LOGS, params={"status": "missed"}, headers=headers).text
    assert "There is no such log" in page
    assert "those of successes after 30 days, others after 90" in page


def read_csv(text: str) -> list[Json]:
    return list(csv.DictReader(io.StringIO(text.removeprefix("\ufeff"), newline="")))


def test_what_is_shown_is_downloaded(user: Watched, api: Api) -> None:
    report = api.create(name="Täglicher Report")
    api.log(report, status="failed", message='It said "no",\r\nand again "no".', retry_count=2)
    api.log(report)
    api.log(api.create(name="Another"), status="failed")
    user.open(LOGS)
    user.page.get_by_label("Task: part of its name").fill("report")
    user.page.get_by_label("Status").select_option("failed")
    expect(user.page.locator("td.message")).to_have_count(1)
    with user.page.expect_download() as downloading:
        user.page.get_by_role("link", name="Download as CSV").click()
    name = downloading.value.suggested_filename
    assert re.fullmatch(r"insignia-logs-t-glicher-report-failed-[0-9]{8}-[0-9]{4}\.csv", name)
    (line,) = read_csv(downloading.value.path().read_bytes().decode())
    assert line["task_name"] == "Täglicher Report"
    assert line["message"] == 'It said "no",\r\nand again "no".'
    assert line["cause"].startswith("Somebody recorded this run")
    assert (line["execution_time"], line["retry_count"], line["http_status"]) == (
        "2026-11-23 12:00:00",
        "2",
        "",
    )
    assert line["task_id"] == report["id"]


def test_a_file_is_only_of_a_task_that_is_clear(browser_of: tuple[Api, dict[str, str]], api: Api) -> None:
    somebody, headers = browser_of
    for name in ("Report 1", "Report 2"):
        api.log(api.create(name=name))

    def file_of(**query: str) -> requests.Response:
        return somebody("GET", f"{LOGS}.csv", params=query, headers=headers)

    answer = file_of()
    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8; header=present"
    assert [line["task_name"] for line in read_csv(answer.text)] == ["Report 2", "Report 1"]
    assert [line["task_name"] for line in read_csv(file_of(task="2").text)] == ["Report 2"]
    assert "Several tasks have this name" in file_of(task="report").text
    assert "No task has this name" in file_of(task="nobody").text
    assert file_of(status="broken").status_code == 422


def test_no_text_of_a_file_is_a_formula(browser_of: tuple[Api, dict[str, str]], api: Api) -> None:
    somebody, headers = browser_of
    formulas = ['=HYPERLINK("http://example.com")', "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "＝1"]
    task = api.create(name="=1+1")
    for formula in formulas:
        api.log(task, message=formula)
    answer = somebody("GET", f"{LOGS}.csv", headers=headers)
    lines = read_csv(answer.content.decode())
    assert [line["message"] for line in lines] == [f"'{formula}" for formula in formulas[::-1]]
    assert {line["task_name"] for line in lines} == {"'=1+1"}


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("status=broken", "status must be"),
        ("source=me", "source must be"),
        ("span=2h", "span must be"),
        ("since=yesterday", "since must be a date and time"),
        ("until=2026-13-01", "until must be a date and time"),
        ("task_id=7", "task_id must be a UUID"),
        ("task=%00", "NUL"),
        ("task=" + "x" * 201, "at most 200"),
        ("page_token=abc", "page_token is not one of ours"),
        ("limit=0", "limit must be at least 1"),
    ],
)
def test_a_wrong_url_is_told(browser_of: tuple[Api, dict[str, str]], query: str, told: str) -> None:
    somebody, headers = browser_of
    answer = somebody("GET", f"{LOGS}?{query}", headers=headers)
    assert answer.status_code == 422
    assert told in answer.text


@pytest.mark.parametrize("look", LOOKS)
def test_everybody_can_use_the_page(user: Watched, api: Api, database: Database, look: str) -> None:
    user.look(look)
    user.open(LOGS)
    assert user.faults() == []
    deactivated(api, database, "Anotherlongword" * 10)
    task = api.create(name="A name " * 20, timezone="America/Argentina/ComodRivadavia")
    api.log(task, message="long" * 500, status="failed")
    api.log(task)
    for query in ("?limit=2&since=2026-11-01T00:00:30Z", f"?task_id={task['id']}", "?task=a"):
        user.open(LOGS + query)
        assert user.faults() == []
