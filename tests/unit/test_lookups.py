"""Which calls may look up their host."""

from functions.lookups import MAX_LOOKUPS, MAX_SLOW_LOOKUPS, Lookups


def test_only_so_many_unknown_hosts_are_looked_up_at_once() -> None:
    lookups = Lookups()
    begun = [lookups.begin(f"{number}.example.com") for number in range(MAX_LOOKUPS + 2)]
    assert begun == [True] * MAX_LOOKUPS + [False] * 2
    lookups.resolved("0.example.com")
    assert lookups.begin("another.example.com")


def test_a_host_is_looked_up_once_and_is_known_then() -> None:
    lookups = Lookups()
    assert lookups.begin("hooks.example.com")
    assert not lookups.begin("hooks.example.com")
    lookups.resolved("hooks.example.com")
    assert lookups.begin("hooks.example.com")
    assert lookups.begin("hooks.example.com")


def test_an_address_needs_no_look_up() -> None:
    lookups = Lookups()
    for number in range(MAX_LOOKUPS):
        lookups.begin(f"{number}.example.com")
    assert lookups.begin("127.0.0.1")
    assert lookups.begin("::1")


def test_hosts_whose_last_look_up_got_no_answer_do_not_hold_up_the_others() -> None:
    lookups = Lookups()
    silent = [f"silent-{number}.example.com" for number in range(MAX_LOOKUPS)]
    for host in silent:
        assert lookups.begin(host)
        lookups.ended(host, timed_out=True)
    assert [lookups.begin(host) for host in silent] == [True] * MAX_SLOW_LOOKUPS + [False] * (
        MAX_LOOKUPS - MAX_SLOW_LOOKUPS
    )
    assert lookups.begin("healthy.example.com")


def test_a_failed_look_up_frees_its_place() -> None:
    lookups = Lookups()
    assert lookups.begin("name.invalid")
    lookups.ended("name.invalid", timed_out=False)
    assert lookups.begin("name.invalid")
