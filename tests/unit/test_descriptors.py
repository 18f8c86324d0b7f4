"""Calls that get no file descriptor have not failed. In processes of their own, with real limits."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from domain.task import Method
from functions import bootstrap, descriptors
from functions.delivery import Deliveries
from tests.bench.certificates import make_certificates
from tests.keepalive_receiver import KeepaliveReceiver
from tests.unit.test_delivery import LOOPBACK, call

ROOT = Path(__file__).parents[2]
LIMIT = 64
CALLS = 100

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limit")


def in_a_child(*arguments: str) -> Any:
    child = subprocess.run(
        [sys.executable, "-m", __name__, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert child.returncode == 0, child.stderr
    return json.loads(child.stdout)


def test_a_process_raises_its_limit_to_what_it_needs_and_never_lowers_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    limits = in_a_child("limits")
    wanted = min(limits["hard"], descriptors.MOST)
    assert (limits["raised"], limits["kept"]) == (wanted, limits["hard"])


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_call_for_which_no_descriptor_is_left_is_not_sent_and_has_not_failed(host: str) -> None:
    with KeepaliveReceiver() as receiver:
        outcomes = in_a_child("none_left", receiver.urls[0].replace("127.0.0.1", host))
    assert outcomes == {"none left": "not sent", "some left": "success"}


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_of_more_calls_than_descriptors_those_that_get_one_are_made(scheme: str, tmp_path: Path) -> None:
    authority, certificate = make_certificates(tmp_path, hosts=0)
    with KeepaliveReceiver(certificate=certificate if scheme == "https" else None) as receiver:
        outcomes = in_a_child("many", receiver.urls[0], str(authority))
    assert set(outcomes) == {"success", "not sent"}
    assert outcomes["success"] + outcomes["not sent"] == CALLS


def test_a_descriptor_that_cannot_be_duplicated_is_none() -> None:
    """pycurl hands a duplicate to libcurl."""
    with KeepaliveReceiver() as receiver:
        assert in_a_child("one_left", receiver.urls[0]) == {"one left": "not sent"}


def test_without_a_descriptor_for_the_trusted_certificates_a_call_has_not_failed(tmp_path: Path) -> None:
    authority, certificate = make_certificates(tmp_path, hosts=0)
    with KeepaliveReceiver(certificate=certificate) as receiver:
        outcomes = in_a_child("no_certificates", receiver.urls[0], str(authority))
    assert outcomes == {"connected": "not sent"}


def outcomes_of(deliveries: Deliveries, url: str, calls: int = 1) -> list[str]:
    for _ in range(calls):
        deliveries.start(call(url, method=Method.GET, body=None, timeout=20))
    finished = []
    while deliveries.in_flight:
        finished += deliveries.wait(1)
    return ["not sent" if one.attempt is None else one.attempt.error or "success" for one in finished]


def child(story: str, url: str = "", authority: str = "") -> dict[str, Any]:
    import os
    import resource

    import certifi

    def limit(files: int) -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))

    def use_up() -> list[int]:
        taken = []
        while True:
            try:
                taken.append(os.open(os.devnull, os.O_RDONLY))
            except OSError:
                return taken

    def soft() -> int:
        return resource.getrlimit(resource.RLIMIT_NOFILE)[0]

    if authority:
        certifi.where = lambda: authority
    if url:
        with Deliveries(LOOPBACK) as deliveries:  # what is loaded for a first call needs descriptors, too
            outcomes_of(deliveries, url)
    limit(LIMIT)
    if story == "limits":
        bootstrap.start()
        raised = soft()
        limit(resource.getrlimit(resource.RLIMIT_NOFILE)[1])
        bootstrap.start()
        return {"raised": raised, "kept": soft(), "hard": resource.getrlimit(resource.RLIMIT_NOFILE)[1]}
    with Deliveries(LOOPBACK) as deliveries:
        if story == "many":
            outcomes = outcomes_of(deliveries, url, CALLS)
            return {one: outcomes.count(one) for one in outcomes}
        if story == "no_certificates":
            deliveries.start(call(url, timeout=20))
            assert deliveries.wait(0) == []  # it connects
            use_up()
            return {"connected": outcomes_of(deliveries, url, 0)[0]}
        taken = use_up()
        if story == "one_left":
            os.close(taken.pop())
            return {"one left": outcomes_of(deliveries, url)[0]}
        none_left = outcomes_of(deliveries, url)[0]
        for one in taken:
            os.close(one)
        return {"none left": none_left, "some left": outcomes_of(deliveries, url)[0]}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(child(*sys.argv[1:])))
