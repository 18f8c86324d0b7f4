"""The benchmark works, and does not let a contestant off that did not do its work; nothing here is timed."""

import re
import sys
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.bench import documents, due_at_once, goals, growth, picture, report, servers
from tests.bench.__main__ import with_who_is_here
from tests.bench.child import BenchmarkFailed, Child
from tests.bench.cluster import Cluster, Cpu
from tests.bench.goals import GOALS, Goal
from tests.bench.measure import METRICS, PEERS_PYTHON, check
from tests.bench.scenarios import FLOOR, OURS, SCENARIOS, WITH_WORKERS

WEBHOOKS = 20
AT_ONCE, HTTPS, *_ = SCENARIOS


@pytest.fixture(scope="module")
def result() -> report.Report:
    if sys.platform != "linux":
        pytest.skip("reads /proc")
    over_https = replace(HTTPS, contestants=dict.fromkeys((OURS, FLOOR), 1.0))
    scenarios = with_who_is_here((AT_ONCE, over_https))
    with Cluster(fsync="off") as cluster:
        samples = due_at_once.run(cluster, scenarios, webhooks=WEBHOOKS, rounds=1)
        return report.make_report(samples, webhooks=WEBHOOKS, logs=0, rounds=1, postgresql=cluster.version())


def test_each_contestant_delivers_and_is_measured(result: report.Report) -> None:
    figures = result["figures"]
    for name in with_who_is_here((AT_ONCE,))[0].contestants:
        assert {f"at_once/{name}/{metric}" for metric in METRICS} <= set(figures)
    assert {f"https/{name}/cpu" for name in (OURS, FLOOR)} <= set(figures)
    assert all(0 <= one["min"] <= one["median"] <= one["max"] for one in figures.values())
    assert figures["at_once/insignia/cpu"]["median"] > 0


@pytest.fixture(scope="module")
def growth_and_api() -> report.Samples:
    if sys.platform != "linux":
        pytest.skip("reads /proc")
    with pytest.MonkeyPatch.context() as patch, Cluster(fsync="off") as cluster:
        for name, few in {"SMALL": 120, "MIDDLE": 150, "REPETITIONS": 2}.items():
            patch.setattr(growth, name, few)
        patch.setattr(servers, "REQUESTS", 20)
        return growth.run(logs=200, rounds=1, big=200) | servers.run(cluster, rounds=1)


def test_growth_and_the_api_are_measured(growth_and_api: report.Samples) -> None:
    readings = {f"growth/{name}/{size}" for name in growth.READINGS for size in ("small", "big", "ratio")}
    assert readings <= set(growth_and_api)
    assert all(value > 0 for reading in readings for value in growth_and_api[reading])


def test_every_goal_has_its_figure(result: report.Report, growth_and_api: report.Samples) -> None:
    figures = {*result["figures"], *growth_and_api, *report.ratios(growth_and_api)}
    left_out = {
        goal.figure
        for goal in GOALS
        if goal.figure.startswith(("after_100_ms/", "after_1_s/"))
        or (not PEERS_PYTHON.exists() and "/peers." in goal.figure)
    }
    assert {goal.figure for goal in GOALS} - left_out <= figures


def test_the_table_shows_every_contestant_and_figure(result: report.Report) -> None:
    table = report.table(result)
    for words in (*METRICS.values(), "Insignia", "the floor", "the first design"):
        assert words in table


@pytest.fixture(scope="module")
def whole(result: report.Report) -> report.Report:
    """As if all had been measured: what this one lacks, it takes from the floor and the first scenario."""
    figures = {}
    for scenario in SCENARIOS:
        for name in scenario.contestants:
            for metric in METRICS:
                key = f"{scenario.name}/{name}/{metric}"
                figures[key] = result["figures"].get(key, result["figures"][f"at_once/{FLOOR}/{metric}"])
    wall = f"after_1_s/{WITH_WORKERS}/wall"
    figures[f"{wall}/{OURS}"] = figures[wall]
    return {**result, "figures": result["figures"] | figures}


def test_the_picture_has_a_bar_and_a_figure_for_each_contestant(whole: report.Report) -> None:
    picture_of = ElementTree.fromstring(picture.draw(whole))  # noqa: S314 - it is our own
    svg = "{http://www.w3.org/2000/svg}"
    bars = [float(bar.attrib["width"]) for bar in picture_of.iter(f"{svg}rect")]
    texts = [text.text or "" for text in picture_of.iter(f"{svg}text")]
    assert len(bars) == len(picture.PANELS) * len(AT_ONCE.contestants)
    assert all(0 < bar <= picture.LONGEST for bar in bars)
    assert "Insignia" in texts
    assert "the first design (2)" in texts


def test_the_documents_can_say_what_was_measured(whole: report.Report) -> None:
    summary, page = documents.parts(whole).values()
    assert summary.count("| Insignia | ") == 1
    assert len(re.findall(r"^\| Insignia(?: \([\d,]+ webhooks\))? \|", page, re.MULTILINE)) == len(SCENARIOS)
    assert all(goal.words in page for goal in GOALS)


def test_the_documents_say_what_the_committed_result_says() -> None:
    kept = report.load(report.RESULT.read_bytes()) if report.RESULT.exists() else None
    for path, part in documents.parts(kept).items():
        assert documents.written(path.read_text()) == part, path
    assert documents.PICTURE.exists() == (kept is not None)
    if kept is not None:
        assert documents.PICTURE.read_text() == picture.draw(kept)


def test_a_result_is_kept_as_it_is(result: report.Report, tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    report.save(path, result)
    assert report.load(path.read_bytes()) == result


def test_ratios_are_taken_within_a_round() -> None:
    costs = {"s/insignia/cpu": [10.0, 20.0], "s/floor/cpu": [5.0, 5.0], "s/seed/cpu": [100.0, 100.0]}
    assert report.ratios(costs | {"s/insignia/wall": [1.0, 1.0], "s/seed/wall": [1.0, 1.0]}) == {
        "s/insignia/cpu/floor": [2.0, 4.0],
        "s/floor/cpu/insignia": [0.5, 0.25],
        "s/seed/cpu/insignia": [10.0, 5.0],
    }


def report_of(figures: dict[str, float]) -> report.Report:
    spread = {key: {"median": value, "min": value, "max": value} for key, value in figures.items()}
    return {"machine": {}, "webhooks": 1, "figures": spread}


def test_every_goal_is_judged() -> None:
    at_most, at_least = (next(goal for goal in GOALS if goal.bound == bound) for bound in ("<=", ">="))
    verdict = {
        words: (measured, met)
        for words, _, measured, met in goals.verdict(
            report_of({at_most.figure: at_most.limit * 1.01, at_least.figure: at_least.limit * 1.01})
        )
    }
    assert len(verdict) == len(GOALS)
    assert verdict.pop(at_most.words)[1] == "NOT met"
    assert verdict.pop(at_least.words)[1] == "met"
    assert set(verdict.values()) == {("", "not measured")}


@pytest.mark.parametrize("goal", GOALS, ids=lambda goal: goal.figure)
def test_a_goal_whose_figure_got_worse_by_more_than_a_fifth_is_a_regression(goal: Goal) -> None:
    factors = (1.19, 1.21) if goal.bound == "<=" else (1 / 1.19, 1 / 1.21)
    before, same, worse = (report_of({goal.figure: 100 * factor}) for factor in (1, *factors))
    assert goals.regressions(before, same) == []
    assert len(goals.regressions(before, worse)) == 1
    assert goals.regressions(worse, before) == []
    assert "REGRESSION" in goals.comparison(before, worse)


@pytest.mark.parametrize(
    ("arrived", "outcomes"),
    [
        ([0], [(0, "success"), (1, "success")]),
        ([0, 1, 1], [(0, "success"), (1, "success")]),
        ([0, 1], [(0, "success")]),
        ([0, 1], [(0, "success"), (1, "failed")]),
        ([0, 1], [(0, "success"), (1, "success"), (1, "success")]),
        ([0, 0], None),
    ],
    ids=["not called", "called twice", "not logged", "failed", "logged twice", "without a log"],
)
def test_a_contestant_that_did_not_do_its_work_fails_the_benchmark(
    arrived: list[int], outcomes: list[tuple[int, str]] | None
) -> None:
    with pytest.raises(BenchmarkFailed):
        check("somebody", 2, arrived, outcomes)


def test_each_webhook_once_with_one_success_is_right() -> None:
    check("somebody", 2, [1, 0], [(0, "success"), (1, "success")])


@pytest.mark.parametrize(
    ("of_ended", "cost"),
    [pytest.param(0.02, 0.003, id="in whole hundredths, less"), pytest.param(0.03, 0.0055, id="more")],
)
def test_a_session_that_ends_as_a_measurement_begins_is_no_saving(of_ended: float, cost: float) -> None:
    before = Cpu(running={1: 0.1, 2: 0.0075}, of_ended=0.02)
    after = Cpu(running={1: 0.101, 3: 0.002}, of_ended=of_ended)
    assert after.since(before) == pytest.approx(cost)


def test_the_cpu_of_sessions_counts_while_they_last_and_afterwards() -> None:
    if sys.platform != "linux":
        pytest.skip("reads /proc")
    with Cluster(fsync="off") as cluster:
        before = cluster.cpu()
        url = cluster.create_database("another")  # by a session that has ended
        cluster.come_to_rest(url)
        assert cluster.cpu().since(before) > 0
        assert cluster.cpu().since(cluster.cpu()) >= 0


def test_a_contestant_that_dies_fails_the_benchmark() -> None:
    with Child("tests.bench.contestant", "nobody") as process, pytest.raises(BenchmarkFailed, match="nobody"):
        process.read()


def test_workers_deliver_each_webhook_once_and_their_time_is_compared() -> None:
    """By the scenario of that name, without its wait."""
    (scenario,) = [replace(one, delay_seconds=0, hosts=4) for one in SCENARIOS if one.name == "after_1_s"]
    with Cluster(fsync="off") as cluster:
        samples = due_at_once.run(cluster, [scenario], webhooks=1_000, rounds=1)
    assert f"after_1_s/{WITH_WORKERS}/wall/{OURS}" in {goal.figure for goal in GOALS} & set(
        report.ratios(samples)
    )
