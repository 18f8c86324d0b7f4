"""What a tick knows of rates that are used up, so that its claims pass over what they hold back."""

import math
from collections.abc import Mapping


class SpentRates:
    """Targets of rates, and from when on each may allow a call again, by the monotonic clock.

    No more than a guess: other processes spend and open them as well, and each claim asks the database.
    """

    def __init__(self) -> None:
        self._opens_at: dict[str, float] = {}

    def learn(self, now: float, waits: Mapping[str, float]) -> None:
        """A claim was told by targets how many seconds they allow nothing."""
        self._opens_at |= {target: now + seconds for target, seconds in waits.items()}

    def closed(self, now: float) -> list[str]:
        """The targets that still allow nothing; the others are forgotten."""
        self._opens_at = {target: at for target, at in self._opens_at.items() if at > now}
        return [*self._opens_at]

    def opens_at(self) -> float:
        """When the first of them may allow a call again; infinite without any."""
        return min(self._opens_at.values(), default=math.inf)
