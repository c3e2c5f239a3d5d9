"""The bookkeeping that all exchange types share."""

import importlib
import pkgutil
from pathlib import Path

import pytest

from leveret.router import exchange as exchange_package
from leveret.router.exchange import EXCHANGE_TYPES, Binding, Exchange, identity
from leveret.router.exchange.default import DefaultExchange
from leveret.router.exchange.direct import DirectExchange
from leveret.router.exchange.fanout import FanoutExchange
from tests.router.exchange.helpers import Queue, bind, message

KEY = "1"  # a weight too, so that every type takes it
ARGUMENTS: list[dict[str, object]] = [
    {},
    {"a": 1},
    {"a": True},
    {"a": 1.0},
    {"a": "1"},
    {"a": b"1"},
    {"a": None},
    {"a": [1]},
    {"a": {"b": 1}},
]


@pytest.fixture(params=sorted(EXCHANGE_TYPES))
def exchange(request: pytest.FixtureRequest) -> Exchange:
    return EXCHANGE_TYPES[request.param]("x")


def test_registry_knows_every_type_by_the_name_it_carries() -> None:
    assert all(cls.type == name for name, cls in EXCHANGE_TYPES.items())


def test_alternate_exchange_comes_from_the_argument() -> None:
    assert FanoutExchange("x").alternate is None
    assert FanoutExchange("x", arguments={"alternate-exchange": "ae"}).alternate == "ae"


def test_equal_binding_is_added_once(exchange: Exchange) -> None:
    queue = Queue("q")
    bind(exchange, queue, KEY, {"a": 1})
    assert not exchange.add(Binding(exchange, queue, KEY, {"a": 1}))
    assert len(exchange.bindings) == 1


def test_binding_is_found_by_its_identity(exchange: Exchange) -> None:
    queue = Queue("q")
    binding = bind(exchange, queue, KEY, {"c": [1], "b": {"a": "2"}})
    assert exchange.find(identity(queue, KEY, {"b": {"a": "2"}, "c": [1]})) is binding
    assert exchange.find(identity(queue, KEY, {})) is None


def test_arguments_of_different_types_are_different_bindings(exchange: Exchange) -> None:
    for arguments in ARGUMENTS:
        bind(exchange, "q", KEY, arguments)
    assert [binding.arguments for binding in exchange.bindings.values()] == ARGUMENTS


def test_queue_and_exchange_of_one_name_are_different_destinations(exchange: Exchange) -> None:
    bind(exchange, Queue("same"), KEY)
    bind(exchange, DirectExchange("same"), KEY)
    assert len(exchange.bindings) == 2


def test_equal_binding_removes_the_one_that_is_bound(exchange: Exchange) -> None:
    queue = Queue("q")
    bind(exchange, queue, KEY)
    assert exchange.remove(Binding(exchange, queue, KEY))
    assert not exchange.bindings
    assert not exchange.match(KEY, message())


def test_removing_what_is_not_bound_changes_nothing(exchange: Exchange) -> None:
    bind(exchange, "q", KEY)
    assert not exchange.remove(Binding(exchange, Queue("other"), KEY))
    assert len(exchange.bindings) == 1


def test_match_follows_every_change(exchange: Exchange) -> None:
    assert not exchange.match(KEY, message())
    binding = bind(exchange, "q", KEY)
    assert list(exchange.match(KEY, message())) == [binding]
    exchange.remove(binding)
    assert not exchange.match(KEY, message())


def test_destination_is_removed_with_all_its_bindings_and_no_others(exchange: Exchange) -> None:
    queue, other = Queue("q"), Queue("other")
    bindings = [bind(exchange, queue, key) for key in ("1", "2", "3")]
    kept = bind(exchange, other, "1")
    assert exchange.bound_to(queue) == bindings
    assert exchange.remove_destination(queue) == bindings
    assert list(exchange.bindings.values()) == [kept]
    assert exchange.bound_to(queue) == exchange.remove_destination(queue) == []


def test_removing_a_destination_does_not_scan_the_others() -> None:
    exchange = FanoutExchange("x")
    queue = Queue("q")
    for number in range(1000):
        bind(exchange, f"q{number}")
    bind(exchange, queue)

    class Scanless(dict):  # type: ignore[type-arg]
        def __iter__(self) -> None:  # type: ignore[override]
            raise AssertionError("all bindings were scanned")

        keys = values = items = __iter__  # type: ignore[assignment]

    exchange.bindings = Scanless(exchange.bindings)
    assert len(exchange.remove_destination(queue)) == 1


def test_exchange_has_no_history_unless_its_type_keeps_one() -> None:
    assert list(FanoutExchange("x").history()) == []


def types() -> list[type[Exchange]]:
    """Every class of the package that is an exchange and names a type, but for the default exchange, which
    is of type direct.
    """
    found = set()
    for module in pkgutil.iter_modules(exchange_package.__path__, f"{exchange_package.__name__}."):
        for value in vars(importlib.import_module(module.name)).values():
            if isinstance(value, type) and issubclass(value, Exchange) and "type" in vars(value):
                found.add(value)
    found.discard(DefaultExchange)
    return sorted(found, key=lambda kind: kind.__name__)


@pytest.mark.parametrize("kind", types(), ids=lambda kind: kind.__name__)
def test_every_type_of_the_package_is_registered(kind: type[Exchange]) -> None:
    assert EXCHANGE_TYPES[kind.type] is kind
    assert vars(kind)["description"]


@pytest.mark.parametrize("kind", types(), ids=lambda kind: kind.__name__)
def test_a_type_whose_routes_are_cached_routes_messages_of_one_key_alike(kind: type[Exchange]) -> None:
    """What looks at more than the routing key, or chooses anew, has ``by_key = False``."""
    if not kind.by_key:
        return
    exchange = kind("x")
    for number in range(4):
        bind(exchange, f"q{number}", KEY)
    messages = (message({"a": number}, message_id=str(number)) for number in range(20))
    assert len({tuple(exchange.match(KEY, each)) for each in messages}) == 1


def test_topic_permissions_apply_to_topic_exchanges_alone() -> None:
    assert [name for name, kind in EXCHANGE_TYPES.items() if kind.has_topic_permissions] == ["topic"]


def test_readme_lists_every_exchange_type():
    readme = (Path(__file__).parents[3] / "README.md").read_text()
    (row,) = (line for line in readme.splitlines() if line.startswith("| Exchanges: "))
    assert set(row.split("|")[1].removeprefix(" Exchanges: ").strip().split(", ")) == EXCHANGE_TYPES.keys()
