"""A curl command line, as the call of a webhook that it makes."""

import base64
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from shlex import quote as quoted
from urllib.parse import quote

from domain.errors import InvalidInput
from domain.shell_words import words_of
from domain.task import Method, TaskDefinition
from domain.webhook_url import parse_webhook_url

LONGEST_COPIED = 4_000
"""A longer payload is a file beside the command."""

_VALUED = {
    "-X": "--request",
    "-H": "--header",
    "-d": "--data",
    "-u": "--user",
    "-A": "--user-agent",
    "-e": "--referer",
    "-b": "--cookie",
    "-m": "--max-time",
    "-o": "--output",
    "-w": "--write-out",
    "-D": "--dump-header",
}
_FLAGS = {
    "-s": "--silent",
    "-S": "--show-error",
    "-f": "--fail",
    "-v": "--verbose",
    "-i": "--include",
    "-L": "--location",
    "-G": "--get",
    "-g": "--globoff",
    "-O": "--remote-name",
    "-#": "--progress-bar",
    "-4": "--ipv4",
    "-6": "--ipv6",
    "-N": "--no-buffer",
}
_MORE_VALUED = frozenset(
    {
        "--url",
        "--data-ascii",
        "--data-raw",
        "--data-binary",
        "--data-urlencode",
        "--json",
        "--oauth2-bearer",
        "--connect-timeout",
        "--retry",
        "--retry-delay",
        "--retry-max-time",
        "--stderr",
    }
)
_MORE_FLAGS = frozenset(
    {
        "--compressed",
        "--fail-with-body",
        "--http1.1",
        "--http2",
        "--no-progress-meter",
        "--retry-all-errors",
        "--retry-connrefused",
    }
)
_WITHOUT_COUNTERPART = {
    "--location": "redirects are not followed",
    "--max-time": "set timeout_seconds instead",
    "--connect-timeout": "set timeout_seconds instead",
    "--retry": "set max_retry instead",
    "--retry-delay": "retries wait 1, 2, 4 ... seconds",
    "--retry-max-time": "set max_retry instead",
    "--ipv4": "both kinds of addresses are tried",
    "--ipv6": "both kinds of addresses are tried",
}
_REFUSED = {
    "-k": "certificates are always verified",
    "--insecure": "certificates are always verified",
    "-I": "HEAD is not sent",
    "--head": "HEAD is not sent",
    "-F": "forms with files are not sent",
    "--form": "forms with files are not sent",
    "-T": "files are not sent",
    "--upload-file": "files are not sent",
    "-x": "calls go through no proxy",
    "--proxy": "calls go through no proxy",
}
_SET_BY_US = frozenset({"connection", "content-length", "te"})


@dataclass(frozen=True, slots=True, kw_only=True)
class CurlCommand:
    """One HTTP call. `url` and `headers` are as written, not yet checked as a task's; `body` is text.

    `notes` are sentences about options that have no counterpart here and were left out.
    """

    method: Method
    url: str
    headers: Mapping[str, str]
    body: str | None
    notes: tuple[str, ...] = ()


def parse_curl_command(text: str) -> CurlCommand:
    """The call that this line makes; raises InvalidInput with what is not understood, never with a value."""
    words = words_of(text)
    if not words or words[0].rsplit("/", 1)[-1] != "curl":
        raise InvalidInput("This is not a curl command; it has to begin with 'curl'.")
    call = _Call()
    for name, value in _options(words[1:]):
        call.take(name, value)
    return call.whole()


def _options(words: list[str]) -> Iterator[tuple[str, str]]:
    """Long names with their values; a URL comes as the value of --url."""
    rest = iter(words)
    are_over = False
    for word in rest:
        if are_over or word == "-" or not word.startswith("-"):
            yield "--url", word
        elif word == "--":
            are_over = True
        elif word.startswith("--"):
            if word in _MORE_VALUED or word in _VALUED.values():
                yield word, _value(word, rest)
            elif word in _MORE_FLAGS or word in _FLAGS.values():
                yield word, ""
            else:
                raise _not_understood(word)
        else:
            yield from _short_options(word, rest)


def _short_options(word: str, rest: Iterator[str]) -> Iterator[tuple[str, str]]:
    """Those of -sSXPOST: letters, of which the last may have a value, in the same word or the next."""
    for index, letter in enumerate(word[1:], start=1):
        name = f"-{letter}"
        if name in _VALUED:
            yield _VALUED[name], word[index + 1 :] or _value(name, rest)
            return
        if name not in _FLAGS:
            raise _not_understood(name)
        yield _FLAGS[name], ""


def _value(name: str, rest: Iterator[str]) -> str:
    if (value := next(rest, None)) is None:
        raise InvalidInput(f"The curl option {name} has no value; the command ends after it.")
    return value


def _not_understood(name: str) -> InvalidInput:
    shown = name.partition("=")[0][:40]
    why = _REFUSED.get(shown, "what it does is not known here")
    return InvalidInput(f"The curl option {shown} cannot be taken over: {why}; leave it out.")


@dataclass(slots=True)
class _Call:
    method: str | None = None
    url: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    implied_headers: dict[str, str] = field(default_factory=dict)
    data: list[str] = field(default_factory=list)
    json: list[str] = field(default_factory=list)
    data_is_query: bool = False
    notes: list[str] = field(default_factory=list)

    def take(self, name: str, value: str) -> None:
        match name:
            case "--url" if self.url is not None:
                raise InvalidInput("The curl command has more than one URL; make a task of each.")
            case "--url":
                self.url = value
            case "--request":
                self.method = value
            case "--header":
                self._add_header(value)
            case "--data" | "--data-ascii" | "--data-binary" | "--json" if value.startswith("@"):
                raise InvalidInput(f"The curl option {name} reads a file (@...); write what is to be sent.")
            case "--data" | "--data-ascii" | "--data-binary" | "--data-raw":
                self.data.append(value)
            case "--data-urlencode":
                self.data.append(_url_encoded(value))
            case "--json":
                self.json.append(value)
                self.implied_headers |= {"Content-Type": "application/json", "Accept": "application/json"}
            case "--get":
                self.data_is_query = True
            case "--user":
                self.implied_headers["Authorization"] = _basic(value)
            case "--oauth2-bearer":
                self.implied_headers["Authorization"] = f"Bearer {value}"
            case "--user-agent":
                self.implied_headers["User-Agent"] = value
            case "--referer":
                self.implied_headers["Referer"] = value
            case "--cookie" if "=" not in value:
                raise InvalidInput("The curl option --cookie names a file; write the cookies as name=value.")
            case "--cookie":
                self.implied_headers["Cookie"] = value
            case _ if name in _WITHOUT_COUNTERPART:
                self.notes.append(f"{name} was left out: {_WITHOUT_COUNTERPART[name]}.")

    def _add_header(self, line: str) -> None:
        name, colon, value = line.partition(":")
        name, value = name.strip(), value.strip()
        if line.startswith("@") or not colon or not value:
            raise InvalidInput("A --header of the curl command is not of the form 'Name: value'; change it.")
        if name.lower() in _SET_BY_US:
            self.notes.append(f"The header {name} was left out: it is set for each call.")
            return
        if name.lower() in {known.lower() for known in self.headers}:
            raise InvalidInput("The curl command has a header twice; join its values with a comma.")
        self.headers[name] = value

    def whole(self) -> CurlCommand:
        if not self.url:
            raise InvalidInput("The curl command has no URL; add it.")
        if self.json and self.data:
            raise InvalidInput("The curl command has both --json and --data; use one of them.")
        url = self.url if "://" in self.url else f"http://{self.url}"
        body = "".join(self.json) if self.json else "&".join(self.data) if self.data else None
        if self.data_is_query and body is not None:
            url, _, _ = url.partition("#")
            url, body = f"{url}{'&' if '?' in url else '?'}{body}", None
        method = _method(self.method or ("GET" if body is None else "POST"))
        if body is not None and not method.has_body:
            raise InvalidInput(f"{method} is sent without a body; leave the data out or use POST.")
        given = {name.lower() for name in self.headers}
        implied = {name: value for name, value in self.implied_headers.items() if name.lower() not in given}
        return CurlCommand(
            method=method, url=url, headers=self.headers | implied, body=body, notes=tuple(self.notes)
        )


def _method(name: str) -> Method:
    try:
        return Method(name.upper())
    except ValueError:
        raise InvalidInput(f"The method of the curl command is not sent; use {', '.join(Method)}.") from None


def _url_encoded(value: str) -> str:
    name, equals, content = value.partition("=")
    if not equals:
        name, content = "", value
    if "@" in name or (not equals and "@" in value):
        raise InvalidInput(
            "The curl option --data-urlencode reads a file (@...); write what is to be sent, as name=value."
        )
    return f"{name}={quote(content, safe='')}" if name else quote(content, safe="")


def _basic(credentials: str) -> str:
    if ":" not in credentials:
        raise InvalidInput("The curl option --user asks for a password; write it as name:password.")
    return f"Basic {base64.b64encode(credentials.encode()).decode()}"


def curl_command_of(definition: TaskDefinition) -> str:
    """The command that makes the call of a task, for people to copy: <path> and <value> stand for its secrets."""
    url = parse_webhook_url(definition.webhook_url)
    origin = "/".join(url.url.split("/")[:3])
    parts = [f"curl -X {definition.method} {quoted(f'{origin}/<path>')}"]
    parts += [f"-H {quoted(f'{name}: <value>')}" for name in definition.headers]
    if definition.method.has_body:
        if not any(name.lower() == "content-type" for name in definition.headers):
            parts.append("-H 'Content-Type: application/json'")
        payload = json.dumps(definition.payload, ensure_ascii=False, separators=(",", ":"))
        parts.append(f"-d {quoted(payload)}" if len(payload) <= LONGEST_COPIED else "-d @payload.json")
    return " \\\n  ".join(parts)
