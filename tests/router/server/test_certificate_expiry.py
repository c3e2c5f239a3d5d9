"""The end of a certificate is found in its file."""

import os
from datetime import UTC, datetime

import pytest
import trustme

from leveret.router.server import certificate_expiry
from leveret.router.server.certificate_expiry import certificate_end, read_certificate_end

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


def test_a_file_that_cannot_be_read_again_has_no_known_end(tmp_path, monkeypatch):
    monkeypatch.setattr(certificate_expiry, "LARGEST", 100)
    AUTHORITY.cert_pem.write_to_path(str(tmp_path / "long"))
    os.mkfifo(tmp_path / "fifo")  # as "--set tls.certificate=<(...)" of a shell
    for name in ("long", "fifo", "missing", "."):
        assert read_certificate_end(str(tmp_path / name)) is None
