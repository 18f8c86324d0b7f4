"""The receivers of the benchmark: many addresses, one process that answers at once and notes the arrivals.

Prints its base URLs; then, for each line of standard input, the arrivals since the last: [number, instant]
of the monotonic clock. A webhook has arrived when its request is complete.
"""

import asyncio
import json
import re
import sys
import time

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok"
CONTENT_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)

arrivals: list[tuple[int, float]] = []


class Connection(asyncio.Protocol):
    """One HTTP/1.1 connection, kept alive, with requests for /hooks/<number>."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._read = b""

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
            self._transport.write(ANSWER)


async def serve(number: int) -> None:
    loop = asyncio.get_running_loop()
    urls = []
    for n in range(number):
        server = await loop.create_server(Connection, f"127.0.0.{n % 250 + 1}", 0, backlog=1024)
        address, port = server.sockets[0].getsockname()
        urls.append(f"http://{address}:{port}")
    print(json.dumps(urls), flush=True)
    while await loop.run_in_executor(None, sys.stdin.readline):
        print(json.dumps(arrivals), flush=True)
        arrivals.clear()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
