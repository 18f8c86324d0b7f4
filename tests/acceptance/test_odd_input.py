"""What is unusual and legal is taken, kept and given back as it is."""

import json
from typing import Any

import pytest

from tests.acceptance.server import NOWHERE, YEARLY, Api, Json, task_body

PAYLOADS = {
    "null": "null",
    "true": "true",
    "false": "false",
    "zero": "0",
    "negative zero": "-0.0",
    "empty string": '""',
    "empty array": "[]",
    "empty object": "{}",
    "empty key": '{"":{"":[]}}',
    "a float that is whole": "1.0",
    "a big float": "1e+22",
    "a small float": "5e-324",
    "the largest float": "1.7976931348623157e+308",
    "an integer beyond 64 bits": "123456789012345678901234567890",
    "unicode": '{"ключ":"значение 🎉 ü","e\u0301":"\u2028"}',
    "escapes": r'"\"\\/\b\f\n\r\t\u0001"',
    "key order": '{"z":1,"a":{"z":1,"a":2},"10":0,"9":0}',
    "keys with a meaning elsewhere": '{"__proto__":1,"constructor":{},"$ref":"#/a","id":null}',
    "mixed array": '[null,true,"",0,[],{},[[1.5]]]',
    "the depth that is allowed": "[" * 31 + "]" * 31,
    "looks like SQL": '"\'; DROP TABLE tasks; -- %s %(a)s :b ${c} {d}"',
}


def send(api: Api, text: str, content_type: str = "application/json") -> Any:
    return api("POST", "/tasks/", data=text.encode(), headers={"Content-Type": content_type})


def body_with_payload(payload: str) -> str:
    return json.dumps(task_body())[:-1] + f', "payload": {payload}}}'


@pytest.mark.parametrize("payload", PAYLOADS.values(), ids=PAYLOADS)
def test_every_json_value_is_a_payload_and_comes_back_letter_by_letter(api: Api, payload: str) -> None:
    answer = send(api, body_with_payload(payload))
    assert answer.status_code == 201, answer.text
    path = f"/tasks/{answer.json()['id']}"
    for text in (answer.text, api("GET", path).text, api("GET", "/tasks/").text):
        assert f'"payload":{payload}' in text
    again = api("PUT", path, data=answer.text.encode(), headers={"Content-Type": "application/json"})
    assert f'"payload":{payload}' in again.text
    assert again.json()["revision"] == 1


def test_a_large_payload_is_taken(api: Api) -> None:
    body = body_with_payload('{"text":"' + "ü" * 130_000 + '"}')
    assert send(api, body).json()["payload"] == {"text": "ü" * 130_000}


@pytest.mark.parametrize("name", ["x", "🎉" * 200, " ", " padded ", "a\nb\tc", "\u202eabc", "<b>&'\"%s{}"])
def test_every_text_of_1_to_200_characters_is_a_name(api: Api, name: str) -> None:
    task = api.create(name=name)
    assert api.get(f"/tasks/{task['id']}")["name"] == name


@pytest.mark.parametrize("number", ["3.0", "3e0", "30E-1", "3.000"])
def test_a_whole_number_may_be_written_as_a_float(api: Api, number: str) -> None:
    answer = send(api, json.dumps(task_body())[:-1] + f', "max_retry": {number}}}')
    assert '"max_retry":3,' in answer.text


@pytest.mark.parametrize("number", [0, 20])
def test_max_retry_goes_from_0_to_20(api: Api, number: int) -> None:
    assert api.create(max_retry=number)["max_retry"] == number


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json; charset=utf-8",
        "application/json;charset=UTF-8",
        "APPLICATION/JSON",
        "application/problem+json",
        "",
    ],
)
def test_json_may_be_announced_in_many_ways(api: Api, content_type: str) -> None:
    assert send(api, json.dumps(task_body()), content_type).status_code == 201


def test_blanks_and_escapes_of_json_are_understood(api: Api) -> None:
    text = f"""\r\n\t {{ "name" : "\\u0041\\ud83c\\udf89", "webhook_url"
        : "http:\\/\\/127.0.0.1:9\\/hook" , "\\u0073chedule":"{YEARLY}" }} \n"""
    answer = send(api, text)
    assert answer.status_code == 201, answer.text
    assert (answer.json()["name"], answer.json()["webhook_url"]) == ("A🎉", NOWHERE)


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com",
        "HTTPS://Example.COM/Path",
        "http://example.com:8080/a?b=c&d=%20e#f",
        "http://example.com:80?x=1",
        "http://bücher.example/ü?ü=ü",
        "http://xn--bcher-kva.example/",
        "http://[::1]:8080/hook",
        "http://[2001:DB8::1]/",
        "http://10.0.0.1/private",
        "http://localhost:3000/",
        "http://my_service.internal./x",
        "https://example.com/a//b/../c;d=e,f/@me:here",
        "https://example.com/?token=a%2Fb+c&x[]=1&e=a@b",
        "https://example.com/" + "a" * 2_000,
    ],
)
def test_a_webhook_url_is_kept_as_it_was_written(api: Api, url: str) -> None:
    task = api.create(webhook_url=url, status="inactive")
    assert api.get(f"/tasks/{task['id']}")["webhook_url"] == url


@pytest.mark.parametrize(
    "schedule",
    [
        "* * * * *",
        "*/5 * * * *",
        "0-30/10,45 */2 1,15 JAN-mar mon-FRI",
        "0 0 L * *",
        "0 9 * * 1#1",
        "0 9 * * 7",
        "  28   2 * *   *  ",
        "28\t2 * * *",
        "0 0 29 2 *",
        "5-5 0 * * *",
        "@hourly",
        "@DAILY",
        "@Midnight",
        "@weekly",
        "@monthly",
        "@yearly",
        "@annually",
    ],
)
def test_a_legal_schedule_is_kept_as_it_was_written(api: Api, schedule: str) -> None:
    task = api.create(schedule=schedule)
    assert task["next_run_at"] is not None
    assert api.get(f"/tasks/{task['id']}")["schedule"] == schedule


@pytest.mark.parametrize(
    "timezone", ["UTC", "Europe/Berlin", "America/St_Johns", "Pacific/Chatham", "Etc/GMT+5"]
)
def test_a_time_zone_is_an_iana_name(api: Api, timezone: str) -> None:
    assert api.create(timezone=timezone)["timezone"] == timezone


@pytest.mark.parametrize(
    "query",
    [
        "?limit=1&limit=2",
        "?unknown=1",
        "?skip=0&limit=1000",
        "?search=",
        "?",
        "?&&",
        "?skip=007",
        "?search=%2B+%26",
    ],
)
def test_a_query_that_is_odd_but_legal_is_answered(api: Api, query: str) -> None:
    assert api.ok("GET", f"/tasks/{query}")["total"] == 0


def test_a_request_id_is_returned_and_a_harmful_one_is_replaced(api: Api) -> None:
    assert api("GET", "/health", headers={"X-Request-Id": "my-id.1"}).headers["X-Request-Id"] == "my-id.1"
    for bad in ("a" * 200, "a b", "ü".encode().decode("latin-1"), '"<script>'):
        given = api("GET", "/health", headers={"X-Request-Id": bad}).headers["X-Request-Id"]
        assert given not in ("", bad)


def test_a_body_of_a_request_that_needs_none_is_ignored(api: Api) -> None:
    task = api.create()
    for method, path in (
        ("GET", "/tasks/"),
        ("GET", f"/tasks/{task['id']}"),
        ("DELETE", f"/tasks/{task['id']}"),
    ):
        assert api(method, path, data=b"{not json", headers={"Content-Type": "text/plain"}).status_code == 200


def test_a_page_of_large_payloads_is_answered(api: Api) -> None:
    tasks: list[Json] = [api.create(payload="x" * 250_000) for _ in range(8)]
    assert api.get("/tasks/", limit=8)["tasks"] == tasks
