"""What one tick may take."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from domain.rate import Rate
from domain.retention import Retention


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
