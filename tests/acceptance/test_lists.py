"""Long lists over HTTP: cursors, orders, filters, and pages that end early."""

import base64
from typing import Any
from urllib.parse import urljoin

import pytest

from tests.acceptance.conftest import Database
from tests.acceptance.server import Api, Json

UUID = "0b0e7a52-6d0f-4d5e-9a53-1f6d2a1c7f10"


def follow(api: Api, path: str, of: str, **query: Any) -> list[Json]:
    """All items of a list, page by page, by cursor."""
    items: list[Json] = []
    token: str | None = ""
    while token is not None:
        page = api.get(path, page_token=token, **query)
        assert (page["total"], page["skip"]) == (None, 0)
        items += page[of]
        token = page["next_page_token"]
    return items


def token_of(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def names(tasks: list[Json]) -> list[str]:
    return [task["name"] for task in tasks]


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 8])
def test_a_cursor_leads_through_all_tasks_once(api: Api, limit: int) -> None:
    created = [api.create(name=f"Task {n}")["id"] for n in range(7)]
    assert [task["id"] for task in follow(api, "/tasks/", "tasks", limit=limit)] == created


def test_a_cursor_leads_through_all_logs_once_the_newest_first(api: Api) -> None:
    task = api.create()
    logs = [api.log(task)["id"] for _ in range(5)]
    path = f"/task-logs/task/{task['id']}"
    assert [log["id"] for log in follow(api, path, "task_logs", limit=2)] == logs[::-1]
    oldest = follow(api, "/task-logs/", "task_logs", limit=2, order_by="created_at", task_id=task["id"])
    assert [log["id"] for log in oldest] == logs


def test_what_is_created_or_deleted_meanwhile_moves_no_page(api: Api) -> None:
    first, second, third = (api.create(name=name) for name in ("a", "b", "c"))
    page = api.get("/tasks/", limit=2, page_token="")
    api.delete(f"/tasks/{first['id']}")
    api.delete(f"/tasks/{second['id']}")
    late = api.create(name="d")
    page = api.get("/tasks/", limit=2, page_token=page["next_page_token"])
    assert [task["id"] for task in page["tasks"]] == [third["id"], late["id"]]
    assert page["next_page_token"] is None


def test_a_page_by_skip_can_be_continued_by_cursor_and_links_to_the_next(api: Api) -> None:
    for n in range(5):
        api.create(name=f"Task {n}")
    answer = api("GET", "/tasks/", params={"skip": 1, "limit": 2, "search": "task"})
    page = answer.json()
    assert (page["total"], names(page["tasks"])) == (5, ["Task 1", "Task 2"])
    (link,) = answer.links.values()
    assert link["rel"] == "next"
    following = api("GET", urljoin("/tasks/", link["url"]))
    assert names(following.json()["tasks"]) == ["Task 3", "Task 4"]
    assert "Link" not in following.headers


@pytest.mark.parametrize("order_by", ["created_at", "-created_at", "name", "next_run_at"])
def test_pages_by_skip_are_cut_out_of_the_whole_list(api: Api, order_by: str) -> None:
    for n in range(5):
        api.create(name=f"Task {n % 2}", tags=["a"])
    query = {"order_by": order_by, "tag": "a", "status": "active"}
    whole = api.get("/tasks/", **query)["tasks"]
    for skip in range(7):
        page = api.get("/tasks/", skip=skip, limit=2, **query)
        assert (page["total"], page["skip"], page["tasks"]) == (5, skip, whole[skip : skip + 2])
        assert (page["next_page_token"] is None) == (skip > 2)


@pytest.mark.parametrize(
    ("order_by", "expected"),
    [
        ("created_at", "cab"),
        ("-created_at", "bac"),
        ("name", "abc"),
        ("-name", "cba"),
        ("next_run_at", "ac"),
        ("-next_run_at", "ca"),
    ],
)
def test_tasks_are_listed_in_the_order_that_is_asked_for(
    api: Api, database: Database, order_by: str, expected: str
) -> None:
    tasks = {name: api.create(name=name) for name in "ca"}
    api.create(name="b", status="inactive")
    database.make_due(tasks["a"], seconds_ago=60)
    assert "".join(names(api.get("/tasks/", order_by=order_by)["tasks"])) == expected
    assert "".join(names(follow(api, "/tasks/", "tasks", order_by=order_by, limit=1))) == expected


def test_a_cursor_leads_past_the_longest_names(api: Api) -> None:
    longest = ["\N{GRINNING FACE}" * 200, "\u0001" * 200, '"' * 200]
    for name in longest:
        api.create(name=name)
    assert sorted(names(follow(api, "/tasks/", "tasks", limit=1, order_by="name"))) == sorted(longest)


def test_equal_names_are_told_apart_by_their_ids(api: Api) -> None:
    created = {api.create(name="Same")["id"] for _ in range(5)}
    found = [task["id"] for task in follow(api, "/tasks/", "tasks", order_by="name", limit=2)]
    assert set(found) == created
    assert found == sorted(found)


def test_tasks_are_found_by_their_tags(api: Api) -> None:
    api.create(name="a", tags=["billing", "env:production", "billing"])
    api.create(name="b", tags=["billing"])
    api.create(name="c")
    assert names(api.get("/tasks/", tag="billing")["tasks"]) == ["a", "b"]
    assert api.get("/tasks/", tag="env:production")["tasks"][0]["tags"] == ["billing", "env:production"]
    assert api.get("/tasks/", tag="bill")["tasks"] == []


def test_since_is_inclusive_and_until_is_not(api: Api) -> None:
    tasks = [api.create(name=name) for name in "abc"]
    at = [task["created_at"] for task in tasks]
    assert names(api.get("/tasks/", since=at[1])["tasks"]) == ["b", "c"]
    assert names(api.get("/tasks/", until=at[1])["tasks"]) == ["a"]
    logs = [api.log(tasks[0]) for _ in range(3)]
    at = [log["created_at"] for log in logs]
    page = api.get("/task-logs/", since=at[1], until=at[2])
    assert ([log["id"] for log in page["task_logs"]], page["total"]) == ([logs[1]["id"]], 1)


def test_logs_are_filtered_by_their_source(api: Api, database: Database) -> None:
    task = api.create(webhook_url="http://127.0.0.1:9/", max_retry=0)
    database.make_due(task)
    api.tick()
    stored = api.log(task)
    assert [log["source"] for log in api.get("/task-logs/", source="schedule")["task_logs"]] == ["schedule"]
    assert [log["id"] for log in api.get("/task-logs/", source="api")["task_logs"]] == [stored["id"]]


@pytest.mark.parametrize(
    "token",
    [
        *("x", "!", "ä", "bnVsbA", "W10", "eyJhIjoxfQ", "a" * 2001),
        token_of("null"),
        token_of("[" * 1_200),
        token_of('["created_at", 1, 2]'),
        token_of(f'["created_at", "9999-12-31T23:59:59-01:00", "{UUID}"]'),
        token_of(f'["created_at", "yesterday", "{UUID}"]'),
        token_of('["created_at", "2026-11-25T12:00:00Z", "1"]'),
        token_of(f'["created_at", null, "{UUID}"]'),
        token_of(f'[["created_at"], "2026-11-25T12:00:00Z", "{UUID}"]'),
        token_of(f'["name", "a\\u0000", "{UUID}"]'),
        token_of(f'["name", "\\ud800", "{UUID}"]'),
    ],
)
def test_a_token_that_is_not_ours_is_refused(api: Api, token: str) -> None:
    problem = api("GET", "/tasks/", params={"page_token": token})
    assert problem.status_code == 422
    assert problem.json()["errors"][0]["pointer"] == "/page_token"


def test_a_token_belongs_to_its_order(api: Api) -> None:
    for name in "ab":
        api.create(name=name)
    token = api.get("/tasks/", limit=1)["next_page_token"]
    problem = api("GET", "/tasks/", params={"page_token": token, "order_by": "name"})
    assert (problem.status_code, problem.json()["detail"]) == (
        422,
        "page_token belongs to a list in another order; send the order_by that it came with.",
    )


def test_skip_and_page_token_exclude_each_other(api: Api) -> None:
    problem = api("GET", "/tasks/", params={"page_token": "", "skip": 1})
    assert problem.status_code == 422
    assert "exclude each other" in problem.json()["detail"]


def test_a_page_ends_before_16_mib_and_says_how_to_go_on(api: Api) -> None:
    payload = "x" * 250_000
    for n in range(70):
        api.create(name=f"Task {n}", payload=payload, status="inactive")
    answer = api("GET", "/tasks/", params={"limit": 1000})
    page = answer.json()
    assert len(answer.content) < 16 * 1024 * 1024
    assert (page["total"], len(page["tasks"])) == (70, 66)
    rest = api.get("/tasks/", page_token=page["next_page_token"])
    assert (names(rest["tasks"])[0], len(rest["tasks"]), rest["next_page_token"]) == ("Task 66", 4, None)


def test_a_page_of_control_characters_which_json_writes_with_six_ends_early_too(api: Api) -> None:
    task = api.create(status="inactive")
    for _ in range(290):
        api.log(task, message="\u0001" * 10_000)
    answer = api("GET", "/task-logs/", params={"limit": 1000})
    assert len(answer.content) < 16 * 1024 * 1024
    assert answer.json()["next_page_token"] is not None
