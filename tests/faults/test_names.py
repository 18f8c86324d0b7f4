"""A resolver that never answers: the calls to all other hosts, and the end of a tick, are not held up.

The child has a resolv.conf and a hosts file of its own, in a mount namespace; the resolver is a socket on loopback.
"""

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from domain.attempt import Attempt
from functions.delivery import Deliveries
from tests.receiver import Receiver
from tests.unit.test_delivery import LOOPBACK, call

REPOSITORY = Path(__file__).parents[2]
RESOLVER = "127.0.0.99"
SILENT, HEALTHY, TIMEOUT_SECONDS = 30, 10, 2
IN_A_NAMESPACE = 'mount --bind "$1" /etc/resolv.conf && mount --bind "$2" /etc/hosts && shift 2 && exec "$@"'


@pytest.fixture
def silent_resolver() -> Iterator[None]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        try:
            listener.bind((RESOLVER, 53))
            subprocess.run(["unshare", "--mount", "true"], check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError) as error:
            pytest.skip(f"needs root on Linux, for port 53 and a mount namespace: {error}")
        yield


def test_names_that_get_no_answer_hold_up_nobody(silent_resolver: None, tmp_path: Path) -> None:
    resolv_conf, hosts = tmp_path / "resolv.conf", tmp_path / "hosts"
    resolv_conf.write_text(f"nameserver {RESOLVER}\noptions timeout:20 attempts:1\n")
    hosts.write_text("".join(f"127.0.0.1 healthy-{number}.test\n" for number in range(HEALTHY)))
    with Receiver() as receiver:
        port = receiver.url.removesuffix("/").rpartition(":")[2].partition("/")[0]
        program = [sys.executable, "-m", "tests.faults.test_names", port]
        child = subprocess.run(
            ["unshare", "--mount", "sh", "-c", IN_A_NAMESPACE, "sh", str(resolv_conf), str(hosts), *program],
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert child.returncode == 0, child.stderr
    said = json.loads(child.stdout)
    assert len(receiver.requests) == HEALTHY
    assert said["healthy"] == ["success"] * HEALTHY
    assert said["silent"] == ["timeout"] * SILENT
    assert max(said["healthy_ms"]) < TIMEOUT_SECONDS * 1000 / 2
    assert max(said["silent_ms"]) <= TIMEOUT_SECONDS * 1000 + 500
    assert said["closing_seconds"] < 1


def main(port: str) -> None:
    """What runs in the namespace: silent names first, then healthy ones."""
    names = [f"silent-{number}" for number in range(SILENT)] + [f"healthy-{n}" for n in range(HEALTHY)]
    calls = {name: call(f"http://{name}.test:{port}/", timeout=TIMEOUT_SECONDS) for name in names}
    calls["healthy-0"] = call(f"http://healthy-0.test.:{port}/", timeout=TIMEOUT_SECONDS)  # the same host
    attempts: dict[str, Attempt | None] = {}
    with Deliveries(LOOPBACK) as deliveries:
        for one in calls.values():
            deliveries.start(one)
        while deliveries.in_flight:
            attempts |= {finished.call.id: finished.attempt for finished in deliveries.wait(1)}
        began = time.monotonic()
    said: dict[str, object] = {"closing_seconds": time.monotonic() - began}
    for kind in ("silent", "healthy"):
        of_kind = [attempts[one.id] for name, one in calls.items() if name.startswith(kind)]
        said[kind] = [str(attempt.error or "success") if attempt else "unsent" for attempt in of_kind]
        said[f"{kind}_ms"] = [attempt.duration_ms for attempt in of_kind if attempt]
    sys.stdout.write(json.dumps(said))


if __name__ == "__main__":
    main(sys.argv[1])
