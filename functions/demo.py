"""`python main.py --demo`: three tasks and a receiver, to watch deliveries, retries and a deactivation."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import requests

TASKS = {
    "Demo: succeeds every minute": "/succeeds",
    "Demo: fails twice, then succeeds": "/fails-twice",
    "Demo: fails until it is deactivated": "/fails",
}


@contextmanager
def demo(http: requests.Session, url: str) -> Iterator[None]:
    """Create the tasks, or point those of an earlier demo to this receiver, and receive until the end.

    Then the tasks are set to inactive: their receiver is gone.
    """
    with ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as receiver:
        threading.Thread(target=receiver.serve_forever, daemon=True).start()
        ids: list[str] = []
        for name, path in TASKS.items():
            task = {
                "name": name,
                "schedule": "* * * * *",
                "webhook_url": f"http://127.0.0.1:{receiver.server_port}{path}",
                "payload": {"from": "the demo"},
                "max_retry": 3,
                "status": "active",
            }
            found = http.get(f"{url}/tasks/", params={"search": name}, timeout=10).json()["tasks"]
            answer = (
                http.put(f"{url}/tasks/{found[0]['id']}", json=task, timeout=10)
                if found
                else http.post(f"{url}/tasks/", json=task, timeout=10)
            )
            answer.raise_for_status()
            ids.append(answer.json()["id"])
        print("The demo has 3 tasks; they are first called at the next full minute.\n", flush=True)
        try:
            yield
        finally:
            for task_id in ids:
                http.put(f"{url}/tasks/{task_id}", json={"status": "inactive"}, timeout=10)
            receiver.shutdown()


class Receiver(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        attempt = int(self.headers.get("X-Insignia-Attempt", 1))
        fails = self.path == "/fails" or (self.path == "/fails-twice" and attempt <= 2)
        status = 500 if fails else 200
        print(f"         receiver: POST {self.path}, attempt {attempt}: answers {status}", flush=True)
        body = b"as the demo wants it"
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """The line above is enough."""
