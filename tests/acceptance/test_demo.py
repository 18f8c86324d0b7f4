"""`python main.py --demo`, on the real clock: the one slow test."""

from pathlib import Path

import pytest

from tests.acceptance.local_run import LocalRun
from tests.acceptance.server import wait_until


@pytest.mark.timeout(120)
def test_the_demo_shows_a_success_a_retry_and_a_deactivation_at_the_full_minute(tmp_path: Path) -> None:
    with LocalRun(tmp_path, "--demo") as run:
        api = run.ready().api
        run.wait_for("The demo has 3 tasks")
        by_name = {task["name"].removeprefix("Demo: "): task for task in api.get("/tasks/")["tasks"]}
        succeeds, recovers, fails = (
            by_name[name]
            for name in (
                "succeeds every minute",
                "fails twice, then succeeds",
                "fails until it is deactivated",
            )
        )
        # The full minute, and 7 s of retries.
        wait_until(lambda: api.get(f"/tasks/{fails['id']}")["status"] == "inactive", 80, "a deactivation")
        logs = [api.logs(task)[-1] for task in (succeeds, recovers, fails)]
        after = api.get(f"/tasks/{fails['id']}")
        assert api.get("/health")["status"] == "healthy"
    assert [log["status"] for log in logs] == ["success", "success", "failed"]
    assert [log["retry_count"] for log in logs] == [0, 2, 3]
    for log in logs:
        assert log["scheduled_for"].endswith(":00Z")
        assert log["lateness_ms"] < 5_000
    assert after["deactivated_reason"]
    for text in (
        "receiver: POST /succeeds, attempt 1: answers 200",
        "POST /fails-twice, attempt 3: answers 200",
    ):
        assert text in run.output
    deliveries = [line for line in run.printed if "Demo: " in line]
    assert len(deliveries) >= 8
    assert not [line for line in deliveries if "/fails" in line or "/succeeds" in line]
