"""GET /stats over HTTP; tests/integration/test_stats.py has the rules."""

from datetime import datetime, timedelta

import pytest

from tests.acceptance.conftest import Database
from tests.acceptance.server import Api, assert_problem, pointers
from tests.receiver import Receiver


def test_statistics_tell_how_things_went(api: Api, database: Database) -> None:
    with Receiver() as receiver:
        good, bad = api.create(webhook_url=receiver.url), api.create(max_retry=0)
        api.create(status="inactive")
        database.make_due(good, bad)
        api.tick()
    found = api.get("/stats")
    assert found.keys() == {"hours", "success_rate", "duration_ms", "lateness_ms", "tasks"}
    assert found["tasks"] == {"active": 1, "inactive": 1, "deactivated": 1, "completed": 0}
    assert found["success_rate"] == 0.5
    assert 0 <= found["duration_ms"]["p50"] <= found["duration_ms"]["p95"] < 10_000
    assert 0 <= found["lateness_ms"]["p50"] <= found["lateness_ms"]["p95"]
    counts = ("success", "failed", "missed", "skipped", "cancelled")
    assert [sum(hour[name] for hour in found["hours"]) for name in counts] == [1, 1, 0, 0, 0]
    starts = [datetime.fromisoformat(hour["start"]) for hour in found["hours"]]
    assert starts == [starts[0] + timedelta(hours=number) for number in range(24)]
    assert all(hour["start"].endswith(":00:00Z") for hour in found["hours"])


@pytest.mark.parametrize("hours", [1, 168])
def test_one_hour_to_a_week_can_be_asked_for(api: Api, hours: int) -> None:
    assert len(api.get("/stats", hours=hours)["hours"]) == hours


@pytest.mark.parametrize("hours", ["0", "169", "-1", "1.5", "a", "", str(2**63)])
def test_other_numbers_of_hours_are_refused(api: Api, hours: str) -> None:
    problem = assert_problem(api("GET", "/stats", params={"hours": hours}), 422, "INVALID_INPUT")
    assert pointers(problem) == ["/hours"]
