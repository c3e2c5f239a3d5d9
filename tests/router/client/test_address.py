import ssl

import pytest

from leveret.router.client.address import Address, parse_url
from leveret.router.client.errors import BadUrl


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("amqp://h", Address(host="h")),
        ("amqp://h/", Address(host="h")),
        ("amqp://h//", Address(host="h", vhost="/")),
        ("amqp://h/%2F", Address(host="h", vhost="/")),
        ("amqp://u:p%40s@h:1/a%2Fb", Address("h", 1, "u", "p@s", "a/b")),
        ("amqp://[::1]:5", Address(host="::1", port=5)),
        ("amqp://:@h", Address(host="h", user="", password="")),
        ("amqp://h?heartbeat=7&connection_timeout=1500", Address(host="h", heartbeat=7, timeout=1.5)),
    ],
)
def test_urls(url, address):
    assert parse_url(url) == address


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://h", "an AMQP URL is amqp://"),
        ("localhost:5672", "an AMQP URL is amqp://"),
        ("amqp://h:99999", "port"),
        ("amqp://h[::1", "host"),
        ("amqp://h\u2100", "host"),
        ("amqp://h?hartbeat=1", "unknown parameter 'hartbeat'"),
        ("amqp://h?heartbeat=-1", "heartbeat=-1"),
        ("amqps://h?verify=no", "verify=no"),
        ("amqps://h?cacertfile=/nowhere", "certificates"),
    ],
)
def test_what_is_wrong_with_a_url_is_said_without_the_password(url, said):
    with pytest.raises(BadUrl, match=said) as caught:
        parse_url(url.replace("://h", "://u:hidden@h"))
    assert "hidden" not in str(caught.value)


def test_tls_verifies_certificates_by_default():
    assert parse_url("amqps://h").port == 5671
    assert parse_url("amqps://h").tls.verify_mode is ssl.CERT_REQUIRED
    assert parse_url("amqps://h?verify=verify_none").tls.verify_mode is ssl.CERT_NONE


def test_an_address_is_shown_without_the_password():
    assert str(Address("::1", 1, "u", "secret", "a/b")) == "amqp://u@[::1]:1/a%2Fb"
