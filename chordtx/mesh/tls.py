"""Encryption ``SSL`` of the protocol: TLS with a self-signed certificate that nobody verifies.

It keeps out who only listens, not who sits in between: that is the protocol's promise, not ours.
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
from twisted.internet.ssl import CertificateOptions, PrivateCertificate
from twisted.protocols.tls import TLSMemoryBIOFactory
from zope.interface import implementer

TLSError = SSL.Error
_VALID = datetime.timedelta(days=3650)


def server_options(now_seconds: float) -> CertificateOptions:
    """A context for accepting, with a key and certificate made for this process alone.

    :param now_seconds: UTC, seconds since 1970.
    """
    now = datetime.datetime.fromtimestamp(now_seconds, datetime.UTC)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "chordtx")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + _VALID)
        .serial_number(x509.random_serial_number())
        .public_key(key.public_key())
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(Encoding.PEM) + key.private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    options: CertificateOptions = PrivateCertificate.loadPEM(pem).options()
    return options


class _AcceptingFactory(TLSMemoryBIOFactory):
    """Turns away what the wrapped factory turns away, which Twisted's would take for a protocol."""

    noisy = False

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """Twisted's: a connection came in."""
        wrapped = self.wrappedFactory.buildProtocol(addr)
        return None if wrapped is None else self.protocol(self, wrapped)


def accepting(factory: Factory[Any], reactor: Any) -> Any:
    """A factory that speaks TLS below ``factory``'s protocols."""
    return _AcceptingFactory(
        server_options(getattr(reactor, "wall_seconds", reactor.seconds)()), False, factory, reactor
    )


@implementer(IOpenSSLClientConnectionCreator)
class UnverifyingClient:
    """For :func:`twisted.internet.endpoints.wrapClientTLS`: takes whatever certificate the server has."""

    def __init__(self) -> None:
        self._context = CertificateOptions(verify=False).getContext()

    def clientConnectionForTLS(self, tlsProtocol: Any) -> SSL.Connection:
        """Twisted's: the connection for one client."""
        return SSL.Connection(self._context, None)
