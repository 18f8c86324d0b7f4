"""How host names are looked up."""

import select
import socket
import threading
from collections.abc import Iterator, Mapping

import pytest

from functions import lookups
from functions.lookups import Lookups


@pytest.fixture
def looked_up() -> Iterator[Lookups]:
    found = Lookups()
    yield found
    found.close()


def answer(looked_up: Lookups) -> Mapping[str, bool]:
    assert select.select([looked_up.bell], [], [], 10)[0], "no answer within 10 s"
    return looked_up.collect()


def test_a_host_is_known_when_its_answer_has_come(looked_up: Lookups) -> None:
    assert looked_up.addresses("localhost") == ()
    assert looked_up.begin("localhost")
    assert answer(looked_up) == {}
    assert "127.0.0.1" in looked_up.addresses("localhost")


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_an_address_needs_no_look_up(looked_up: Lookups, address: str) -> None:
    assert looked_up.addresses(address) == (address,)


def test_a_host_that_cannot_be_resolved_is_told_once_and_may_be_tried_again(looked_up: Lookups) -> None:
    for _ in range(2):
        assert looked_up.begin("name.invalid")
        assert answer(looked_up) == {"name.invalid": True}
        assert looked_up.addresses("name.invalid") == ()
        assert looked_up.collect() == {}


def test_a_host_is_asked_for_once_and_only_so_many_are_looked_up_at_once(
    looked_up: Lookups, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, may_answer = [], threading.Event()

    def getaddrinfo(host: str, *_: object, **named: object) -> object:
        asked.append(host)
        may_answer.wait(10)
        raise socket.gaierror

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    monkeypatch.setattr(lookups, "MAX_LOOKUPS", 2)
    hosts = ["a.example.com", "a.example.com", "b.example.com", "c.example.com", "b.example.com"]
    assert [looked_up.begin(host) for host in hosts] == [True, True, True, False, True]
    may_answer.set()
    failed: set[str] = set()
    while len(failed) < 2:
        failed |= answer(looked_up).keys()
    assert sorted(asked) == ["a.example.com", "b.example.com"]
    assert looked_up.begin("c.example.com")


def test_a_host_is_looked_up_later_where_the_system_has_no_thread_left(
    looked_up: Lookups, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        assert not looked_up.begin("localhost")
    assert looked_up.begin("localhost")
    assert answer(looked_up) == {}
    assert looked_up.addresses("localhost")
