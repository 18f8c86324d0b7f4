"""The page of a run, and the way from a task that fails to one that runs again."""

from datetime import datetime, timedelta

import pytest
from playwright.sync_api import expect
from sqlalchemy import Engine, text

from tests.acceptance.conftest import Database
from tests.acceptance.server import NOWHERE, Api, Json
from tests.acceptance.ui.test_sessions import post
from tests.acceptance.ui.watched import LOOKS, Watched
from tests.receiver import Answer, Received, Receiver


def run_of(api: Api, task: Json) -> Json:
    return api.ok("POST", f"/tasks/{task['id']}/run", status=202)


def test_a_failure_is_explained_attempt_by_attempt(user: Watched, api: Api, database: Database) -> None:
    answers: list[Answer] = [(500, b""), (422, b'{"field": "<report>"}')]
    with Receiver(lambda _: answers.pop(0)) as receiver:
        task = api.create(
            webhook_url=f"{receiver.url}/secret-path",
            headers={"X-Key": "secret-value"},
            payload={"report": "daily"},
            max_retry=1,
        )
        database.make_due(task)
        api.tick()
        sent = receiver.wait_for(2)[1]
    (log,) = api.logs(task)
    user.open(f"/ui/runs/{log['id']}")
    main = user.page.get_by_role("main")
    expect(main.get_by_role("heading", name="The webhook refuses what was sent.")).to_be_visible()
    expect(main).to_contain_text("Compare the payload")
    expect(main.get_by_role("img", name="2 attempts on a time line")).to_be_visible()
    rows = main.get_by_role("region", name="Attempts").get_by_role("row")
    expect(rows).to_have_count(3)
    expect(rows.nth(1)).to_contain_text("HTTP 500")
    first, second = log["attempts"]
    between = datetime.fromisoformat(second["started_at"]) - datetime.fromisoformat(first["started_at"])
    waited_ms = round((between - timedelta(milliseconds=first["duration_ms"])) / timedelta(milliseconds=1))
    assert waited_ms >= 1_000
    expect(rows.nth(1)).to_contain_text(f"waited {waited_ms / 1_000:.1f} s")
    expect(rows.nth(2)).to_contain_text("HTTP 422")
    expect(main.get_by_label("Beginning of the answer")).to_have_text('{"field": "<report>"}')
    request = main.get_by_label("The request").inner_text()
    assert '"report": "daily"' in request
    assert "secret-" not in user.page.content()
    told = dict(line.split(": ", 1) for line in request.partition("\n\n")[0].splitlines()[1:])
    assert told.pop("X-Key") == "…"
    assert told == {name: sent.headers[name] for name in told}
    left = sent.headers.keys() - told.keys()
    assert left == {"Host", "Accept", "Content-Length", "X-Key"}


def test_a_retry_makes_up_for_a_run_and_leads_to_its_page(user: Watched, api: Api) -> None:
    with Receiver(lambda received: (200 if received.json == {"n": 2} else 404, b"")) as receiver:
        task = api.create(webhook_url=receiver.url, payload={"n": 1}, max_retry=0)
        failed = run_of(api, task)
        api.put(f"/tasks/{task['id']}", {"payload": {"n": 2}})
        user.open(f"/ui/runs/{failed['id']}")
        expect(user.page.get_by_role("main")).to_contain_text("The task was changed after this run began")
        user.page.get_by_role("button", name="Retry …").click()
        user.page.get_by_role("dialog").get_by_role("button", name="Retry").click()
        expect(user.page.get_by_role("status")).to_have_text("The run succeeded.")
    expect(user.page.get_by_role("region", name="What it is")).to_contain_text("to make up for another run")
    user.page.get_by_role("link", name="another run").click()
    user.page.wait_for_url(f"**/ui/runs/{failed['id']}")


def test_what_never_ran_has_no_attempts_and_what_somebody_recorded_no_request(
    browser_of: tuple[Api, dict[str, str]], api: Api
) -> None:
    somebody, headers = browser_of
    log = api.log(api.create(), status="failed", message="By my own cron.")
    page = somebody("GET", f"/ui/runs/{log['id']}", headers=headers).text
    assert "Somebody recorded this run" in page
    assert "By my own cron." in page
    assert "Attempts" not in page
    assert "The request" not in page


def test_a_run_under_way_is_shown_and_not_retried(browser_of: tuple[Api, dict[str, str]], api: Api) -> None:
    somebody, headers = browser_of
    log = run_of(api, api.create(webhook_url=NOWHERE, max_retry=1))
    assert log["status"] == "retrying"
    page = somebody("GET", f"/ui/runs/{log['id']}", headers=headers).text
    assert "Nobody answered at the address" in page
    assert "to be tried again" in page
    assert "Retry …" not in page
    refused = post(somebody, f"/ui/runs/{log['id']}/retry", headers)
    assert refused.status_code == 409
    assert "is under way" in refused.text


def test_there_is_no_page_of_a_run_that_is_unknown(browser_of: tuple[Api, dict[str, str]]) -> None:
    somebody, headers = browser_of
    path = "/ui/runs/0b0e7a52-6d0f-4d5e-9a53-1f6d2a1c7f10"
    assert somebody("GET", path, headers=headers).status_code == 404
    assert post(somebody, f"{path}/retry", headers).status_code == 404


def test_a_failing_task_is_switched_off_explained_put_right_and_runs_again(
    user: Watched, api: Api, database: Database
) -> None:
    page = user.page

    def answer(received: Received) -> Answer:
        return (200, b"ok") if received.json == {"report": "daily"} else (422, b"report is missing")

    with Receiver(answer) as receiver:
        task = api.create(name="Report", webhook_url=receiver.url, max_retry=0)
        database.make_due(task)
        api.tick()
        user.open("/ui/")
        page.get_by_role("region", name="Needs attention").get_by_role("link", name="Report").click()
        expect(page.get_by_role("region", name="Switched off by Insignia")).to_contain_text("HTTP 422")
        page.get_by_role("region", name="Last runs").get_by_role("link").click()
        expect(page.get_by_label("Beginning of the answer")).to_have_text("report is missing")
        page.get_by_role("link", name="Report").click()
        page.get_by_role("link", name="Edit").click()
        page.get_by_label("Payload, JSON").fill('{"report": "daily"}')
        page.get_by_role("button", name="Save").click()
        expect(page.get_by_role("status")).to_have_text("The task is saved.")
        page.get_by_role("button", name="Reactivate …").click()
        page.get_by_role("dialog").get_by_role("button", name="Reactivate").click()
        expect(page.get_by_role("status")).to_contain_text("active again")
        database.make_due(task)
        api.tick()
        receiver.wait_for(2)
    page.reload()
    expect(page.get_by_role("region", name="Last runs").get_by_role("row").nth(1)).to_contain_text("success")
    after = api.get(f"/tasks/{task['id']}")
    assert (after["status"], after["last_status"], after["consecutive_failures"]) == ("active", "success", 0)


@pytest.mark.parametrize("look", LOOKS)
def test_everybody_can_use_the_page(user: Watched, api: Api, look: str) -> None:
    with Receiver(lambda _: (500, b"x" * 3_000)) as receiver:
        log = run_of(
            api,
            api.create(
                name="long " * 30,
                webhook_url=receiver.url,
                max_retry=0,
                payload=["y" * 300],
                timezone="Asia/Tokyo",
            ),
        )
    user.look(look)
    user.open(f"/ui/runs/{log['id']}")
    assert user.faults() == []
    user.page.get_by_role("button", name="Retry …").click()
    assert user.faults() == []


def test_a_run_that_was_held_back_says_for_how_long(user: Watched, api: Api, rows: Engine) -> None:
    log = run_of(api, api.create(max_retry=0))
    user.open(f"/ui/runs/{log['id']}")
    facts = user.page.get_by_role("region", name="What it is")
    expect(facts).not_to_contain_text("Held back")
    with rows.begin() as connection:
        connection.execute(text("UPDATE task_logs SET throttled_ms = 2400"))
    user.open(f"/ui/runs/{log['id']}")
    expect(facts).to_contain_text("Held back2.4 s")
    expect(facts).to_contain_text("by the limits of its destination")
