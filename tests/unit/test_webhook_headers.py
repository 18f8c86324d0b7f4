"""The headers a user may add to a call."""

import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import InvalidInput
from domain.webhook_headers import MAX_BYTES, MAX_HEADERS, validate_headers

TOKEN_CHARACTERS = string.ascii_letters + string.digits + "!#$%&'*+-.^_`|~"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer abc.def"},
        {"X-Api-Key": "a", "x-api-key-2": "b"},
        {"Content-Type": "application/vnd.example+json", "User-Agent": "Backup/1.0", "Accept": "*/*"},
        {
            "Cookie": 'a=b; c="d\te"',
            "Keep-Alive": "timeout=5",
            "Webhooks": "1",
            "Proxy": "1",
            "X-Insignia": "1",
        },
        {TOKEN_CHARACTERS: string.printable[:95].strip()},
    ],
)
def test_headers_of_tokens_and_printable_ascii_are_accepted(headers: dict[str, str]) -> None:
    validate_headers(headers)


@pytest.mark.parametrize(
    "name",
    [
        "Host",
        "Content-Length",
        "Transfer-Encoding",
        "Connection",
        "Expect",
        "Upgrade",
        "TE",
        "Trailer",
        "Metadata-Flavor",
        "Proxy-Authorization",
        "Proxy-Connection",
        "Proxy-",
        "webhook-id",
        "webhook-signature",
        "webhook-anything",
        "X-Insignia-Task-Id",
        "X-Insignia-Anything",
    ],
)
def test_a_header_that_is_ours_alone_is_refused_in_any_case(name: str) -> None:
    for spelling in (name, name.lower(), name.upper(), name.swapcase()):
        with pytest.raises(InvalidInput, match=f"Header '{spelling}' is reserved"):
            validate_headers({"X-Fine": "1", spelling: "secret"})


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("X Key", "'X...'"),
        ("X-Key ", "'X-Key...'"),
        (" X-Key", "'...'"),
        ("Authorization: Bearer secret", "'Authorization...'"),
        ("X-Key\r\nHost", "'X-Key...'"),
        ("X-Key\n", "'X-Key...'"),
        ("X-Kéy", "'X-K...'"),
        ("X-\0", "'X-...'"),
        ("K\u212a", "'K...'"),
        ("\ud800", "'...'"),
        ("a(b)", "'a...'"),
        ("a" * 100 + "/", f"'{'a' * 60}...'"),
    ],
)
def test_a_name_that_is_no_token_is_refused_and_shown_up_to_what_is_wrong(name: str, shown: str) -> None:
    with pytest.raises(InvalidInput, match="a character that no header name has") as caught:
        validate_headers({name: "1"})
    assert f"header {shown} has" in str(caught.value)


@given(st.characters())
def test_a_name_is_accepted_only_if_all_its_characters_are_of_a_token(character: str) -> None:
    if character in TOKEN_CHARACTERS:
        validate_headers({f"X{character}": "1"})
    else:
        with pytest.raises(InvalidInput):
            validate_headers({f"X{character}": "1"})


def test_an_empty_name_is_refused() -> None:
    with pytest.raises(InvalidInput, match="empty name"):
        validate_headers({"": "1"})


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("", "no value"),
        (" ", "blank"),
        ("secret ", "blank"),
        ("\tsecret", "blank"),
        ("secret\r\nHost: x", "cannot be sent"),
        ("secret\n", "cannot be sent"),
        ("sec\0ret", "cannot be sent"),
        ("secret\x7f", "cannot be sent"),
        ("sécret", "cannot be sent"),
        ("secret\u2028", "cannot be sent"),
        ("secret\ud800", "cannot be sent"),
    ],
)
def test_a_value_that_cannot_be_sent_as_it_is_is_refused_and_not_shown(value: str, words: str) -> None:
    with pytest.raises(InvalidInput, match=words) as caught:
        validate_headers({"X-Key": value})
    assert "'X-Key'" in str(caught.value)
    assert not re.search("s.*cret", str(caught.value))


@given(st.characters())
def test_a_value_is_accepted_only_if_its_characters_are_printable_ascii_or_tabs(character: str) -> None:
    if " " <= character <= "~" or character == "\t":
        validate_headers({"X-Key": f"a{character}b"})
    else:
        with pytest.raises(InvalidInput):
            validate_headers({"X-Key": f"a{character}b"})


def test_names_that_differ_only_in_case_are_one_header_given_twice() -> None:
    with pytest.raises(InvalidInput, match="Header 'x-key' is given twice"):
        validate_headers({"X-Key": "1", "Y": "2", "x-key": "3"})


def test_there_may_be_20_headers() -> None:
    headers = {f"X-{number}": "1" for number in range(MAX_HEADERS)}
    validate_headers(headers)
    with pytest.raises(InvalidInput, match="There are 21 headers; use at most 20"):
        validate_headers(headers | {"Y": "1"})


def test_names_and_values_may_have_8_kib_together() -> None:
    headers = {"X-Key": "a" * 4096, "Y": "b" * (MAX_BYTES - 4096 - len("X-KeyY"))}
    validate_headers(headers)
    with pytest.raises(InvalidInput, match="have 8,193 characters together; use at most 8,192"):
        validate_headers(headers | {"YY": headers.pop("Y")})
