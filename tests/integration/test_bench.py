"""The benchmark works, and does not let a contestant off that did not do its work; nothing here is timed."""

import sys
from pathlib import Path

import pytest

from tests.bench import report
from tests.bench.__main__ import run
from tests.bench.child import BenchmarkFailed, Child
from tests.bench.measure import METRICS, check

WEBHOOKS = 20


@pytest.fixture(scope="module")
def result() -> report.Report:
    if sys.platform != "linux":
        pytest.skip("reads /proc")
    return run(rounds=1, webhooks=WEBHOOKS)


def test_each_contestant_delivers_and_is_measured(result: report.Report) -> None:
    assert list(result["contestants"]) == ["insignia", "naive"]
    for figures in (*result["contestants"].values(), *result["times_ours"].values()):
        assert list(figures) == list(METRICS)
        assert all(0 < one["min"] <= one["median"] <= one["max"] for one in figures.values())


def test_the_table_shows_every_figure(result: report.Report) -> None:
    table = report.table(result)
    assert all(words in table for words in METRICS.values())


def test_a_result_is_kept_as_it_is(result: report.Report, tmp_path: Path) -> None:
    path = tmp_path / "results" / "result.json"
    report.save(path, result)
    assert report.load(path.read_bytes()) == result


def test_a_ratio_that_got_worse_by_more_than_a_fifth_is_a_regression() -> None:
    before, same, worse = (ratios_of(median) for median in (10.0, 8.4, 8.3))
    assert report.regressions(before, same) == []
    assert len(report.regressions(before, worse)) == len(METRICS)
    assert "REGRESSION" in report.comparison(before, worse)


def ratios_of(median: float) -> report.Report:
    ratios = {metric: {"median": median} for metric in METRICS}
    return {"machine": {}, "times_ours": {"naive": ratios}}


@pytest.mark.parametrize(
    ("arrived", "outcomes"),
    [
        ([0], [(0, "success"), (1, "success")]),
        ([0, 1, 1], [(0, "success"), (1, "success")]),
        ([0, 1], [(0, "success")]),
        ([0, 1], [(0, "success"), (1, "failed")]),
        ([0, 1], [(0, "success"), (1, "success"), (1, "success")]),
    ],
    ids=["not called", "called twice", "not logged", "failed", "logged twice"],
)
def test_a_contestant_that_did_not_do_its_work_fails_the_benchmark(
    arrived: list[int], outcomes: list[tuple[int, str]]
) -> None:
    with pytest.raises(BenchmarkFailed):
        check("somebody", 2, arrived, outcomes)


def test_each_webhook_once_with_one_success_is_right() -> None:
    check("somebody", 2, [1, 0], [(0, "success"), (1, "success")])


def test_a_contestant_that_dies_fails_the_benchmark() -> None:
    with Child("tests.bench.contestant", "nobody") as process, pytest.raises(BenchmarkFailed, match="nobody"):
        process.read()
