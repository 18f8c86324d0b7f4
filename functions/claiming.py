"""What a tick takes up, and how much at a time (docs/engine.md, Tick): retries and slots share the free places."""

from collections.abc import Callable
from functools import partial

from db.backlog import seconds_until_next
from db.claiming import Claimed, Room
from db.destination_limits import Ledger
from db.engine import Connection, Engine, transaction
from db.run_claims import claim_due_runs
from db.slot_claims import claim_long_late_slots, claim_slots, plan_long_late_slots
from functions.held import HeldRuns
from functions.limits import BATCH_ROWS, PAYLOAD_BYTES, SPARE_SECONDS, Limits
from functions.lookout import BATCH_SECONDS, Lookout
from functions.notifications import Tell
from functions.spent_rates import SpentRates
from functions.transfer import monotonic

LOOK_PAST_SECONDS = 0.25
"""How often a claim looks past all rows of a destination that had a place for some of them only, at least."""

LEAST_ROWS = 16
"""What a claim looks at, beside two rows for each place that has become free, when slots wait for places."""


class Claiming:
    """The claims of a tick that ends at `ends_at`, by the monotonic clock.

    What a claim has written is passed to `start` as soon as it is committed, with the instant at which it began.
    """

    def __init__(
        self,
        engine: Engine,
        limits: Limits,
        lookout: Lookout,
        held: HeldRuns,
        *,
        ends_at: float,
        start: Callable[[Claimed, float], None],
        tell: Tell,
    ) -> None:
        self._engine = engine
        self._limits = limits
        self._lookout = lookout
        self._held = held
        self._ends_at = ends_at
        self._start = start
        self._tell = tell
        self._crowded: set[str] = set()
        self._spent = SpentRates()
        self._is_crowded = False
        self._is_contended = False
        self._looks_again = False
        self._looks_past = True
        self._looks_past_at = monotonic()
        self._is_turn_of_retries = False

    def take(self, free: int) -> None:
        """Take up retries and slots, if it is time to, at most `free`. Raises Unavailable."""
        lookout, free = self._lookout, min(free, BATCH_ROWS)
        is_batch = lookout.is_more_due and free >= min(self._limits.concurrency, BATCH_ROWS) // 2
        if not free or not (is_batch or monotonic() >= lookout.claims_at):
            return
        self._looks_past = lookout.is_more_due or monotonic() >= self._looks_past_at
        if self._is_crowded and not (self._looks_past or lookout.finished or monotonic() >= lookout.runs_at):
            lookout.put_off(monotonic())
            return
        self._crowded, self._looks_again, self._is_contended = set(), False, False
        self._spent.forget_open(monotonic())
        if not self._looks_past and lookout.are_slots_waiting:
            free = min(free, LEAST_ROWS + 2 * lookout.finished)
        ended, lookout.finished = lookout.finished, 0
        taken, are_more_runs = self._claim_runs(free)
        taken += self._claim_past_crowds(partial(self.claim, claim_slots), free - taken)
        if monotonic() >= lookout.long_late_at:
            taken += self._claim_past_crowds(self._claim_long_late_slots, free - taken)
        if are_more_runs:
            taken += self._claim_past_crowds(partial(self.claim, claim_due_runs), free - taken)
        is_full = bool(self._crowded) or self._has_full_destination()
        self._is_crowded = is_full and not self._is_contended
        if self._looks_past and is_full:
            self._looks_past_at = monotonic() + LOOK_PAST_SECONDS
        elif taken < ended and is_full:
            # what has become free is not for those that were in the way
            self._looks_past_at = min(self._looks_past_at, monotonic() + BATCH_SECONDS)
        if taken == free:
            lookout.found_as_many_as_fit(monotonic())
        else:
            self._look_ahead(gets_anywhere=taken > 0 or self._looks_again)

    def claim(self, claim: Callable[[Connection, Room], Claimed], calls: int) -> int:
        """Claim at most so many calls and start them; how many rows the claim has dealt with."""
        room, began_at = self._room(calls), monotonic()
        with transaction(self._engine) as connection:
            claimed = claim(connection, room)
            self._tell(connection, claimed.changes)
        self._spent.learn(monotonic(), room.ledger.waits)
        self._is_contended |= bool(room.contended)
        self._looks_again |= self._is_contended
        self._start(claimed, began_at)
        return claimed.taken

    def _has_full_destination(self) -> bool:
        return max(self._held.calls.values(), default=0) >= self._limits.per_destination

    def _claim_past_crowds(self, claim: Callable[[int], int], calls: int) -> int:
        """Claim again while rows were in the way whose destinations have no place, so that others have theirs."""
        taken, known = 0, -1
        while taken < calls and len(self._crowded) > known:
            known = len(self._crowded)
            taken += claim(calls - taken)
            if not self._looks_past:
                self._looks_again |= bool(self._crowded)
                break
        return taken

    def _claim_runs(self, free: int) -> tuple[int, bool]:
        """Take up runs that wait, in up to half of the free places: how many, and whether there may be more."""
        if monotonic() < self._lookout.runs_at:
            return 0, False
        self._is_turn_of_retries = not self._is_turn_of_retries
        share = (free + self._is_turn_of_retries) // 2
        taken = self._claim_past_crowds(partial(self.claim, claim_due_runs), share)
        if share:
            self._lookout.after_runs(monotonic(), are_some=taken > 0 or self._looks_again)
        return taken, taken == share

    def _claim_long_late_slots(self, calls: int) -> int:
        plans = plan_long_late_slots(self._engine, self._room(calls))
        if not plans:
            return 0
        return self.claim(lambda connection, room: claim_long_late_slots(connection, plans, room), calls)

    def _room(self, calls: int) -> Room:
        unsettled = self._held.unsettled()
        return Room(
            calls=calls,
            per_destination=self._limits.per_destination,
            in_flight=self._held.calls.copy(),
            payload_bytes=PAYLOAD_BYTES - self._held.payload_bytes,
            max_timeout_seconds=int(self._ends_at - monotonic() - SPARE_SECONDS),
            has_last_chance=not any(run.is_last_chance for run in unsettled),
            held=[run.id for run in unsettled],
            crowded=self._crowded,
            ledger=Ledger(self._limits.rates, self._spent.closed(monotonic())),
        )

    def _look_ahead(self, *, gets_anywhere: bool) -> None:
        """Find out when the next slot or retry is due."""
        seconds_left = self._ends_at - monotonic() - SPARE_SECONDS
        with transaction(self._engine) as connection:
            slot_seconds, retry_seconds = seconds_until_next(connection, seconds_left)
        opens_at = self._spent.opens_at()
        self._lookout.found(
            monotonic(), slot_seconds, retry_seconds, gets_anywhere=gets_anywhere, opens_at=opens_at
        )
