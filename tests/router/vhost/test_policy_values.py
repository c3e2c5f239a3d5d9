"""A policy takes a value if and only if the queue argument of the same name does."""

import pytest

from leveret.protocol.errors import PreconditionFailed
from leveret.router.arguments.queue import ARGUMENTS, COMPARED, EXPIRY_MAX, SEGMENT_MAX, parse_arguments
from leveret.router.vhost.policies import CHECKS, Policies, PolicyError

INTEGERS = (-1, 0, 1, 2, 3, 255, 256, EXPIRY_MAX, EXPIRY_MAX + 1, SEGMENT_MAX, SEGMENT_MAX + 1, 10**13)
AGES = ("7D", "0000000000000007D", "0D", "1" + "0" * 30 + "Y")
OVERFLOWS = ("drop-head", "reject-publish", "reject-publish-dlx")
LOCATORS = ("client-local", "balanced", "random", "least-leaders", "min-masters")
OTHERS = ("", "x", "k" * 255, "k" * 256, "default", "lazy", "at-most-once", "at-least-once")
TEXTS = (*AGES, *OVERFLOWS, *LOCATORS, *OTHERS)
VALUES = (*INTEGERS, *TEXTS, 1.5, True, None, [], {})
SHARED = [key for key in CHECKS if f"x-{key}" in ARGUMENTS]
NO_ARGUMENTS = {  # settings that no queue has an argument for, and why
    "alternate-exchange": "of exchanges",
    "target-group-size": "called x-quorum-target-group-size",
    **{key: "of mirrored queues, which have no arguments" for key in CHECKS if key.startswith("ha-")},
}


def argument_takes(key, value):
    name = f"x-{key}"
    kind = next((kind for kind in COMPARED if name in COMPARED[kind]), "classic")
    arguments = {"x-queue-type": kind, name: value}
    if key == "dead-letter-routing-key":
        arguments["x-dead-letter-exchange"] = ""
    try:
        parse_arguments(
            arguments,
            vhost="/",
            queue="q",
            durable=True,
            exclusive=False,
            auto_delete=False,
            default_delivery_limit=20,
        )
    except PreconditionFailed:
        return False
    return True


def policy_takes(key, value):
    try:
        Policies("/").set("p", "", {key: value})
    except PolicyError:
        return False
    return True


@pytest.mark.parametrize("key", SHARED)
def test_policies_take_the_values_that_arguments_take(key):
    differing = [value for value in VALUES if policy_takes(key, value) != argument_takes(key, value)]
    assert differing == []
    assert any(policy_takes(key, value) for value in VALUES)


def test_every_setting_is_an_argument_or_is_none_for_a_reason():
    assert set(CHECKS) == set(SHARED) | set(NO_ARGUMENTS)
