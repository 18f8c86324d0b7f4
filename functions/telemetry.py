"""Traces and metrics over OTLP, where OTEL_EXPORTER_OTLP_ENDPOINT asks for them (docs/telemetry.md).

Nothing of OpenTelemetry is imported without that setting, and each call here costs next to nothing then.
"""

from contextlib import AbstractContextManager, nullcontext
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING

from domain.run import Decision
from domain.summary import TickKind, TickSummary
from functions.settings import SettingsError

if TYPE_CHECKING:
    from functions.otlp import Otlp

PACKAGES = ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http")
OFF = nullcontext()

_endpoint: str | None = None


def configure(endpoint: str | None) -> None:
    """Call once per process; raises SettingsError when the packages are missing. Nothing is made before a fork."""
    global _endpoint
    if endpoint is not None and not all(is_installed(package) for package in PACKAGES):
        raise SettingsError(
            "OTEL_EXPORTER_OTLP_ENDPOINT is set, but OpenTelemetry is not installed; run: pip install -r "
            "requirements-otel.txt, or leave the setting out."
        )
    _endpoint = endpoint


def is_installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:  # of a package around it
        return False


@cache
def otlp(endpoint: str) -> "Otlp":
    from functions.otlp import Otlp

    return Otlp(endpoint)


def is_on() -> bool:
    return _endpoint is not None


def span(name: str) -> AbstractContextManager[None]:
    """What a request does as a span; at its end everything is exported, before the answer: then the CPU may stop."""
    return OFF if _endpoint is None else otlp(_endpoint).span(name)


def phase(name: str) -> AbstractContextManager[None]:
    """A part of the span around it."""
    return OFF if _endpoint is None else otlp(_endpoint).phase(name)


def record_attempt(decision: Decision) -> None:
    if _endpoint is not None:
        otlp(_endpoint).record_attempt(decision)


def record_summary(summary: TickSummary, kind: TickKind) -> None:
    if _endpoint is not None:
        otlp(_endpoint).record_summary(summary, kind)


def record_failure(kind: TickKind) -> None:
    if _endpoint is not None:
        otlp(_endpoint).record_failure(kind)
