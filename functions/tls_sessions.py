"""TLS sessions, so that the next connection to a host need not verify its certificates again."""

import pycurl

from domain.webhook_url import WebhookUrl

SHARES = 64
"""libcurl keeps the sessions of 25 hosts, and no setting makes it keep more; so many times 25 are kept here."""


class TlsSessions:
    """What hosts have given to resume sessions with, for as long as a tick lasts; each host has its place."""

    def __init__(self) -> None:
        self._shares: dict[int, pycurl.CurlShare] = {}

    def of(self, url: WebhookUrl) -> pycurl.CurlShare:
        """What a handle has to share to call this host over HTTPS."""
        number = hash((url.host, url.port)) % SHARES
        share = self._shares.get(number)
        if share is None:
            share = self._shares[number] = pycurl.CurlShare()
            share.setopt(pycurl.SH_SHARE, pycurl.LOCK_DATA_SSL_SESSION)
        return share

    def close(self) -> None:
        """Once no handle shares them any more."""
        for share in self._shares.values():
            share.close()
