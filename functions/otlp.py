"""Spans and metrics by OpenTelemetry's SDK, without a thread: what a request recorded is exported before its answer."""

import logging
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict
from datetime import datetime
from uuid import uuid4

import flask
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import Link, SpanKind, StatusCode, get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from domain.run import AttemptOutcome, Decision
from domain.summary import TickKind, TickSummary
from functions import VERSION
from functions.identity import plain_session

EXPORT_SECONDS = 3
"""For one request to the receiver; one that does not answer must not hold up the scheduler."""

SPANS_AT_ONCE = 512
MAX_SPANS = 20_000
"""Of those that wait for the end of a request; more are dropped, and their number is logged."""

NOTHING_NS = 1_000_000
"""A phase that is shorter has done nothing."""

GAUGES = {"due": "1", "remaining": "1", "lag_seconds": "s", "duration_seconds": "s"}
"""Fields of the summary that are no counts, with their units."""

log = logging.getLogger(__name__)
phases: ContextVar[list[tuple[str, int, int]]] = ContextVar("phases")
given_ids: ContextVar[tuple[int, int] | None] = ContextVar("given_ids", default=None)


class Ids(RandomIdGenerator):
    """Random ids, but for the spans of attempts: those are what their webhooks were told."""

    def generate_trace_id(self) -> int:
        ids = given_ids.get()
        return super().generate_trace_id() if ids is None else ids[0]

    def generate_span_id(self) -> int:
        ids = given_ids.get()
        return super().generate_span_id() if ids is None else ids[1]


class Outbox(SpanProcessor):
    """Keeps the spans that have ended until `flush`, which exports them, or drops them with a warning."""

    def __init__(self, exporter: OTLPSpanExporter) -> None:
        self._exporter = exporter
        self._spans: list[ReadableSpan] = []
        self._dropped = 0

    def on_end(self, span: ReadableSpan) -> None:
        if len(self._spans) < MAX_SPANS:
            self._spans.append(span)
        else:
            self._dropped += 1

    def flush(self) -> None:
        spans, self._spans = self._spans, []
        dropped, self._dropped = self._dropped, 0
        for first in range(0, len(spans), SPANS_AT_ONCE):
            if self._exporter.export(spans[first : first + SPANS_AT_ONCE]) is not SpanExportResult.SUCCESS:
                dropped += len(spans) - first
                break
        if dropped:
            log.warning(
                "%d spans were dropped: the receiver at OTEL_EXPORTER_OTLP_ENDPOINT takes no more", dropped
            )


class Otlp:
    """Of one process; makes no connection before the first export."""

    def __init__(self, endpoint: str) -> None:
        own = {"service.name": "insignia", "service.version": VERSION, "service.instance.id": str(uuid4())}
        resource = Resource(own).merge(OTELResourceDetector().detect())
        session = plain_session()
        self._outbox = Outbox(
            OTLPSpanExporter(f"{endpoint}/v1/traces", timeout=EXPORT_SECONDS, session=session)
        )
        tracers = TracerProvider(
            sampler=ALWAYS_ON, resource=resource, id_generator=Ids(), shutdown_on_exit=False
        )
        tracers.add_span_processor(self._outbox)
        self._tracer = tracers.get_tracer("insignia", VERSION)
        self._reader = PeriodicExportingMetricReader(
            OTLPMetricExporter(f"{endpoint}/v1/metrics", timeout=EXPORT_SECONDS, session=session),
            export_interval_millis=math.inf,
        )
        meter = MeterProvider([self._reader], resource=resource, shutdown_on_exit=False).get_meter(
            "insignia", VERSION
        )
        self._ticks = meter.create_counter(
            "insignia.ticks", "1", "Ticks and workers, by their kind and outcome"
        )
        names = asdict(TickSummary())
        self._counters = {
            name: meter.create_counter(f"insignia.tick.{name}", "1") for name in names if name not in GAUGES
        }
        self._gauges = {
            name: meter.create_gauge(f"insignia.tick.{name}", unit) for name, unit in GAUGES.items()
        }

    @contextmanager
    def span(self, name: str) -> Iterator[None]:
        """Belongs to the trace of the request, if that has a `traceparent`."""
        headers = dict(flask.request.headers) if flask.has_request_context() else {}
        context = TraceContextTextMapPropagator().extract(
            {key.lower(): value for key, value in headers.items()}
        )
        token = phases.set([])
        try:
            with self._tracer.start_as_current_span(name, context, SpanKind.SERVER, record_exception=False):
                try:
                    yield
                finally:
                    for phase, began_at, ended_at in phases.get():
                        self._tracer.start_span(phase, start_time=began_at).end(ended_at)
        finally:
            phases.reset(token)
            self._outbox.flush()
            self._reader.force_flush()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Becomes one span with the same phase before it, if nothing was done between them."""
        began_at = time.time_ns()
        try:
            yield
        finally:
            ended_at, known = time.time_ns(), phases.get([])
            if ended_at - began_at >= NOTHING_NS:
                if known and known[-1][0] == name:
                    _, began_at, _ = known.pop()
                known.append((name, began_at, ended_at))

    def record_attempt(self, decision: Decision) -> None:
        """A span of the run's trace, as its `traceparent` has told the webhook; of the URL only the destination."""
        run, attempt = decision.run, decision.attempt
        scheme, _, place = run.destination.partition("://")
        host, _, port = place.rpartition(":")
        attributes: dict[str, str | int] = {
            "http.request.method": run.method,
            "url.scheme": scheme,
            "server.address": host,
            "server.port": int(port),
            "insignia.task.id": run.task_id,
            "insignia.run.id": run.id,
            "insignia.run.status": decision.status,
            "insignia.attempt": run.number,
        }
        if attempt.http_status is not None:
            attributes["http.response.status_code"] = attempt.http_status
        if attempt.error is not None:
            attributes["error.type"] = attempt.error
        around = get_current_span().get_span_context()
        began_at = nanoseconds(run.started_at)
        token = given_ids.set((int(run.trace_id, 16), int(run.span_id, 16)))
        try:
            span = self._tracer.start_span(
                run.method,
                Context(),
                SpanKind.CLIENT,
                attributes,
                [Link(around)] if around.is_valid else [],
                began_at,
            )
        finally:
            given_ids.reset(token)
        if decision.outcome is not AttemptOutcome.SUCCESS:
            span.set_status(StatusCode.ERROR, attempt.message)
        span.end(began_at + attempt.duration_ms * 1_000_000)

    def record_summary(self, summary: TickSummary, kind: TickKind) -> None:
        labels = {"kind": str(kind)}
        self._ticks.add(1, labels | {"outcome": "success"})
        for name, value in asdict(summary).items():
            if name in GAUGES:
                self._gauges[name].set(value, labels)
            else:
                self._counters[name].add(value, labels)

    def record_failure(self, kind: TickKind) -> None:
        self._ticks.add(1, {"kind": str(kind), "outcome": "failed"})


def nanoseconds(instant: datetime) -> int:
    return round(instant.timestamp() * 1_000_000) * 1_000
