"""Ids of runs and leases, for a whole batch at once."""

import os
from collections.abc import Iterator


def new_ids(number: int) -> Iterator[str]:
    """So many UUIDs in text (RFC 9562, version 4), by one call to the system, which takes longer than all the rest."""
    digits = os.urandom(16 * number).hex()
    for start in range(0, len(digits), 32):
        one = digits[start : start + 32]
        variant = "89ab"[int(one[16], 16) % 4]
        yield f"{one[:8]}-{one[8:12]}-4{one[13:16]}-{variant}{one[17:20]}-{one[20:]}"
