"""The first line of a request, by which a standby decides to answer or to relay."""

import pytest

from leveret.router.server.standby_site import LINE_MAX, request_path


@pytest.mark.parametrize(
    ("data", "path"),
    [
        (b"", None),
        (b"GET /health", None),
        (b"GET /health HTTP/1.1\r", None),
        (b"GET /health HTTP/1.1\r\n", "/health"),
        (b"GET /health HTTP/1.1\nHost: x\n\n", "/health"),
        (b"\r\n\r\nHEAD /metrics?a=b HTTP/1.1\r\n", "/metrics"),
        (b"GET /api/queues/%2F HTTP/1.1\r\n", "/api/queues/%2F"),
        (b"GET http://host/health HTTP/1.1\r\n", "http://host/health"),
        (b"GET /health\r\n", ""),
        (b"AMQP\x00\x00\x09\x01\n", ""),
        (b"\xff \xff \xff\n", "\xff"),
        (b"\r\n" * LINE_MAX, ""),
        (b"G" * LINE_MAX, ""),
    ],
)
def test_path_of_the_first_request(data, path):
    assert request_path(data) == path


@pytest.mark.parametrize("size", range(len(b"GET /health HTTP/1.1\r\n")))
def test_no_decision_before_the_first_line_is_whole(size):
    assert request_path(b"GET /health HTTP/1.1\r\n"[:size]) is None
