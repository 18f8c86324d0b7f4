"""Traces and metrics over OTLP: what a receiver on loopback decodes, and what there is without the setting."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider

import functions.otlp
from domain.summary import TickSummary
from functions import VERSION
from tests.acceptance.conftest import Database
from tests.acceptance.server import PYTHON, ROOT, TOKEN, Api, Server, environment
from tests.otlp_receiver import OtlpReceiver, attributes
from tests.receiver import Receiver

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"
SETTING = "OTEL_EXPORTER_OTLP_ENDPOINT"


@pytest.fixture
def otlp() -> Iterator[OtlpReceiver]:
    with OtlpReceiver() as receiver:
        yield receiver


@contextmanager
def exporting(database_url: str, directory: Path, endpoint: str) -> Iterator[Api]:
    server = Server(directory / "server", {"DATABASE_URL": database_url, SETTING: endpoint})
    try:
        server.wait_until_ready()
        yield Api(server.url)
    finally:
        code = server.stop()
    assert code == 0


@pytest.fixture
def traced(server_database: str, empty: None, tmp_path: Path, otlp: OtlpReceiver) -> Iterator[Api]:
    with exporting(server_database, tmp_path, f"{otlp.url}/") as api:
        yield api


def points(metric: Any) -> list[Any]:
    return list(metric.sum.data_points or metric.gauge.data_points)


def test_a_tick_and_its_calls_are_spans_when_it_answers(
    traced: Api, database: Database, otlp: OtlpReceiver
) -> None:
    with Receiver(lambda _: (500, b"")) as receiver:
        task = traced.create(webhook_url=f"{receiver.url}?key=hidden", max_retry=1)
        database.make_due(task)
        answer = traced("POST", "/tick", headers={"traceparent": f"00-{TRACE}-{PARENT}-00"})
        spans = otlp.spans  # at once: what is not exported by now would wait for a CPU
    assert answer.json()["failed"] == 1
    (tick,) = (span for span in spans if span.name == "tick")
    assert (tick.trace_id.hex(), tick.parent_span_id.hex()) == (TRACE, PARENT)
    phases = [span for span in spans if span.parent_span_id == tick.span_id]
    assert {span.name for span in phases} == {"claim", "deliver", "settle"}
    for span in phases:
        assert tick.start_time_unix_nano <= span.start_time_unix_nano < span.end_time_unix_nano
        assert span.end_time_unix_nano <= tick.end_time_unix_nano
    in_order = sorted(phases, key=lambda span: span.start_time_unix_nano)
    assert all(one.end_time_unix_nano <= next_.start_time_unix_nano for one, next_ in pairwise(in_order))

    calls = sorted(
        (span for span in spans if span.name == "POST"), key=lambda span: span.start_time_unix_nano
    )
    (log,) = traced.logs(task)
    assert [f"00-{span.trace_id.hex()}-{span.span_id.hex()}-01" for span in calls] == [
        request.headers["traceparent"] for request in receiver.requests
    ]
    assert {span.trace_id.hex() for span in calls} == {log["id"].replace("-", "")}
    first = attributes(calls[0])
    assert (first["http.response.status_code"], first["error.type"]) == (500, "http")
    assert (first["insignia.run.id"], first["insignia.run.status"]) == (log["id"], "retrying")
    assert (
        f"{first['url.scheme']}://{first['server.address']}:{first['server.port']}"
        == receiver.url.rsplit("/", 1)[0]
    )
    assert [attributes(span)["insignia.attempt"] for span in calls] == [1, 2]
    for span, attempt in zip(calls, log["attempts"], strict=True):
        took_ms = (span.end_time_unix_nano - span.start_time_unix_nano) / 1_000_000
        assert took_ms == attempt["duration_ms"]
        assert [link.span_id for link in span.links] == [tick.span_id]
        assert span.status.code == 2
    assert b"hidden" not in b"".join(export.SerializeToString() for export in otlp.exports["/v1/traces"])


def test_the_metrics_are_the_summary(traced: Api, database: Database, otlp: OtlpReceiver) -> None:
    with Receiver() as receiver:
        summaries = []
        for number in (3, 2):
            database.make_due(*(traced.create(webhook_url=receiver.url) for _ in range(number)))
            summaries.append(traced.tick())
    first, second = summaries
    fields = asdict(TickSummary()).keys()
    assert {name.removeprefix("insignia.tick.") for name in otlp.metrics} == {"insignia.ticks", *fields}
    for name in fields:
        (point,) = points(otlp.metrics[f"insignia.tick.{name}"])
        told = point.as_double if point.WhichOneof("value") == "as_double" else point.as_int
        is_gauge = name in ("due", "remaining", "lag_seconds", "duration_seconds")
        assert told == (second[name] if is_gauge else first[name] + second[name]), name
        assert attributes(point) == {"kind": "tick"}
    (ticks,) = points(otlp.metrics["insignia.ticks"])
    assert (ticks.as_int, attributes(ticks)) == (2, {"kind": "tick", "outcome": "success"})
    for exports in (otlp.exports["/v1/traces"], otlp.exports["/v1/metrics"]):
        for export in exports:
            (one,) = getattr(export, "resource_spans", None) or export.resource_metrics
            described = attributes(one.resource)
            assert (described["service.name"], described["service.version"]) == ("insignia", VERSION)


def test_a_run_by_hand_is_exported_before_its_answer(traced: Api, otlp: OtlpReceiver) -> None:
    with Receiver() as receiver:
        log = traced.ok("POST", f"/tasks/{traced.create(webhook_url=receiver.url)['id']}/run", status=202)
        spans = otlp.spans
    by_hand, call = (next(span for span in spans if span.name == name) for name in ("run by hand", "POST"))
    assert call.trace_id.hex() == log["id"].replace("-", "")
    assert [link.trace_id for link in call.links] == [by_hand.trace_id]


def test_a_failed_tick_is_a_span_with_an_error(tmp_path: Path, otlp: OtlpReceiver) -> None:
    with exporting("postgresql://nobody@127.0.0.1:9/x", tmp_path, otlp.url) as api:
        assert api("POST", "/tick").status_code == 503
    (tick,) = otlp.spans
    assert (tick.name, tick.status.code) == ("tick", 2)
    (point,) = points(otlp.metrics["insignia.ticks"])
    assert attributes(point) == {"kind": "tick", "outcome": "failed"}


@pytest.mark.parametrize(("status", "seconds"), [(500, 0), (503, 0), (200, 60)])
def test_a_receiver_that_takes_nothing_costs_a_tick_seconds_and_no_more(
    server_database: str, empty: None, database: Database, tmp_path: Path, status: int, seconds: float
) -> None:
    with OtlpReceiver(status, seconds) as sick, exporting(server_database, tmp_path, sick.url) as api:
        with Receiver() as receiver:
            task = api.create(webhook_url=receiver.url)
            database.make_due(task)
            database.copy(task, 599)
            began_at = time.monotonic()
            assert api.tick()["succeeded"] == 600
            assert time.monotonic() - began_at < 20
        assert "spans were dropped" in (tmp_path / "server" / "output").read_text()
        assert sick.requests > 0


def test_more_spans_than_may_wait_are_dropped_and_counted(
    otlp: OtlpReceiver, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(functions.otlp, "MAX_SPANS", 3)
    monkeypatch.setattr(functions.otlp, "SPANS_AT_ONCE", 2)
    outbox = functions.otlp.Outbox(OTLPSpanExporter(f"{otlp.url}/v1/traces"))
    tracers = TracerProvider(shutdown_on_exit=False)
    tracers.add_span_processor(outbox)
    for _ in range(5):
        tracers.get_tracer("test").start_span("one of five").end()
    outbox.flush()
    assert len([span for span in otlp.spans if span.name == "one of five"]) == 3
    assert "2 spans were dropped" in caplog.text
    outbox.flush()
    assert caplog.text.count("dropped") == 1


def test_without_the_setting_nothing_of_opentelemetry_is_imported_by_a_tick(
    database_url: str, tmp_path: Path
) -> None:
    program = """
import sys
from functions_framework import create_app
client = create_app("tick", sys.argv[1]).test_client()
answer = client.post("/tick", headers={"Authorization": f"Bearer {sys.argv[2]}"})
assert answer.status_code == 200, answer.text
print([name for name in sys.modules if name.startswith(("opentelemetry", "functions.otlp"))])
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(ROOT / "main.py"), TOKEN],
        env=environment(
            {"API_TOKEN": TOKEN, "DATABASE_URL": database_url, "LOG_FILE": str(tmp_path / "log")}
        ),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "[]"), done.stderr


def test_a_missing_package_stops_the_start_with_one_line(tmp_path: Path) -> None:
    hidden = tmp_path / "opentelemetry" / "__init__.py"  # found first, and has nothing in it
    hidden.parent.mkdir()
    hidden.touch()
    done = subprocess.run(
        [PYTHON, "-m", "functions_framework", "--target=tick", f"--source={ROOT / 'main.py'}"],
        env=environment({"API_TOKEN": TOKEN, SETTING: "http://127.0.0.1:9", "PYTHONPATH": str(tmp_path)}),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1
    assert done.stderr == (
        "Insignia cannot start: OTEL_EXPORTER_OTLP_ENDPOINT is set, but OpenTelemetry is not installed; run: "
        "pip install -r requirements-otel.txt, or leave the setting out.\n"
    )
