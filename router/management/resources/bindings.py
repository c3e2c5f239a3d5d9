"""API of bindings.

A binding has no name: among the bindings between the same two objects its ``properties_key`` identifies it.
That is the binding key, percent-encoded, and "~" with a hash of the arguments if there are any. In a path the
binding key may be unencoded or percent-encoded once more (``is_properties_key``), as in RabbitMQ.
"""

import base64
import json
import zlib
from collections.abc import Iterable, Iterator
from itertools import chain
from urllib.parse import quote_plus, unquote_plus

import msgspec

from leveret.protocol.http import Response
from leveret.router.exchange.base import Binding, Exchange, kind
from leveret.router.management.access import accessible_vhosts, in_vhost, management
from leveret.router.management.body import table, text
from leveret.router.management.call import Call, Rule, Rules
from leveret.router.management.errors import not_authorised, not_found
from leveret.router.management.json_values import Object, answer, empty_response
from leveret.router.management.query import columns_of, listing, narrowed
from leveret.router.queue.interface import AnyQueue
from leveret.router.values.field_values import plain
from leveret.router.vhost.vhost import VHost
from leveret.router.web.response_steps import ResponseSteps, stepwise

DEFAULT = "amq.default"  # name of the default exchange in paths


def exchange_name(segment: str) -> str:
    """Return the name of the exchange for a segment of a path."""
    return "" if segment == DEFAULT else segment


def quoted(text: str) -> str:
    """Return text in the form that it has in a properties key."""
    return quote_plus(text.encode("utf-8", "surrogateescape")).replace("~", "%7E")


def properties_key(routing_key: str, arguments: Object) -> str:
    """Return the key that identifies a binding among those between the same objects."""
    if not arguments:
        return quoted(routing_key) or "~"
    return f"{quoted(routing_key)}~{digest_of(arguments)}"


def digest_of(arguments: Object) -> str:
    """Return the hash of a binding's arguments; "" for no arguments."""
    if not arguments:
        return ""
    ordered = dict(sorted(arguments.items()))
    try:
        text = msgspec.json.encode(ordered)
    except UnicodeEncodeError:  # bytes that are not UTF-8: escapes keep them distinct
        text = json.dumps(ordered).encode()
    digest = zlib.crc32(text).to_bytes(4, "big")
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")


def is_properties_key(segment: str, routing_key: str, arguments: Object) -> bool:
    """Return True if a segment of a path is the properties key of such a binding.

    RabbitMQ decodes the binding key in it a second time, so that ``a%2Fb`` and ``a%252Fb`` in a path both
    mean the key ``a/b``.
    """
    key, _, digest = segment.partition("~")
    return unquote_plus(key, errors="surrogateescape") == routing_key and digest == digest_of(arguments)


def show_binding(vhost: VHost, binding: Binding) -> Object:
    """Return a binding as an object."""
    arguments = plain(dict(binding.arguments))
    return {
        "source": binding.source.name,
        "vhost": vhost.name,
        "destination": binding.destination.name,
        "destination_type": kind(binding.destination),
        "routing_key": binding.routing_key,
        "arguments": arguments,
        "properties_key": properties_key(binding.routing_key, arguments),
    }


def implicit(vhost: VHost, queue: AnyQueue) -> Object:
    """Return the binding of a queue to the default exchange."""
    return {
        "source": "",
        "vhost": vhost.name,
        "destination": queue.name,
        "destination_type": "queue",
        "routing_key": queue.name,
        "arguments": {},
        "properties_key": quoted(queue.name),
    }


ListedBinding = tuple[VHost, Binding | AnyQueue]  # a queue stands for its binding to the default exchange


def _show(shown: ListedBinding) -> Object:
    vhost, what = shown
    return show_binding(vhost, what) if isinstance(what, Binding) else implicit(vhost, what)


def _of_vhost(vhost: VHost) -> Iterable[ListedBinding]:
    yield from ((vhost, queue) for queue in list(vhost.queues.values()))
    for exchange in list(vhost.exchanges.values()):
        yield from ((vhost, binding) for binding in list(exchange.bindings.values()))


def _listed(call: Call, found: Iterable[ListedBinding]) -> ResponseSteps[Response]:
    return listing(
        call,
        found,
        _show,
        sort=("vhost", "source", "destination", "routing_key", "properties_key"),
        name_of=lambda shown: shown[1].routing_key if isinstance(shown[1], Binding) else shown[1].name,
    )


def list_bindings(call: Call) -> ResponseSteps[Response]:
    return _listed(call, (shown for vhost in accessible_vhosts(call) for shown in _of_vhost(vhost)))


def list_in_vhost(call: Call) -> ResponseSteps[Response]:
    return _listed(call, _of_vhost(call.vhost))


def _exchange(call: Call, segment: str) -> Exchange:
    """Return the exchange of a path segment. Raises HttpError 404."""
    found = call.vhost.exchanges.get(exchange_name(call[segment]))
    if found is None:
        raise not_found()
    return found


def from_exchange(call: Call) -> ResponseSteps[Response]:
    vhost, exchange = call.vhost, _exchange(call, "name")
    if not exchange.name:
        return _listed(call, ((vhost, queue) for queue in list(vhost.queues.values())))
    return _listed(call, ((vhost, binding) for binding in list(exchange.bindings.values())))


def to_exchange(call: Call) -> ResponseSteps[Response]:
    return _listed(call, _to(call.vhost, _exchange(call, "name")))


def to_queue(call: Call) -> ResponseSteps[Response]:
    queue = call.vhost.queues.get(call["name"])
    if queue is None:
        raise not_found()
    return _listed(call, chain([(call.vhost, queue)], _to(call.vhost, queue)))


def _to(vhost: VHost, destination: AnyQueue | Exchange) -> Iterator[ListedBinding]:
    """Yield the bindings to a destination."""
    for source in list(vhost.graph.sources.get(destination, ())):
        yield from ((vhost, binding) for binding in source.bound_to(destination))


# -- bindings between a source and a destination -------------------------------------------------------------


def _between(call: Call) -> list[ListedBinding]:
    """Return the bindings between the source and the destination of the path."""
    source = _exchange(call, "source")
    if call["kind"] not in ("q", "e"):
        raise not_found()
    if call["kind"] == "e":
        destination: AnyQueue | Exchange | None = call.vhost.exchanges.get(exchange_name(call["destination"]))
    else:
        destination = call.vhost.queues.get(call["destination"])
    if destination is None:
        return []
    if not source.name and not isinstance(destination, Exchange):
        return [(call.vhost, destination)]
    return [(call.vhost, binding) for binding in source.bound_to(destination)]


def list_between(call: Call) -> ResponseSteps[Response]:
    return _listed(call, _between(call))


def _found(call: Call) -> ResponseSteps[tuple[Binding | AnyQueue, Object]]:
    """Return the binding that the path names, and its JSON object. Raises HttpError 404."""
    for shown in _between(call):
        document = _show(shown)
        if is_properties_key(call["key"], document["routing_key"], document["arguments"]):
            return shown[1], document
        if call.broker.budget.spent():
            yield 0
    raise not_found()


def show_one(call: Call) -> ResponseSteps[Response]:
    _what, document = yield from _found(call)
    return answer(narrowed(document, columns_of(call.query)))


def bind(call: Call) -> ResponseSteps[Response]:
    """Create a binding; the header ``Location`` has its path, relative to the path of the request."""
    if call["kind"] not in ("q", "e"):
        raise not_found()
    routing_key, arguments = text(call.body, "routing_key", ""), table(call.body, "arguments")
    source, destination = exchange_name(call["source"]), call["destination"]
    topology = call.client().topology
    is_queue = call["kind"] == "q"
    make = topology.bind_queue_in_slices if is_queue else topology.bind_exchange_in_slices
    yield from stepwise(make(destination, source, routing_key, arguments))
    key = properties_key(routing_key, arguments)
    return Response(201, headers=(("Location", f"{quote_plus(destination)}/{quote_plus(key, safe='~')}"),))


def unbind(call: Call) -> ResponseSteps[Response]:
    """Delete a binding."""
    topology = call.client().topology
    what, _document = yield from _found(call)
    if not isinstance(what, Binding):
        raise not_authorised("Access refused.")  # bindings of the default exchange cannot be deleted
    end = topology.unbind_queue if call["kind"] == "q" else topology.unbind_exchange
    end(what.destination.name, what.source.name, what.routing_key, what.arguments)
    return empty_response()


RULES: Rules = {
    "/bindings": {"GET": Rule(management, list_bindings)},
    "/bindings/{vhost}": {"GET": Rule(in_vhost, list_in_vhost)},
    "/bindings/{vhost}/e/{source}/{kind}/{destination}": {
        "GET": Rule(in_vhost, list_between),
        "POST": Rule(in_vhost, bind),
    },
    "/bindings/{vhost}/e/{source}/{kind}/{destination}/{key}": {
        "GET": Rule(in_vhost, show_one),
        "DELETE": Rule(in_vhost, unbind),
    },
    "/exchanges/{vhost}/{name}/bindings/source": {"GET": Rule(in_vhost, from_exchange)},
    "/exchanges/{vhost}/{name}/bindings/destination": {"GET": Rule(in_vhost, to_exchange)},
    "/queues/{vhost}/{name}/bindings": {"GET": Rule(in_vhost, to_queue)},
}
