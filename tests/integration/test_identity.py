"""What each call says about itself, how it is signed, and what is shown of secrets: nothing."""

import base64
import json
import logging
import re
from datetime import UTC, datetime

import pytest
from sqlalchemy.exc import DBAPIError
from standardwebhooks import Webhook, WebhookVerificationError

from domain.task import Method
from functions import VERSION, schemas
from tests.integration.conftest import Insignia
from tests.receiver import Received, Receiver

PAYLOAD = {"ü": [1, 2.5, None], "a": "b"}
BODY = '{"ü":[1,2.5,null],"a":"b"}'.encode()
OLD_SECRET = "whsec_" + base64.b64encode(b"an old secret of the receiver").decode()
NEW_SECRET = "whsec_" + base64.b64encode(b"a new secret of the same receiver").decode()
OTHER_SECRET = "whsec_" + base64.b64encode(b"a secret that nobody has here").decode()
OF_TRANSPORT = {"Host", "Accept", "Content-Length"}


def verify(secret: str, request: Received) -> None:
    """Raises WebhookVerificationError unless the request was signed with the secret, just now."""
    headers = {name.lower(): value for name, value in request.headers.items()}
    Webhook(secret).verify(request.body or b"null", headers)


@pytest.mark.parametrize("method", Method)
def test_each_call_says_what_it_is(insignia: Insignia, method: Method) -> None:
    with Receiver() as receiver:
        task = insignia.create_due(receiver.url, method=method, payload=PAYLOAD)
        insignia.tick()
    (log,) = insignia.logs(task.id)
    (request,) = receiver.requests
    headers = dict(request.headers)
    assert request.method == method
    assert task.next_run_at is not None
    sent_at = datetime.fromtimestamp(int(headers.pop("webhook-timestamp")), UTC)
    assert abs((sent_at - log.execution_time).total_seconds()) <= 1
    assert re.fullmatch(rf"00-{log.id.hex}-(?!0{{16}})[0-9a-f]{{16}}-00", headers.pop("traceparent"))
    expected = {
        "webhook-id": str(log.id),
        "X-Insignia-Task-Id": str(task.id),
        "X-Insignia-Scheduled-For": task.next_run_at.isoformat().replace("+00:00", "Z"),
        "X-Insignia-Attempt": "1",
        "User-Agent": f"Insignia/{VERSION}",
    }
    if method.has_body:
        assert request.body == BODY
        assert headers["Content-Length"] == str(len(BODY))
        expected["Content-Type"] = "application/json"
    else:
        assert request.body == b""
        assert not headers.keys() & {"Content-Length", "Transfer-Encoding", "Content-Type"}
    assert {name: value for name, value in headers.items() if name not in OF_TRANSPORT} == expected


def test_methods_with_and_without_a_body_do_not_rub_off_on_each_other(insignia: Insignia) -> None:
    with Receiver() as receiver:
        for method in [*Method, *reversed(Method)]:
            task = insignia.create_due(receiver.url, method=method, payload={"method": method})
            insignia.tick()
            assert insignia.logs(task.id)[0].http_status == 200
        for method in [*Method, *reversed(Method)]:
            insignia.create_due(receiver.url, method=method, payload={"method": method})
        insignia.tick(concurrency=1)  # one after another over the same handle
    assert len(receiver.requests) == 20
    for request in receiver.requests:
        has_body = Method(request.method).has_body
        assert request.body == (b'{"method":"%s"}' % request.method.encode() if has_body else b"")
        assert ("Content-Length" in request.headers) == has_body


def test_headers_of_the_user_are_sent_and_take_the_place_of_ours(insignia: Insignia) -> None:
    with Receiver() as receiver:
        insignia.create_due(
            receiver.url,
            headers={
                "Authorization": "Bearer of-the-receiver",
                "content-type": "application/cloudevents+json; charset=utf-8",
                "USER-AGENT": "Backup/1.0",
                "Accept": "text/plain",
                "X-Tab": "a\tb",
            },
        )
        insignia.tick()
    (request,) = receiver.requests
    sent = [(name.lower(), value) for name, value in request.headers.items()]
    assert len(sent) == len(dict(sent))
    headers = dict(sent)
    assert headers["authorization"] == "Bearer of-the-receiver"
    assert headers["content-type"] == "application/cloudevents+json; charset=utf-8"
    assert headers["user-agent"] == "Backup/1.0"
    assert headers["accept"] == "text/plain"
    assert headers["x-tab"] == "a\tb"
    assert headers["webhook-id"]


@pytest.mark.parametrize("method", [Method.POST, Method.GET])
def test_a_call_is_signed_by_standard_webhooks(insignia: Insignia, method: Method) -> None:
    with Receiver() as receiver:
        insignia.create_due(receiver.url, method=method, payload=PAYLOAD, signing_secrets=(OLD_SECRET,))
        insignia.tick()
    (request,) = receiver.requests
    if method.has_body:
        verify(OLD_SECRET, request)
        with pytest.raises(WebhookVerificationError):
            verify(OTHER_SECRET, request)
    else:  # the peer parses what it has verified, and nothing is no JSON
        signature = Webhook(OLD_SECRET).sign(
            request.headers["webhook-id"],
            datetime.fromtimestamp(int(request.headers["webhook-timestamp"]), UTC),
            "",
        )
        assert request.headers["webhook-signature"] == signature


def test_while_rotating_either_secret_verifies_each_attempt(insignia: Insignia) -> None:
    statuses = [500, 200]
    with Receiver(lambda _: (statuses.pop(0), b"")) as receiver:
        insignia.create_due(
            receiver.url, payload=PAYLOAD, max_retry=1, signing_secrets=(NEW_SECRET, OLD_SECRET)
        )
        insignia.tick()
    first, second = receiver.requests
    for request in (first, second):
        verify(NEW_SECRET, request)
        verify(OLD_SECRET, request)
        assert len(request.headers["webhook-signature"].split(" ")) == 2
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert [one.headers["X-Insignia-Attempt"] for one in (first, second)] == ["1", "2"]
    assert int(second.headers["webhook-timestamp"]) >= int(first.headers["webhook-timestamp"]) + 1


def test_the_attempts_of_a_run_are_spans_of_one_trace(insignia: Insignia) -> None:
    statuses = [500, 200]
    with Receiver(lambda _: (statuses.pop(0), b"")) as receiver:
        insignia.create_due(receiver.url, max_retry=1)
        insignia.tick()
    (log,) = insignia.logs()
    parents = [request.headers["traceparent"].split("-") for request in receiver.requests]
    assert [trace_id for _, trace_id, _, _ in parents] == [log.id.hex] * 2
    assert len({span_id for _, _, span_id, _ in parents}) == 2


def test_a_trace_context_of_the_task_takes_the_place_of_ours(insignia: Insignia) -> None:
    own = {"TraceParent": f"00-{'a' * 32}-{'b' * 16}-01", "tracestate": "vendor=1"}
    with Receiver() as receiver:
        insignia.create_due(receiver.url, headers=own)
        insignia.tick()
    (request,) = receiver.requests
    sent = [(name, value) for name, value in request.headers.items() if name.lower().startswith("trace")]
    assert sorted(sent) == sorted(own.items())


def test_a_task_without_a_secret_is_not_signed(insignia: Insignia) -> None:
    with Receiver() as receiver:
        insignia.create_due(receiver.url)
        insignia.tick()
    assert "webhook-signature" not in receiver.requests[0].headers


def test_secrets_appear_in_no_log_no_message_and_no_answer(
    insignia: Insignia, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    secrets = [
        "path-of-the-receiver",
        "key-in-the-query",
        "Bearer-of-the-receiver",
        OLD_SECRET.removeprefix("whsec_"),
        NEW_SECRET.removeprefix("whsec_"),
    ]
    statuses = [500, 429, 410, 200]
    with Receiver(lambda request: (statuses[int(request.path[-1])], b"")) as receiver:
        urls = [f"{receiver.url}/{secrets[0]}?key={secrets[1]}&{n}" for n in range(4)]
        gone = receiver.url.replace("127.0.0.1", "127.0.0.2")
        for url in [*urls, "http://10.0.0.1/path-of-the-receiver?key-in-the-query", gone + "/" + secrets[0]]:
            insignia.create_due(
                url,
                headers={"Authorization": secrets[2]},
                signing_secrets=(OLD_SECRET, NEW_SECRET),
                max_retry=0,
            )
        insignia.execute(
            "UPDATE tasks SET signing_secrets = '[\"whsec_\"]' WHERE webhook_url = :url", url=gone
        )
        insignia.tick()
        shown = [caplog.text]
        for log in insignia.logs():
            shown += [json.dumps(schemas.TaskLog.model_validate(log).model_dump(mode="json"))]
            task = schemas.Task.of(insignia.task(log.task_id)).model_dump(mode="json")
            assert "signing_secret" not in " ".join(task)
            shown += [str(task["deactivated_reason"]), str(task["name"])]
            assert not any(secret in json.dumps(task) for secret in secrets[3:])
    assert len(shown) == 1 + 6 * 3
    for secret in secrets:
        assert not any(secret in text for text in shown)


def test_an_error_of_the_database_shows_no_values(insignia: Insignia) -> None:
    with pytest.raises(DBAPIError) as caught:
        insignia.create(
            "http://127.0.0.1/path-of-the-receiver",
            headers={"Authorization": "Bearer-of-the-receiver"},
            signing_secrets=(OLD_SECRET,),
            max_retry=99,
        )
    for shown in (str(caught.value), repr(caught.value.orig)):
        assert "tasks_max_retry_range" in shown
        assert "of-the-receiver" not in shown
        assert OLD_SECRET not in shown
