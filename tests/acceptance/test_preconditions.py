"""ETag, If-Match and If-None-Match of a task."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.acceptance.conftest import Database
from tests.acceptance.server import Api, assert_problem

CHANGES = [("PUT", {"name": "Changed"}), ("PATCH", {"name": "Changed"}), ("DELETE", None)]
MALFORMED = ["", "x", "1-abc", '"a', '"a" "b"', '"a",x', 'w/"a"', '*,"a"', "'a'", ","]


def test_every_answer_with_a_task_has_its_etag(api: Api) -> None:
    task = api.create()
    path = f"/tasks/{task['id']}"
    tags = {
        api("GET", path).headers["ETag"],
        api("HEAD", path).headers["ETag"],
        api("PUT", path, json={}).headers["ETag"],
    }
    (tag,) = tags
    assert tag.startswith('"1-')
    changed = api("PATCH", path, json={"name": "Changed"}).headers["ETag"]
    assert changed.startswith('"2-')


@pytest.mark.parametrize("form", ["{}", "W/{}", '"x", {}', '"a,b" ,, W/{},', "*"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_task_that_is_known_is_not_sent_again(api: Api, form: str, method: str) -> None:
    path = f"/tasks/{api.create()['id']}"
    tag = api("GET", path).headers["ETag"]
    answer = api(method, path, headers={"If-None-Match": form.format(tag)})
    assert (answer.status_code, answer.content, answer.headers["ETag"]) == (304, b"", tag)


def test_a_run_changes_the_representation_and_not_the_revision(api: Api, database: Database) -> None:
    task = api.create(deactivate_after=0, max_retry=0)
    path = f"/tasks/{task['id']}"
    tag = api("GET", path).headers["ETag"]
    database.make_due(task)
    api.tick()
    assert api("GET", path, headers={"If-None-Match": tag}).status_code == 200
    assert api("PUT", path, json={"name": "Changed"}, headers={"If-Match": tag}).status_code == 200


@pytest.mark.parametrize(("method", "body"), CHANGES)
@pytest.mark.parametrize("form", ["{}", '"x", {}', "*", '"1"'])
def test_a_change_of_what_was_read_is_made(api: Api, method: str, body: object, form: str) -> None:
    path = f"/tasks/{api.create()['id']}"
    tag = api("GET", path).headers["ETag"]
    assert api(method, path, json=body, headers={"If-Match": form.format(tag)}).status_code == 200


@pytest.mark.parametrize(("method", "body"), CHANGES)
@pytest.mark.parametrize("tag", ['"1-0123456789abcdef"', '"x"', 'W/"2-0"', '"12345678901-a"', '"-1"'])
def test_a_change_of_something_else_is_refused(api: Api, method: str, body: object, tag: str) -> None:
    path = f"/tasks/{api.create()['id']}"
    api.put(path, {"name": "By somebody else"})
    answer = api(method, path, json=body, headers={"If-Match": tag})
    assert "revision 2" in assert_problem(answer, 412, "PRECONDITION_FAILED")["detail"]
    assert api.get(path)["name"] == "By somebody else"


@pytest.mark.parametrize("value", MALFORMED)
def test_a_malformed_precondition_is_a_bad_request(api: Api, value: str) -> None:
    path = f"/tasks/{api.create()['id']}"
    assert_problem(api("PUT", path, json={}, headers={"If-Match": value}), 400, "BAD_REQUEST")
    assert_problem(api("GET", path, headers={"If-None-Match": value}), 400, "BAD_REQUEST")


def test_of_changes_at_once_that_read_the_same_one_is_made(api: Api) -> None:
    path = f"/tasks/{api.create()['id']}"
    tag = api("GET", path).headers["ETag"]

    def change(number: int) -> int:
        body = {"name": f"Number {number}"}
        return Api(api.url)("PUT", path, json=body, headers={"If-Match": tag}).status_code

    with ThreadPoolExecutor(8) as threads:
        statuses = sorted(threads.map(change, range(8)))
    assert statuses == [200] + [412] * 7
    assert api.get(path)["revision"] == 2


def test_what_is_not_there_is_404_whatever_is_expected(api: Api) -> None:
    path = "/tasks/0b0e7a52-6d0f-4d5e-9a53-1f6d2a1c7f10"
    assert_problem(api("PUT", path, json={}, headers={"If-Match": '"1"'}), 404)
