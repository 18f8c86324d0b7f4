"""Ids of runs and leases, for a whole batch at once: UUIDs in text (RFC 9562).

Their bits come by one call to the system, which takes longer than all the rest.
"""

import os
from binascii import hexlify
from collections.abc import Iterator
from datetime import datetime
from struct import iter_unpack

OF_VERSION = {version: bytes(version << 4 | octet & 0x0F for octet in range(256)) for version in (4, 7)}
OF_VARIANT = bytes(0b10 << 6 | octet & 0x3F for octet in range(256))
"""What becomes of each octet that tells a version, or the variant, by bytes.translate."""


def new_ids(number: int) -> Iterator[str]:
    """Version 4: random."""
    return written(random_octets(number, version=4))


def new_run_ids(number: int, at: datetime) -> Iterator[str]:
    """Version 7: they begin with the millisecond, so that the logs of one time stand together in their index.

    Among a million logs, each random id is a page of the index that is read, and written to the WAL as a whole.
    """
    octets = random_octets(number, version=7)
    for place, octet in enumerate(int(at.timestamp() * 1_000).to_bytes(6, "big")):
        octets[place::16] = bytes([octet]) * number
    return written(octets)


def random_octets(number: int, *, version: int) -> bytearray:
    octets = bytearray(os.urandom(16 * number))
    octets[6::16] = octets[6::16].translate(OF_VERSION[version])
    octets[8::16] = octets[8::16].translate(OF_VARIANT)
    return octets


def written(octets: bytes | bytearray) -> Iterator[str]:
    return (b"-".join(parts).decode() for parts in iter_unpack("8s4s4s4s12s", hexlify(octets)))
