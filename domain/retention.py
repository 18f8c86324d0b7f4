"""For how long logs are kept."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """Days from the beginning of a run, by what came of it; db/retention.py says what is kept for longer."""

    success_days: int = 30
    other_days: int = 90
