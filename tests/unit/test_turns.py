"""Calls to one host over HTTPS take turns on its connections, but wait for no slow host."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from domain.task import Method
from functions import delivery, turns
from functions.delivery import Deliveries
from functions.transfer import MAX_IDLE_SECONDS, Call, monotonic
from tests.bench.certificates import make_certificates
from tests.keepalive_receiver import KeepaliveReceiver
from tests.unit.test_delivery import LOOPBACK, call, finish_all, raw_server, resets

LONG = 60.0


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_certificates(tmp_path_factory.mktemp("certificates"), hosts=0)


@pytest.fixture
def deliveries(certificates: tuple[Path, Path]) -> Iterator[Deliveries]:
    with Deliveries(replace(LOOPBACK, authorities=certificates[0])) as one:
        yield one


def posts(url: str, number: int) -> list[Call]:
    return [call(url, body=b"", timeout=20) for _ in range(number)]


def test_calls_to_one_host_use_one_connection_where_it_answers_soon(
    deliveries: Deliveries, certificates: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "MAX_WAIT_SECONDS", LONG)
    with KeepaliveReceiver(2, certificate=certificates[1]) as receiver:
        calls = [one for url in receiver.urls for one in posts(url, 1 + turns.MAX_WAITING)]
        results = finish_all(deliveries, calls)
        assert all(result.succeeded for result in results.values())
    assert (len(results), receiver.requests, receiver.connections) == (10, 10, 2)


def test_a_crowd_does_not_wait_for_one_connection(
    deliveries: Deliveries, certificates: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "MAX_WAIT_SECONDS", LONG)
    with KeepaliveReceiver(certificate=certificates[1]) as receiver:
        results = finish_all(deliveries, posts(receiver.urls[0], 4 * (1 + turns.MAX_WAITING)))
        assert all(result.succeeded for result in results.values())
    assert (len(results), receiver.requests, receiver.connections) == (20, 20, 4)


def test_a_slow_host_is_not_waited_for(deliveries: Deliveries, certificates: tuple[Path, Path]) -> None:
    with KeepaliveReceiver(holds=True, certificate=certificates[1]) as receiver:
        for one in posts(receiver.urls[0], 20):
            deliveries.start(one)
        assert deliveries.in_flight == 20
        while receiver.requests < 20:
            assert deliveries.wait(0.01) == []
        receiver.release()
        finish_all(deliveries, posts(receiver.urls[0], 20))
    assert (receiver.requests, receiver.connections) == (40, 20)


def test_a_turn_passes_on_when_the_connection_is_closed(
    deliveries: Deliveries, certificates: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "MAX_WAIT_SECONDS", LONG)
    with KeepaliveReceiver(closes=True, certificate=certificates[1]) as receiver:
        results = finish_all(deliveries, posts(receiver.urls[0], 5))
        assert all(result.succeeded for result in results.values())
    assert (len(results), receiver.connections) == (5, 5)


def test_a_turn_passes_on_when_a_call_cannot_be_sent(
    deliveries: Deliveries, certificates: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "MAX_WAIT_SECONDS", LONG)
    with KeepaliveReceiver(certificate=certificates[1]) as receiver:
        good = posts(receiver.urls[0], 3)
        bad = [one._replace(headers={"X-Odd": "\ud800"}) for one in posts(receiver.urls[0], 2)]
        results = finish_all(deliveries, [good[0], *bad, good[1], good[2]])
    assert [results[one.id].error for one in good] == [None] * 3
    assert [results[one.id].error for one in bad] == ["protocol"] * 2


def test_a_turn_passes_on_when_a_call_fails(deliveries: Deliveries, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "MAX_WAIT_SECONDS", LONG)
    with raw_server(resets) as url:
        calls = posts(url.replace("http:", "https:"), 5)
        results = finish_all(deliveries, calls)
    assert [results[one.id].error for one in calls] == ["tls"] * 5


def test_a_wait_for_a_turn_does_not_count_for_the_deadline(
    deliveries: Deliveries, certificates: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "MAX_WAIT_SECONDS", LONG)
    with KeepaliveReceiver(holds=True, certificate=certificates[1]) as receiver:
        first, second = (one._replace(timeout_seconds=0.6) for one in posts(receiver.urls[0], 2))
        results = finish_all(deliveries, [first, second])
    assert (receiver.requests, [results[one.id].error for one in (first, second)]) == (2, ["timeout"] * 2)


def test_calls_that_wait_for_their_turn_were_not_sent(
    deliveries: Deliveries, certificates: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "MAX_WAIT_SECONDS", LONG)
    with KeepaliveReceiver(holds=True, certificate=certificates[1]) as receiver:
        calls = posts(receiver.urls[0], 3)
        for one in calls:
            deliveries.start(one)
        while not receiver.requests:
            assert deliveries.wait(0.01) == []
        assert deliveries.abandon() == {one.id for one in calls[1:]}
        assert deliveries.in_flight == 0
        receiver.release()
        assert all(one.succeeded for one in finish_all(deliveries, posts(receiver.urls[0], 3)).values())


def test_calls_without_a_body_have_a_connection_each(
    deliveries: Deliveries, certificates: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "MAX_WAIT_SECONDS", LONG)
    with KeepaliveReceiver(holds=True, certificate=certificates[1]) as receiver:
        for one in posts(receiver.urls[0], 3):
            deliveries.start(one._replace(method=Method.GET, body=None))
        while receiver.requests < 3:
            assert deliveries.wait(0.01) == []
    assert receiver.connections == 3


def test_a_process_that_was_frozen_does_not_send_what_waited_for_its_turn(
    deliveries: Deliveries, certificates: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    away = 0.0
    monkeypatch.setattr(turns, "MAX_WAIT_SECONDS", LONG)
    monkeypatch.setattr(delivery, "monotonic", lambda: monotonic() + away)
    with KeepaliveReceiver(holds=True, certificate=certificates[1]) as receiver:
        first, second = posts(receiver.urls[0], 2)
        deliveries.start(first)
        deliveries.start(second)
        while not receiver.requests:
            assert deliveries.wait(0.01) == []
        receiver.release()
        away = delivery.FROZEN_SECONDS + 1
        finished = []
        while deliveries.in_flight:
            finished += deliveries.wait(1)
        assert receiver.requests == 1
    assert [one.call for one in finished if one.attempt is None] == [second]


def test_a_connection_counts_as_free_only_for_as_long_as_libcurl_keeps_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 0.0
    monkeypatch.setattr(turns, "monotonic", lambda: now)
    some, calls = turns.Turns(), posts("https://hooks.example.com/", 3)

    def burst() -> list[bool]:
        return [some.take(one, now, ()) for one in calls]

    def end_all() -> None:
        nonlocal now
        now += turns.MAX_WAIT_SECONDS
        some.overdue()
        for one in calls:
            assert some.give_back(one, is_kept=True) is None

    assert burst() == [True, False, False]
    end_all()
    assert burst() == [True, True, True]
    end_all()
    now += MAX_IDLE_SECONDS + 0.1
    assert burst() == [True, False, False]
