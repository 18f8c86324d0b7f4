"""A certificate authority of the benchmark's own, trusted beside the public ones, and the receiver's certificate."""

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import certifi
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from tests.bench.webhooks import addresses


def make_certificates(directory: Path, hosts: int) -> tuple[Path, Path]:
    """What to trust (a whole bundle, as in life), and the receiver's certificate with its key, for each address."""
    authority_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    authority = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Benchmark authority")])
    sign = x509.BasicConstraints(ca=True, path_length=0)
    root = certificate_of(authority, authority, authority_key.public_key(), sign).sign(
        authority_key, hashes.SHA256()
    )
    all_addresses = ["127.0.0.1", *addresses(hosts)]
    names = x509.SubjectAlternativeName([x509.IPAddress(ip_address(one)) for one in all_addresses])
    receiver = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Benchmark receiver")])
    leaf = certificate_of(receiver, authority, key.public_key(), names).sign(authority_key, hashes.SHA256())
    trusted, served = directory / "trusted.pem", directory / "served.pem"
    trusted.write_bytes(Path(certifi.where()).read_bytes() + b"\n" + root.public_bytes(Encoding.PEM))
    served.write_bytes(
        leaf.public_bytes(Encoding.PEM) + key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    return trusted, served


def certificate_of(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, extension: x509.ExtensionType
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
    )
