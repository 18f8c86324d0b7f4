"""Pictures of runs, as figures."""

from datetime import UTC, datetime, timedelta

import pytest

from db.stats import Hour
from db.task_logs import RecentRun
from domain.run import RunStatus
from functions.schemas import Attempt
from functions.ui.charts import (
    CELL_HEIGHT,
    CELL_WIDTH,
    DAY_WIDTH,
    days_of,
    duration_chart,
    lanes_of,
    percentile,
)

MIDNIGHT = datetime(2026, 11, 25, tzinfo=UTC)


def hour(number: int, **counts: int) -> Hour:
    counted = dict.fromkeys(("success", "failed", "missed", "skipped", "cancelled"), 0) | counts
    return Hour(start=MIDNIGHT + timedelta(hours=number), **counted)


def test_a_percentile_is_a_value_that_so_many_do_not_exceed() -> None:
    hundred = list(range(1, 101))
    assert (percentile(hundred, 50), percentile(hundred, 95)) == (50, 95)
    assert (percentile([7], 50), percentile([7], 95)) == (7, 7)
    assert percentile([1, 2, 3], 50) == 2
    assert percentile([], 50) is None


def test_durations_are_drawn_to_scale_and_the_newest_is_at_the_right() -> None:
    runs = [
        RecentRun(RunStatus.SUCCESS, 100),
        RecentRun(RunStatus.SKIPPED, None),
        RecentRun(RunStatus.FAILED, 400),
    ]
    chart = duration_chart(runs)
    assert [spark.status for spark in chart.sparks] == ["success", "skipped", "failed"]
    assert [spark.x for spark in chart.sparks] == [582, 588, 594]
    assert [spark.height for spark in chart.sparks] == [33, 4, 120]
    assert (chart.p50, chart.p95, chart.y(400), chart.y(100)) == (100, 400, 0, 87)
    assert (
        chart.words
        == "Of 2 measured runs, half took at most 100 ms, 95 % at most 400 ms, the longest 400 ms."
    )


@pytest.mark.parametrize("runs", [[], [RecentRun(RunStatus.MISSED, None)]])
def test_without_a_duration_there_are_no_percentiles(runs: list[RecentRun]) -> None:
    chart = duration_chart(runs)
    assert (chart.p50, chart.p95) == (None, None)
    assert chart.words == "No run has a duration yet."


def test_a_day_has_a_cell_for_each_hour_with_runs_and_every_result_is_seen_in_it() -> None:
    hours = [hour(number) for number in range(30)]
    hours[9] = hour(9, success=599, failed=1)
    hours[25] = hour(25, missed=1_200)
    first, second = days_of(hours)
    assert (first.x, second.x) == (0, DAY_WIDTH)
    assert first.counts == {"success": 599, "failed": 1}
    (cell,) = first.cells
    assert cell.y == 9 * CELL_HEIGHT
    assert cell.words == "25 Nov 09:00 UTC: 599 success, 1 failed"
    wide, narrow = cell.patches
    assert narrow.width > 2
    assert wide.width + narrow.width == pytest.approx(CELL_WIDTH, abs=0.1)
    assert narrow.x == wide.width
    (cell,) = second.cells
    assert cell.words == "26 Nov 01:00 UTC: 1,200 missed"


def attempt(number: int, at: float, duration_ms: int | None, retry_at: float | None = None) -> Attempt:
    return Attempt(
        number=number,
        started_at=MIDNIGHT + timedelta(seconds=at),
        duration_ms=duration_ms,
        outcome="failed" if duration_ms is not None else None,
        http_status=None,
        error=None,
        retry_at=None if retry_at is None else MIDNIGHT + timedelta(seconds=retry_at),
    )


def test_attempts_and_the_waits_between_them_are_to_scale() -> None:
    attempts = [attempt(1, 0, 1_000, 2), attempt(2, 2, 1_000, 5), attempt(3, 5, 5_000)]
    first, second, third = lanes_of(attempts, MIDNIGHT)
    assert [(lane.x, lane.width, lane.wait_to) for lane in (first, second, third)] == [
        (0, 100, 200),
        (200, 100, 500),
        (500, 500, None),
    ]
    assert (first.wait, second.wait, third.wait) == (timedelta(seconds=1), timedelta(seconds=2), None)


def test_a_run_under_way_lasts_until_now_and_one_that_waits_until_its_retry() -> None:
    (live,) = lanes_of([attempt(1, 0, None)], MIDNIGHT + timedelta(seconds=3))
    assert (live.outcome, live.x, live.width, live.wait_to) == ("running", 0, 1_000, None)
    (waiting,) = lanes_of([attempt(1, 0, 1_000, 4)], MIDNIGHT + timedelta(seconds=2))
    assert (waiting.width, waiting.wait_to, waiting.wait) == (250, 1_000, timedelta(seconds=3))


def test_attempts_without_a_duration_are_seen_all_the_same() -> None:
    (lane,) = lanes_of([attempt(1, 0, 0)], MIDNIGHT)
    assert lane.width > 0
    assert lanes_of([], MIDNIGHT) == []
