"""When a certificate ends, read from its file: Python's ssl tells that of certificates of others only.

Owns the few fields of X.509 that stand before it (RFC 5280, 4.1), in DER; nothing is verified here.
"""

import re
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime

_FIRST = re.compile(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)
_VERSION, _UTC_TIME, _GENERALIZED_TIME = 0xA0, 0x17, 0x18


def certificate_end(pem: str) -> int:
    """When the first certificate of a PEM file ends, in seconds since the epoch. ValueError for none."""
    found = _FIRST.search(pem)
    if found is None:
        raise ValueError("there is no certificate")
    try:
        (_, certificate), *_ = _fields(ssl.PEM_cert_to_DER_cert(found[0]))
        (_, signed), *_ = _fields(certificate)
        fields = [field for field in _fields(signed) if field[0] != _VERSION]
        _serial, _algorithm, _issuer, (_, validity), *_ = fields
        _, (tag, end), *_ = _fields(validity)
    except IndexError:
        raise ValueError("the certificate is cut off") from None
    return _time(tag, end.decode("ascii"))


def _fields(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The fields of a sequence: tag and content. IndexError when one is cut off."""
    offset = 0
    while offset < len(data):
        tag, size = data[offset], data[offset + 1]
        offset += 2
        if size & 0x80:
            count = size & 0x7F
            size = int.from_bytes(data[offset : offset + count], "big")
            offset += count
        if offset + size > len(data):
            raise IndexError("a field is longer than what is there")
        yield tag, data[offset : offset + size]
        offset += size


def _time(tag: int, text: str) -> int:
    """A time of either form; a year of two digits is one from 1950 to 2049."""
    if tag == _UTC_TIME:
        text = ("19" if text[:2] >= "50" else "20") + text
    elif tag != _GENERALIZED_TIME:
        raise ValueError("the certificate has no end")
    return int(datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp())
