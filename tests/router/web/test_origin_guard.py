import pytest

from leveret.protocol.http import HttpError, Request
from leveret.router.web.origin_guard import check_host, check_origin


def request(*, loopback: bool = True, **headers: str) -> Request:
    return Request("GET", "/", ("",), "", headers, loopback=loopback)


@pytest.mark.parametrize(
    ("host", "hosts", "fine"),
    [
        ("localhost", (), True),
        ("LocalHost:15672", (), True),
        ("broker.localhost:1", (), True),
        ("127.0.0.1:15672", (), True),
        ("127.1.2.3", (), True),
        ("[::1]:15672", (), True),
        ("evil.example", (), False),
        ("evil.example:15672", (), False),
        ("localhost.evil.example", (), False),
        ("evil-localhost", (), False),
        ("10.0.0.1", (), False),
        ("0.0.0.0", (), False),
        ("", (), False),
        ("user@localhost", (), False),
        ("localhost/x", (), False),
        ("localhost:x", (), False),
        ("[::1", (), False),
        ("broker.example:80", ("broker.example",), True),
        ("other.example", ("broker.example",), False),
        ("evil.example", ("*",), True),
    ],
)
def test_host(host, hosts, fine):
    if fine:
        check_host(request(host=host), hosts)
    else:
        with pytest.raises(HttpError) as caught:
            check_host(request(host=host), hosts)
        assert caught.value.status == 421


@pytest.mark.parametrize(
    ("origin", "host", "origins", "fine"),
    [
        (None, "broker.example", (), True),
        ("http://broker.example", "broker.example", (), True),
        ("https://broker.example", "broker.example", (), True),
        ("https://broker.example", "broker.example:443", (), True),
        ("http://broker.example:15672", "Broker.example:15672", (), True),
        ("http://broker.example:8080", "broker.example:15672", (), False),
        ("http://broker.example", "broker.example:15672", (), False),
        ("http://localhost:3000", "broker.example", (), True),
        ("http://127.0.0.1", "localhost:15672", (), True),
        ("http://[::1]:3000", "localhost:15672", (), True),
        ("https://evil.example", "broker.example", (), False),
        ("https://broker.example.evil.example", "broker.example", (), False),
        ("https://evil.example/broker.example", "broker.example", (), False),
        ("https://localhost.evil.example", "broker.example", (), False),
        ("https://broker.example, https://evil.example", "broker.example", (), False),
        ("null", "broker.example", (), False),
        ("", "", (), False),
        ("http://", "", (), False),
        ("file://localhost", "broker.example", (), False),
        ("http://h:99999", "h:99999", (), False),
        ("https://app.example", "broker.example", ("https://app.example",), True),
        ("http://app.example", "broker.example", ("https://app.example",), False),
        ("null", "broker.example", ("null",), True),
        ("https://evil.example", "broker.example", ("*",), True),
    ],
)
def test_origin(origin, host, origins, fine):
    headers = {"host": host} if origin is None else {"host": host, "origin": origin}
    if fine:
        check_origin(request(**headers), origins)
    else:
        with pytest.raises(HttpError) as caught:
            check_origin(request(**headers), origins)
        assert caught.value.status == 403


def test_a_client_without_a_host_header_is_no_browser():
    check_host(request(), ())


@pytest.mark.parametrize("origin", ["http://localhost:3000", "http://127.0.0.1", "http://[::1]:3000"])
def test_this_machine_is_that_of_the_browser(origin):
    check_origin(request(origin=origin, host="broker.example"), ())
    with pytest.raises(HttpError) as caught:
        check_origin(request(loopback=False, origin=origin, host="broker.example"), ())
    assert caught.value.status == 403
    check_origin(request(loopback=False, origin="http://broker.example", host="broker.example"), ())


def test_origins_are_compared_as_browsers_write_them():
    check_origin(request(origin="https://App.example", host="b"), ("https://app.example",))
