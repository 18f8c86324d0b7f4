"""What people and programs that mean harm send: bodies, values, addresses, headers, paths and queries.

test_hostile_corpus.py sends all of it to every route; other tests hold what the answer to some of it says. Add here
what has ever done harm anywhere.
"""

from base64 import urlsafe_b64encode
from typing import Any

MALFORMED = {
    "empty": b"",
    "blank": b" \n ",
    "no JSON": b"name=x",
    "a half object": b'{"name": "x"',
    "a half string": b'{"name": "x',
    "a trailing comma": b'{"name": "x",}',
    "two values": b"{} {}",
    "a comment": b"{} // yes",
    "single quotes": b"{'name': 'x'}",
    "a line break in a string": b'{"name": "a\nb"}',
    "NaN": b'{"name": "x", "payload": NaN}',
    "Infinity": b'{"payload": [-Infinity]}',
    "a leading zero": b'{"max_retry": 03}',
    "a plus": b'{"max_retry": +3}',
    "hexadecimal": b'{"max_retry": 0x3}',
    "a bad escape": rb'{"name": "\x41"}',
    "Latin-1": '{"name": "ü"}'.encode("latin-1"),
    "UTF-16": '{"name": "x"}'.encode("utf-16"),
    "a byte order mark": b'\xef\xbb\xbf{"name": "x"}',
    "overlong UTF-8": b'{"name": "\xc0\x80"}',
    "an encoded surrogate": b'{"name": "\xed\xa0\x80"}',
    "a raw NUL": b'{"name": "a\x00b"}',
    "only brackets": b"[" * 30,
}
LEGAL_JSON_THAT_CANNOT_BE_KEPT = {
    "an escaped NUL": '"a\\u0000b"',
    "a NUL in a key": '{"a\\u0000": 1}',
    "a lone surrogate": '"\\ud800"',
    "a lone low surrogate in a key": '{"\\udc00": 1}',
    "surrogates in the wrong order": '"\\udc00\\ud800"',
    "a number beyond double": "1e400",
    "an integer beyond double": "1" + "0" * 400,
    "thousands of digits": "9" * 5_000,
    "a key twice": '{"a": 1, "a": 2}',
    "a key twice, once escaped": '{"a": 1, "\\u0061": 2}',
    "too deep": "[" * 32 + "]" * 32,
    "too deep by objects": '{"a":' * 32 + "1" + "}" * 32,
    "far too deep": "[" * 100_000 + "]" * 100_000,
}
NOT_AN_OBJECT = ["null", "[]", '"text"', "1", "true", "[{}]"]
BAD_FIELDS: dict[str, list[Any]] = {
    "name": [None, "", 5, [], {}, True, "x" * 201, "🎉" * 201],
    "schedule": [
        *(None, "", " ", 5, [], "* * * *", "* * * * * *", "* * * * * * *", "61 * * * *", "* 24 * * *"),
        *("* * 0 * *", "* * * 13 *", "* * * * 8", "-1 * * * *", "5/15 * * * *", "*/90 * * * *"),
        *("30-10 * * * *", "R * * * *", "H * * * *", "@reboot", "@every 5m", "0 0 30 2 *", "0 0 31 2,4,6 *"),
        *("* * * * MON#6", "١ * * * *"),
        "9" * 5_000 + " * * * *",
        "0," * 60 + "0 * * * *",
        "* * * * *; DROP TABLE tasks",
        "TZ=UTC * * * * *",
    ],
    "notify_url": [
        "",
        5,
        [],
        "example.com/alerts",
        "ftp://example.com/",
        "http://user:password@example.com/",
        "/…",
    ],
    "webhook_url": [
        *(None, "", 5, {}, "example.com/hook", "ftp://example.com/", "file:///etc/passwd"),
        *("javascript:alert(1)", "http://", "http:///path", "http://:80/"),
        *("http://user:password@example.com/", "http://example.com\\@127.0.0.1/", "http://exa mple.com/"),
        *("http://example.com/a b", " http://example.com/", "http://example.com/\r\nX: y"),
        *("http://example.com:0/", "http://example.com:65536/", "http://example.com:x/", "http://[::1/"),
        *("http://[fe80::1%25eth0]/", "http://a..b/"),
        "http://" + "a" * 300 + ".example/",
        "http://example.com/" + "a" * 5_000,
        "http://\u2028/",
        "http://%31%32%37.0.0.1/",
    ],
    "max_retry": [None, "3", -1, 21, 2**63, -(2**70), 2.5, True, [], {}, 1e300],
    "status": [None, "", "ACTIVE", "paused", "completed", 1, True, [], {}],
    "timezone": [
        *(None, "", "Mars/Olympus", "../etc/passwd", "/etc/localtime", "utc\n", 1, {}, "x" * 5_000),
        "CEST+2",
    ],
}

VALUES: list[Any] = [
    *(None, True, False, 0, -1, 1.5, 2**31, 2**63, -(2**63) - 1, 1e308, 5e-324),
    *("", " ", "\t\n", "null", "NaN", "undefined", "0x10", "\u202e\u2066", "\ufeff", "\u0085", "\x7f\x1b[2J"),
    "' OR 1=1 --",
    '"; DROP TABLE tasks; --',
    *("%s%n%x", "{0.__class__}", "{{7*7}}", "${jndi:ldap://127.0.0.1/x}"),
    *("../../etc/passwd", "C:\\con", "<script>alert(1)</script>", "`id`", "$(id)", "; id", "=1+1", "@SUM(1)"),
    *("x" * 10_000, "🎉" * 3_000, "e\u0301" * 500, "\u0645\u0631\u062d\u0628\u0627"),
    *([], [[]], [None] * 1_000, {}, {"": ""}, {"__proto__": {}}, {"$ref": "#/"}, {"a": {"b": [{}]}}),
]

SCHEDULES: list[Any] = [
    *BAD_FIELDS["schedule"],
    *("* * * * *", "*/1 * * * *", "0-59 0-23 1-31 1-12 0-7", "59 23 31 12 7", "0 0 29 2 *", "* * L * 1#5"),
    *("0 0 29 2 SUN#5", "* * * * 0-7", "@YEARLY", "0,0,0,0 * * * *", "00000 * * * *", "1-1 * * * *"),
    *("* * * * *\n", "*\u00a0* * * *", "* * * * *\0", "*/0 * * * *", "*/-1 * * * *", "*/1e9 * * * *"),
    *("1-59/59 * * * *", "0-0/1 * * * *", "* * 31 2 *", "* * 31 2 1", "L L L L L", "? ? ? ? ?", "W * * * *"),
    *("*" * 100, "*,*,*,* * * * *", "1--2 * * * *", ",,, * * * *", "1,,2 * * * *", "JAN * * * *"),
    "* * * mon *",
    *("@", "@@daily", "@daily @daily", "%H %M * * *", "* * * * * # comment", "\u0661 \u0662 * * *"),
]

ZONES: list[Any] = [
    *BAD_FIELDS["timezone"],
    *("UTC", "utc", "Etc/GMT+12", "Etc/GMT-14", "Antarctica/Troll", "Pacific/Chatham", "Australia/Lord_Howe"),
    *("Africa/Monrovia", "America/Sao_Paulo", "Europe/Berlin\0", "Europe/../Europe/Berlin", "./UTC", "UTC/"),
    *("posix/UTC", "right/UTC", "posixrules", "localtime", "Factory", "tzdata.zi", "zone.tab", "__init__.py"),
    *("+02:00", "GMT+2", "CET-1CEST", ":UTC", "%2e%2e", "Europe\\Berlin", "\u0415urope/Berlin", "a/" * 50),
]

WEBHOOK_URLS: list[Any] = [
    *BAD_FIELDS["webhook_url"],
    *("http://169.254.169.254/computeMetadata/v1/", "http://[fd00:ec2::254]/", "http://100.100.100.200/"),
    *("http://10.0.0.1/", "http://192.168.0.1:22/", "http://[64:ff9b::a9fe:a9fe]/"),
    *("http://[2002:a9fe:a9fe::]/", "gopher://127.0.0.1:25/_x", "dict://127.0.0.1/", "ldap://127.0.0.1/"),
    *("data:text/plain,x", "//127.0.0.1/", "http:127.0.0.1", "http:/127.0.0.1", "http:\\\\127.0.0.1"),
    *("http://a@127.0.0.1/", "http://127.0.0.1#@b/", "http://127.0.0.1\t/", "http://127.0.0.1\0/"),
    *("h\u0442tp://a/", "HTTP://", "http://.", "http://../", "http://-/", "http://xn--/", "http://xn--a-/"),
    "http://" + "a." * 130,
    *("http://a:00000000080/", "http://a:+80/", "http://a:/", "http://[::1%25lo]/", "http://[v1.a]/"),
    *("http://[]/", "http://]/", "http://[::ffff:1.2.3]/", "http://1.2.3/", "http://a/\u2028", "http://a/%"),
    "http://a/%zz",
    "http://a/?" + "x" * 2_100,
    "http://\u00df/",
    "http://\u200d/",
]
"""Not to be called by a test: some lead away from this machine."""

HERE = [
    *("127.0.0.1", "127.1", "127.0.1", "2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1", "127.0.0.1."),
    "0.0.0.0",
    *("0", "localhost", "LOCALHOST", "localhost.", "[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]"),
    *("[0:0:0:0:0:0:0:1]", "[::127.0.0.1]", "\uff11\uff12\uff17.0.0.1"),
    *("127\u30020\u30020\u30021", "\u2460\u2461\u2466.0.0.1", "metadata.google.internal"),
    *("METADATA.google.internal.", "metadata"),
]
"""Hosts that are this machine, or are refused by their names."""

OWN_HEADERS: list[Any] = [
    *({"Host": "a"}, {"Content-Length": "0"}, {"Transfer-Encoding": "chunked"}, {"Connection": "X"}),
    *({"TE": "a"}, {"Proxy-Authorization": "a"}, {"Metadata-Flavor": "Google"}),
    *({"webhook-signature": "v1,x"}, {"Expect": "a"}, {"X-Insignia-Attempt": "9"}, {"hOsT": "a"}, {"": "a"}),
    *({"a": ""}, {"a b": "c"}, {"a:": "b"}, {"a": " b"}, {"a\r\nb": "c"}, {"a": "b\r\nc: d"}, {"a": "b\nc"}),
    *({"a": "b\0"}, {"a": "\u00fc"}, {"\u00fc": "a"}, {"a": 1}),
    *({"a": "1", "A": "2"}, {"a": None}, {"a": ["b"]}, {f"a{number}": "b" for number in range(100)}),
    *({"a" * 9_000: "b"}, {"a": "b" * 9_000}, {"a": "\x7f"}, {"a": "\u2028"}, {"__proto__": "a"}),
    [["a", "b"]],
]

SEGMENTS = [
    *("..", "%2e%2e", "%2f", "%5c", "%00", "%0d%0aX-A:%20b", "%ff", "%ed%a0%80", "%c0%ae", "%", "%zz", "*"),
    *(";", "'"),
    *("0", "-1", "null", "undefined", "test", "run", "{task_id}", "%7btask_id%7d", "%F0%9F%8E%89", "a" * 500),
    *("00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff"),
    *("%7B0b0e7a52-6d0f-4d5e-9a53-1f6d2a1c7f10%7D", "urn:uuid:0b0e7a52-6d0f-4d5e-9a53-1f6d2a1c7f10"),
    *("0b0e7a526d0f4d5e9a531f6d2a1c7f10", "0b0e7a52-6d0f-4d5e-9a53-1f6d2a1c7f10%00"),
    "0b0e7a52-6d0f-4d5e-9a53",
    *("0b0e7a52-6d0f-4d5e-9a53-1f6d2a1c7f1%D9%A3", "+b0e7a52-6d0f-4d5e-9a53-1f6d2a1c7f10", "x' OR '1'='1"),
]
"""Of paths, where an id is expected."""


def page_token(text: str) -> str:
    return urlsafe_b64encode(text.encode()).decode().rstrip("=")


QUERY_VALUES = [
    *("", "0", "-1", "-0", "00", "+1", "1.0", "1e9", "0x10"),
    str(2**31),
    str(2**63 - 1),
    str(2**63),
    *("9" * 3_000, "\u0663", "NaN", "Infinity", "null", "true", "[]", "{}", "\0", "a\0b", "%", "_", "\\"),
    *("%\\_", "' OR 1=1 --"),
    "\ud83d\ude00".encode("utf-16", "surrogatepass").decode("utf-16"),
    *("\u202e", "\ufeff", "x" * 201, "x" * 2_500, "2026-13-45T99:99:99Z", "0001-01-01T00:00:00+23:59"),
    *("9999-12-31T23:59:59-23:59", "2026-02-30T00:00:00Z", "2026-W01", "1"),
    *("2026-01-01T00:00:00.1234567890123Z", "T", "-2026-01-01T00:00:00Z", "2026-01-01T24:00:00Z", "success"),
    *("ACTIVE", "running,failed", "0b0e7a52-6d0f-4d5e-9a53-1f6d2a1c7f10", "name", "-name", "id;DROP"),
    *("====", "!!!!", "AAAA", "_" * 2_000, page_token("[]"), page_token("{}"), page_token("null")),
    page_token("[" * 900),
    page_token('["created_at","2026-01-01T00:00:00Z","0b0e7a52-6d0f-4d5e-9a53-1f6d2a1c7f10"]'),
    page_token('["created_at","9999-12-31T23:59:59-23:59","0b0e7a52-6d0f-4d5e-9a53-1f6d2a1c7f10"]'),
    page_token('["created_at",1e400,"0b0e7a52-6d0f-4d5e-9a53-1f6d2a1c7f10"]'),
    page_token('["name","\\u0000","0b0e7a52-6d0f-4d5e-9a53-1f6d2a1c7f10"]'),
    page_token('["name","\\ud800","0b0e7a52-6d0f-4d5e-9a53-1f6d2a1c7f10"]'),
    page_token('["-name",["a"],"0b0e7a52-6d0f-4d5e-9a53-1f6d2a1c7f10"]'),
    page_token('["name; DROP TABLE tasks","a","b"]'),
]

TAGS_AND_KEYS = [
    b"",
    b'"',
    b'""',
    b'"a',
    *(b"*", b"**", b"W/"),
    b'W/"a"',
    b'"1-',
    b'"1"',
    b'"1","2"',
    b'"' * 999,
    b"\xff\xfe",
    *(b'"99999999999999999999-a"', b'"-1-a"', b"a" * 5_000, b"a\tb", b"\\", b", , ,", b'"a",' * 500, b"null"),
]
REQUEST_HEADERS: dict[str, list[bytes]] = {
    "Idempotency-Key": TAGS_AND_KEYS,
    "If-Match": TAGS_AND_KEYS,
    "If-None-Match": TAGS_AND_KEYS,
    "Content-Type": [
        *(b"", b"*/*", b"text/plain", b"application/json; charset=utf-7"),
        b"application/json,application/json",
        *(b"multipart/form-data", b"application/x-www-form-urlencoded", b"\xff", b";", b"application/json;"),
        *(b"application/" + b"a" * 5_000 + b"+json", b"application/json;" + b"a=b;" * 500),
    ],
    "Content-Encoding": [b"gzip", b"identity", b"br, gzip", b"\xff", b"x" * 5_000],
    "X-Request-Id": [b"", b"a b", b"\xff", b"x" * 5_000, b"<script>", b"a;b", b"../..", b"%0d%0a"],
    "Authorization": [
        *(b"", b"Bearer", b"Bearer ", b"Bearer  a", b"bearer \xff", b"Basic YTpi", b"Bearer " + b"a" * 7_000),
        *(b"Bearer null", b"Negotiate", b"Bearer a, Bearer b", b"Digest username=a", b"AWS4-HMAC-SHA256 a"),
    ],
    "traceparent": [b"", b"00-0-0-0", b"\xff", b"00-" + b"a" * 5_000, b"00-%s-%s-%s"],
    "X-Cloud-Trace-Context": [b"", b"/", b"a/b;o=", b"\xff", b"x" * 5_000, b'"/1'],
    "Origin": [b"null", b"*", b"http://a.example", b"\xff", b"file://", b"x" * 5_000],
    "Access-Control-Request-Method": [b"DELETE", b"\xff"],
    "Accept": [b"", b"text/html", b"*/*;q=", b"\xff", b"a/b," * 1_000],
    "Accept-Language": [b"*", b"\xff"],
    "Range": [b"bytes=0-0", b"bytes=-1", b"bytes=" + b"0-," * 1_000],
    "X-HTTP-Method-Override": [b"DELETE", b"\xff"],
    "X-Forwarded-For": [b"127.0.0.1", b"' OR 1=1 --", b"\xff"],
    "X-Forwarded-Host": [b"a.example", b"\xff"],
    "Forwarded": [b"for=_x;host=a", b'for="'],
    "Cookie": [b"a", b"session=" + b"a" * 5_000, b"\xff", b"a=b; " * 1_000],
}
