"""A webhook receiver in a process of its own that writes each call down before it reads on or answers.

The path says how it behaves:

    /ok        answers 200                  /fail      answers 500; /fail/2 to the first two attempts of a run
    /slow      answers 200 after 0.2 s
    /gone      answers 410                  /hang      never answers
    /hold      answers 200 once release() was called; /hold/2 from the second attempt of a run on
    /random/9  answers 200, but to 9 in 1,000 attempts as a receiver does that is ill: 500, 429, or it hangs up

A call counts as received as soon as its headers are there, even if its body never comes.
"""

import asyncio
import json
import multiprocessing.connection
import os
import time
import zlib
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Self
from uuid import UUID

from db.child_process import wait_until
from tests.faults.processes import PROCESSES

SLOW_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Call:
    """One call as it was received; `run_id` is its webhook-id."""

    at: datetime
    task_id: UUID
    run_id: UUID
    attempt: int
    path: str


class DurableReceiver:
    """Listens on `destinations` ports of 127.0.0.1; use as a context manager."""

    def __init__(self, directory: Path, destinations: int = 1) -> None:
        self.record = directory / "calls"
        self._release = directory / "release"
        self.record.touch()
        self._ports, ports = PROCESSES.Pipe(duplex=False)
        self._process = PROCESSES.Process(
            target=serve, args=(self.record, self._release, destinations, ports)
        )

    def __enter__(self) -> Self:
        self._process.start()
        self.urls = [f"http://127.0.0.1:{port}" for port in self._ports.recv()]
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.join()
        self._process.close()
        self._ports.close()

    def calls(self) -> list[Call]:
        """All calls, in the order in which they came."""
        return [call_of(line) for line in self.record.read_bytes().splitlines()]

    def wait_for(self, number: int, seconds: float = 20) -> list[Call]:
        assert wait_until(lambda: len(self.calls()) >= number, seconds), (
            f"{len(self.calls())} of {number} calls after {seconds} s"
        )
        return self.calls()

    def release(self) -> None:
        """Answer what is held, and hold no more."""
        self._release.touch()


def call_of(line: bytes) -> Call:
    at, task_id, run_id, attempt, path = json.loads(line)
    return Call(datetime.fromtimestamp(at, UTC), UUID(task_id), UUID(run_id), attempt, path)


def serve(
    record: Path, release: Path, destinations: int, ports: multiprocessing.connection.Connection
) -> None:
    """The receiver's process."""
    asyncio.run(Book(record, release).serve(destinations, ports))


class Book:
    """The record, and the calls whose answer is held back."""

    def __init__(self, record: Path, release: Path) -> None:
        self._record = os.open(record, os.O_WRONLY | os.O_APPEND)
        self._release = release
        self._held: list[Connection] = []

    async def serve(self, destinations: int, ports: multiprocessing.connection.Connection) -> None:
        loop = asyncio.get_running_loop()
        servers = [
            await loop.create_server(lambda: Connection(self), "127.0.0.1", 0, backlog=1024)
            for _ in range(destinations)
        ]
        ports.send([server.sockets[0].getsockname()[1] for server in servers])
        parent = os.getppid()
        while os.getppid() == parent:
            await asyncio.sleep(0.02)
            if self._held and self._release.exists():
                for connection in self._held:
                    connection.answer(200)
                self._held.clear()

    def write(self, headers: dict[str, str], path: str) -> None:
        call = (
            time.time(),
            headers["x-insignia-task-id"],
            headers["webhook-id"],
            int(headers["x-insignia-attempt"]),
            path,
        )
        os.write(self._record, json.dumps(call).encode() + b"\n")

    def answer(self, connection: "Connection", path: str, headers: dict[str, str]) -> None:
        attempt = int(headers["x-insignia-attempt"])
        match path.split("/")[1:]:
            case ["ok", *_]:
                connection.answer(200)
            case ["slow"]:
                asyncio.get_running_loop().call_later(SLOW_SECONDS, connection.answer, 200)
            case ["fail"]:
                connection.answer(500)
            case ["fail", times]:
                connection.answer(500 if attempt <= int(times) else 200)
            case ["gone"]:
                connection.answer(410)
            case ["hold", first] if attempt < int(first):
                connection.answer(200)
            case ["hold", *_]:
                self._held.append(connection)
            case ["hang"]:
                pass
            case ["random", share]:
                connection.answer_at_random(f"{headers['webhook-id']}/{attempt}", int(share))
            case _:
                raise ValueError(path)


class Connection(asyncio.Protocol):
    """One HTTP/1.1 connection, kept alive; bodies have a Content-Length."""

    def __init__(self, book: Book) -> None:
        self._book = book
        self._read = b""
        self._head: tuple[str, dict[str, str]] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._read += data
        while True:
            if self._head is None:
                head, end_of_head, rest = self._read.partition(b"\r\n\r\n")
                if not end_of_head:
                    return
                request, *lines = head.decode().split("\r\n")
                headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
                self._head, self._read = (request.split(" ")[1], headers), rest
                self._book.write(headers, self._head[0])
            path, headers = self._head
            length = int(headers.get("content-length", 0))
            if len(self._read) < length:
                return
            self._head, self._read = None, self._read[length:]
            self._book.answer(self, path, headers)

    def answer(self, status: int, headers: str = "") -> None:
        self._transport.write(f"HTTP/1.1 {status} Status\r\n{headers}Content-Length: 2\r\n\r\nok".encode())

    def answer_at_random(self, of: str, share: int) -> None:
        """Random, but always the same for the same attempt."""
        kind, number = divmod(zlib.crc32(of.encode()), 1_000)
        if number >= share:
            self.answer(200)
        elif kind % 10 == 0:
            self.answer(429, "Retry-After: 3\r\n")
        elif kind % 2:
            self.answer(500)
        else:
            self._transport.abort()
