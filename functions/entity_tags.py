"""Entity tags (RFC 9110): the ETag of a task, and what If-Match and If-None-Match say about it.

A tag is `"<revision>-<hash of the representation>"`. Reading compares all of it; changing compares the
revision, which only edits by users raise, so that a task that runs every minute can still be edited safely.
"""

import hashlib
import re

import flask

from functions.problems import BadRequest

TAG = r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"'

EXAMPLE_TAG = '"1-0f8fad5bd9cb469f"'

TAGS_PATTERN = r'^(\*|(W/)?"[!#-~]*"(, (W/)?"[!#-~]*")*)$'

_LIST = re.compile(rf"[ \t,]*(?:{TAG}[ \t]*(?:,[ \t,]*|$))+")
_OURS = re.compile(r'"([0-9]{1,10})(?:-[0-9a-f]*)?"')


def tag_of(revision: int, body: str) -> str:
    return f'"{revision}-{hashlib.sha256(body.encode()).hexdigest()[:16]}"'


def revisions_expected(request: flask.Request) -> frozenset[int] | None:
    """The revisions that If-Match accepts; None for any. A weak tag is never equal to ours here."""
    tags = tags_in(request, "If-Match")
    if tags is None:
        return None
    return frozenset(int(ours[1]) for tag in tags if (ours := _OURS.fullmatch(tag)))


def is_known(request: flask.Request, tag: str) -> bool:
    """Whether If-None-Match says that the caller has this representation already."""
    if "If-None-Match" not in request.headers:
        return False
    tags = tags_in(request, "If-None-Match")
    return tags is None or tag in {known.removeprefix("W/") for known in tags}


def tags_in(request: flask.Request, header: str) -> list[str] | None:
    """The tags of a header; None for `*`, and for no header. Raises BadRequest for what is no list of tags."""
    text = request.headers.get(header)
    if text is None or text.strip() == "*":
        return None
    if not _LIST.fullmatch(text):
        raise BadRequest(
            f"{header} must be * or ETags in double quotes, separated by commas; send them as read."
        )
    return re.findall(TAG, text)
