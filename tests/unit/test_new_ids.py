from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from uuid import RFC_4122, UUID

import pytest

from db.new_ids import new_ids, new_run_ids

AT = datetime(2026, 11, 30, 12, 0, 0, 123_456, tzinfo=UTC)


@pytest.mark.parametrize(("made", "version"), [(new_ids(1_000), 4), (new_run_ids(1_000, AT), 7)])
def test_new_ids_are_uuids_and_no_two_are_the_same(made: Iterable[str], version: int) -> None:
    made = list(made)
    parsed = [UUID(one) for one in made]
    assert [str(one) for one in parsed] == made
    assert {(one.version, one.variant) for one in parsed} == {(version, RFC_4122)}
    assert len({*made}) == 1_000
    assert {one.hex[16] for one in parsed} == {*"89ab"}


def test_ids_of_runs_begin_with_their_millisecond_and_end_at_random() -> None:
    (first, second), (later,) = new_run_ids(2, AT), new_run_ids(1, AT + timedelta(milliseconds=1))
    assert UUID(first).int >> 80 == int(AT.timestamp() * 1_000)
    assert max(first, second) < later
    assert first[15:] != second[15:], "samplers of traces go by the last bits"
