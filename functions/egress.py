"""Which addresses may be called: the guard against calls to our own network (SSRF; SECURITY.md).

The decision is made where it cannot be circumvented: when a call connects, on the very address that is dialled.
"""

import os
import socket
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from pathlib import Path

import pycurl

from functions.descriptors import is_for_want_of_one

IP_FAMILIES = {socket.AF_INET, socket.AF_INET6}
METADATA_HOSTS = {"metadata", "metadata.goog", "metadata.google.internal"}

REFUSED = {
    "is a loopback address, of this very machine": "127.0.0.0/8 ::1/128",
    "is no address of a host": "0.0.0.0/8 ::/128",
    "is a private address": "10.0.0.0/8 172.16.0.0/12 192.168.0.0/16 fc00::/7 fec0::/10",
    "is link-local, where clouds keep their metadata": "169.254.0.0/16 fe80::/10",
    "is a shared address, inside a provider's network": "100.64.0.0/10",
    "is a multicast or broadcast address": "224.0.0.0/4 255.255.255.255/32 ff00::/8",
    "is kept for documentation": "192.0.2.0/24 198.51.100.0/24 203.0.113.0/24 2001:db8::/32 3fff::/20",
    "is kept for benchmarks": "198.18.0.0/15",
    "is kept for protocols": "192.0.0.0/24 2001::/23 100::/64 5f00::/16",
    "is an IPv6 address that stands for an IPv4 address": "::/96 64:ff9b::/96 64:ff9b:1::/48 2002::/16",
    "is a relay between IPv4 and IPv6": "192.88.99.0/24",
    "is a reserved address": "240.0.0.0/4",
}
"""Why and what: a table of our own, because the `is_global` of ipaddress changes with the version of Python."""

REFUSED_NETWORKS = [(ip_network(text), why) for why, networks in REFUSED.items() for text in networks.split()]
GLOBAL_UNICAST = IPv6Network("2000::/3")  # all that has been given out of IPv6


@dataclass(frozen=True, slots=True)
class Egress:
    """What may be called: `allow` wins over the refusal of an address, never over that of a name.

    `authorities` is a file of the certificates that are trusted; None for those that Mozilla trusts.
    """

    allow: Sequence[IPv4Network | IPv6Network] = ()
    own_hosts: Collection[str] = ()
    authorities: Path | None = None

    def refusal(self, address: str) -> str | None:
        """Why an IP address must not be called, as a clause such as "10.0.0.7 is a private address"."""
        try:
            ip = plain(ip_address(address))
        except ValueError:
            return "what would be dialled is not an IP address"
        if any(ip in network for network in self.allow):
            return None
        for network, why in REFUSED_NETWORKS:
            if ip in network:
                return f"{ip} {why}"
        # the table has all that is_global knows up to Python 3.13; a newer one may know more
        if not ip.is_global or (ip.version == 6 and ip not in GLOBAL_UNICAST):
            return f"{ip} is not a public address"
        return None

    def refusal_of_host(self, host: str) -> str | None:
        """Why a host must not be called, as far as that is known before its name is resolved."""
        name = bare(host)
        if name in METADATA_HOSTS:
            return f"{name} is where the cloud keeps its metadata"
        if any(name == bare(own) for own in self.own_hosts):
            return f"{name} is Insignia itself"
        try:
            ip_address(name)
        except ValueError:
            return None
        return self.refusal(name)


class Dial:
    """Opens the sockets of one call after another: `curl.setopt(pycurl.OPENSOCKETFUNCTION, dial.open)`.

    libcurl asks about each address that it tries, and reports error 7 for a refusal as for a failed connection.
    """

    def __init__(self, egress: Egress) -> None:
        self._egress = egress
        self.begin()

    def begin(self) -> None:
        """Forget what was refused to the call before."""
        self._refusal: str | None = None
        self._has_allowed = False
        self.lacked_descriptor = False

    @property
    def refused(self) -> str | None:
        """Why the call was refused; None when at least one address of its host was allowed, or none asked about."""
        return None if self._has_allowed else self._refusal

    def open(self, purpose: int, address: object) -> socket.socket | int:
        """A socket for (family, socktype, protocol, sockaddr), or SOCKET_BAD; all that is unknown is refused."""
        match address:
            case (int(family), int(kind), int(protocol), (str(ip), *_)) if (
                family in IP_FAMILIES and purpose == pycurl.SOCKTYPE_IPCXN
            ):
                refusal = self._egress.refusal(ip)
            case _:
                refusal = "it is no connection to an IP address"
        if refusal is not None:
            self._refusal = self._refusal or refusal
            return pycurl.SOCKET_BAD
        self._has_allowed = True
        try:
            handed_over = HandedOver(family, kind, protocol)
            os.close(os.dup(handed_over.fileno()))  # as pycurl will, which does not say why it cannot
            return handed_over
        except OSError as error:
            self.lacked_descriptor = self.lacked_descriptor or is_for_want_of_one(error)
            return pycurl.SOCKET_BAD


class HandedOver(socket.socket):
    """pycurl duplicates the descriptor and drops the object, which has to close its own without a warning."""

    def __del__(self) -> None:
        if self.fileno() >= 0:
            self.close()


def plain(ip: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """Without its zone; an IPv4-mapped address is the IPv4 address, because that is what is dialled."""
    return ip if isinstance(ip, IPv4Address) else ip.ipv4_mapped or IPv6Address(int(ip))


def bare(host: str) -> str:
    return host.strip("[]").rstrip(".").lower()
