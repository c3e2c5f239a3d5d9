"""Policies: valid definitions, and the queues and exchanges that they apply to. Texts are RabbitMQ 3.10's."""

# ruff: noqa: E501 - a refusal and its text stand on one line

from itertools import count
from random import Random
from time import thread_time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from leveret.router.arguments.table import POLICY_SETTINGS
from leveret.router.values.patterns import PATIENCE, _Complex
from leveret.router.vhost.policies import MOST, SETTINGS, Policies, PolicyError
from tests.router.arguments.values import valid_value


@pytest.fixture
def policies() -> Policies:
    return Policies("/")


# -- which holds ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("apply_to", "held"),
    [
        ("all", {"classic", "quorum", "stream", "exchange"}),
        ("queues", {"classic", "quorum", "stream"}),
        ("classic_queues", {"classic"}),
        ("quorum_queues", {"quorum"}),
        ("streams", {"stream"}),
        ("exchanges", {"exchange"}),
    ],
)
def test_policy_applies_to(policies, apply_to, held):
    policies.put("p", "^a", {"max-length-bytes": 5}, apply_to=apply_to)
    everything = {"classic": "queues", "quorum": "queues", "stream": "queues", "exchange": "exchanges"}
    assert {what for what, kind in everything.items() if policies.effective(kind, "a1", what)} == held
    assert {what for what, kind in everything.items() if policies.effective(kind, "b1", what)} == set()


def test_large_patterns_have_a_bound_for_a_name_together(policies, monkeypatch):
    for number in range(100):
        policies.put(f"large{number}", f"^(?:a?){{900}}{number}$", {"max-length": 1}, priority=9)
    policies.put("small", "^a", {"max-length": 3})
    asked = []
    search = _Complex.__call__
    monkeypatch.setattr(_Complex, "__call__", lambda self, name: asked.append(name) or search(self, name))
    clock = count(0, PATIENCE / 2.5)
    monkeypatch.setattr("leveret.router.vhost.policies.thread_time", lambda: next(clock))
    assert policies.effective("queues", "a" * 250, "classic") == {"max-length": 3}
    assert len(asked) == 3


@pytest.mark.parametrize(
    "pattern",
    ["^q{number}$", "x{number}y", "^q{number}.*$", "(a|b)*a(a|b){{14}}x{number}", "a.{{9}}b{number}"],
)
def test_all_policies_together_have_a_bound_for_a_name(policies, pattern):
    for number in range(MOST):
        policies.put(f"p{number}", pattern.format(number=number), {"max-length": 1}, priority=number)
    chance = Random(1)
    took = []
    for _ in range(10):
        name = "".join(chance.choices("ab", k=255))
        began = thread_time()
        assert policies.policy("queues", name, "classic") is None
        took.append(thread_time() - began)
    assert min(took) < 2 * PATIENCE  # of complex patterns it was up to 270 ms


def test_the_first_policy_that_matches_ends_the_search(policies):
    policies.put("first", "^a", {"max-length": 1}, priority=5)
    policies.put("never", "^(?=a)(a|aa)+$", {"max-length": 2}, priority=4)
    with capture_logs() as logs:
        assert policies.effective("queues", "a" * 200 + "b", "classic") == {"max-length": 1}
    assert logs == []


def test_backtracking_patterns_have_a_bound_for_a_name_together(policies):
    for number in range(100):
        policies.put(f"slow{number}", f"^(?=a)(a|aa)+${number}", {"max-length": 1}, priority=9)
    policies.put("backtracking", "^(?=a)a", {"max-length": 2}, priority=8)
    policies.put("linear", "^a", {"max-length": 3})
    policies.put("operator", "^(?=a)a", {"message-ttl": 4}, operator=True)
    slow = "a" * 200 + "b"
    with capture_logs() as logs:
        assert policies.effective("queues", slow, "classic") == {"max-length": 3, "message-ttl": 4}
    assert 1 <= len(logs) <= 2
    assert policies.effective("queues", "a", "classic") == {"max-length": 2, "message-ttl": 4}


@pytest.mark.parametrize(
    ("definition", "held"),
    [
        ({"max-length": 5}, {"classic", "quorum"}),
        ({"overflow": "drop-head"}, {"classic", "quorum"}),
        ({"dead-letter-exchange": "x"}, {"classic", "quorum"}),
        ({"alternate-exchange": "x"}, {"classic", "quorum", "stream"}),
        ({"alternate-exchange": "x", "max-age": "1D"}, {"stream"}),
        ({"queue-version": 2}, {"classic", "quorum", "stream"}),
        ({"max-length": 5, "queue-mode": "lazy"}, {"classic"}),
        ({"ha-mode": "all"}, {"classic"}),
        ({"queue-master-locator": "random"}, {"classic"}),
        ({"max-length": 5, "delivery-limit": 3}, {"quorum"}),
        ({"dead-letter-strategy": "at-least-once"}, {"quorum"}),
        ({"queue-leader-locator": "balanced"}, {"quorum", "stream"}),
        ({"max-age": "1D"}, {"stream"}),
        ({"max-length-bytes": 5}, {"classic", "quorum", "stream"}),
        ({"queue-mode": "lazy", "delivery-limit": 3}, set()),
    ],
)
def test_policy_does_not_match_a_queue_type_that_has_no_use_for_it(policies, definition, held):
    policies.put("base", "", {"max-length-bytes": 7}, priority=-1)
    policies.put("p", "", definition)
    names = {kind: policies.policy("queues", "q", kind).name for kind in ("classic", "quorum", "stream")}
    assert {kind for kind, name in names.items() if name == "p"} == held
    assert policies.policy("exchanges", "x", "topic").name == "p"


def test_highest_priority_holds_and_then_the_first_name(policies):
    policies.put("c", "", {"max-length": 1}, priority=2)
    policies.put("a", "", {"expires": 2}, priority=1)
    policies.put("b", "", {"max-length": 3}, priority=2)
    policies.put("d", "^x", {"max-length": 4}, priority=9)
    assert policies.effective("queues", "q", "classic") == {"max-length": 3}
    policies.remove("b")
    assert policies.effective("queues", "q", "classic") == {"max-length": 1}


def test_policy_set_again_is_replaced(policies):
    policies.put("p", "", {"max-length": 1})
    policies.put("p", "^a", {"expires": 2})
    assert policies.effective("queues", "a", "classic") == {"expires": 2}
    assert policies.effective("queues", "b", "classic") == {}


@pytest.mark.parametrize(
    ("definition", "operator", "merged"),
    [
        ({"max-length": 5}, {"max-length": 3}, {"max-length": 3}),
        ({"max-length": 3}, {"max-length": 5}, {"max-length": 3}),
        ({"overflow": "drop-head"}, {"expires": 5}, {"overflow": "drop-head", "expires": 5}),
        (None, {"expires": 5}, {"expires": 5}),
        ({"max-length": 5}, None, {"max-length": 5}),
        ({"delivery-limit": -1}, {"delivery-limit": 5}, {"delivery-limit": 5}),
        ({"delivery-limit": 5}, {"delivery-limit": -1}, {"delivery-limit": 5}),
    ],
)
def test_operator_policy_bounds_the_policy(policies, definition, operator, merged):
    if definition:
        policies.put("p", "", definition)
    if operator:
        policies.put("o", "", operator, operator=True)
    assert policies.effective("queues", "q", "quorum") == merged


@given(policy=st.integers(0, 99), operator=st.integers(0, 99))
def test_no_policy_exceeds_the_operator_policy(policy, operator):
    policies = Policies("/")
    policies.put("p", "", {"max-length": policy})
    policies.put("o", "", {"max-length": operator}, operator=True)
    assert policies.effective("queues", "q", "classic")["max-length"] <= operator
    policies.remove("o", operator=True)
    assert policies.effective("queues", "q", "classic")["max-length"] == policy


# -- what it may say --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("definition", "text"),
    [
        ({}, "no policy provided"),
        ({"nonsense": 1}, '[{<<"nonsense">>,1}] are not recognised policy settings'),
        ({"max-length": 5, "a": "b", "c": None}, '[{<<"a">>,<<"b">>},{<<"c">>,null}] are not recognised policy settings'),
        ({"max-length": 5, "max-length-bytes": -1, "zzz": 4}, "-1 is not a valid maximum length in bytes"),
        ({"max-length": -1}, "-1 is not a valid maximum length"),
        ({"max-length": "a"}, '<<"a">> is not a valid maximum length'),
        ({"max-length": True}, "true is not a valid maximum length"),
        ({"max-length": [1, "a"]}, '[1,<<"a">>] is not a valid maximum length'),
        ({"max-length": {"a": 1}}, '#{<<"a">> => 1} is not a valid maximum length'),
        ({"max-in-memory-length": -1}, "-1 is not a valid maximum memory in bytes"),
        ({"message-ttl": -1}, "-1 is not a valid message TTL"),
        ({"message-ttl": 1.5}, "1.5 is not a valid message TTL"),
        ({"expires": 0}, "0 is not a valid queue expiry"),
        ({"overflow": "a"}, '<<"a">> is not a valid overflow value'),
        ({"overflow": 5}, "5 is not a valid overflow value"),
        ({"dead-letter-exchange": 5}, "5 is not a valid dead letter exchange name"),
        ({"dead-letter-routing-key": 5}, "5 is not a valid dead letter routing key"),
        ({"dead-letter-routing-key": "k" * 256}, f'<<"{"k" * 256}">> is not a valid dead letter routing key'),
        ({"dead-letter-strategy": "a"}, '<<"a">> is not a valid dead letter strategy'),
        ({"delivery-limit": "a"}, '<<"a">> is not a valid delivery limit'),
        ({"queue-mode": "a"}, '<<"a">> is not a valid queue-mode value'),
        ({"queue-version": 5}, "5 is not a valid queue-version value"),
        ({"queue-version": True}, "true is not a valid queue-version value"),
        ({"queue-leader-locator": "x"}, '<<"x">> is not a valid queue leader locator value'),
        ({"queue-master-locator": "x"}, '<<"x">> invalid queue-master-locator value'),
        ({"alternate-exchange": 5}, "5 is not a valid alternate exchange name"),
        ({"initial-cluster-size": "x"}, '<<"x">> is not a valid cluster size'),
        ({"stream-max-segment-size-bytes": -1}, "-1 is not a valid segment size"),
        ({"max-age": "0D"}, '<<"0D">> is not a valid max age'),
        ({"max-age": 5}, "5 is not a valid max age"),
    ],
)  # fmt: skip
def test_refused_definition(policies, definition, text):
    with pytest.raises(PolicyError) as caught:
        policies.put("p", "", definition)
    assert str(caught.value) == text
    assert not policies.policies


GOOD = {
    **{key: valid_value(row) for key, row in POLICY_SETTINGS.items()},
    "ha-mode": "exactly",
    "ha-params": 2,
    "ha-sync-mode": "automatic",
    "ha-sync-batch-size": 5,
    "ha-promote-on-shutdown": "always",
    "ha-promote-on-failure": "always",
}


def test_every_setting_is_taken(policies):
    policies.put("p", "", GOOD)
    assert policies.effective("exchanges", "x", "topic") == GOOD
    assert GOOD.keys() == SETTINGS


@pytest.mark.parametrize("key", sorted(GOOD))
def test_operator_policies_set_limits_only(policies, key):
    limits = {
        "max-length",
        "max-length-bytes",
        "max-in-memory-length",
        "max-in-memory-bytes",
        "message-ttl",
        "expires",
        "delivery-limit",
    }
    if key in limits:
        policies.put("o", "", {key: GOOD[key]}, operator=True)
    else:
        with pytest.raises(PolicyError, match="are not recognised policy settings"):
            policies.put("o", "", {key: GOOD[key]}, operator=True)


def test_invalid_pattern_is_refused(policies):
    with pytest.raises(PolicyError, match=r"^pattern should be regular expression but is invalid: "):
        policies.put("p", "(", {"max-length": 5})


def test_unknown_apply_to_is_refused(policies):
    with pytest.raises(PolicyError, match=r"^apply-to 'nothing' unrecognised; should be one of 'queues', "):
        policies.put("p", "", {"max-length": 5}, apply_to="nothing")


def test_names_that_are_not_there_cannot_be_deleted(policies):
    for operator in (False, True):
        with pytest.raises(KeyError):
            policies.remove("p", operator=operator)
