"""Expiry date of a certificate, read from its PEM file; Python's ssl module has no function for that.

Responsible for the few fields of X.509 (RFC 5280, 4.1) that precede the date, in DER; nothing is verified
here.
"""

import os
import re
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import structlog

from leveret.router.store.files import open_regular

LARGEST = 1 << 20  # characters of a file that are searched for the certificate

_FIRST = re.compile(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)
_VERSION, _UTC_TIME, _GENERALIZED_TIME = 0xA0, 0x17, 0x18


def read_certificate_end(path: str) -> int | None:
    """Return when the certificate in a file expires, in seconds since the epoch; None if that is unknown.

    A certificate that came through a pipe cannot be read again.
    """
    try:
        descriptor = open_regular(Path(path), os.O_RDONLY)
        with os.fdopen(descriptor, encoding="latin-1") as file:
            return certificate_end(file.read(LARGEST))
    except (OSError, ValueError) as error:
        log = structlog.get_logger()
        log.warning("expiry of the certificate is unknown", certificate=path, error=str(error))
        return None


def certificate_end(pem: str) -> int:
    """Return when the first certificate of a PEM file expires, in seconds since the epoch. Raises ValueError
    if there is none.
    """
    found = _FIRST.search(pem)
    if found is None:
        raise ValueError("the file has no certificate")
    try:
        (_, certificate), *_ = _fields(ssl.PEM_cert_to_DER_cert(found[0]))
        (_, signed), *_ = _fields(certificate)
        fields = [field for field in _fields(signed) if field[0] != _VERSION]
        _serial, _algorithm, _issuer, (_, validity), *_ = fields
        _, (tag, end), *_ = _fields(validity)
    except IndexError:
        raise ValueError("the certificate is incomplete") from None
    return _time(tag, end.decode("ascii"))


def _fields(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the fields of a sequence: tag and content. Raises IndexError for an incomplete field."""
    offset = 0
    while offset < len(data):
        tag, size = data[offset], data[offset + 1]
        offset += 2
        if size & 0x80:
            count = size & 0x7F
            size = int.from_bytes(data[offset : offset + count], "big")
            offset += count
        if offset + size > len(data):
            raise IndexError("a field is longer than the data")
        yield tag, data[offset : offset + size]
        offset += size


def _time(tag: int, text: str) -> int:
    """Parse a time of either form; a year of two digits is one from 1950 to 2049."""
    if tag == _UTC_TIME:
        text = ("19" if text[:2] >= "50" else "20") + text
    elif tag != _GENERALIZED_TIME:
        raise ValueError("the certificate has no expiry date")
    return int(datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp())
