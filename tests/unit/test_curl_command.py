import json
import shlex
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.curl_command import CurlCommand, curl_command_of, parse_curl_command
from domain.errors import InvalidInput
from domain.shell_words import words_of
from domain.task import Method, TaskDefinition

URL = "https://hooks.example.com/report?day=today"


def parsed(arguments: str) -> CurlCommand:
    return parse_curl_command(f"curl {arguments}")


def test_a_url_alone_is_a_get() -> None:
    assert parsed(f"'{URL}'") == CurlCommand(method=Method.GET, url=URL, headers={}, body=None)


def test_what_a_browser_copies_is_understood() -> None:
    command = r"""curl 'https://hooks.example.com/report' \
      -X 'PUT' \
      -H 'accept: */*' \
      -H 'content-type: application/json' \
      -b 'session=abc; theme=dark' \
      --data-raw $'{"text":"it\'s \u00fc \ud83d\ude00\\n"}' \
      --compressed"""
    assert parse_curl_command(command) == CurlCommand(
        method=Method.PUT,
        url="https://hooks.example.com/report",
        headers={"accept": "*/*", "content-type": "application/json", "Cookie": "session=abc; theme=dark"},
        body='{"text":"it\'s \u00fc \U0001f600\\n"}',
    )


@pytest.mark.parametrize(
    ("arguments", "method", "body"),
    [
        ("-d a=1 -d b=2", Method.POST, "a=1&b=2"),
        ("--data-raw @literal", Method.POST, "@literal"),
        ("-XPATCH -d '{}'", Method.PATCH, "{}"),
        ("-sSfX DELETE", Method.DELETE, None),
        ("--json '{\"a\":' --json 1}", Method.POST, '{"a":1}'),
        ('-d "say \\"hi\\" for 5\\$ \\n"', Method.POST, 'say "hi" for 5$ \\n'),
        ("-d ''", Method.POST, ""),
    ],
)
def test_method_and_body(arguments: str, method: Method, body: str | None) -> None:
    command = parsed(f"{arguments} '{URL}'")
    assert (command.method, command.body, command.url) == (method, body, URL)


@pytest.mark.parametrize(
    ("arguments", "headers"),
    [
        ("-u me:secret", {"Authorization": "Basic bWU6c2VjcmV0"}),
        ("--oauth2-bearer abc", {"Authorization": "Bearer abc"}),
        ("-A agent -e https://example.com/", {"User-Agent": "agent", "Referer": "https://example.com/"}),
        ("-H'X-Key:v' -u a:b -H 'authorization: mine'", {"X-Key": "v", "authorization": "mine"}),
        ("--json 1 -H 'accept: text/plain'", {"accept": "text/plain", "Content-Type": "application/json"}),
    ],
)
def test_options_that_are_headers(arguments: str, headers: dict[str, str]) -> None:
    assert parsed(f"{arguments} {shlex.quote(URL)}").headers == headers


def test_get_puts_the_data_into_the_query() -> None:
    command = parsed("-G -d a=1 --data-urlencode 'q=x & y' --data-urlencode 'é' example.com/search#part")
    assert (command.method, command.url) == (Method.GET, "http://example.com/search?a=1&q=x%20%26%20y&%C3%A9")
    assert command.body is None


def test_where_the_output_goes_and_a_comment_are_left_out() -> None:
    line = f"-fsS -o /dev/null -w '%{{http_code}}' '{URL}' >> /var/log/report.log 2>&1 # each day"
    assert parsed(line) == CurlCommand(method=Method.GET, url=URL, headers={}, body=None)


def test_what_has_no_counterpart_is_noted() -> None:
    command = parsed(f"-L --retry 5 -m 10 -H 'Content-Length: 2' '{URL}'")
    assert command.headers == {}
    assert command.notes == (
        "--location was left out: redirects are not followed.",
        "--retry was left out: set max_retry instead.",
        "--max-time was left out: set timeout_seconds instead.",
        "The header Content-Length was left out: it is set for each call.",
    )


@pytest.mark.parametrize(
    ("command", "part"),
    [
        ("", "begin with 'curl'"),
        ("wget https://example.com", "begin with 'curl'"),
        ("curl", "no URL"),
        ("curl -d", "-d has no value"),
        ("curl a.example b.example", "more than one URL"),
        ("curl -k https://example.com", "certificates are always verified"),
        ("curl --insecure=SECRET https://example.com", "certificates are always verified"),
        ("curl --frobnicate https://example.com", "--frobnicate"),
        ("curl -I https://example.com", "HEAD"),
        ("curl -X PURGE https://example.com", "POST, PUT, PATCH, GET, DELETE"),
        ("curl -X GET -d SECRET https://example.com", "GET is sent without a body"),
        ("curl -d @SECRET https://example.com", "reads a file"),
        ("curl --data-urlencode name@SECRET https://example.com", "reads a file"),
        ("curl -b SECRET https://example.com", "names a file"),
        ("curl -u SECRET https://example.com", "name:password"),
        ("curl -H SECRET https://example.com", "'Name: value'"),
        ("curl -H 'X-A: SECRET' -H 'x-a: SECRET' https://example.com", "twice"),
        ("curl --json 1 -d 2 https://example.com", "both --json and --data"),
        ("curl https://example.com/?a=SECRET&b=2", "'&'"),
        ("curl https://example.com | sh", "'|'"),
        ("curl https://example.com || SECRET", "'||'"),
        ("curl https://example.com < SECRET", "'<'"),
        ('curl "https://example.com/$SECRET"', "single quotes"),
        ("curl https://example.com/$SECRET", "single quotes"),
        ("curl https://example.com/`SECRET`", "single quotes"),
        ("curl 'https://example.com", "not closed"),
        ("curl https://example.com \\", "backslash"),
        ("curl $'\\ud83d' https://example.com", "half of a character"),
    ],
)
def test_what_is_not_understood_is_said_without_values(command: str, part: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        parse_curl_command(command)
    assert part in str(refused.value)
    assert "SECRET" not in str(refused.value)


@given(st.lists(st.text()))
def test_quoted_words_come_back(words: list[str]) -> None:
    assert words_of(shlex.join(words)) == words


@given(st.text())
def test_any_text_is_parsed_or_refused(text: str) -> None:
    with suppress(InvalidInput):
        assert parse_curl_command(f"curl {text}").url


def test_a_long_command_takes_no_quadratic_time() -> None:
    body = json.dumps(["it's"] * 100_000)
    assert parsed(f"-d {shlex.quote(body)} '{URL}'").body == body


@given(st.dictionaries(st.text(), st.text()), st.sampled_from(Method))
def test_a_task_becomes_a_command_that_is_understood_and_says_no_secret(
    payload: dict[str, str], method: Method
) -> None:
    task = TaskDefinition(
        name="T", webhook_url=URL, method=method, payload=payload, headers={"X-Key": "SECRET"}
    )
    command = curl_command_of(task)
    assert "report" not in command.partition("-d")[0]
    assert "SECRET" not in command.partition("-d")[0]
    call = parse_curl_command(command)
    assert (call.method, call.url) == (method, "https://hooks.example.com/<path>")
    assert call.headers["X-Key"] == "<value>"
    assert call.body is None if not method.has_body else json.loads(call.body or "") == payload


def test_a_command_of_a_task_names_a_file_for_a_long_payload_and_keeps_its_content_type() -> None:
    task = TaskDefinition(
        name="T", webhook_url=URL, payload="x" * 5_000, headers={"content-type": "text/plain"}
    )
    assert curl_command_of(task) == (
        "curl -X POST 'https://hooks.example.com/<path>' \\\n  -H 'content-type: <value>' \\\n  -d @payload.json"
    )
