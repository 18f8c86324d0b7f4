"""Bytes of a request to a JSON value, strictly (RFC 8259), before any rule of ours is applied.

The standard parser takes NaN, 1e400, duplicate keys and lone surrogates, and recurses as deep as it is told
to; what it lets through ends in the database or in a webhook. Here it is refused, with a sentence.
"""

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NoReturn

from functions.problems import Fault, InvalidRequest, MalformedBody

MAX_DEPTH = 32
LONGEST_KEY_IN_POINTER = 100

_DIGITS_OF_EVERY_DOUBLE = 308
# Possessive, and content with a string that does not end: backtracking here would take minutes.
_STRING_OR_BRACKET = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[\[{]|[\]}]', re.DOTALL)
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class _Flaw:
    """Stands in the parsed value where something was found that JSON, or we, do not allow.

    `{at}` in its sentence becomes the place, when the whole value is there to find it in.
    """

    detail: str
    is_malformed: bool = False


def parse_json(body: bytes) -> Any:
    """The value of a body; raises MalformedBody (no JSON) or InvalidRequest (JSON that cannot be kept)."""
    text = _decode(body)
    _check_depth(text)
    flaws: list[_Flaw] = []

    def flaw(detail: str, *, is_malformed: bool = False) -> _Flaw:
        flaws.append(_Flaw(detail, is_malformed))
        return flaws[-1]

    def number(literal: str) -> int | float | _Flaw:
        is_integer = literal.lstrip("-").isdigit()
        if is_integer and len(literal) <= _DIGITS_OF_EVERY_DOUBLE:
            return int(literal)
        if math.isinf(value := float(literal)):
            return flaw("The number{at} is too large; the largest is about 1.8e308.")
        return int(literal) if is_integer else value

    def constant(literal: str) -> _Flaw:
        return flaw(f"{literal}{{at}} is not a JSON value; use a number or null.", is_malformed=True)

    def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) < len(pairs):
            seen: set[str] = set()
            for key, _ in pairs:
                if key in seen:
                    result[key] = flaw("The key{at} occurs more than once; keep one of them.")
                seen.add(key)
        return result

    try:
        value = json.loads(
            text,
            parse_int=number,
            parse_float=number,
            parse_constant=constant,
            object_pairs_hook=members,
        )
    except json.JSONDecodeError as error:
        problem = error.msg[:1].lower() + error.msg[1:].removesuffix(" at")
        raise MalformedBody(
            f"The body is not valid JSON: {problem}, at line {error.lineno}, column {error.colno}."
        ) from None
    if flaws or "\\u" in text:
        _refuse_flaws(value)
    return value


def pointer(path: tuple[str | int, ...]) -> str:
    """A JSON pointer (RFC 6901); it ends early at a key that is too long or cannot be written down."""
    parts: list[str] = []
    for key in map(str, path):
        if len(key) > LONGEST_KEY_IN_POINTER or _SURROGATE.search(key):
            break
        parts.append("/" + key.replace("~", "~0").replace("/", "~1"))
    return "".join(parts)


def _decode(body: bytes) -> str:
    if body.startswith(b"\xef\xbb\xbf"):
        raise MalformedBody("The body begins with a byte order mark, which JSON does not have; leave it out.")
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise MalformedBody(
            f"The body is not UTF-8: byte {error.start + 1} of it cannot be decoded; send JSON in UTF-8."
        ) from None
    if not text.strip(" \t\r\n"):
        raise MalformedBody("The body is empty; send a JSON object.")
    return text


def _check_depth(text: str) -> None:
    depth = 0
    for token in _STRING_OR_BRACKET.finditer(text):
        match text[token.start()]:
            case "[" | "{":
                depth += 1
            case "]" | "}":
                depth -= 1
        if depth > MAX_DEPTH:
            line = text.count("\n", 0, token.start()) + 1
            column = token.start() - text.rfind("\n", 0, token.start())
            _refuse(
                (), f"The body is nested deeper than {MAX_DEPTH} levels, at line {line}, column {column}."
            )


def _refuse_flaws(value: Any) -> None:
    for path, item in _walk((), value):
        if isinstance(item, _Flaw):
            _refuse(path, item.detail, is_malformed=item.is_malformed)
        if isinstance(item, str) and "\0" in item:
            _refuse(
                path, "The text{at} contains the character NUL (\\u0000), which cannot be stored; remove it."
            )
        if isinstance(item, str) and _SURROGATE.search(item):
            _refuse(path, "The text{at} contains half of a surrogate pair, which is no character; remove it.")


def _walk(path: tuple[str | int, ...], value: Any) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """Every scalar and every key, each with the path of the object or array that it can be found by."""
    match value:
        case dict():
            for key, item in value.items():
                yield (*path, key), key
                yield from _walk((*path, key), item)
        case list():
            for index, item in enumerate(value):
                yield from _walk((*path, index), item)
        case _:
            yield path, value


def _refuse(path: tuple[str | int, ...], detail: str, *, is_malformed: bool = False) -> NoReturn:
    where = pointer(path)
    fault = Fault(where, detail.replace("{at}", f" at {where}" if where else "", 1))
    if is_malformed:
        raise MalformedBody(f"The body is not valid JSON: {fault.detail}", faults=[fault])
    raise InvalidRequest([fault])
