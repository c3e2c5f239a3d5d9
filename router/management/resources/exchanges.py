"""API of exchanges: list, show, declare, delete."""

from collections.abc import Iterator

from leveret.protocol.http import Response
from leveret.router.exchange.base import Exchange
from leveret.router.management.access import accessible_vhosts, in_vhost, management
from leveret.router.management.body import boolean, table, text
from leveret.router.management.call import Call, Rule, Rules
from leveret.router.management.errors import bad_request, not_found
from leveret.router.management.json_values import Object, answer, empty_response
from leveret.router.management.query import columns_of, listing, narrowed
from leveret.router.management.resources.bindings import exchange_name
from leveret.router.management.statistics.rate_values import message_stats, window_of
from leveret.router.management.statistics.rates import EXCHANGE, of_exchange
from leveret.router.values.bounds import refused_name
from leveret.router.values.field_values import plain
from leveret.router.vhost.vhost import VHost
from leveret.router.web.offloaded import finished
from leveret.router.web.response_steps import ResponseSteps


def show_exchange(call: Call, vhost: VHost, exchange: Exchange) -> Object:
    """Return an exchange as an object."""
    policy = vhost.policies.policy("exchanges", exchange.name, exchange.type) if exchange.name else None
    document: Object = {
        "arguments": plain(dict(exchange.arguments)),
        "auto_delete": exchange.auto_delete,
        "durable": exchange.durable,
        "internal": exchange.internal,
        **message_stats(
            EXCHANGE, of_exchange(exchange), call.context.sampler.of(exchange), window_of(call, "msg_rates")
        ),
        "name": exchange.name,
        "type": exchange.type,
        "user_who_performed_action": "rmq-internal" if exchange.name.startswith("amq.") else "",
        "vhost": vhost.name,
    }
    if policy is not None:
        document["policy"] = policy.name
    return document


def _listed(call: Call, vhosts: list[VHost]) -> ResponseSteps[Response]:
    return listing(
        call,
        _counted(vhosts),
        lambda each: show_exchange(call, *each),
        name_of=lambda each: each[1].name,
        key_of=lambda each: {"vhost": each[0].name, "name": each[1].name},
    )


def _counted(vhosts: list[VHost]) -> Iterator[tuple[VHost, Exchange]]:
    """Yield the exchanges of virtual hosts, after their messages have been counted."""
    for vhost in vhosts:
        vhost.routes.count()
        yield from ((vhost, exchange) for exchange in list(vhost.exchanges.values()))


def list_exchanges(call: Call) -> ResponseSteps[Response]:
    return _listed(call, accessible_vhosts(call))


def list_in_vhost(call: Call) -> ResponseSteps[Response]:
    return _listed(call, [call.vhost])


def find_exchange(call: Call) -> Exchange:
    """Return the exchange of the path. Raises HttpError 404."""
    found = call.vhost.exchanges.get(exchange_name(call["name"]))
    if found is None:
        raise not_found()
    return found


def show_one(call: Call) -> Response:
    exchange = find_exchange(call)
    call.vhost.routes.count()
    document = show_exchange(call, call.vhost, exchange)
    document["incoming"] = document["outgoing"] = []  # as in RabbitMQ with rates_mode basic
    return answer(narrowed(document, columns_of(call.query)))


def declare(call: Call) -> Response:
    """Declare an exchange: 201 if it is new, 204 if it exists."""
    name = exchange_name(call["name"])
    body = call.body
    new = name not in call.vhost.exchanges
    call.client().topology.declare_exchange(
        name,
        text(body, "type", "direct"),
        durable=boolean(body, "durable"),
        auto_delete=boolean(body, "auto_delete"),
        internal=boolean(body, "internal"),
        arguments=table(body, "arguments"),
    )
    return empty_response(201 if new else 204)


def checked_name(what: str, name: str) -> str:
    """Return a name unchanged. Raises HttpError 400 if AMQP cannot carry it."""
    if refusal := refused_name(what, name):
        raise bad_request(refusal)
    return name


def delete(call: Call) -> ResponseSteps[Response]:
    name = find_exchange(call).name or exchange_name(call["name"])
    topology, if_unused = call.client().topology, call.query.get("if-unused") == "true"
    yield from finished(topology.loosen_exchange(name, if_unused=if_unused))
    topology.delete_exchange(name, if_unused=if_unused)
    return empty_response()


RULES: Rules = {
    "/exchanges": {"GET": Rule(management, list_exchanges)},
    "/exchanges/{vhost}": {"GET": Rule(in_vhost, list_in_vhost)},
    "/exchanges/{vhost}/{name}": {
        "GET": Rule(in_vhost, show_one),
        "PUT": Rule(in_vhost, declare),
        "DELETE": Rule(in_vhost, delete),
    },
}
