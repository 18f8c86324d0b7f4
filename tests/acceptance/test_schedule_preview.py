"""GET /schedules/preview over HTTP; tests/unit/test_preview.py and test_words.py have the rules."""

from datetime import UTC, datetime

import pytest

from tests.acceptance.server import Api, Json, assert_problem, pointers


def preview(api: Api, schedule: str, **query: object) -> Json:
    return api.get("/schedules/preview", schedule=schedule, **query)


def test_a_preview_tells_the_runs_that_a_task_would_have(api: Api) -> None:
    found = preview(api, "30 8 * * MON-FRI", timezone="Europe/Berlin", count=3)
    assert (found["schedule"], found["timezone"]) == ("30 8 * * MON-FRI", "Europe/Berlin")
    assert found["words"] == "At 08:30, Monday through Friday"
    assert found["warnings"] == []
    assert len(found["runs"]) == 3
    task = api.create(schedule="30 8 * * MON-FRI", timezone="Europe/Berlin")
    assert found["runs"][0]["utc"] == task["next_run_at"]
    for run in found["runs"]:
        assert run["note"] is None
        local = datetime.fromisoformat(run["local"])
        assert (local.hour, local.minute, local.isoweekday() < 6) == (8, 30, True)
        assert local.utcoffset()
        assert local.astimezone(UTC) == datetime.fromisoformat(run["utc"])
        assert run["utc"].endswith("Z")


def test_five_runs_in_utc_are_the_default_and_nothing_is_stored(api: Api) -> None:
    found = preview(api, "@hourly")
    assert (len(found["runs"]), found["timezone"]) == (5, "UTC")
    assert all(run["local"] == run["utc"] for run in found["runs"])
    assert found == preview(api, "@hourly", timezone="UTC", count="5")
    assert api.get("/tasks/")["total"] == 0


def test_what_is_easily_overlooked_is_said(api: Api) -> None:
    warnings = preview(api, "30 2 13 * FRI", timezone="Europe/Berlin")["warnings"]
    assert warnings[0].startswith("Day of month and day of week are both restricted")
    daily = preview(api, "30 2 * * *", timezone="Europe/Berlin", count=100)
    assert sorted("skip 02:30: the run is at 03:00." in text for text in daily["warnings"]) == [False, True]
    assert sorted("the first time only." in text for text in daily["warnings"]) == [False, True]


def test_a_moved_run_has_a_note(api: Api) -> None:
    """Each spring, whatever the day of this test: the last Sunday of March, at the hour that the clocks skip."""
    runs = preview(api, "30 2 25-31 3 *", timezone="Europe/Berlin", count=7)["runs"]
    (moved,) = (run for run in runs if run["note"])
    assert moved["local"][11:] == "03:00:00+02:00"
    assert moved["note"] == (
        f"On {moved['local'][:10]} the clocks in Europe/Berlin skip 02:30: the run is at 03:00."
    )


@pytest.mark.parametrize(
    ("query", "code", "pointer", "detail"),
    [
        (
            {"schedule": "61 * * * *"},
            "INVALID_SCHEDULE",
            "/schedule",
            "Schedule '61 * * * *': minute 61 is out of range; use 0 to 59.",
        ),
        ({"schedule": ""}, "INVALID_SCHEDULE", "/schedule", "five fields"),
        ({"schedule": "0 0 30 2 *"}, "INVALID_SCHEDULE", "/schedule", "never fires"),
        ({"schedule": "* " * 200}, "INVALID_SCHEDULE", "/schedule", "at most 100"),
        ({}, "INVALID_INPUT", "/schedule", "schedule is required."),
        (
            {"schedule": "@daily", "timezone": "Europe/Berln"},
            "INVALID_TIMEZONE",
            "/timezone",
            "did you mean 'Europe/Berlin'?",
        ),
        ({"schedule": "@daily", "count": 0}, "INVALID_INPUT", "/count", "count must be at least 1; it is 0."),
        ({"schedule": "@daily", "count": 101}, "INVALID_INPUT", "/count", "at most 100"),
        ({"schedule": "@daily", "count": 2**63}, "INVALID_INPUT", "/count", "at most"),
        ({"schedule": "@daily", "count": "1.5"}, "INVALID_INPUT", "/count", "whole number"),
    ],
)
def test_what_no_task_could_have_is_refused(
    api: Api, query: Json, code: str, pointer: str, detail: str
) -> None:
    problem = assert_problem(api("GET", "/schedules/preview", params=query), 422, code)
    assert pointers(problem) == [pointer]
    assert detail in problem["detail"]


@pytest.mark.parametrize("path", ["/schedules", "/schedules/", "/schedules/other"])
def test_nothing_else_is_there(api: Api, path: str) -> None:
    assert_problem(api("GET", path), 404, "UNKNOWN_PATH")


def test_a_preview_only_reads(api: Api) -> None:
    answer = api("POST", "/schedules/preview", json={"schedule": "@daily"})
    assert_problem(answer, 405, "METHOD_NOT_ALLOWED")
    assert answer.headers["Allow"] == "GET, HEAD, OPTIONS"
    assert api("HEAD", "/schedules/preview/", params={"schedule": "@daily"}).status_code == 200


@pytest.mark.parametrize("schedule", ["0 0 29 2 *", "30 2 29 2 */6", "* * 29 2 SUN#5", "0 0 31 12 SAT#5"])
def test_the_rarest_schedules_are_answered_in_time(api: Api, schedule: str) -> None:
    found = preview(api, schedule, timezone="Antarctica/Troll", count=100)
    assert 0 < len(found["runs"]) <= 100
