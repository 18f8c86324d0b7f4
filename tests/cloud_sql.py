"""A Cloud SQL instance on 127.0.0.0/8 in front of the embedded PostgreSQL: Google's Admin API and its proxy.

Refuses what the real ones refuse: calls without a token of the right scope, instances that are not there,
connections without a certificate that it signed, and logins as somebody else than the certificate was given to.
"""

import json
import random
import re
import socket
import ssl
import struct
import sys
import threading
from contextlib import ExitStack, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from tests.google_accounts import GoogleAccounts
from tests.receiver import Answer, Received, Receiver

PROJECT, REGION, NAME = "your-project-id", "europe-west1", "insignia"
INSTANCE = f"{PROJECT}:{REGION}:{NAME}"
PORT = 3307
HANGS_SECONDS = 30
ADMIN_SCOPE = "https://www.googleapis.com/auth/sqlservice.admin"
LOGIN_SCOPE = "https://www.googleapis.com/auth/sqlservice.login"
PATH = re.compile(
    r"/sql/v1(?:beta4)?/projects/([^/]+)/instances/([^/:]+)(/connectSettings|:generateEphemeralCert)"
)


class CloudSqlInstance:
    """A context manager; `status` is what the Admin API answers, `sessions` how many logins succeeded.

    While `api_answers` or `proxy_answers` is not set, that part of it hangs.
    """

    def __init__(self, google: GoogleAccounts, unix_socket: str, directory: Path) -> None:
        self.status = 200
        self.sessions = 0
        self.api_answers, self.proxy_answers = threading.Event(), threading.Event()
        self.api_answers.set()
        self.proxy_answers.set()
        self.admin = Receiver(self._answer)
        self.region = REGION
        # So that two of them do not meet: the port cannot be chosen.
        numbers = [random.randint(1, 254) for _ in range(3)] if sys.platform == "linux" else [0, 0, 1]
        self.address = ".".join(map(str, [127, *numbers]))
        self._google = google
        self._unix_socket = unix_socket
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self._certificate = self._sign("Cloud SQL Server CA", self._key.public_key())
        self._context = self._server_context(directory)
        self._undo = ExitStack()

    def __enter__(self) -> Self:
        self._listener = socket.create_server((self.address, PORT))
        self._acceptor = threading.Thread(target=self._accept)
        self._acceptor.start()
        self._undo.callback(self._stop_listening)
        self._undo.enter_context(self.admin)
        return self

    def __exit__(self, *_: object) -> None:
        self._undo.close()

    @property
    def api(self) -> str:
        return self.admin.url.removesuffix("/hook")

    def _stop_listening(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._acceptor.join()

    def _sign(self, name: str, public_key: rsa.RSAPublicKey) -> x509.Certificate:
        """A certificate for `name`; the first is that of the authority itself."""
        issuer = getattr(self, "_certificate", None)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer.subject if issuer else subject)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(minutes=1))
            .not_valid_after(now + timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
            .sign(self._key, hashes.SHA256())
        )

    def _server_context(self, directory: Path) -> ssl.SSLContext:
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        (directory / "key.pem").write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        (directory / "certificate.pem").write_text(pem(self._sign("insignia", key.public_key())))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_cert_chain(directory / "certificate.pem", directory / "key.pem")
        context.load_verify_locations(cadata=pem(self._certificate))
        context.verify_mode = ssl.CERT_REQUIRED
        return context

    def _answer(self, request: Received) -> Answer:
        self.api_answers.wait(HANGS_SECONDS)
        if self.status != 200:
            return refusal(self.status, "The Admin API is not in the mood.")
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if ADMIN_SCOPE not in self._google.access_tokens.get(token, ""):
            return refusal(401, "Request had invalid authentication credentials.")
        match = PATH.fullmatch(request.path)
        if match is None or match[2] != NAME:
            return refusal(404, "The Cloud SQL instance does not exist.")
        if match[1] != PROJECT:
            return refusal(403, "The client is not authorized to make this request.")
        if match[3] == "/connectSettings" and request.method == "GET":
            return 200, json.dumps(self._settings()).encode(), {"Content-Type": "application/json"}
        if match[3] == ":generateEphemeralCert" and request.method == "POST":
            return self._ephemeral_certificate(request)
        return refusal(404, "Not found.")

    def _settings(self) -> dict[str, object]:
        return {
            "kind": "sql#connectSettings",
            "serverCaCert": {"cert": pem(self._certificate)},
            "ipAddresses": [{"type": "PRIMARY", "ipAddress": self.address}],
            "region": self.region,
            "databaseVersion": "POSTGRES_18",
            "backendType": "SECOND_GEN",
        }

    def _ephemeral_certificate(self, request: Received) -> Answer:
        asked = request.json
        if self._google.access_tokens.get(asked.get("access_token", "")) != LOGIN_SCOPE:
            return refusal(400, "Invalid access token.")
        public_key = serialization.load_pem_public_key(asked["public_key"].encode())
        assert isinstance(public_key, rsa.RSAPublicKey)
        certificate = self._sign(self._google.account, public_key)
        answer = json.dumps({"ephemeralCert": {"cert": pem(certificate)}}).encode()
        return 200, answer, {"Content-Type": "application/json"}

    def _accept(self) -> None:
        while True:
            try:
                raw, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(raw,), daemon=True).start()

    def _serve(self, raw: socket.socket) -> None:
        with suppress(OSError), self._context.wrap_socket(raw, server_side=True) as client:
            peer = x509.load_der_x509_certificate(client.getpeercert(binary_form=True) or b"")
            (name,) = peer.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
            self.proxy_answers.wait(HANGS_SECONDS)
            head = receive(client, 8)
            length, protocol = struct.unpack("!ii", head)
            if protocol != 196608:
                return  # such as a request for TLS within TLS
            body = receive(client, length - 8)
            fields = body.split(b"\0")
            startup = dict(zip(fields[::2], fields[1::2], strict=False))
            user = startup[b"user"].decode()
            if user != str(name.value).removesuffix(".gserviceaccount.com"):
                client.sendall(
                    error_response("28000", f'Cloud SQL IAM user authentication failed for "{user}"')
                )
                return
            with socket.socket(socket.AF_UNIX) as server:
                server.connect(self._unix_socket)
                server.sendall(head + body)
                self.sessions += 1
                back = threading.Thread(target=pump, args=(server, client), daemon=True)
                back.start()
                pump(client, server)
                back.join()


def pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while chunk := source.recv(65536):
            sink.sendall(chunk)
    for end in (source, sink):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


def receive(client: ssl.SSLSocket, count: int) -> bytes:
    received = b""
    while len(received) < count:
        if not (chunk := client.recv(count - len(received))):
            raise ConnectionError
        received += chunk
    return received


def error_response(code: str, message: str) -> bytes:
    """As PostgreSQL sends it."""
    fields = "".join(f"{key}{value}\0" for key, value in (("S", "FATAL"), ("C", code), ("M", message)))
    body = fields.encode() + b"\0"
    return b"E" + struct.pack("!i", len(body) + 4) + body


def refusal(status: int, message: str) -> Answer:
    body = json.dumps({"error": {"code": status, "message": message}}).encode()
    return status, body, {"Content-Type": "application/json"}


def pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()
