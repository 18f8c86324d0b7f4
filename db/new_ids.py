"""Ids of runs and leases, for a whole batch at once: UUIDs in text (RFC 9562).

Their bits come by one call to the system, which takes longer than all the rest.
"""

import os
from collections.abc import Iterator
from datetime import datetime


def new_ids(number: int) -> Iterator[str]:
    """Version 4: random."""
    for digits in random_digits(number):
        yield f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant(digits)}{digits[17:20]}-{digits[20:]}"


def new_run_ids(number: int, at: datetime) -> Iterator[str]:
    """Version 7: they begin with the millisecond, so that the logs of one time stand together in their index.

    Among a million logs, each random id is a page of the index that is read, and written to the WAL as a whole.
    """
    time = f"{int(at.timestamp() * 1_000):012x}"
    begin = f"{time[:8]}-{time[8:]}-7"
    for digits in random_digits(number):
        yield f"{begin}{digits[13:16]}-{variant(digits)}{digits[17:20]}-{digits[20:]}"


def random_digits(number: int) -> Iterator[str]:
    digits = os.urandom(16 * number).hex()
    return (digits[start : start + 32] for start in range(0, len(digits), 32))


def variant(digits: str) -> str:
    return "89ab"[int(digits[16], 16) % 4]
