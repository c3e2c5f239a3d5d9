"""A policy accepts a value if and only if the argument of the same meaning does, whichever way it comes."""

import json

import pytest

from leveret.router.arguments.table import POLICY_SETTINGS, QUEUE_ARGUMENTS
from leveret.router.broker.broker import Broker
from leveret.router.definitions import apply_definitions, parse_definitions
from leveret.router.settings import Settings
from leveret.router.vhost.policies import OPERATOR_SETTINGS, SETTINGS, Policies, PolicyError
from tests.router.arguments.values import VALUES, accepts

OF_QUEUES = [key for key, row in POLICY_SETTINGS.items() if row.name in QUEUE_ARGUMENTS]
NO_ARGUMENTS = {key: "of mirrored queues" for key in SETTINGS if key.startswith("ha-")}


def argument_accepts(key, value):
    row = POLICY_SETTINGS[key]
    return accepts(row.name, value) if row.queue_types else row.is_valid(value)


def policy_accepts(key, value, *, operator=False):
    try:
        Policies("/").put("p", "", {key: value}, operator=operator)
    except PolicyError:
        return False
    return True


def imported(settings, *, operator=False):
    """Import a policy for each of these settings; return the numbers of those that were accepted."""
    policies = [
        {"vhost": "/", "name": str(number), "pattern": "", "definition": {key: value}, "priority": 0}
        for number, (key, value) in enumerate(settings)
    ]
    parameters = [
        {"vhost": "/", "name": each["name"], "component": "operator_policy", "value": each}
        for each in policies
    ]
    sections = {"parameters": parameters} if operator else {"policies": policies}
    broker = Broker(Settings())
    broker.add_vhost("/")
    apply_definitions(broker, parse_definitions(json.dumps(sections).encode()))
    vhost = broker.vhosts["/"].policies
    return set(map(int, vhost.operator_policies if operator else vhost.policies))


@pytest.mark.parametrize("key", POLICY_SETTINGS)
def test_policies_accept_the_values_that_arguments_accept(key):
    differing = [value for value in VALUES if policy_accepts(key, value) != argument_accepts(key, value)]
    assert differing == []
    assert any(policy_accepts(key, value) for value in VALUES)


@pytest.mark.parametrize("key", sorted(OPERATOR_SETTINGS))
def test_operator_policies_accept_the_values_that_arguments_accept(key):
    differing = [
        value for value in VALUES if policy_accepts(key, value, operator=True) != argument_accepts(key, value)
    ]
    assert differing == []


@pytest.mark.parametrize("operator", [False, True])
def test_imports_accept_the_values_that_arguments_accept(operator):
    keys = sorted(OPERATOR_SETTINGS) if operator else POLICY_SETTINGS
    settings = [(key, value) for key in keys for value in VALUES]
    expected = {number for number, setting in enumerate(settings) if argument_accepts(*setting)}
    assert imported(settings, operator=operator) == expected


def test_every_setting_is_an_argument_or_is_none_for_a_reason():
    assert set(POLICY_SETTINGS) | set(NO_ARGUMENTS) == SETTINGS
    assert set(OF_QUEUES) == set(POLICY_SETTINGS) - {"alternate-exchange"}


def test_a_refusal_for_a_large_value_has_the_maximum():
    for key, row in POLICY_SETTINGS.items():
        if row.maximum is not None:
            with pytest.raises(PolicyError, match=f"; the maximum is {row.maximum}$"):
                Policies("/").put("p", "", {key: row.maximum + 1})
