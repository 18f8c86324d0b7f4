"""What a rate says, whom it is for, and when a call may begin."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import InvalidInput
from domain.rate import (
    SLACK_SECONDS,
    Rate,
    calls_left,
    destinations_of,
    held_again,
    held_ms,
    limit_of,
    parse_rates,
    rate_of,
    recent,
    wait_seconds,
)

FIVE_IN_TWO = Rate("example.com", each_url=False, calls=5, seconds=2)
HOOK = "https://hooks.example.com/services/a/b"
DESTINATION = "https://hooks.example.com:443"


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("discord.com/*=5/2s", Rate("discord.com", True, 5, 2)),
        ("Example.COM.=30/60s", Rate("example.com", False, 30, 60)),
        ("127.0.0.1:8080=1/1s", Rate("127.0.0.1:8080", False, 1, 1)),
        ("[::1]:80/*=1000/3600s", Rate("::1:80", True, 1000, 3600)),
        ("münchen.example=1/1s", Rate("xn--mnchen-3ya.example", False, 1, 1)),
    ],
)
def test_a_rate_is_read_and_written(text: str, rate: Rate) -> None:
    assert parse_rates(text) == (rate,)
    assert parse_rates(f" {text} ,, other.example=1/1s")[0] == rate


def test_none_is_no_rate_at_all() -> None:
    assert parse_rates("none") == parse_rates(" None ") == ()


@pytest.mark.parametrize(
    "text",
    [
        "example.com",
        "example.com=5",
        "example.com=5/2",
        "example.com=5/2m",
        "example.com=0/2s",
        "example.com=1001/2s",
        "example.com=5/0s",
        "example.com=5/3601s",
        "example.com/hook=5/2s",
        "example.com/=5/2s",
        "*=5/2s",
        "https://example.com=5/2s",
        "user@example.com=5/2s",
        "example.com:0=5/2s",
        "example.com=5/2s extra",
        "exa mple.com=5/2s",
    ],
)
def test_what_is_not_a_rate_is_named_with_what_is_expected(text: str) -> None:
    with pytest.raises(InvalidInput, match=r"expected a host, or host/\* for each URL of it apart") as error:
        parse_rates(f"discord.com/*=5/2s,{text}")
    assert str(error.value).startswith(f"has {text!r}")


def test_a_host_has_one_rate() -> None:
    with pytest.raises(InvalidInput, match=r"has 'example.com' twice"):
        parse_rates("example.com=5/2s,EXAMPLE.com/*=1/1s")


def test_the_rate_of_a_port_comes_before_that_of_its_host() -> None:
    rates = {rate.host: rate for rate in parse_rates("example.com=1/1s,example.com:8080=2/1s,[::1]=3/1s")}
    found = [
        rate_of(rates, destination)
        for destination in ("https://example.com:443", "http://example.com:8080", "http://::1:80")
    ]
    assert [rate and rate.calls for rate in found] == [1, 2, 3]
    assert rate_of(rates, "https://www.example.com:443") is None


def test_the_calls_of_a_host_count_together_by_whatever_scheme_and_port() -> None:
    (rate,) = parse_rates("hooks.example.com=5/2s")
    one = limit_of(rate, DESTINATION, HOOK)
    other = limit_of(rate, "http://hooks.example.com:80", "http://hooks.example.com/other")
    assert one.key == other.key == "hooks.example.com"
    assert (one.target, other.target) == (DESTINATION, "http://hooks.example.com:80")
    assert destinations_of([one.target, other.target]) == set()


def test_each_url_counts_apart_whatever_its_query() -> None:
    (rate,) = parse_rates("hooks.example.com/*=5/2s")
    one, same, root, bare, other = (
        limit_of(rate, DESTINATION, url)
        for url in (
            HOOK,
            f"{HOOK.upper().replace('/SERVICES/A/B', '/services/a/b')}?wait=true#top",
            "https://hooks.example.com/",
            "https://hooks.example.com?x=/y",
            f"{HOOK}/c",
        )
    )
    assert one == same
    assert root == bare
    assert len({one.key, root.key, other.key}) == 3
    assert one.target == f"{DESTINATION}/services/a/b"
    assert destinations_of([one.target, other.target]) == {DESTINATION}


def test_the_key_does_not_tell_the_url() -> None:
    (rate,) = parse_rates("hooks.example.com/*=5/2s")
    key = limit_of(rate, DESTINATION, HOOK).key
    assert key.startswith("hooks.example.com/")
    assert "services" not in key


def test_calls_begin_until_the_rate_is_used_up_and_again_when_its_window_is_over() -> None:
    grants = [(100.0, 3), (101.0, 2)]
    assert calls_left(recent(grants, FIVE_IN_TWO, 101.5), FIVE_IN_TWO) == 0
    assert wait_seconds(grants, FIVE_IN_TWO, 101.5) == pytest.approx(0.5 + SLACK_SECONDS)
    later = 102 + SLACK_SECONDS
    assert recent(grants, FIVE_IN_TWO, later) == [(101.0, 2)]
    assert calls_left(recent(grants, FIVE_IN_TWO, later), FIVE_IN_TWO) == 3


def test_a_rate_that_was_lowered_waits_until_enough_is_over() -> None:
    grants = [(100.0, 3), (101.0, 2), (101.5, 2)]
    two = Rate("example.com", False, 3, 2)
    assert calls_left(grants, two) == 0
    assert wait_seconds(grants, two, 101.5) == pytest.approx(1.5 + SLACK_SECONDS)


def test_a_clock_that_was_set_back_closes_nothing_for_longer_than_a_window() -> None:
    grants = recent([(5_000.0, 5)], FIVE_IN_TWO, 100.0)
    assert wait_seconds(grants, FIVE_IN_TWO, 100.0) == FIVE_IN_TWO.window_seconds


@pytest.mark.parametrize(
    ("due_at", "now", "ms"),
    [
        (90, 105, 5_000),
        (102, 105, 3_000),
        (90, 120, 10_000),
        (111, 120, 0),
        (90, 100, 0),
        (-1e9, 1e9, 10_000),
    ],
)
def test_a_call_was_held_back_for_as_long_as_it_was_due_meanwhile(due_at: float, now: float, ms: int) -> None:
    assert held_ms((100, 110), due_at, now) == ms
    assert held_ms((100, None), due_at, now) == max(min((now - max(due_at, 100)) * 1_000, 2**31 - 1), 0)


@given(
    rate=st.builds(
        Rate, st.just("h"), st.booleans(), st.integers(min_value=1, max_value=6), st.integers(1, 5)
    ),
    claims=st.lists(st.tuples(st.floats(0, 3), st.integers(1, 9)), max_size=20),
)
def test_no_window_ever_has_more_calls_than_the_rate_and_none_waits_in_vain(
    rate: Rate, claims: list[tuple[float, int]]
) -> None:
    now, grants, begun = 0.0, list[tuple[float, int]](), list[float]()
    for pause, wanted in claims:
        now += pause
        grants = list(recent(grants, rate, now))
        granted = min(wanted, calls_left(grants, rate))
        if granted:
            grants.append((now, granted))
            begun += [now] * granted
        wait = wait_seconds(grants, rate, now)
        assert (wait > 0) == (calls_left(grants, rate) == 0)
        assert wait <= rate.window_seconds + 1e-6
        soon = now + wait + 1e-6
        assert calls_left(recent(grants, rate, soon), rate) > 0
        if wait > 1e-3:
            assert calls_left(recent(grants, rate, now + wait - 1e-3), rate) == 0
    for first, last in zip(begun, begun[rate.calls :], strict=False):
        assert last - first >= rate.window_seconds - 1e-6


def test_what_is_held_back_again_within_a_minute_was_held_back_all_the_time() -> None:
    assert held_again((100, 110), 169) == (100, None)
    assert held_again((100, 110), 171) == (171, None)
    assert held_again(None, 171) == (171, None)
