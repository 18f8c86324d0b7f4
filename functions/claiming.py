"""What a tick takes up, and how much at a time (docs/engine.md, Tick): retries and slots share the free places."""

from collections.abc import Callable, Mapping
from functools import partial

from db.backlog import seconds_until_next
from db.claiming import BATCH_ROWS, Claimed, Room
from db.destination_limits import Ledger
from db.engine import Connection, Engine, transaction
from db.run_claims import claim_due_runs
from db.slot_claims import claim_long_late_slots, claim_slots, plan_long_late_slots
from functions.held import HeldRuns
from functions.limits import CLAIM_BYTES, PAYLOAD_BYTES, SPARE_SECONDS, Limits
from functions.lookout import Lookout
from functions.notifications import Tell
from functions.spent_rates import SpentRates
from functions.transfer import monotonic


class Claiming:
    """The claims of a tick that ends at `ends_at`, by the monotonic clock.

    What a claim has written is passed to `prepare`, and to `start` as soon as it is committed, with the instant at
    which it began.
    """

    def __init__(
        self,
        engine: Engine,
        limits: Limits,
        lookout: Lookout,
        held: HeldRuns,
        *,
        ends_at: float,
        prepare: Callable[[Claimed], None],
        start: Callable[[Claimed, float], None],
        tell: Tell,
    ) -> None:
        self._engine = engine
        self._limits = limits
        self._lookout = lookout
        self._held = held
        self._ends_at = ends_at
        self._prepare = prepare
        self._start = start
        self._tell = tell
        self._crowded: set[str] = set()
        self._contended: set[str] = set()
        self._full: dict[str, int] = {}
        """How many calls of ours there were at each destination that was full, where something may wait for a place."""
        self._sought: set[str] | None = None
        """The destinations that the claim is for; None for all."""
        self._is_cut_short = False
        """The payloads of what is due were more than a claim takes, and there is memory for another."""
        self._spent = SpentRates()
        self._is_turn_of_retries = False

    def places(self) -> int:
        """How many have become free at destinations for which something waits."""
        return sum(self._freed().values())

    def take(self, free: int) -> None:
        """Take up retries and slots, if it is time to, at most `free`. Raises Unavailable.

        Where destinations are full, a claim is for the places that our own calls have left there since, and every
        half second for all that is due.
        """
        lookout, now, free = self._lookout, monotonic(), min(free, BATCH_ROWS)
        freed = self._freed()
        places = sum(freed.values())
        if places:
            lookout.after_calls(now)
        if not free or not (now >= lookout.claims_at or self._has_room_for_batch(free)):
            return
        full, self._full = self._full, {}
        looks_past = now >= lookout.past_crowds_at or not (places or lookout.is_more_due)
        is_for_places = not looks_past and not lookout.is_more_due
        calls = min(free, places) if is_for_places else free
        self._sought = {one for one in freed if freed[one]} if is_for_places else None
        self._crowded = set() if looks_past else {one for one in freed if not freed[one]}
        self._contended = set()
        self._is_cut_short = False
        self._spent.forget_open(now)
        taken = self._claim_all(calls)
        self._full = self._full_now(not_reached=full if taken == calls else {})
        if not self._full:
            lookout.no_crowd()
        elif looks_past:
            lookout.after_look_past(monotonic())
        if self._full and self._contended:
            lookout.after_contention(monotonic())
        if taken == free or self._is_cut_short:
            lookout.found_as_many_as_fit(monotonic())
        elif is_for_places and self._full:
            lookout.found_as_many_as_have_places(monotonic())
        else:
            self._look_ahead(gets_anywhere=taken > 0 or bool(self._contended))
            if self._full and not looks_past:
                lookout.go_on_past_crowds()

    def _freed(self) -> dict[str, int]:
        """The places that our own calls have left since their destinations were full."""
        return {one: max(most - self._held.calls[one], 0) for one, most in self._full.items()}

    def _full_now(self, not_reached: Mapping[str, int]) -> dict[str, int]:
        """After a claim: what it found full, what is, and what was and may still be."""
        calls = self._held.calls
        full = self._crowded - self._contended - self._spent.targets()
        full |= {one for one in calls if calls[one] >= self._limits.per_destination}
        return {one: max(not_reached[one], calls[one]) for one in not_reached} | {
            one: calls[one] for one in full
        }

    def _has_room_for_batch(self, free: int) -> bool:
        """Whether a batch fits, or half of all calls, or half of what a full destination had of ours."""
        if self._lookout.is_more_due and free >= min(self._limits.concurrency // 2, BATCH_ROWS):
            return True
        return any(most and 2 * self._held.calls[one] <= most for one, most in self._full.items())

    def claim(self, claim: Callable[[Connection, Room], Claimed], calls: int) -> int:
        """Claim at most so many calls and start them; how many rows the claim has dealt with."""
        room, began_at = self._room(calls), monotonic()
        with transaction(self._engine) as connection:
            claimed = claim(connection, room)
            self._tell(connection, claimed.changes)
            self._prepare(claimed)
        self._spent.learn(monotonic(), room.ledger.waits)
        self._contended |= room.contended
        self._start(claimed, began_at)
        if room.lacks_bytes and claimed.runs:
            self._is_cut_short = self._held.payload_bytes() <= PAYLOAD_BYTES - CLAIM_BYTES
        return claimed.taken

    def _claim_all(self, calls: int) -> int:
        """Claim of all kinds, together at most so many calls; how many rows were dealt with."""
        taken, are_more_runs = self._claim_runs(calls)
        taken += self._claim_past_crowds(partial(self.claim, claim_slots), calls - taken)
        if monotonic() >= self._lookout.long_late_at:
            taken += self._claim_past_crowds(self._claim_long_late_slots, calls - taken)
        if are_more_runs:
            taken += self._claim_past_crowds(partial(self.claim, claim_due_runs), calls - taken)
        return taken

    def _claim_past_crowds(self, claim: Callable[[int], int], calls: int) -> int:
        """Claim again while rows were in the way whose destinations have no place, so that others have theirs."""
        taken, known = 0, -1
        while taken < calls and len(self._crowded) > known and self._sought != set():
            known = len(self._crowded)
            taken += claim(calls - taken)
            if self._sought is not None:
                self._sought -= self._crowded
        return taken

    def _claim_runs(self, free: int) -> tuple[int, bool]:
        """Take up runs that wait, in up to half of the free places: how many, and whether there may be more."""
        if monotonic() < self._lookout.runs_at:
            return 0, False
        self._is_turn_of_retries = not self._is_turn_of_retries
        share = (free + self._is_turn_of_retries) // 2
        crowds = len(self._crowded)
        taken = self._claim_past_crowds(partial(self.claim, claim_due_runs), share)
        if share:
            self._lookout.after_runs(monotonic(), are_some=taken > 0 or len(self._crowded) > crowds)
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
            payload_bytes=min(CLAIM_BYTES, PAYLOAD_BYTES - self._held.payload_bytes()),
            max_timeout_seconds=int(self._ends_at - monotonic() - SPARE_SECONDS),
            has_last_chance=not any(run.is_last_chance for run in unsettled),
            held=[run.id for run in unsettled],
            crowded=self._crowded,
            ledger=Ledger(self._limits.rates, self._spent.closed(monotonic())),
        )

    def _look_ahead(self, *, gets_anywhere: bool) -> None:
        """Find out when the next slot or retry is due.

        What is due for a rate that is used up is no reason to look again before that opens; while looking gets
        somewhere, it is looked again soon anyway.
        """
        seconds_left = self._ends_at - monotonic() - SPARE_SECONDS
        spent = () if gets_anywhere else self._spent.closed(monotonic())
        with transaction(self._engine) as connection:
            slot_seconds, retry_seconds = seconds_until_next(connection, seconds_left, spent)
        self._lookout.found(
            monotonic(),
            slot_seconds,
            retry_seconds,
            gets_anywhere=gets_anywhere,
            has_calls=bool(self._held.in_flight),
            opens_at=self._spent.opens_at(),
        )
