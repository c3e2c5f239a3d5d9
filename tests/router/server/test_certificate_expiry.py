"""The end of a certificate is found in its file."""

from datetime import UTC, datetime

import pytest
import trustme

from leveret.router.server.certificate_expiry import certificate_end

AUTHORITY = trustme.CA()


@pytest.mark.parametrize(
    "end",
    [
        datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC),
        datetime(2049, 12, 31, 23, 59, 59, tzinfo=UTC),
        datetime(2050, 1, 1, tzinfo=UTC),
        datetime(2150, 6, 1, tzinfo=UTC),
    ],
)
def test_end_of_a_certificate(end):
    issued = AUTHORITY.issue_cert("localhost", not_after=end)
    pem = b"".join(blob.bytes() for blob in issued.cert_chain_pems).decode()
    assert certificate_end(f"text before it\n{pem}") == end.timestamp()


@pytest.mark.parametrize("text", ["", "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n"])
def test_what_is_no_certificate_is_refused(text):
    with pytest.raises(ValueError, match=r"certificate|unpack"):
        certificate_end(text)


def test_certificate_that_is_cut_off_is_refused():
    pem = AUTHORITY.cert_pem.bytes().decode().splitlines()
    with pytest.raises(ValueError, match=r"incomplete|unpack|padding"):
        certificate_end("\n".join([*pem[:3], pem[-1], ""]))
