"""When a tick looks for what is due: at once while there is more, seldom for what it does not find."""

import math

from db.slot_claims import LONG_LATE

BATCH_SECONDS = 0.05
PAUSE_SECONDS = 0.5


class Lookout:
    """The next look, and which of the rarer things it is for; all instants are of the monotonic clock.

    Runs that wait, and slots that are hours late, are looked for by statements of their own. While they find
    nothing, they are asked every half second only, or when a run is known to have become due. Where destinations are
    full, what is due for them is gone through every half second only, for what is behind it and for places that others
    have left; in between, a claim takes what our own calls have left places for.
    """

    def __init__(self, now: float, *, waits_for_rates: bool = True) -> None:
        self.waits_for_rates = waits_for_rates
        self.claims_at = now
        self.retries_at = now
        """No retry is due before."""
        self.runs_at = now
        self.long_late_at = now
        self.is_more_due = False
        self.are_slots_waiting = False
        """For a place at their destination, or for the end of a run."""
        self.past_crowds_at = -math.inf
        """What is due for full destinations is not gone through before."""

    def never(self) -> None:
        """Nothing is looked for any more."""
        self.claims_at = math.inf

    def at_once(self, now: float) -> None:
        """Something may have become due just now, of whatever kind."""
        self.claims_at = self.retries_at = self.runs_at = now

    def after_fault(self, now: float) -> None:
        self.claims_at = self.retries_at = now + PAUSE_SECONDS
        self.is_more_due = False

    def after_runs(self, now: float, *, are_some: bool) -> None:
        self.runs_at = now if are_some else now + PAUSE_SECONDS

    def after_calls(self, now: float) -> None:
        """Places have become free for which something waits: others may within 50 ms."""
        self.claims_at = min(self.claims_at, now + BATCH_SECONDS)

    def after_settle(self, now: float, *, was_last_chance: bool) -> None:
        """Runs have ended, for which a slot may wait, or, for the end of one's last chance, another such run."""
        if was_last_chance:
            self.claims_at = self.retries_at = self.runs_at = now
        elif self.are_slots_waiting:
            self.retries_at = max(now, self.past_crowds_at)
            self.claims_at = min(self.claims_at, self.retries_at)

    def expect_retry(self, retry_at: float) -> None:
        self.retries_at = min(self.retries_at, retry_at)
        self.runs_at = min(self.runs_at, retry_at)
        self.claims_at = min(self.claims_at, retry_at)

    def no_crowd(self) -> None:
        """No destination is known to be full."""
        self.past_crowds_at = -math.inf

    def after_look_past(self, now: float) -> None:
        """Some destinations are full."""
        self.past_crowds_at = now + PAUSE_SECONDS

    def after_contention(self, now: float) -> None:
        """Somebody else was claiming just then for destinations that may have places."""
        self.past_crowds_at = min(self.past_crowds_at, now + BATCH_SECONDS)

    def go_on_past_crowds(self) -> None:
        """Do not end before the next look past what is due for full destinations."""
        if self.are_slots_waiting:
            self.retries_at = min(self.retries_at, self.past_crowds_at)

    def found_as_many_as_have_places(self, now: float) -> None:
        """There may be more, for which our calls that end open places, and it is known what else is due."""
        self.claims_at = max(now + BATCH_SECONDS, min(self.past_crowds_at, self.runs_at))
        self.retries_at = min(self.retries_at, self.claims_at)
        self.is_more_due = False
        self.are_slots_waiting = True

    def found_as_many_as_fit(self, now: float) -> None:
        """There may be more: it is looked for when a batch, or half of all calls, has room, at most 50 ms later."""
        self.claims_at = self.retries_at = now + BATCH_SECONDS
        self.is_more_due = True
        self.are_slots_waiting = False

    def found(
        self,
        now: float,
        slot_seconds: float,
        retry_seconds: float,
        *,
        gets_anywhere: bool = True,
        has_calls: bool = False,
        opens_at: float = math.inf,
    ) -> None:
        """There is room for more than was taken, and the next slot and retry are due in so many seconds.

        What is due and was not taken waits for a place or for the end of a run: it is looked for every 50 ms
        while calls are in flight, and after the last of them for as long as that gets anywhere. Then a slot is left to
        later ticks, and a retry, which somebody else may hold, is looked for every half second. At `opens_at` the
        first of the rates that are used up allows a call again: until then, what gets nowhere is looked for every
        half second.
        """
        soon = now + BATCH_SECONDS
        is_asked_seldom = not gets_anywhere and (opens_at < math.inf or not has_calls)
        again_at = max(soon, min(opens_at, now + PAUSE_SECONDS)) if is_asked_seldom else soon
        self.is_more_due = False
        self.are_slots_waiting = slot_seconds <= 0
        past_crowds_at = max(again_at, self.past_crowds_at)
        self.retries_at = max(now + retry_seconds, soon) if retry_seconds > 0 else past_crowds_at
        if self.waits_for_rates:
            self.retries_at = min(self.retries_at, max(opens_at, soon))
        self.runs_at = min(self.runs_at, again_at if retry_seconds <= 0 else self.retries_at)
        slots_at = past_crowds_at if self.are_slots_waiting else max(now + slot_seconds, soon)
        self.claims_at = min(self.retries_at, slots_at)
        is_long_late = slot_seconds <= -LONG_LATE.total_seconds()
        self.long_late_at = now if is_long_late else now + PAUSE_SECONDS
        if self.are_slots_waiting and gets_anywhere:
            self.retries_at = self.claims_at
