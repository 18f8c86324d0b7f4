"""Which HTTP statuses are a success: a task's `success_statuses`, such as "200-299,304"."""

import re
from collections.abc import Iterable
from functools import lru_cache

from domain.errors import InvalidInput

DEFAULT = "200-299"
MAX_LENGTH = 100
MAX_ITEMS = 20

_STATUS = re.compile("[1-5][0-9]{2}")


@lru_cache
def parse_success_statuses(text: str) -> tuple[range, ...]:
    """The ranges of a list of statuses `a` and ranges `a-b`, each from 100 to 599; blanks around them are allowed.

    Raises InvalidInput.
    """
    if len(text) > MAX_LENGTH:
        raise InvalidInput(
            f"The success statuses have {len(text):,} characters; use at most {MAX_LENGTH}, with ranges in "
            "place of long lists."
        )
    items = [item.strip(" \t") for item in text.split(",")]
    if items == [""]:
        raise InvalidInput(f"The success statuses are empty; use {DEFAULT} or leave the field out.")
    if len(items) > MAX_ITEMS:
        raise InvalidInput(
            f"The success statuses have {len(items)} items; use at most {MAX_ITEMS}, with ranges in place of "
            "long lists."
        )
    return tuple(_item(item) for item in items)


def is_success(http_status: int, ranges: Iterable[range]) -> bool:
    """Whether the status is in one of the ranges."""
    for statuses in ranges:  # noqa: SIM110 (a generator costs more than the question, which is asked for each call)
        if http_status in statuses:
            return True
    return False


def _item(item: str) -> range:
    if not item:
        raise InvalidInput(
            "The success statuses have a comma with nothing beside it; remove the comma, as in 200-299,304."
        )
    first, dash, last = item.partition("-")
    if not re.fullmatch("[0-9]+", first) or (dash and not re.fullmatch("[0-9]+", last)):
        raise InvalidInput(
            f"Success status {item!a} is neither a number nor a range; use a list such as 200-299,304."
        )
    low, high = _status(first), _status(last if dash else first)
    if low > high:
        raise InvalidInput(f"Success status range {item} runs backwards; use {high}-{low}.")
    return range(low, high + 1)


def _status(text: str) -> int:
    if not _STATUS.fullmatch(text):
        raise InvalidInput(f"Success status {text} is out of range; use 100 to 599.")
    return int(text)
