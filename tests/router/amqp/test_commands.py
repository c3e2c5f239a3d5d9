"""The tables of commands: each stands beside a function that takes it, and in one table only."""

import inspect

import pytest

from leveret.protocol.amqp import methods as m
from leveret.router.amqp.channels import LIFE
from leveret.router.amqp.commands import HANDLERS
from leveret.router.amqp.connection import COMMANDS

CHANNELS = tuple((command, handler) for command, handler in HANDLERS.items())
CONNECTIONS = tuple((command, handler) for command, handler in COMMANDS.items())


@pytest.mark.parametrize(("command", "handler"), CHANNELS + CONNECTIONS)
def test_a_handler_takes_the_command_it_stands_beside(command, handler):
    _, parameter = inspect.signature(handler).parameters.values()
    assert parameter.annotation is command


def test_no_command_is_in_two_tables():
    assert not HANDLERS.keys() & COMMANDS.keys()
    assert not LIFE & (HANDLERS.keys() | COMMANDS.keys())


def test_what_the_broker_alone_sends_is_in_none():
    for method in m.METHODS.values():
        if method.__name__.endswith("Ok") and method not in (m.ConnectionStartOk, m.ConnectionTuneOk):
            assert method not in HANDLERS | COMMANDS
