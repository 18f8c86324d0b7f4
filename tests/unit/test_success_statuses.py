"""Which HTTP statuses a task takes for a success."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import InvalidInput
from domain.success_statuses import DEFAULT, MAX_ITEMS, MAX_LENGTH, is_success, parse_success_statuses

STATUSES = st.integers(100, 599)


def test_by_default_every_2xx_is_a_success_and_nothing_else() -> None:
    ranges = parse_success_statuses(DEFAULT)
    assert [status for status in range(100, 1000) if is_success(status, ranges)] == list(range(200, 300))


@pytest.mark.parametrize(
    ("text", "ranges"),
    [
        ("204", [(204, 204)]),
        ("200-299,304", [(200, 299), (304, 304)]),
        (" 200-299 ,\t304 ", [(200, 299), (304, 304)]),
        ("100-599", [(100, 599)]),
        ("404-404", [(404, 404)]),
        ("304,200-299,250", [(304, 304), (200, 299), (250, 250)]),
    ],
)
def test_a_list_has_statuses_and_ranges_with_both_ends_included(
    text: str, ranges: list[tuple[int, int]]
) -> None:
    assert [(span[0], span[-1]) for span in parse_success_statuses(text)] == ranges


@given(st.lists(st.tuples(STATUSES, STATUSES).map(sorted), min_size=1, max_size=12), STATUSES)
def test_a_status_is_a_success_when_one_of_the_ranges_has_it(spans: list[list[int]], status: int) -> None:
    text = ",".join(f"{low}-{high}" for low, high in spans)
    expected = any(low <= status <= high for low, high in spans)
    assert is_success(status, parse_success_statuses(text)) == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "are empty; use 200-299"),
        ("  ", "are empty"),
        (",", "comma with nothing beside it; remove the comma"),
        ("200,", "comma"),
        ("200,,204", "comma"),
        ("2xx", "'2xx' is neither a number nor a range; use a list such as 200-299,304"),
        ("200 204", "neither"),
        ("200;204", "neither"),
        ("200 - 299", "neither"),
        ("200-", "neither"),
        ("-299", "neither"),
        ("-", "neither"),
        ("200-250-299", "neither"),
        ("+200", "neither"),
        ("200.0", "neither"),
        ("2_00", "neither"),
        ("200\n", "neither"),
        ("٢٠٠", "neither"),
        ("²00", "neither"),
        ("\ud800", "neither"),
        ("99", "99 is out of range; use 100 to 599"),
        ("600", "600 is out of range"),
        ("0", "out of range"),
        ("0200", "out of range"),
        ("200-600", "600 is out of range"),
        ("9" * 100, "out of range"),
        ("299-200", "299-200 runs backwards; use 200-299"),
    ],
)
def test_a_list_that_breaks_a_rule_is_refused_with_advice(text: str, words: str) -> None:
    with pytest.raises(InvalidInput, match=words) as caught:
        parse_success_statuses(text)
    assert str(caught.value).endswith(".")
    assert str(caught.value).isascii()


def test_a_list_has_at_most_20_items() -> None:
    assert len(parse_success_statuses(",".join(["200"] * MAX_ITEMS))) == MAX_ITEMS
    with pytest.raises(InvalidInput, match="have 21 items; use at most 20"):
        parse_success_statuses(",".join(["200"] * (MAX_ITEMS + 1)))


def test_a_list_has_at_most_100_characters() -> None:
    assert parse_success_statuses("200".ljust(MAX_LENGTH))
    with pytest.raises(InvalidInput, match="have 101 characters; use at most 100"):
        parse_success_statuses("200".ljust(MAX_LENGTH + 1))


@given(st.text() | st.from_regex(r"[0-9, -]{1,30}", fullmatch=True))
def test_any_text_is_a_list_of_ranges_or_refused(text: str) -> None:
    try:
        ranges = parse_success_statuses(text)
    except InvalidInput:
        return
    assert all(100 <= span[0] <= span[-1] <= 599 for span in ranges)
