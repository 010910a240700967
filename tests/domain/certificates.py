"""A certificate authority for a test, and what it certifies."""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from ipsecd_domain.tls import TlsFiles


@dataclass
class Authority:
    """Writes PEM files into a directory; ``ca.pem`` is the authority's own."""

    directory: Path
    addresses: Sequence[str] = tuple(f"127.0.0.{n}" for n in range(1, 5))

    def __post_init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "authority")])
        certificate = self._certificate(self._name, self._key, authority=True)
        self._write("ca", certificate.public_bytes(Encoding.PEM))

    def certify(self, name: str, file: str = "") -> TlsFiles:
        """A certificate for servers at the addresses, and for a client of that name."""
        file = file or name
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        certificate = self._certificate(subject, key, authority=False)
        self._write(f"{file}.key", pem)
        self._write(file, certificate.public_bytes(Encoding.PEM))
        return TlsFiles(*(str(self.directory / f"{n}.pem") for n in ("ca", file, f"{file}.key")))

    def server(self, files: TlsFiles) -> ssl.SSLContext:
        """For a server that wants a certificate of every client."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(files.certificate, files.key)
        context.load_verify_locations(files.ca)
        context.verify_mode = ssl.CERT_REQUIRED
        return context

    def _certificate(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, *, authority: bool
    ) -> x509.Certificate:
        now = datetime.now(UTC)
        addresses = [x509.IPAddress(ipaddress.ip_address(text)) for text in self.addresses]
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        )
        if not authority:
            builder = builder.add_extension(x509.SubjectAlternativeName(addresses), critical=False)
        return builder.sign(self._key, hashes.SHA256())

    def _write(self, name: str, data: bytes) -> None:
        (self.directory / f"{name}.pem").write_bytes(data)
