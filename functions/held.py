"""The runs that a tick holds: what it has claimed, until that is settled or given back."""

from collections import Counter
from collections.abc import Iterable, Sequence

from domain.run import ClaimedRun, Decision


class HeldRuns:
    """In flight; decided, and to be recorded; to be given back, unsent or unanswered."""

    def __init__(self) -> None:
        self.in_flight: dict[str, ClaimedRun] = {}
        self.calls: Counter[str] = Counter()
        """In flight, to each destination."""
        self.decisions: list[Decision] = []
        self.unsent: list[ClaimedRun] = []
        self.unanswered: list[ClaimedRun] = []

    def begin(self, run: ClaimedRun) -> None:
        """A call of this run is in flight."""
        self.in_flight[run.id] = run
        self.calls[run.destination] += 1

    def end(self, run_id: str) -> ClaimedRun:
        """Its call is no longer in flight."""
        run = self.in_flight.pop(run_id)
        self.calls[run.destination] -= 1
        if not self.calls[run.destination]:
            del self.calls[run.destination]
        return run

    def abandon(self, unsent: Iterable[str]) -> None:
        """All that is in flight is to be given back, these runs as if they had not been claimed."""
        never_sent = {*unsent}
        for run_id in [*self.in_flight]:
            (self.unsent if run_id in never_sent else self.unanswered).append(self.end(run_id))

    def put_off(self, recorded: int, deferred: Sequence[Decision]) -> None:
        """The first so many decisions are recorded, but for the deferred ones: these let all others go first, and
        nothing of their tasks overtakes them.
        """
        tasks = {decision.run.task_id for decision in deferred}
        rest = [*deferred, *self.decisions[recorded:]]
        self.decisions = sorted(rest, key=lambda decision: decision.run.task_id in tasks)

    @property
    def unrecorded(self) -> int:
        """How many results and returns the database does not know of."""
        return len(self.decisions) + len(self.unsent) + len(self.unanswered)

    def payload_bytes(self) -> int:
        return sum(len(run.payload) for run in self.unsettled())

    def unsettled(self) -> list[ClaimedRun]:
        return [*self.in_flight.values(), *(decision.run for decision in self.decisions), *self.unsent]
