"""Google's own emulator of Pub/Sub, and the hop that stands between it and the workers.

The emulator pushes two messages at a time, until these are answered, and without the identity token that the real
Pub/Sub sends. So the hop takes a message over at once, and adds a token, signed by what stands for Google's accounts.
It does what Cloud Run does: a worker gets one message at a time, and a message for which none is free is refused.
"""

import shutil
import signal
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Self

import pytest
import requests

from db.child_process import bound_to_parent, wait_until
from tests.acceptance.server import free_port
from tests.google_accounts import GoogleAccounts
from tests.receiver import Answer, Received, Receiver

PROJECT = "p1-example"
TOPIC = f"projects/{PROJECT}/topics/insignia-deliver"
SUBSCRIPTION = f"projects/{PROJECT}/subscriptions/insignia-deliver"
START_SECONDS = 60


def emulator_command() -> list[str]:
    """What starts the emulator; skips the test where there is none."""
    gcloud, java = shutil.which("gcloud"), shutil.which("java")
    if gcloud is None or java is None:
        pytest.skip("needs gcloud and java: https://cloud.google.com/pubsub/docs/emulator")
    program = Path(gcloud).resolve().parents[1] / "platform/pubsub-emulator/bin/cloud-pubsub-emulator"
    if not program.exists():
        pytest.skip("needs the emulator: `gcloud components install pubsub-emulator`")
    return ["/bin/sh", str(program)]


class Emulator:
    """A context manager; with the topic of workers, and no subscription."""

    def __init__(self, directory: Path) -> None:
        self.host = f"127.0.0.1:{(port := free_port())}"
        self._command = [*emulator_command(), "--host=127.0.0.1", f"--port={port}"]
        self._output = directory / "emulator"

    def __enter__(self) -> Self:
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(
                bound_to_parent(self._command, signal.SIGKILL), stdout=output, stderr=output
            )
        is_up = wait_until(self._answers, START_SECONDS)
        if not is_up:
            self.__exit__()
        assert is_up, self._output.read_text()
        self.put(TOPIC, {})
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    def put(self, name: str, body: object) -> None:
        requests.put(f"http://{self.host}/v1/{name}", json=body, timeout=30).raise_for_status()

    def push_to(self, url: str) -> None:
        """As terraform/workers.tf does."""
        requests.delete(f"http://{self.host}/v1/{SUBSCRIPTION}", timeout=30)
        push = {"pushEndpoint": url}
        self.put(SUBSCRIPTION, {"topic": TOPIC, "pushConfig": push, "ackDeadlineSeconds": 120})

    def _answers(self) -> bool:
        assert self._process.poll() is None, self._output.read_text()
        try:
            return requests.get(f"http://{self.host}", timeout=5).ok
        except requests.ConnectionError:
            return False


class Hop(Receiver):
    """A context manager. `is_lost` and `is_doubled` decide by the number of a message, from 0, in order of arrival."""

    def __init__(
        self,
        google: GoogleAccounts,
        workers: list[str],
        *,
        is_lost: Callable[[int], bool] = lambda _: False,
        is_doubled: Callable[[int], bool] = lambda _: False,
    ) -> None:
        super().__init__(self._forward)
        self.statuses: list[int] = []
        """What workers have answered; 0 for one that died."""

        self._google = google
        self.numbers: dict[str, int] = {}
        """The messages that have come, by their ids."""

        self.busy: set[str] = set()
        self._free = list(workers)
        self._is_lost, self._is_doubled = is_lost, is_doubled
        self._lock = threading.Lock()

    def _forward(self, pushed: Received) -> Answer:
        with self._lock:
            number = self.numbers.setdefault(pushed.json["message"]["messageId"], len(self.numbers))
        if self._is_lost(number):
            return 204, b""
        taken = [self._take_over(pushed) for _ in range(1 + self._is_doubled(number))]
        return 204 if any(taken) else 429, b""

    def _take_over(self, pushed: Received) -> bool:
        with self._lock:
            if not self._free:
                return False
            worker = self._free.pop(0)
            self.busy.add(worker)
        threading.Thread(target=self._wake, args=(worker, pushed)).start()
        return True

    def _wake(self, worker: str, pushed: Received) -> None:
        headers = {"Authorization": f"Bearer {self._google.identity_token(worker)}"}
        try:
            status = requests.post(
                f"{worker}/deliver", json=pushed.json, headers=headers, timeout=120
            ).status_code
        except requests.ConnectionError:
            status = 0
        with self._lock:
            self.statuses.append(status)
            self.busy.remove(worker)
            if status:
                self._free.append(worker)
