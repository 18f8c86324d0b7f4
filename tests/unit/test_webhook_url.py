import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import InvalidWebhookUrl
from domain.webhook_url import MAX_LENGTH, parse_webhook_url, redacted


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("https://example.com", "https://example.com/"),
        ("HTTPS://Example.COM/Path", "https://example.com/Path"),
        ("http://example.com?a=b", "http://example.com/?a=b"),
        ("http://example.com:80/", "http://example.com/"),
        ("https://example.com:80/", "https://example.com:80/"),
        ("https://example.com:00443/", "https://example.com/"),
        ("http://example.com./x", "http://example.com./x"),
        ("http://my_service:8080/x", "http://my_service:8080/x"),
        ("http://127.0.0.1:9/", "http://127.0.0.1:9/"),
        ("http://[2001:DB8::0:1]:8080/x", "http://[2001:db8::1]:8080/x"),
        ("https://example.com/a%2Fb?q=%zz", "https://example.com/a%2Fb?q=%zz"),
        ('https://example.com/{a}"|', "https://example.com/%7Ba%7D%22%7C"),
        ("https://example.com/a;b,c!$&'()*+=:@~/[x]", "https://example.com/a;b,c!$&'()*+=:@~/[x]"),
    ],
)
def test_a_url_is_sent_in_one_ascii_form(text: str, url: str) -> None:
    assert parse_webhook_url(text).url == url


def test_the_fragment_is_not_sent() -> None:
    assert parse_webhook_url("https://example.com/a?b#c?d").url == "https://example.com/a?b"


def test_path_and_query_are_percent_encoded_as_utf_8() -> None:
    assert parse_webhook_url("https://example.com/ü?ñ=€").url == "https://example.com/%C3%BC?%C3%B1=%E2%82%AC"


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("https://bücher.example/", "xn--bcher-kva.example"),
        ("https://BÜCHER.example/", "xn--bcher-kva.example"),
        ("https://例え。テスト/", "xn--r8jz45g.xn--zckzah"),
        ("https://xn--bcher-kva.example/", "xn--bcher-kva.example"),
    ],
)
def test_an_international_host_is_called_by_its_ascii_form(text: str, host: str) -> None:
    assert parse_webhook_url(text).host == host


def test_the_destination_is_scheme_host_and_port() -> None:
    assert parse_webhook_url("HTTP://Example.com./x").destination == ("http", "example.com", 80)
    assert parse_webhook_url("https://[::1]/x").destination == ("https", "::1", 443)
    assert parse_webhook_url("https://example.com:65535").destination == ("https", "example.com", 65535)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "http://"),
        ("example.com/x", "http://"),
        ("//example.com/x", "http://"),
        ("http:example.com", "http://"),
        ("http:/example.com", "http://"),
        ("ftp://example.com/", "http://"),
        ("file:///etc/passwd", "http://"),
        ("javascript://example.com/", "http://"),
        ("http://", "no host"),
        ("http:///path", "no host"),
        ("http://?q", "no host"),
        ("http://:80/", "no host"),
        ("http://user@example.com/", "user name"),
        ("http://user:secret@example.com/", "user name"),
        ("http://@example.com/", "user name"),
        ("http://127.0.0.1:9\\@example.com/", "backslash"),
        ("http://example.com\\x", "backslash"),
        ("http://example.com/a b", "blank"),
        (" http://example.com/", "blank"),
        ("http://example.com/\u3000", "blank"),
        ("http://example.com/\u2028", "blank"),
        ("http://example.com/\r\nX: y", "blank"),
        ("http://example.com/\0", "control"),
        ("http://example.com/\x7f", "control"),
        ("http://example.com/\x80", "control"),
        ("http://example.com/\ud800", "control"),
        ("http://example.com:0/", "port"),
        ("http://example.com:/", "port"),
        ("http://example.com:65536/", "port"),
        ("http://example.com:-1/", "port"),
        ("http://example.com:+80/", "port"),
        ("http://example.com:٨٠/", "port"),
        ("http://example.com:80:80/", "port"),
        ("http://[::1]x/", "host"),
        ("http://[::1/", "host"),
        ("http://::1/", "no host"),
        ("http://[]/", "IPv6"),
        ("http://[fe80::1%25eth0]/", "zone"),
        ("http://[127.0.0.1]/", "IPv6"),
        ("http://a..example/", "empty part"),
        ("http://.example.com/", "empty part"),
        ("http://./", "empty part"),
        ("http://example.com../", "empty part"),
        (f"http://{'a' * 64}.example/", "too long"),
        (f"http://{'a.' * 127}example/", "too long"),
        (f"http://{'中' * 2000}/", "too long"),
        ("http://ex%61mple.com/", "character"),
        ("http://exam<ple.com/", "character"),
        ("http://faß.example/", "IDNA"),
        ("http://evil℀.example/", "character"),
        ("http://\u200b\u00ad.example/", "not a valid"),
    ],
)
def test_a_url_that_cannot_be_called_safely_is_refused(text: str, word: str) -> None:
    with pytest.raises(InvalidWebhookUrl, match=word):
        parse_webhook_url(text)


def test_a_url_may_have_2048_characters() -> None:
    url = "https://example.com/"
    longest = url + "a" * (MAX_LENGTH - len(url))
    assert parse_webhook_url(longest).url == longest
    with pytest.raises(InvalidWebhookUrl, match="2,049 characters"):
        parse_webhook_url(longest + "a")


@given(st.text() | st.from_regex(r"https?://[a-z0-9:@\[\].%ü/?#-]+", fullmatch=True))
def test_what_is_accepted_is_ascii_and_is_accepted_again_unchanged(text: str) -> None:
    try:
        parsed = parse_webhook_url(text)
    except InvalidWebhookUrl:
        return
    assert parsed.url.isascii()
    assert parse_webhook_url(parsed.url) == parsed


def test_a_refusal_does_not_repeat_the_url() -> None:
    with pytest.raises(InvalidWebhookUrl) as caught:
        parse_webhook_url("https://example.com:x/secret?token=secret")
    assert "secret" not in str(caught.value)


def test_a_redacted_url_has_neither_path_nor_query() -> None:
    shown = redacted("https://hooks.example.com:8443/secret?token=secret")
    assert shown.startswith("https://hooks.example.com:8443 (")
    assert "secret" not in shown
    assert shown != redacted("https://hooks.example.com:8443/other")


@given(st.text(st.characters()))
def test_redacting_never_fails(text: str) -> None:
    assert redacted(text)


def test_redacting_a_url_that_is_not_valid_shows_nothing_of_it() -> None:
    assert "secret" not in redacted("http://user:secret@example.com/")
    assert redacted("\ud800")
