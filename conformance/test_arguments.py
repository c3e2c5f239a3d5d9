"""The table of arguments against the capabilities of RabbitMQ's queue types."""

import subprocess

import pytest

from leveret.router.arguments.table import COMPARED, POLICY_SETTINGS, QUEUE_ARGUMENTS, RABBITMQ_ORDER
from leveret.router.vhost.policies import SETTINGS, UNSUPPORTED
from tests.tools import RABBITMQ

pytestmark = pytest.mark.needs("rabbitmq")
PROGRAM = """
    #{queue_arguments := Arguments, unsupported_policies := Settings} = rabbit_%s_queue:capabilities(),
    [io:format("~s~n", [Name]) || Name <- Arguments],
    io:format("~n"),
    [io:format("~s~n", [Name]) || Name <- Settings],
    halt().
"""
LATER_ARGUMENTS = {"x-stream-filter-size-bytes"}  # 3.13
OTHER_SETTINGS = {  # of arguments that 3.10 lacks
    key
    for key, row in POLICY_SETTINGS.items()
    if row.queue_types and row.name not in {name for names in RABBITMQ_ORDER.values() for name in names}
}
# RabbitMQ names these settings, and refuses policies with them.
NO_SETTINGS = {"max-priority", "single-active-consumer"}
# Policies have this setting beside ha-mode only, which quorum queues do not support.
WITH_ANOTHER = {"ha-sync-batch-size"}


@pytest.fixture(params=RABBITMQ_ORDER, scope="module")
def capabilities(request):
    """A queue type, its arguments in RabbitMQ's order, and the settings that it does not support."""
    modules = RABBITMQ.parent.glob("lib/rabbitmq_server-*/plugins/*/ebin")
    program = PROGRAM % request.param
    command = ["erl", "-noshell", "-pa", *map(str, modules), "-eval", program]
    output = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
    arguments, settings = output.split("\n\n")
    return request.param, tuple(arguments.split()), set(settings.split())


def test_arguments_are_compared_in_the_order_of_rabbitmq(capabilities):
    queue_type, arguments, _ = capabilities
    known = tuple(name for name in RABBITMQ_ORDER[queue_type] if name not in LATER_ARGUMENTS)
    assert known == arguments
    assert {name for name in arguments if queue_type in QUEUE_ARGUMENTS[name].queue_types} == set(arguments)
    assert set(arguments) <= set(COMPARED[queue_type])


def test_policies_apply_to_the_types_of_queues_of_rabbitmq(capabilities):
    queue_type, _, unsupported = capabilities
    assert UNSUPPORTED[queue_type] - OTHER_SETTINGS - WITH_ANOTHER == unsupported - NO_SETTINGS
    assert NO_SETTINGS.isdisjoint(SETTINGS)
    assert set(POLICY_SETTINGS) <= SETTINGS
