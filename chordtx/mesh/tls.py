"""Encryption ``SSL`` of the protocol: TLS with a self-signed certificate that nobody verifies.

It keeps out who only listens, not who sits in between: that is the protocol's promise, not ours.
TLS 1.3, or 1.2 with suites that authenticate what they encrypt (AEAD); the older ones (CBC) can be attacked.
"""

from __future__ import annotations

import datetime
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from OpenSSL import SSL
from twisted.internet.interfaces import IAddress, IOpenSSLClientConnectionCreator
from twisted.internet.protocol import Factory
from twisted.internet.ssl import AcceptableCiphers, CertificateOptions, PrivateCertificate
from twisted.protocols.tls import TLSMemoryBIOFactory
from zope.interface import implementer

TLSError = SSL.Error
#: Of TLS 1.2: a fresh key for each link, and AEAD. Those of TLS 1.3 are all so, and need no naming.
_CIPHERS = AcceptableCiphers.fromOpenSSLCipherString(
    "TLS13-AES-256-GCM-SHA384:TLS13-CHACHA20-POLY1305-SHA256:TLS13-AES-128-GCM-SHA256:ECDHE+AESGCM:ECDHE+CHACHA20"
)
#: From always, for ever (RFC 5280, 4.1.2.5): nobody looks, and a node whose clock is wrong is to work too.
_NOT_BEFORE = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_NOT_AFTER = datetime.datetime(9999, 12, 31, 23, 59, 59, tzinfo=datetime.UTC)


def server_options() -> CertificateOptions:
    """A context for accepting, with a key and certificate made for this process alone."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "chordtx")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .not_valid_before(_NOT_BEFORE)
        .not_valid_after(_NOT_AFTER)
        .serial_number(x509.random_serial_number())
        .public_key(key.public_key())
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(Encoding.PEM) + key.private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    made = PrivateCertificate.loadPEM(pem)
    return CertificateOptions(
        privateKey=made.privateKey.original, certificate=made.original, acceptableCiphers=_CIPHERS
    )


class _AcceptingFactory(TLSMemoryBIOFactory):
    """Turns away what the wrapped factory turns away, which Twisted's would take for a protocol."""

    noisy = False

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """Twisted's: a connection came in."""
        wrapped = self.wrappedFactory.buildProtocol(addr)
        return None if wrapped is None else self.protocol(self, wrapped)


def accepting(factory: Factory[Any], reactor: Any) -> Any:
    """A factory that speaks TLS below ``factory``'s protocols."""
    return _AcceptingFactory(server_options(), False, factory, reactor)


@implementer(IOpenSSLClientConnectionCreator)
class UnverifyingClient:
    """For :func:`twisted.internet.endpoints.wrapClientTLS`: takes whatever certificate the server has."""

    def __init__(self) -> None:
        self._context = CertificateOptions(verify=False, acceptableCiphers=_CIPHERS).getContext()

    def clientConnectionForTLS(self, tlsProtocol: Any) -> SSL.Connection:
        """Twisted's: the connection for one client."""
        return SSL.Connection(self._context, None)
