"""Valid contents of JSON bodies, and bounds on the size of their parts."""

import json

import pytest

from leveret.protocol.http import HttpError
from leveret.router.management.body import LARGE, parse_object


@pytest.mark.parametrize(
    "value", [{"a": ["x"] * LARGE}, ["x"] * LARGE, "x" * LARGE], ids=["object", "list", "text"]
)
def test_a_large_member_is_refused_by_its_name(value):
    with pytest.raises(HttpError, match=r"'arguments' has \d+ bytes; it may have 131072 here"):
        parse_object(json.dumps({"name": "q", "arguments": value}).encode())


def test_only_the_text_of_a_payload_may_be_large():
    body = {"payload": "[{" + LARGE * "x", "properties": {"headers": {"a": 1}}}
    assert parse_object(json.dumps(body).encode()) == body
    with pytest.raises(HttpError, match="'payload' has"):
        parse_object(json.dumps({"payload": ["x"] * LARGE}).encode())


@pytest.mark.parametrize("body", [b"[" + b"1," * LARGE + b"1]", b'{"a": ' + b" " * LARGE])
def test_a_large_body_that_is_no_object_is_refused(body):
    with pytest.raises(HttpError, match="not_json"):
        parse_object(body)
