"""Values in reply texts; every row is what a RabbitMQ 3.10 node wrote."""

from decimal import Decimal

import pytest

from leveret.protocol.amqp.table import Long, Timestamp, Value
from leveret.router.values.field_values import term, type_name


@pytest.mark.parametrize(
    ("value", "name", "text"),
    [
        (None, "void", "undefined"),
        (True, "bool", "true"),
        (False, "bool", "false"),
        (1, "signedint", "1"),
        (-(2**31), "signedint", "-2147483648"),
        (2**31, "long", "2147483648"),
        (Long(1), "long", "1"),
        (1.5, "double", "1.5"),
        (Timestamp(5), "timestamp", "5"),
        (Decimal("3.14"), "decimal", "{2,314}"),
        ("abc", "longstr", '<<"abc">>'),
        ("", "longstr", "<<>>"),
        ('a"b\n\\', "longstr", '<<"a\\"b\\n\\\\">>'),
        ("a\tb", "longstr", '<<"a\\tb">>'),
        ("\0", "longstr", "<<0>>"),
        ("é", "longstr", '<<"é">>'),
        ("日本", "longstr", "<<230,151,165,230,156,172>>"),
        ("\udcff\0a", "longstr", "<<255,0,97>>"),
        (b"zz", "binary", '<<"zz">>'),
        ([], "array", "[]"),
        ([1, "a"], "array", '[{signedint,1},{longstr,<<"a">>}]'),
        ([[1], {"a": None}], "array", '[{array,[{signedint,1}]},{table,[{<<"a">>,void,undefined}]}]'),
        ({}, "table", "[]"),
        ({"a": 1, "b": "c"}, "table", '[{<<"a">>,signedint,1},{<<"b">>,longstr,<<"c">>}]'),
    ],
)
def test_value_is_written_as_rabbitmq_writes_it(value: Value, name: str, text: str) -> None:
    assert (type_name(value), term(value)) == (name, text)


def test_value_of_no_field_type_has_no_name() -> None:
    with pytest.raises(TypeError, match="set is no field value"):
        type_name(set())
