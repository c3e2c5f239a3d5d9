"""Refused messages and consumer arguments, with RabbitMQ's texts."""

import pytest

from leveret.protocol.errors import PreconditionFailed
from leveret.router.session.validation import check_consumer_arguments, check_copies, check_expiration
from tests.router.harness import Node


@pytest.mark.parametrize("text", ["0", "5", "+5", "007", "-0", "315360000000"])
def test_expirations_that_are_taken(text):
    check_expiration(text)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("abc", "no_integer"),
        ("", "no_integer"),
        (" 5", "no_integer"),
        ("+", "no_integer"),
        ("٣", "no_integer"),
        ("-1", "{value_negative,-1}"),
        ("1.5", '{leftover_string,".5"}'),
        ("5 ", '{leftover_string," "}'),
        ("5_000", '{leftover_string,"_000"}'),
        ('5"\\', '{leftover_string,"\\"\\\\"}'),
        ("315360000001", "{value_too_large,315360000001}"),
    ],
)
def test_expirations_that_are_refused(text, problem):
    with pytest.raises(PreconditionFailed) as refused:
        check_expiration(text)
    assert str(refused.value) == f"PRECONDITION_FAILED - invalid expiration '{text}': {problem}"


@pytest.mark.parametrize("name", ["CC", "BCC"])
@pytest.mark.parametrize(
    ("value", "kind"), [("a", "longstr"), (None, "void"), ({}, "table"), (1, "signedint"), (True, "bool")]
)
def test_copies_that_are_no_array_are_refused(name, value, kind):
    with pytest.raises(PreconditionFailed) as refused:
        check_copies({name: value})
    expected = f'invalid message: {{unacceptable_type_in_header,"{name}",{kind}}}'
    assert str(refused.value) == f"PRECONDITION_FAILED - {expected}"


def test_more_copies_than_the_limit_are_refused():
    check_copies({"CC": ["a"] * 400, "BCC": ["b"] * 600})
    with pytest.raises(PreconditionFailed, match="CC and BCC have 1001 routing keys, at most 1000"):
        check_copies({"CC": ["a"] * 401, "BCC": ["b"] * 600})


@pytest.mark.parametrize("headers", [{}, {"CC": []}, {"CC": [1, "a"], "BCC": ["b"]}, {"cc": "a"}])
def test_copies_that_are_taken(headers):
    check_copies(headers)


@pytest.mark.parametrize(
    "arguments", [{}, {"x-priority": -(2**40)}, {"x-cancel-on-ha-failover": True}, {"x-foo": []}]
)
def test_consumer_arguments_that_are_taken(arguments):
    check_consumer_arguments(arguments, Node().queue())


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (
            {"x-priority": "1"},
            "'x-priority' for queue 'q' in vhost '/': \"expected integer, got longstr\"",
        ),
        ({"x-priority": 1.0}, "'x-priority' for queue 'q' in vhost '/': \"expected integer, got double\""),
        ({"x-priority": True}, "'x-priority' for queue 'q' in vhost '/': \"expected integer, got bool\""),
        ({"x-priority": None}, "'x-priority' for queue 'q' in vhost '/': \"expected integer, got void\""),
        (
            {"x-cancel-on-ha-failover": "yes"},
            "'x-cancel-on-ha-failover' for queue 'q' in vhost '/': {unacceptable_type,longstr}",
        ),
    ],
)
def test_consumer_arguments_that_are_refused(arguments, problem):
    with pytest.raises(PreconditionFailed) as refused:
        check_consumer_arguments(arguments, Node().queue())
    assert str(refused.value) == f"PRECONDITION_FAILED - invalid arg {problem}"
