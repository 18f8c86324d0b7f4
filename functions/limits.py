"""What one tick may take."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from domain.rate import Rate
from domain.retention import Retention

SPARE_SECONDS = 2
"""What must be left of the budget beside a call's deadline for the call to be claimed."""

LEAST_CALL_SECONDS = 1 + SPARE_SECONDS
STOP_SECONDS = 7
"""For answers, once a process is told to stop: what is left of Cloud Run's 10 s is for noticing it, the settle and
the end of the server, which took 1.2 s on a quiet machine."""
PAYLOAD_BYTES = 32 * 1024 * 1024
"""In memory at once; a tick with as large calls in flight claims no more until some are recorded."""
CLAIM_BYTES = 4 * 1024 * 1024
"""Of payloads in one claim: its answer is in memory several times until it is taken apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How long a tick may take; how many calls it has in flight, in all and to one destination; how long logs stay.

    `rates` of destinations are known by their hosts.
    """

    budget_seconds: float
    concurrency: int
    per_destination: int
    retention: Retention = field(default_factory=Retention)
    rates: Mapping[str, Rate] = field(default_factory=dict)
