"""File descriptors: each call in flight has one, and so has each connection that is kept for the next call."""

import errno
import socket
from contextlib import suppress

MOST = 10_240
"""More than a process needs, and all that macOS gives."""


def allow_many() -> None:
    """Raise the limit of this process, often 256 or 1,024, as far as it may be: at most to MOST."""
    with suppress(ImportError, OSError, ValueError):  # not on every platform; not every system lets us
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = MOST if hard == resource.RLIM_INFINITY else min(hard, MOST)
        if soft != resource.RLIM_INFINITY and soft < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def is_for_want_of_one(error: OSError) -> bool:
    return error.errno in {errno.EMFILE, errno.ENFILE}


def are_used_up() -> bool:
    """Whether this process can open no socket just now."""
    try:
        socket.socket().close()
    except OSError as error:
        return is_for_want_of_one(error)
    return False
