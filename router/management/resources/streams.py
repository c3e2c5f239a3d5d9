"""API of streams: offsets, readers and their lag, positions of named consumers, super streams.

The paths are leveret's own. RabbitMQ's fields of streams are in ``queues``.
"""

from leveret.protocol.http import Response
from leveret.router.management.access import in_vhost
from leveret.router.management.body import integer, table, text
from leveret.router.management.call import Call, Rule, Rules
from leveret.router.management.errors import bad_request, not_found
from leveret.router.management.json_values import Object, answer, empty_response
from leveret.router.session.super_streams import declare_super_stream
from leveret.router.stream import set_positions
from leveret.router.stream.lag import Lag, lags
from leveret.router.stream.stream import Stream
from leveret.router.turns.backlog import Slices
from leveret.router.values.field_values import plain
from leveret.router.web.offloaded import finished
from leveret.router.web.response_steps import ResponseSteps


def find_stream(call: Call) -> Stream:
    """Return the stream of the path. Raises HttpError 404."""
    found = call.vhost.queues.get(call["name"])
    if not isinstance(found, Stream):
        raise not_found()
    return found


def show_lag(lag: Lag) -> Object:
    return {
        "consumer_name": lag.name,
        "consumer_tag": lag.tag,
        "active": lag.active,
        "offset": lag.offset,
        "lag_messages": lag.messages,
        "lag_seconds": lag.seconds,
    }


def show_stream(call: Call) -> Response:
    stream = find_stream(call)
    return answer(
        {
            "name": stream.name,
            "vhost": stream.vhost,
            "arguments": plain(stream.arguments),
            "first_offset": stream.first,
            "next_offset": stream.committed,
            "messages": len(stream.ready),
            "bytes": stream.bytes,
            "segments": len(stream.segments),
            "publishers": len(stream.publishers),
            "missed_messages": stream.serving.moved,
            "consumers": [show_lag(lag) for lag in lags(stream)],
        }
    )


def list_positions(call: Call) -> Response:
    """List the named consumers, connected or not."""
    return answer([show_lag(lag) for lag in lags(find_stream(call)) if lag.name is not None])


def set_position(call: Call) -> Response:
    """Set the position of a named consumer: an offset, ``first`` or ``next``."""
    stream = find_stream(call)
    call.user.check(stream.vhost, "read", "queue", stream.name)
    wanted = call.body.get("offset")
    if wanted in ("first", "next"):
        offset = stream.first if wanted == "first" else stream.committed
    else:
        offset = integer(call.body, "offset")
    if offset < 0:
        raise bad_request("'offset' must be a whole number of 0 or more")
    set_positions.set_position(stream, call["consumer"], offset)
    return empty_response()


def forget_position(call: Call) -> Response:
    stream = find_stream(call)
    call.user.check(stream.vhost, "read", "queue", stream.name)
    if not set_positions.forget_position(stream, call["consumer"]):
        raise not_found()
    return empty_response()


def make_super_stream(call: Call) -> ResponseSteps[Response]:
    """Declare a super stream, with a number of ``partitions`` or a list of ``binding_keys``."""
    body = call.body
    keys = body.get("binding_keys", [])
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise bad_request("'binding_keys' must be a list of strings")
    declaring = declare_super_stream(
        call.client().topology,
        text({"name": call["name"]}, "name"),
        partitions=integer(body, "partitions", 0),
        binding_keys=keys,
        arguments=table(body, "arguments"),
    )
    streams: list[str] = []

    def declare() -> Slices:
        streams.extend((yield from declaring))

    yield from finished(call.broker.backlog.start(f"declaring the super stream '{call['name']}'", declare()))
    return answer({"name": call["name"], "partitions": streams})


RULES: Rules = {
    "/streams/{vhost}/{name}": {"GET": Rule(in_vhost, show_stream)},
    "/streams/{vhost}/{name}/positions": {"GET": Rule(in_vhost, list_positions)},
    "/streams/{vhost}/{name}/positions/{consumer}": {
        "PUT": Rule(in_vhost, set_position),
        "DELETE": Rule(in_vhost, forget_position),
    },
    "/super-streams/{vhost}/{name}": {"PUT": Rule(in_vhost, make_super_stream)},
}
