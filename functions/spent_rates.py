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

    def forget_open(self, now: float) -> None:
        """Ask anew of the targets that may allow a call by now.

        Before a look for what is due, and not during it: what was refused there and opens meanwhile, if it takes
        long, still has to be looked for again (`opens_at`).
        """
        self._opens_at = {target: at for target, at in self._opens_at.items() if at > now}

    def closed(self, now: float) -> list[str]:
        """The targets that still allow nothing."""
        return [target for target, at in self._opens_at.items() if at > now]

    def targets(self) -> set[str]:
        """All of them, also those that may have opened since they were last asked."""
        return {*self._opens_at}

    def opens_at(self) -> float:
        """When the first of them may allow a call again, or might have already; infinite without any."""
        return min(self._opens_at.values(), default=math.inf)
