"""A receiver of OTLP over HTTP on loopback: it decodes what it gets, and refuses what is no OTLP."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

REQUESTS: dict[str, Any] = {
    "/v1/traces": ExportTraceServiceRequest,
    "/v1/metrics": ExportMetricsServiceRequest,
}


class OtlpReceiver:
    """Keeps what was exported to it, by path; answers with `status`, after `seconds` or as soon as it is closed."""

    def __init__(self, status: int = 200, seconds: float = 0) -> None:
        self.exports: dict[str, list[Any]] = {path: [] for path in REQUESTS}
        self.requests = 0
        closed = self._closed = threading.Event()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.requests += 1
                closed.wait(seconds)
                self.send_response(
                    status if receiver.take(self.path, self.headers["Content-Type"], body) else 400
                )
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                """Not to stderr."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def take(self, path: str, content_type: str, body: bytes) -> bool:
        if path not in REQUESTS or content_type != "application/x-protobuf":
            return False
        try:
            self.exports[path].append(REQUESTS[path].FromString(body))
        except DecodeError:
            return False
        return True

    @property
    def spans(self) -> list[Any]:
        return [
            span
            for export in self.exports["/v1/traces"]
            for resource in export.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    @property
    def metrics(self) -> dict[str, Any]:
        """The newest of each name."""
        return {
            metric.name: metric
            for export in self.exports["/v1/metrics"]
            for resource in export.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def attributes(of: Any) -> dict[str, Any]:
    """Of a span, a resource or a point of a metric."""
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in of.attributes}
