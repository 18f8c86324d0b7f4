"""The receiver of the benchmark: one process on all addresses of this machine, over HTTP or HTTPS.

`python -m tests.bench.receiver DELAY [CERTIFICATE_AND_KEY]` answers each request after DELAY seconds. It prints its
port; then, for each line of standard input, the arrivals since the last: [number, instant of the monotonic clock].
A webhook has arrived when its request is complete.
"""

import asyncio
import json
import re
import ssl
import sys
import time

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok"
CONTENT_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)

arrivals: list[tuple[int, float]] = []


class Connection(asyncio.Protocol):
    """One HTTP/1.1 connection, kept alive, with requests for /hooks/<number>, one after the other."""

    def __init__(self, delay_seconds: float) -> None:
        self._delay_seconds = delay_seconds
        self._read = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._read += data
        while (end_of_head := self._read.find(b"\r\n\r\n")) >= 0:
            head = self._read[:end_of_head]
            length = CONTENT_LENGTH.search(head)
            end = end_of_head + 4 + (int(length[1]) if length else 0)
            if len(self._read) < end:
                return
            arrivals.append((int(head.split(b" ", 2)[1].rpartition(b"/")[2]), time.monotonic()))
            self._read = self._read[end:]
            if self._delay_seconds:
                asyncio.get_running_loop().call_later(self._delay_seconds, self._transport.write, ANSWER)
            else:
                self._transport.write(ANSWER)


async def serve(delay_seconds: float, certificate: str | None) -> None:
    loop = asyncio.get_running_loop()
    context = None
    if certificate:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate)
    server = await loop.create_server(
        lambda: Connection(delay_seconds), "0.0.0.0", 0, backlog=4096, ssl=context
    )
    print(json.dumps(server.sockets[0].getsockname()[1]), flush=True)
    while await loop.run_in_executor(None, sys.stdin.readline):
        print(json.dumps(arrivals), flush=True)
        arrivals.clear()


if __name__ == "__main__":
    asyncio.run(serve(float(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else None))
