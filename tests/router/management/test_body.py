"""Valid contents of JSON bodies, and bounds on the size of their parts."""

import json

import pytest

from leveret.protocol.http import HttpError
from leveret.router.management.body import LARGE, parse_object


@pytest.mark.parametrize(
    "body",
    [
        {"arguments": {"a": ["x"] * LARGE}},
        {"arguments": ["x"] * LARGE},
        {"arguments": "x" * LARGE},
        {"a": LARGE // 2 * "x", "b": LARGE // 2 * "x"},
        {str(name): 0 for name in range(LARGE // 4)},
    ],
    ids=["object", "list", "text", "two texts", "many members"],
)
def test_a_body_that_is_large_without_its_payload_is_refused(body):
    for payload in ({}, {"payload": "x"}, {"payload": "x" * LARGE}):
        with pytest.raises(HttpError, match=r"the body has \d+ bytes besides .*; it may have 131072 here"):
            parse_object(json.dumps({**body, **payload}).encode())


def test_of_two_payloads_one_counts_as_other_members():
    payload = b'"payload": "%b"' % (LARGE * b"x")
    with pytest.raises(HttpError, match="besides the payload"):
        parse_object(b"{%b, %b}" % (payload, payload))


def test_only_the_text_of_a_payload_may_be_large():
    body = {"payload": "[{" + LARGE * "x", "properties": {"headers": {"a": 1}}}
    assert parse_object(json.dumps(body).encode()) == body
    with pytest.raises(HttpError, match="besides the payload"):
        parse_object(json.dumps({"payload": ["x"] * LARGE}).encode())


@pytest.mark.parametrize(
    "body", [b"[" + b"1," * LARGE + b"1]", b'{"a": ' + b" " * LARGE, b'{"payload": "' + LARGE * b"x"]
)
def test_a_large_body_that_is_no_object_is_refused(body):
    with pytest.raises(HttpError, match="not_json"):
        parse_object(body)
