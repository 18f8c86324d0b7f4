"""What a tick knows of rates that are used up."""

import math

from functions.spent_rates import SpentRates


def test_a_target_is_closed_until_its_rate_opens_and_then_forgotten() -> None:
    spent = SpentRates()
    assert spent.opens_at() == math.inf
    spent.learn(100, {"https://example.com:443": 2, "https://example.com:443/hook": 1})
    assert spent.opens_at() == 101
    assert spent.closed(100.9) == ["https://example.com:443", "https://example.com:443/hook"]
    assert spent.closed(101) == ["https://example.com:443"]
    spent.forget_open(101)
    assert spent.opens_at() == 102
    spent.forget_open(102)
    assert (spent.closed(102), spent.opens_at()) == ([], math.inf)


def test_what_opens_during_a_look_is_looked_for_again() -> None:
    spent = SpentRates()
    spent.learn(100, {"https://example.com:443": 0.05})
    assert (spent.closed(101), spent.opens_at()) == ([], 100.05)


def test_the_last_word_on_a_target_counts() -> None:
    spent = SpentRates()
    spent.learn(100, {"https://example.com:443": 2})
    spent.learn(101, {"https://example.com:443": 3})
    assert spent.opens_at() == 104
