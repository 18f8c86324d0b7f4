"""A receiver on many ports of 127.0.0.1, which are as many hosts to libcurl, that counts connections."""

import asyncio
import ssl
import threading
from pathlib import Path
from typing import Self

HEAD_END = b"\r\n\r\n"


class KeepaliveReceiver:
    """Answers requests without a body, on one thread; use as a context manager.

    With `holds` answers wait for `release`; with `closes` they end the connection; `certificate` makes it speak TLS.
    """

    def __init__(
        self, hosts: int = 1, *, holds: bool = False, closes: bool = False, certificate: Path | None = None
    ) -> None:
        self.connections = 0
        self.resumed = 0
        self.requests = 0
        self.urls: list[str] = []
        self._hosts = hosts
        self._holds = holds
        self._answer = (
            b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n" + b"Connection: close\r\n" * closes + b"\r\n"
        )
        self._closes = closes
        self._certificate = certificate
        self._transports: list[asyncio.Transport] = []
        self._held: list[asyncio.Transport] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run)
        self._is_listening = threading.Event()

    def accepted(self, transport: asyncio.Transport) -> None:
        self.connections += 1
        self._transports.append(transport)
        tls = transport.get_extra_info("ssl_object")
        self.resumed += tls is not None and tls.session_reused

    def requested(self, transport: asyncio.Transport) -> None:
        self._held.append(transport)
        self.requests += 1
        if not self._holds:
            self._answer_held()

    def release(self) -> None:
        """Answer what has arrived; when this returns, the answers lie in the sockets of those who called."""

        async def answer() -> None:
            self._answer_held()

        self._holds = False
        asyncio.run_coroutine_threadsafe(answer(), self._loop).result(10)

    def _answer_held(self) -> None:
        for one in self._held:
            one.write(self._answer)
            if self._closes:
                one.close()
        self._held.clear()

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._is_listening.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            servers = runner.run(self._listen())
            self._is_listening.set()
            self._loop.run_forever()
            runner.run(self._close(servers))

    async def _close(self, servers: list[asyncio.Server]) -> None:
        for server in servers:
            server.close()
        for transport in self._transports:
            transport.abort()
        await asyncio.sleep(0)

    async def _listen(self) -> list[asyncio.Server]:
        context = None
        if self._certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self._certificate)
        servers = []
        for _ in range(self._hosts):
            server = await self._loop.create_server(
                lambda: Connection(self), "127.0.0.1", 0, backlog=2048, ssl=context
            )
            scheme = "https" if context else "http"
            self.urls.append(f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}/")
            servers.append(server)
        return servers


class Connection(asyncio.Protocol):
    def __init__(self, receiver: KeepaliveReceiver) -> None:
        self._receiver = receiver
        self._read = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._receiver.accepted(transport)

    def data_received(self, data: bytes) -> None:
        self._read += data
        while HEAD_END in self._read:
            _, _, self._read = self._read.partition(HEAD_END)
            self._receiver.requested(self._transport)
