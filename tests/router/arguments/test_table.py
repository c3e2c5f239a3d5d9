"""Every argument of the table is in every place that follows from the table."""

import re
from pathlib import Path

import pytest
from msgspec.structs import fields

from leveret.protocol.errors import PreconditionFailed
from leveret.router.arguments import reference
from leveret.router.arguments.argument import Merge
from leveret.router.arguments.queue import (
    QueueArguments,
    check_shared_arguments,
    merge_policy,
    parse_arguments,
)
from leveret.router.arguments.table import (
    ARGUMENTS,
    COMPARED,
    COMPARED_OF_EXCHANGES,
    EXCHANGE_ARGUMENTS,
    POLICY_SETTINGS,
    QUEUE_ARGUMENTS,
    RABBITMQ_ORDER,
)
from leveret.router.exchange import EXCHANGE_TYPES
from tests.router.arguments.values import VALUES, accepts, valid_value

DOCS = Path(__file__).parents[3] / "docs"
DERIVED = {"delivery_limit_given": "it says whether the queue has the argument x-delivery-limit"}
ROWS = pytest.mark.parametrize("row", ARGUMENTS.values(), ids=ARGUMENTS)
QUEUE_ROWS = pytest.mark.parametrize("row", QUEUE_ARGUMENTS.values(), ids=QUEUE_ARGUMENTS)
EXCHANGE_ROWS = pytest.mark.parametrize("row", EXCHANGE_ARGUMENTS.values(), ids=EXCHANGE_ARGUMENTS)
POLICY_ROWS = pytest.mark.parametrize("row", POLICY_SETTINGS.values(), ids=POLICY_SETTINGS)


def parse(arguments):
    return parse_arguments(
        arguments,
        vhost="/",
        queue="q",
        durable=True,
        exclusive=False,
        auto_delete=False,
        default_delivery_limit=20,
    )


def test_fields_and_rows_are_of_one_another():
    named = [row.field for row in QUEUE_ARGUMENTS.values() if row.field is not None]
    assert len(set(named)) == len(named)
    assert {field.name for field in fields(QueueArguments)} == {*named, *DERIVED}


@ROWS
def test_an_argument_is_of_queues_or_exchanges_and_has_a_meaning(row):
    assert row.queue_types or row.exchanges
    assert row.meaning
    assert "|" not in row.meaning  # it is a cell of a table
    assert row.field is None or row.queue_types


@ROWS
def test_an_argument_has_valid_and_invalid_values(row):
    valid = [value for value in VALUES if row.is_valid(value)]
    assert valid
    assert {type(value) for value in valid} == {row.kind}
    assert row.maximum is None or (row.is_valid(row.maximum) and not row.is_valid(row.maximum + 1))


@QUEUE_ROWS
def test_queues_of_its_types_accept_an_argument_and_others_refuse_it(row):
    for queue_type in ("classic", "quorum", "stream"):
        if row.name != "x-queue-type":
            accepted = accepts(row.name, valid_value(row), queue_type)
            assert accepted == (queue_type in row.queue_types)


@QUEUE_ROWS
def test_a_valid_value_becomes_the_field(row):
    for queue_type in row.queue_types:
        arguments = {"x-queue-type": queue_type, row.name: valid_value(row)}
        if row.name == "x-dead-letter-routing-key":
            arguments["x-dead-letter-exchange"] = ""
        if row.field is not None:
            assert getattr(parse(arguments), row.field) == row.read(valid_value(row))


@pytest.mark.parametrize("queue_type", COMPARED)
def test_repeated_declarations_compare_each_argument_of_the_type_once(queue_type):
    of_type = {
        name for name, row in QUEUE_ARGUMENTS.items() if row.compared and queue_type in row.queue_types
    }
    assert len(COMPARED[queue_type]) == len(of_type)
    assert set(COMPARED[queue_type]) == of_type
    order = RABBITMQ_ORDER[queue_type]
    assert COMPARED[queue_type][: len(order)] == order


def test_repeated_declarations_of_exchanges_compare_known_arguments():
    assert set(COMPARED_OF_EXCHANGES) == {name for name, row in EXCHANGE_ARGUMENTS.items() if row.compared}
    assert COMPARED_OF_EXCHANGES


@EXCHANGE_ROWS
def test_exchanges_accept_the_valid_values(row):
    """The types of exchanges check their arguments themselves, with RabbitMQ's texts."""
    kind = EXCHANGE_TYPES.get(row.exchanges.strip("`"), EXCHANGE_TYPES["fanout"])
    for value in VALUES:
        try:
            check_shared_arguments({row.name: value}, "exchange 'x'")
            kind("x", durable=True, arguments={row.name: value})
        except PreconditionFailed:
            accepted = False
        else:
            accepted = True
        assert accepted == row.is_valid(value) or row.name == "alternate-exchange"  # see session/topology


@POLICY_ROWS
def test_a_setting_that_merges_has_a_field_to_merge_into(row):
    is_of_exchanges = not row.queue_types
    assert (row.policy.merge is not None) == (row.field is not None or is_of_exchanges)
    assert "{}" in row.policy.refusal
    assert row.kind is int or not row.policy.operator  # limits, of which there is a smaller one


@POLICY_ROWS
def test_a_policy_sets_what_the_queue_leaves_open(row):
    value = valid_value(row)
    for queue_type in set(row.queue_types) & set(row.policy_queue_types):
        settings = merge_policy(parse({"x-queue-type": queue_type}), {row.policy_key: value})
        if row.field is not None:
            assert getattr(settings, row.field) == row.read(value)
        else:
            assert settings == parse({"x-queue-type": queue_type})


@POLICY_ROWS
def test_an_argument_that_goes_first_is_kept(row):
    if row.policy.merge is Merge.ARGUMENT and row.field is not None:
        values = [value for value in VALUES if row.is_valid(value)][:2]
        base = QueueArguments(queue_type=row.queue_types[0], **{row.field: row.read(values[0])})
        assert merge_policy(base, {row.policy_key: values[1]}) == base


# -- docs ----------------------------------------------------------------------------------------------------


def test_the_reference_is_as_the_table_says():
    written = (DOCS / "arguments.md").read_text()
    assert written == reference.page(), "run python -m leveret.router.arguments.reference > docs/arguments.md"


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=lambda page: page.name)
def test_tables_of_other_pages_repeat_the_meaning(page):
    lines = re.findall(r"^\| `([^`]+)` \| ([^|]*) \|$", page.read_text(), re.MULTILINE)
    listed = [(name, text) for name, text in lines if name in ARGUMENTS]
    assert listed == [(name, ARGUMENTS[name].meaning) for name, _ in listed]
    assert listed or page != DOCS / "streams.md"
