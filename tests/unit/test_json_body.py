import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.json_body import MAX_DEPTH, parse_json
from functions.problems import HttpError, InvalidRequest, MalformedBody

JSON_TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | JSON_TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(JSON_TEXT, inner),
    max_leaves=10,
)


def refused(body: bytes) -> HttpError:
    with pytest.raises(HttpError) as caught:
        parse_json(body)
    assert isinstance(caught.value, MalformedBody | InvalidRequest)
    return caught.value


def parsed_or_refused(body: bytes) -> tuple[Any, HttpError | None]:
    try:
        return parse_json(body), None
    except HttpError as error:
        return None, error


@given(JSON_VALUES)
def test_every_json_value_is_read_as_it_was_written(value: Any) -> None:
    assert parse_json(json.dumps(value).encode()) == value
    assert parse_json(json.dumps(value, ensure_ascii=False, indent=1).encode()) == value


@given(st.binary() | st.text('[]{}",:\\u0d8eE+-1. NaInfty').map(str.encode))
def test_any_other_bytes_are_refused_with_a_sentence_and_never_fail(body: bytes) -> None:
    value, error = parsed_or_refused(body)
    if error is None:
        assert json.loads(body) == value
    else:
        assert str(error).endswith(".")
        assert all(fault.detail.encode() for fault in error.faults)


def test_the_order_of_keys_is_kept() -> None:
    assert list(parse_json(b'{"b": 1, "a": 2}')) == ["b", "a"]


def test_malformed_json_is_refused_with_its_line_and_column() -> None:
    error = refused(b'{\n  "a": 1,\n  oops\n}')
    assert isinstance(error, MalformedBody)
    assert "at line 3, column 3" in str(error)


@pytest.mark.parametrize("literal", ["NaN", "Infinity", "-Infinity"])
def test_what_is_no_number_in_json_is_malformed(literal: str) -> None:
    error = refused(f'{{"payload": [1, {literal}]}}'.encode())
    assert isinstance(error, MalformedBody)
    assert literal in str(error)
    assert error.faults[0].pointer == "/payload/1"


@pytest.mark.parametrize("literal", ["1e400", "-1e400", "1" * 5000, "-" + "9" * 400, "9" * 309 + ".5"])
def test_numbers_beyond_double_are_refused(literal: str) -> None:
    error = refused(f'{{"payload": {{"n": {literal}}}}}'.encode())
    assert isinstance(error, InvalidRequest)
    assert error.faults[0].pointer == "/payload/n"
    assert "too large" in str(error)
    assert len(str(error)) < 200


@pytest.mark.parametrize("number", [2**53 + 1, 10**300, -(10**308), 5e-324, 1.7976931348623157e308])
def test_numbers_within_double_are_kept_exactly(number: float) -> None:
    assert parse_json(json.dumps(number).encode()) == number
    assert math.isfinite(number)


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        (rb'{"a": ["x\u0000y"]}', "/a/0"),
        (rb'{"a": {"x\u0000": 1}}', "/a/x\0"),
        (rb'{"a": {"b": "\ud800"}}', "/a/b"),
        (rb'{"a": {"b": "\udc00\ud800"}}', "/a/b"),
        (rb'{"a": {"\udfff": 1}}', "/a"),
        (rb'"\u0000"', ""),
    ],
)
def test_nul_and_lone_surrogates_are_refused_where_they_stand(body: bytes, pointer: str) -> None:
    error = refused(body)
    assert isinstance(error, InvalidRequest)
    assert error.faults[0].pointer == pointer


def test_a_pair_of_escaped_surrogates_is_a_character() -> None:
    assert parse_json(rb'"\ud83d\ude00"') == "😀"


def test_a_raw_control_character_in_a_string_is_malformed() -> None:
    assert isinstance(refused(b'"a\0b"'), MalformedBody)


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        (b'{"a": 1, "a": 1}', "/a"),
        (b'{"x": [{"b": 1, "c": 2, "b": 3}]}', "/x/0/b"),
        (rb'{"a/b~": 1, "a\u002fb~": 2}', "/a~1b~0"),
    ],
)
def test_duplicate_keys_are_refused(body: bytes, pointer: str) -> None:
    error = refused(body)
    assert isinstance(error, InvalidRequest)
    assert error.faults[0].pointer == pointer


@pytest.mark.parametrize(("left", "right"), [("[", "]"), ('{"a":', "}")])
def test_a_body_may_be_nested_up_to_the_limit(left: str, right: str) -> None:
    parse_json(f"{left * MAX_DEPTH}1{right * MAX_DEPTH}".encode())
    error = refused(f"{left * (MAX_DEPTH + 1)}1{right * (MAX_DEPTH + 1)}".encode())
    assert isinstance(error, InvalidRequest)
    assert "line 1" in str(error)


@pytest.mark.timeout(10)
@pytest.mark.parametrize(
    "body",
    [
        b"[" * 250_000,
        b'{"a":' * 50_000,
        b"[" * 200_000 + b"]" * 50_000,
        b'"' * 250_000,
        b'"\\' * 125_000,
        b'["' + b'\\"' * 125_000,
    ],
)
def test_a_hostile_body_is_refused_quickly(body: bytes) -> None:
    refused(body)


@pytest.mark.parametrize("text", ["[" * 100, "\\" * 99, '"' + "{" * 100, '\\"' + "[" * 100])
def test_brackets_inside_strings_do_not_count_as_nesting(text: str) -> None:
    assert parse_json(json.dumps([text]).encode()) == [text]


@pytest.mark.parametrize(
    ("body", "word"),
    [
        (b"\xef\xbb\xbf{}", "byte order mark"),
        (b'"\xff"', "UTF-8"),
        (b'"\xed\xa0\x80"', "UTF-8"),
        ('{"a": 1}'.encode("utf-16"), "UTF-8"),
        (b"", "empty"),
        (b" \r\n\t", "empty"),
    ],
)
def test_what_is_no_utf_8_text_is_malformed(body: bytes, word: str) -> None:
    error = refused(body)
    assert isinstance(error, MalformedBody)
    assert word in str(error)


def test_a_pointer_ends_at_a_key_that_is_too_long_to_repeat() -> None:
    assert refused(json.dumps({"a": {"k" * 1000: "\0"}}).encode()).faults[0].pointer == "/a"
