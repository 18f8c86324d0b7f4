"""Pictures of runs, as figures."""

import re
from datetime import UTC, datetime, timedelta

import pytest

from db.stats import Hour
from db.task_logs import RecentRun
from db.ticks import TickTiming
from domain.run import RunStatus
from functions.health import LATE_SLOT_SECONDS
from functions.schemas import Attempt
from functions.ui.charts import (
    CELL_HEIGHT,
    CELL_WIDTH,
    DAY_WIDTH,
    days_of,
    duration_chart,
    lanes_of,
    percentile,
    tick_chart,
)

MIDNIGHT = datetime(2026, 11, 25, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


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


def test_one_duration_is_told_without_percentiles() -> None:
    assert duration_chart([RecentRun(RunStatus.SUCCESS, 100)]).words == "The one measured run took 100 ms."


@pytest.mark.parametrize("runs", [[], [RecentRun(RunStatus.MISSED, None)]])
def test_without_a_duration_there_are_no_percentiles(runs: list[RecentRun]) -> None:
    chart = duration_chart(runs)
    assert (chart.p50, chart.p95) == (None, None)
    assert chart.words == "No run has a duration yet."


def cells(path: str) -> list[list[float]]:
    """Of each cell its left, top, width, and left again."""
    found = re.findall(r"M([0-9.]+) ([0-9]+)h([0-9.]+)v5H([0-9.]+)", path)
    return [[float(number) for number in cell] for cell in found]


def test_a_day_has_a_cell_for_each_hour_with_runs_and_every_result_is_seen_in_it() -> None:
    hours = [hour(number) for number in range(30)]
    hours[9] = hour(9, success=599, failed=1)
    hours[10] = hour(10, success=1)
    hours[25] = hour(25, missed=1_200)
    first, second = days_of(hours)
    assert (first.x, second.x) == (0, DAY_WIDTH)
    assert first.counts == {"success": 600, "failed": 1}
    mixed, whole = cells(first.paths["success"])
    (failed,) = cells(first.paths["failed"])
    assert whole == [0, 10 * CELL_HEIGHT, CELL_WIDTH, 0]
    assert (mixed[1], failed[1]) == (9 * CELL_HEIGHT, 9 * CELL_HEIGHT)
    assert failed[2] > 2
    assert mixed[2] + failed[2] == pytest.approx(CELL_WIDTH, abs=0.1)
    assert failed[0] == pytest.approx(mixed[2], abs=0.1)
    assert second.paths == {"missed": f"M24 {CELL_HEIGHT}h22v5H24"}


def test_a_day_says_when_something_else_than_a_success_came_of_it() -> None:
    (day,) = days_of([hour(9, success=599, failed=1), hour(14, failed=1), hour(15)])
    assert day.words == "25 Nov, UTC: 599 success, 2 failed at 09:00, 14:00"
    (day,) = days_of([hour(number, missed=60) for number in range(24)])
    assert day.words == "25 Nov, UTC: 1,440 missed at 00:00, 01:00, 02:00, 03:00 …"
    (day,) = days_of([hour(0)])
    assert day.words == "25 Nov, UTC: nothing ran"


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


NOW = MIDNIGHT + timedelta(hours=6)


def ticks(*minutes: float, duration_seconds: float = 1, lag_seconds: float = 0.5) -> list[TickTiming]:
    """Which began so many minutes ago."""
    return [TickTiming(NOW - timedelta(minutes=ago), duration_seconds, lag_seconds) for ago in minutes]


def gaps(timings: list[TickTiming], *, is_late: bool = False) -> list[tuple[float, float, bool]]:
    """How many minutes ago each began, how many it lasted, and whether it is over."""
    chart = tick_chart(timings, NOW, 6, is_late=is_late)
    return [((NOW - gap.start) / MINUTE, gap.duration / MINUTE, gap.end is not None) for gap in chart.gaps]


@pytest.mark.parametrize(
    "timings",
    [
        [],
        ticks(5),
        ticks(*range(360, -1, -1)),
        ticks(3, 2.1, 0.9, 0),
        ticks(9, 8.9, 8),
        ticks(8, 6, 4, duration_seconds=110),
    ],
    ids=["none", "the first", "each minute", "a little late", "more often", "each longer than a minute"],
)
def test_ticks_that_come_in_time_leave_no_gap(timings: list[TickTiming]) -> None:
    assert gaps(timings) == []


def test_minutes_without_a_tick_are_a_gap() -> None:
    assert gaps(ticks(20, 18, 17, 5, 4)) == [(19, 1, True), (16, 11, True)]


def test_a_gap_that_began_before_the_chart_begins_with_it_and_one_that_lasts_ends_now() -> None:
    assert gaps(ticks(500, 100, 99, 30), is_late=True) == [(360, 260, True), (98, 68, True), (29, 29, False)]
    assert gaps(ticks(500), is_late=True) == [(360, 360, False)]
    assert gaps(ticks(500)) == []


def test_ticks_are_bars_to_scale_and_red_where_slots_had_waited_for_too_long() -> None:
    timings = ticks(120, lag_seconds=20) + ticks(60, lag_seconds=LATE_SLOT_SECONDS + 20) + ticks(0)
    chart = tick_chart(timings, NOW, 6, is_late=False)
    assert (chart.ticks, chart.lag.highest, chart.duration.highest) == (3, LATE_SLOT_SECONDS + 20, 1)
    assert chart.lag.on_time == "M720 60V54M1080 60V58.5", "the last one is short, and still seen"
    assert chart.lag.late == "M900 60V0"
    assert chart.duration.late == "M900 60V0"
