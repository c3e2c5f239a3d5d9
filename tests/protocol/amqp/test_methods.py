"""The declarations of the methods, against pamqp."""

import pytest
from pamqp import commands

from leveret.protocol.amqp.constants import ACCESS
from leveret.protocol.amqp.methods import (
    METHODS,
    AccessRequest,
    BasicPublish,
    BasicRecoverAsync,
    ExchangeDelete,
    QueueDeclare,
    QueueDeclareOk,
    QueueDelete,
)
from tests.protocol.amqp.strategies import wire_types

BY_ID = {(index >> 16, index & 0xFFFF): command for index, command in commands.INDEX_MAPPING.items()}
SHARED = [pytest.param(METHODS[ids], BY_ID[ids], id=METHODS[ids].NAME) for ids in sorted(BY_ID)]


def test_every_method_is_declared():
    assert {ids for ids in METHODS if ids[0] != ACCESS} == set(BY_ID)
    assert {ids for ids in METHODS if ids[0] == ACCESS} == {(30, 10), (30, 11)}


@pytest.mark.parametrize(("cls", "command"), SHARED)
def test_fields_and_wire_types_are_those_of_pamqp(cls, command):
    reserved = {"ticket", "out_of_band", "channel_id", "capabilities", "insist", "known_hosts"}
    if cls.NAME == "basic.get-empty":
        reserved.add("cluster_id")
    names = {"exchange_type": "type"}
    expected = {
        names.get(name, name): command.amqp_type(name)
        for name in command.attributes()
        if name not in reserved
    }
    assert list(wire_types(cls).items()) == list(expected.items())


@pytest.mark.parametrize(("cls", "command"), SHARED)
def test_name_is_that_of_the_specification(cls, command):
    group, word = command.name.split(".")
    assert cls.NAME.replace("-", "") == f"{group}.{word}".lower()


@pytest.mark.parametrize(
    ("cls", "name"),
    [
        (QueueDeclare, "queue.declare"),
        (QueueDeclareOk, "queue.declare-ok"),
        (BasicRecoverAsync, "basic.recover-async"),
        (AccessRequest, "access.request"),
    ],
)
def test_words_of_a_name_are_joined_with_hyphens(cls, name):
    assert name == cls.NAME


def test_the_methods_that_carry_content():
    assert {cls.NAME for cls in METHODS.values() if cls.CONTENT} == {
        "basic.publish",
        "basic.return",
        "basic.deliver",
        "basic.get-ok",
    }


@pytest.mark.parametrize("cls", METHODS.values(), ids=lambda cls: cls.NAME)
def test_methods_have_slots_and_defaults(cls):
    method = cls()
    assert not hasattr(method, "__dict__")
    assert method == cls(*(getattr(method, name) for name in cls.__struct_fields__))


def test_methods_are_equal_when_they_are_of_one_kind_and_all_fields_are_equal():
    assert BasicPublish("x", "key") == BasicPublish("x", "key")
    assert BasicPublish("x", "key") != BasicPublish("x", "other")
    assert ExchangeDelete("x") != QueueDelete("x")
    assert BasicPublish("x", "key") != ("x", "key", False, False)


def test_a_method_shows_its_fields():
    assert repr(QueueDelete("q", if_empty=True)) == (
        "QueueDelete(queue='q', if_unused=False, if_empty=True, nowait=False)"
    )


def test_reserved_fields_are_not_arguments():
    assert BasicPublish.__struct_fields__ == ("exchange", "routing_key", "mandatory", "immediate")
