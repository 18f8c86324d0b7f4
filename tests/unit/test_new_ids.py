from uuid import RFC_4122, UUID

from db.new_ids import new_ids


def test_new_ids_are_uuids_of_version_4_and_no_two_are_the_same() -> None:
    made = list(new_ids(1_000))
    parsed = [UUID(one) for one in made]
    assert [str(one) for one in parsed] == made
    assert {(one.version, one.variant) for one in parsed} == {(4, RFC_4122)}
    assert len({*made}) == 1_000
    assert {one.hex[16] for one in parsed} == {*"89ab"}
