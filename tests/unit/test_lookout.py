"""When a tick looks for what is due, and for what."""

import math

from functions.lookout import BATCH_SECONDS, PAUSE_SECONDS, Lookout

NOW = 1_000.0


def test_everything_is_looked_for_at_first() -> None:
    lookout = Lookout(NOW)
    assert (lookout.claims_at, lookout.retries_at, lookout.runs_at, lookout.long_late_at) == (NOW,) * 4


def test_what_is_not_found_is_looked_for_again_after_half_a_second_only() -> None:
    lookout = Lookout(NOW)
    lookout.after_runs(NOW, are_some=False)
    lookout.found(NOW, 30, math.inf)
    assert lookout.runs_at == lookout.long_late_at == NOW + PAUSE_SECONDS
    lookout.after_runs(NOW + 1, are_some=True)
    assert lookout.runs_at == NOW + 1


def test_slots_that_are_an_hour_late_are_looked_for_as_long_as_there_are_any() -> None:
    lookout = Lookout(NOW)
    lookout.found(NOW, -3_601, math.inf, gets_anywhere=False)
    assert lookout.long_late_at == NOW


def test_a_retry_that_is_known_is_looked_for_when_it_is_due() -> None:
    lookout = Lookout(NOW)
    lookout.after_runs(NOW, are_some=False)
    lookout.found(NOW, math.inf, math.inf)
    lookout.expect_retry(NOW + 0.2)
    assert lookout.claims_at == lookout.retries_at == lookout.runs_at == NOW + 0.2


def test_a_retry_of_another_tick_is_looked_for_when_it_is_due() -> None:
    lookout = Lookout(NOW)
    lookout.after_runs(NOW, are_some=False)
    lookout.found(NOW, math.inf, 0.3)
    assert lookout.claims_at == lookout.retries_at == lookout.runs_at == NOW + 0.3


def test_what_waits_for_full_destinations_is_looked_for_every_half_second_and_after_calls_that_end() -> None:
    lookout = Lookout(NOW)
    lookout.after_look_past(NOW)
    lookout.found(NOW, -1, math.inf, gets_anywhere=False)
    assert lookout.are_slots_waiting
    assert lookout.claims_at == NOW + PAUSE_SECONDS
    lookout.after_settle(NOW, was_last_chance=False)
    assert lookout.claims_at == NOW + PAUSE_SECONDS
    lookout.after_calls(NOW)
    lookout.after_calls(NOW + 0.01)
    assert lookout.claims_at == NOW + BATCH_SECONDS


def test_retries_that_wait_for_full_destinations_are_looked_for_every_half_second_or_with_freed_places() -> (
    None
):
    lookout = Lookout(NOW)
    lookout.after_runs(NOW, are_some=False)
    lookout.after_look_past(NOW)
    lookout.found(NOW, math.inf, -1, gets_anywhere=False, has_calls=True)
    assert lookout.claims_at == lookout.retries_at == NOW + PAUSE_SECONDS
    lookout.after_calls(NOW)
    assert lookout.claims_at == lookout.runs_at == NOW + BATCH_SECONDS


def test_a_tick_goes_on_until_it_has_looked_past_the_rows_of_full_destinations() -> None:
    lookout = Lookout(NOW)
    lookout.after_runs(NOW, are_some=False)
    lookout.after_look_past(NOW)
    lookout.found(NOW, -1, math.inf)
    lookout.found_as_many_as_have_places(NOW + 0.3)
    assert lookout.claims_at == lookout.retries_at == NOW + PAUSE_SECONDS


def test_a_retry_that_cannot_be_taken_is_looked_for_soon_only_while_calls_are_in_flight() -> None:
    lookout = Lookout(NOW)
    lookout.after_runs(NOW, are_some=False)
    lookout.found(NOW, math.inf, -1, gets_anywhere=False, has_calls=True)
    assert lookout.claims_at == lookout.retries_at == lookout.runs_at == NOW + BATCH_SECONDS
    lookout.after_runs(NOW, are_some=False)
    lookout.found(NOW, math.inf, -1, gets_anywhere=False)
    assert lookout.claims_at == lookout.retries_at == lookout.runs_at == NOW + PAUSE_SECONDS


def test_what_somebody_else_was_claiming_for_is_looked_for_soon() -> None:
    lookout = Lookout(NOW)
    lookout.after_look_past(NOW)
    lookout.after_contention(NOW)
    lookout.found(NOW, -1, math.inf)
    assert lookout.claims_at == NOW + BATCH_SECONDS


def test_contention_at_each_claim_does_not_put_off_what_is_due_for_full_destinations() -> None:
    lookout = Lookout(NOW)
    lookout.after_look_past(NOW)
    for n in range(20):
        lookout.after_contention(NOW + n * 0.04)
    assert lookout.past_crowds_at == NOW + BATCH_SECONDS


def test_a_claim_between_two_looks_past_full_destinations_is_not_the_last() -> None:
    lookout = Lookout(NOW)
    lookout.after_look_past(NOW)
    lookout.found(NOW + 0.1, -1, math.inf, gets_anywhere=False, has_calls=True)
    assert lookout.retries_at == math.inf
    lookout.go_on_past_crowds()
    assert lookout.claims_at == lookout.retries_at == NOW + PAUSE_SECONDS
    lookout.found(NOW + 0.1, 30, math.inf, gets_anywhere=False)
    lookout.go_on_past_crowds()
    assert lookout.retries_at == math.inf


def test_slots_that_wait_for_the_end_of_a_run_are_looked_for_when_runs_have_ended() -> None:
    lookout = Lookout(NOW)
    lookout.found(NOW, -1, math.inf)
    lookout.after_settle(NOW, was_last_chance=False)
    assert lookout.claims_at == lookout.retries_at == NOW


def test_results_hurry_nothing_when_no_slot_waits() -> None:
    lookout = Lookout(NOW)
    lookout.found(NOW, 30, math.inf)
    lookout.after_settle(NOW, was_last_chance=False)
    assert lookout.claims_at == NOW + 30


def test_a_last_chance_that_has_ended_lets_the_next_one_be_looked_for() -> None:
    lookout = Lookout(NOW)
    lookout.after_runs(NOW, are_some=False)
    lookout.found(NOW, math.inf, math.inf, gets_anywhere=False)
    lookout.after_settle(NOW, was_last_chance=True)
    assert lookout.claims_at == lookout.retries_at == lookout.runs_at == NOW


def test_a_tick_that_makes_one_attempt_looks_for_nothing() -> None:
    lookout = Lookout(NOW)
    lookout.never()
    assert lookout.claims_at == math.inf


def test_what_waits_for_a_rate_is_looked_for_when_that_opens() -> None:
    lookout = Lookout(NOW)
    lookout.after_runs(NOW, are_some=False)
    lookout.found(NOW, -1, math.inf, gets_anywhere=False, opens_at=NOW + 0.2)
    assert lookout.claims_at == lookout.retries_at == lookout.runs_at == NOW + 0.2


def test_a_tick_goes_on_for_a_rate_that_opens_later_and_meanwhile_looks_every_half_second() -> None:
    lookout = Lookout(NOW)
    lookout.after_runs(NOW, are_some=False)
    lookout.found(NOW, -1, -1, gets_anywhere=False, opens_at=NOW + 2)
    assert lookout.claims_at == NOW + PAUSE_SECONDS
    lookout.found(NOW, -1, math.inf, gets_anywhere=False, opens_at=NOW + 2)
    assert (lookout.claims_at, lookout.retries_at) == (NOW + PAUSE_SECONDS, NOW + 2)
    assert lookout.runs_at == NOW + PAUSE_SECONDS


def test_a_rate_that_is_used_up_delays_no_slot_and_no_retry_of_others() -> None:
    lookout = Lookout(NOW)
    lookout.found(NOW, 0.3, 0.1, gets_anywhere=False, opens_at=NOW + 2)
    assert (lookout.claims_at, lookout.retries_at) == (NOW + 0.1, NOW + 0.1)
    lookout.found(NOW, 0.3, math.inf, gets_anywhere=False, opens_at=NOW + 2)
    assert lookout.claims_at == NOW + 0.3


def test_a_worker_goes_on_for_no_rate() -> None:
    lookout = Lookout(NOW, waits_for_rates=False)
    lookout.found(NOW, -1, math.inf, gets_anywhere=False, opens_at=NOW + 2)
    assert (lookout.claims_at, lookout.retries_at) == (NOW + PAUSE_SECONDS, math.inf)
