"""Certificates of brokers and clients for the tests of TLS."""

import ssl
from pathlib import Path

import trustme

AUTHORITY = trustme.CA()
STRANGER = trustme.CA()


def certificate_files(directory: Path) -> dict[str, str]:
    """Write the broker's certificate, and that of the authority of clients; return the settings of TLS."""
    certificate = AUTHORITY.issue_cert("localhost", "127.0.0.1")
    paths = {name: str(directory / name) for name in ("certificate", "key", "client_ca")}
    for blob in certificate.cert_chain_pems:
        blob.write_to_path(paths["certificate"], append=True)
    certificate.private_key_pem.write_to_path(paths["key"])
    AUTHORITY.cert_pem.write_to_path(paths["client_ca"])
    return paths


def client_context(user: str | None = None, authority: trustme.CA = AUTHORITY) -> ssl.SSLContext:
    """A client that trusts the broker, and has a certificate with this common name."""
    context = ssl.create_default_context()
    AUTHORITY.configure_trust(context)
    if user is not None:
        authority.issue_cert(common_name=user).configure_cert(context)
    return context
