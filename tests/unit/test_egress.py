"""The egress guard: addresses as values, and real connections to this machine only."""

import gc
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv6Address, ip_network

import pycurl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from functions.egress import REFUSED_NETWORKS, Dial, Egress
from functions.settings import LOCAL_EGRESS_ALLOW
from tests.receiver import Receiver

CLOSED = Egress()
SEVERAL = "several.test"
LOCAL = Egress([ip_network(text) for text in LOCAL_EGRESS_ALLOW.split(",")])

PUBLIC = """
    1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.0 169.253.255.255
    169.255.0.0 172.15.255.255 172.32.0.0 191.255.255.255 192.0.1.0 192.0.3.0 192.88.98.255 192.88.100.0
    192.167.255.255 192.169.0.0 198.17.255.255 198.20.0.0 198.51.99.255 198.51.101.0 203.0.112.255 203.0.114.0
    223.255.255.255 ::ffff:8.8.8.8 2001:200:: 2001:4860:4860::8888 2001:db7:ffff:: 2001:db9:: 2003:: 2606:4700::1111
    2a00:1450:: 3ffe:ffff:: 3fff:1000::
"""

REFUSED_BY_WORD = {
    "loopback": "127.0.0.0 127.0.0.1 127.255.255.255 ::1 ::ffff:127.0.0.1 ::ffff:7f00:1",
    "no address of a host": "0.0.0.0 0.255.255.255 :: ::ffff:0.0.0.0",
    "private": """10.0.0.0 10.255.255.255 172.16.0.0 172.31.255.255 192.168.0.0 192.168.255.255 ::ffff:10.0.0.7
        fc00:: fd00:ec2::254 fd20:ce::254 fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff fec0:: feff:ffff::""",
    "link-local": """169.254.0.0 169.254.169.254 169.254.255.255 ::ffff:169.254.169.254 ::ffff:a9fe:a9fe
        fe80:: fe80::1%eth0 fe80::1%1 febf:ffff::""",
    "shared": "100.64.0.0 100.100.100.200 100.127.255.255",
    "multicast": "224.0.0.1 239.255.255.255 255.255.255.255 ff00:: ff02::1 ff0e::1 ff02::1%eth0",
    "documentation": """192.0.2.0 192.0.2.255 198.51.100.0 198.51.100.255 203.0.113.0 203.0.113.255
        2001:db8:: 2001:db8:ffff:: 3fff:: 3fff:fff:ffff::""",
    "benchmarks": "198.18.0.0 198.19.255.255",
    "protocols": """192.0.0.0 192.0.0.9 192.0.0.10 192.0.0.170 192.0.0.255 100:: 100::ffff 5f00:: 5f00:ffff::
        2001:: 2001::1 2001:0:4136:e378:8000:63bf:3fff:fdd2 2001:1::1 2001:2:: 2001:3:: 2001:4:112:: 2001:10::
        2001:20:: 2001:30:: 2001:1ff:ffff::""",
    "stands for an IPv4 address": """::2 ::7f00:1 ::127.0.0.1 ::8.8.8.8 ::ffff:ffff 64:ff9b:: 64:ff9b::8.8.8.8
        64:ff9b::169.254.169.254 64:ff9b::ffff:ffff 64:ff9b:1:: 64:ff9b:1:ffff:ffff:: 2002:: 2002:a00:1::
        2002:808:808:: 2002:ffff:ffff::""",
    "relay": "192.88.99.0 192.88.99.1 192.88.99.255",
    "reserved": "240.0.0.0 250.1.2.3 255.255.255.254 ::ffff:240.0.0.1",
    "not a public address": """::1:0:0 ::ffff:0:127.0.0.1 64:ff9a:: 64:ff9b:2:: 64:ff9b::1:0:0 100:0:0:1:: 200:: 400::
        800:: 1000:: 1fff:ffff:: 4000:: 5eff:: 5f01:: 6000:: 8000:: a000:: c000:: e000:: f000:: f800:: fbff::
        fe00:: fe7f::""",
}


@pytest.mark.parametrize("address", PUBLIC.split())
def test_a_public_address_may_be_called(address: str) -> None:
    assert CLOSED.refusal(address) is None
    assert LOCAL.refusal(address) is None


@pytest.mark.parametrize(
    ("address", "word"),
    [(address, word) for word, text in REFUSED_BY_WORD.items() for address in text.split()],
)
def test_all_that_is_not_public_is_refused_with_the_reason(address: str, word: str) -> None:
    refusal = CLOSED.refusal(address)
    assert refusal is not None
    assert word in refusal


@pytest.mark.parametrize(
    ("address", "clause"),
    [
        ("10.0.0.7", "10.0.0.7 is a private address"),
        ("169.254.169.254", "169.254.169.254 is link-local, where clouds keep their metadata"),
        ("::ffff:a00:7", "10.0.0.7 is a private address"),
        ("FE80::1%eth0", "fe80::1 is link-local, where clouds keep their metadata"),
        ("2002:7f00:1::", "2002:7f00:1:: is an IPv6 address that stands for an IPv4 address"),
    ],
)
def test_a_refusal_is_a_clause_with_the_plain_address(address: str, clause: str) -> None:
    assert CLOSED.refusal(address) == clause


NOT_ADDRESSES = [
    "",
    "localhost",
    "127.1",
    "0x7f.1",
    "2130706433",
    "017700000001",
    "0",
    "127.000.000.001",
    "0177.0.0.1",
    "8.8.8.8%eth0",
    "8.8.8.8 ",
    "[2606:4700::1111]",
    "2606:4700::1111%",
    "8.8.8.8:80",
    "٨.٨.٨.٨",
    "8.8.8.8\0",
]


@pytest.mark.parametrize("text", NOT_ADDRESSES)
def test_what_is_no_address_is_refused(text: str) -> None:
    assert CLOSED.refusal(text) == LOCAL.refusal(text) == "what would be dialled is not an IP address"


@given(st.ip_addresses())
def test_the_table_covers_all_that_this_python_calls_not_global(ip: IPv4Address | IPv6Address) -> None:
    plain = (ip.ipv4_mapped or ip) if isinstance(ip, IPv6Address) else ip
    in_use = plain.version == 4 or plain in ip_network("2000::/3")
    in_table = any(plain in network for network, _ in REFUSED_NETWORKS)
    assert not in_use or plain.is_global or in_table
    assert (CLOSED.refusal(str(ip)) is None) == (in_use and not in_table)


@given(st.ip_addresses(v=4))
@example(IPv4Address("127.0.0.1"))
@example(IPv4Address("10.0.0.1"))
def test_an_ipv4_mapped_address_is_judged_as_its_ipv4_address(ip: IPv4Address) -> None:
    mapped = f"::ffff:{ip}"
    for egress in (CLOSED, LOCAL, Egress([ip_network("::/0")])):
        assert egress.refusal(mapped) == egress.refusal(str(ip))


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "::1", "10.1.2.3", "172.16.0.1", "192.168.0.1", "fd12::1", "::ffff:10.1.2.3"]
)
def test_what_egress_allow_lists_may_be_called(address: str) -> None:
    assert LOCAL.refusal(address) is None


@pytest.mark.parametrize(
    "address",
    [
        "169.254.169.254",
        "fe80::1",
        "fe80::1%lo",
        "0.0.0.0",
        "::",
        "::127.0.0.1",
        "::10.0.0.1",
        "64:ff9b::127.0.0.1",
    ],
)
def test_what_egress_allow_does_not_list_stays_refused(address: str) -> None:
    assert LOCAL.refusal(address) is not None


def test_a_single_address_can_be_allowed() -> None:
    egress = Egress([ip_network("169.254.1.1/32"), ip_network("fe80::1/128")])
    assert egress.refusal("169.254.1.1") is egress.refusal("fe80::1%eth0") is None
    assert egress.refusal("169.254.1.2") is not None
    assert egress.refusal("fe80::2%eth0") is not None


@pytest.mark.parametrize(
    "host",
    [
        "metadata",
        "metadata.goog",
        "metadata.google.internal",
        "METADATA.Google.Internal",
        "metadata.google.internal.",
        "insignia.example.com",
        "Insignia.EXAMPLE.com.",
        "api-x1-ew.a.run.app",
        "10.0.0.7",
        "::1",
        "[::1]",
        "[::ffff:127.0.0.1]",
    ],
)
def test_metadata_hosts_our_own_hosts_and_refused_addresses_are_refused_by_name(host: str) -> None:
    egress = Egress(own_hosts=["Insignia.example.com", "api-x1-ew.a.run.app."])
    assert egress.refusal_of_host(host) is not None


def test_the_allowed_networks_do_not_open_a_refused_name() -> None:
    egress = Egress([ip_network("0.0.0.0/0"), ip_network("::/0")], {"insignia.example.com"})
    assert egress.refusal_of_host("insignia.example.com") == "insignia.example.com is Insignia itself"
    assert egress.refusal_of_host("metadata.goog") == "metadata.goog is where the cloud keeps its metadata"


@pytest.mark.parametrize(
    "host",
    ["example.com", "localhost", "127.1", "metadata.example.com", "my-metadata", "8.8.8.8", "", "insignia"],
)
def test_other_names_are_left_to_the_moment_of_the_call(host: str) -> None:
    assert Egress(own_hosts=["insignia.example.com"]).refusal_of_host(host) is None


@pytest.mark.parametrize(
    ("purpose", "address"),
    [
        (pycurl.SOCKTYPE_ACCEPT, (socket.AF_INET, socket.SOCK_STREAM, 6, ("127.0.0.1", 9))),
        (99, (socket.AF_INET, socket.SOCK_STREAM, 6, ("127.0.0.1", 9))),
        (0, (socket.AF_UNIX, socket.SOCK_STREAM, 0, b"/run/x.sock")),
        (0, (socket.AF_UNIX, socket.SOCK_STREAM, 0, ("127.0.0.1", 9))),
        (0, (socket.AF_INET, socket.SOCK_STREAM, 6, (b"127.0.0.1", 9))),
        (0, (socket.AF_INET, socket.SOCK_STREAM, 6, (b"\x7f\0\0\1", 9))),
        (0, (socket.AF_INET, socket.SOCK_STREAM, 6, ("127.1", 9))),
        (0, (socket.AF_INET, socket.SOCK_STREAM, 6, (2130706433, 9))),
        (0, (socket.AF_INET, socket.SOCK_STREAM, 6, ())),
        (0, (socket.AF_INET, socket.SOCK_STREAM, 6, "127.0.0.1")),
        (0, (socket.AF_INET, socket.SOCK_STREAM, 6, None)),
        (0, (socket.AF_INET, socket.SOCK_STREAM, 6)),
        (0, ("127.0.0.1", 9)),
        (0, None),
    ],
)
def test_what_is_unknown_is_refused_even_when_its_address_is_allowed(purpose: int, address: object) -> None:
    dial = Dial(LOCAL)
    assert dial.open(purpose, address) == pycurl.SOCKET_BAD
    assert dial.refused is not None


def test_a_socket_that_cannot_be_made_is_a_failed_connection_and_no_refusal() -> None:
    dial = Dial(LOCAL)
    assert dial.open(0, (socket.AF_INET, 9999, 9999, ("127.0.0.1", 9))) == pycurl.SOCKET_BAD
    assert dial.refused is None


class Listener:
    """Counts the connections that arrive, over IPv4 and IPv6 at one port, without answering any."""

    def __init__(self, sockets: list[socket.socket]) -> None:
        self._sockets = sockets
        self.port: int = sockets[0].getsockname()[1]

    def accepted(self) -> int:
        """How many have arrived: a finished handshake waits in the queue of the socket until it is accepted."""
        number = 0
        for one in self._sockets:
            one.settimeout(0.01)
            while True:
                try:
                    connection, _ = one.accept()
                except TimeoutError:
                    break
                connection.close()
                number += 1
        return number


@pytest.fixture
def listener() -> Iterator[Listener]:
    with socket.create_server(("127.0.0.1", 0)) as ipv4:
        try:
            ipv6 = socket.create_server(("::1", ipv4.getsockname()[1]), family=socket.AF_INET6)
        except OSError:  # no IPv6 here
            yield Listener([ipv4])
            return
        with ipv6:
            yield Listener([ipv4, ipv6])


@contextmanager
def handle(url: str, dial: Dial, addresses: str) -> Iterator[pycurl.Curl]:
    curl = pycurl.Curl()
    for option, value in (
        (pycurl.URL, url),
        (pycurl.POSTFIELDS, "{}"),
        (pycurl.PROXY, ""),
        (pycurl.NOSIGNAL, 1),
        (pycurl.TIMEOUT_MS, 5000),
        (pycurl.WRITEFUNCTION, lambda _: None),
        (pycurl.OPENSOCKETFUNCTION, dial.open),
        (pycurl.RESOLVE, [f"{SEVERAL}:{url.split(':')[-1].split('/')[0]}:{addresses}"]),
    ):
        curl.setopt(option, value)
    try:
        yield curl
    finally:
        curl.close()


def error_of(url: str, dial: Dial, addresses: str = "127.0.0.1") -> int:
    """libcurl's error number, 0 when there was an answer; `addresses` are those of the name SEVERAL."""
    with handle(url, dial, addresses) as curl:
        try:
            curl.perform()
        except pycurl.error as error:
            return int(error.args[0])
        return 0


THIS_MACHINE = """
    127.0.0.1 localhost LOCALHOST localhost. insignia.localhost 127.1 127.0.1 0x7f.1 0x7f.0.0.1 0177.0.0.1 0177.1
    127.000.000.001 2130706433 017700000001 0x7f000001 127.0.0.1. %31%32%37.0.0.1 127.8.8.8 0 0.0.0.0 00
    [::1] [0:0:0:0:0:0:0:1] [::] [::ffff:127.0.0.1] [::ffff:7f00:1] [0:0:0:0:0:ffff:127.0.0.1] [::127.0.0.1]
    [::ffff:0.0.0.0]
"""


@pytest.mark.parametrize("host", THIS_MACHINE.split())
def test_no_way_to_write_this_machine_leads_to_a_connection(host: str, listener: Listener) -> None:
    dial = Dial(CLOSED)
    assert error_of(f"http://{host}:{listener.port}/", dial) == pycurl.E_COULDNT_CONNECT
    assert dial.refused is not None
    assert listener.accepted() == 0


def test_the_listener_of_these_tests_would_see_a_connection(listener: Listener) -> None:
    with socket.create_connection(("127.0.0.1", listener.port)):
        assert listener.accepted() == 1


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.1", "0x7f.1", "2130706433"])
def test_an_allowed_address_is_called(host: str) -> None:
    dial = Dial(LOCAL)
    with Receiver() as receiver:
        assert error_of(receiver.url.replace("127.0.0.1", host), dial) == 0
        assert [request.body for request in receiver.requests] == [b"{}"]
    assert dial.refused is None


def test_each_address_of_a_name_is_asked_about(listener: Listener) -> None:
    asked: list[str] = []

    class Remembering(Egress):
        def refusal(self, address: str) -> str | None:
            asked.append(address)
            return super().refusal(address)

    dial = Dial(Remembering())
    addresses = "127.0.0.3,127.0.0.1,127.0.0.2"
    assert error_of(f"http://{SEVERAL}:{listener.port}/", dial, addresses) == pycurl.E_COULDNT_CONNECT
    assert sorted(asked) == ["127.0.0.1", "127.0.0.2", "127.0.0.3"]
    assert dial.refused == f"{asked[0]} is a loopback address, of this very machine"
    assert listener.accepted() == 0


@pytest.mark.parametrize("addresses", ["127.0.0.2,127.0.0.1", "127.0.0.1,127.0.0.2"])
def test_a_name_with_a_refused_and_an_allowed_address_reaches_the_allowed_one(addresses: str) -> None:
    dial = Dial(Egress([ip_network("127.0.0.1/32")]))
    with Receiver() as receiver:
        assert error_of(receiver.url.replace("127.0.0.1", SEVERAL), dial, addresses) == 0
        assert len(receiver.requests) == 1
    assert dial.refused is None


@pytest.mark.parametrize("addresses", ["127.0.0.2,127.0.0.1", "127.0.0.1,127.0.0.2"])
def test_an_allowed_address_that_does_not_answer_is_no_refusal(addresses: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    dial = Dial(Egress([ip_network("127.0.0.1/32")]))
    assert error_of(f"http://{SEVERAL}:{port}/", dial, addresses) == pycurl.E_COULDNT_CONNECT
    assert dial.refused is None


def test_a_handle_with_a_kept_alive_connection_asks_again_for_another_destination(listener: Listener) -> None:
    with Receiver() as receiver, handle(receiver.url, Dial(LOCAL), "127.0.0.1") as curl:
        curl.perform()
        refusing = Dial(CLOSED)
        curl.setopt(pycurl.OPENSOCKETFUNCTION, refusing.open)
        curl.setopt(pycurl.URL, f"http://127.0.0.1:{listener.port}/")
        with pytest.raises(pycurl.error):
            curl.perform()
    assert refusing.refused is not None
    assert listener.accepted() == 0


@pytest.mark.filterwarnings("error::ResourceWarning")
def test_a_socket_that_was_handed_over_is_closed_by_libcurl_alone() -> None:
    closed = threading.Event()

    def serve() -> None:
        connection, _ = server.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
            if connection.recv(1) == b"":
                closed.set()

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve)
        thread.start()
        assert error_of(f"http://127.0.0.1:{server.getsockname()[1]}/", Dial(LOCAL)) == 0
        gc.collect()
        assert closed.wait(5)
        thread.join()
