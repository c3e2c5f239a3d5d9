"""API for the ready messages of a queue: peek, delete, move, replay. RabbitMQ has no such paths.

Not for the iteration over a queue (see ``queue_walk``).

A message is identified by its position, which is unique in its queue. Peeking does not deliver: a message
keeps its place, and is not marked as redelivered. Messages that are only on disk are read for the request and
released.

A moved message enters its target before it leaves its queue, both in one batch, so that a crash loses none. A
message that no other queue accepts stays where it is.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from leveret.protocol.amqp.message import INTERNAL, Message
from leveret.protocol.amqp.properties import splice_properties
from leveret.protocol.amqp.table import REMOVE
from leveret.protocol.http import Response
from leveret.router.exchange.routing import Target, routing_keys
from leveret.router.management.access import in_vhost
from leveret.router.management.body import integer, text
from leveret.router.management.call import Call, Rule, Rules
from leveret.router.management.errors import bad_request, not_found
from leveret.router.management.json_values import Object, answer
from leveret.router.management.resources import queue_walk
from leveret.router.management.resources.bindings import exchange_name
from leveret.router.management.resources.exchanges import checked_name
from leveret.router.management.resources.messages import refuse_while_alarmed, show_payload, show_properties
from leveret.router.management.resources.queue_walk import QueueWalk
from leveret.router.management.resources.queues import find_queue
from leveret.router.queue.entry import Entry
from leveret.router.queue.interface import AnyQueue
from leveret.router.queue.paged_run import Run
from leveret.router.queue.queue import Queue
from leveret.router.selector import Selector, SelectorError, compile_in_slices
from leveret.router.session.validation import check_publish
from leveret.router.turns.backlog import at_once
from leveret.router.values.bounds import refused_name
from leveret.router.values.outcome import REFUSED
from leveret.router.vhost.death_headers import last_death
from leveret.router.web.response_steps import Growth, ResponseSteps, stepwise

PEEK, PEEK_MOST = 50, 1000  # messages that are shown: default and maximum
BYTES_MOST = 1 << 24  # maximum bytes of their bodies
EXAMINED_MOST = 1_000_000  # messages that one request examines to find those it acts on
LIMIT, LIMIT_MOST = 1000, 100_000  # messages that one request acts on: default and maximum
RATE_MOST = 100_000  # messages a second
PAUSE = 0.1  # seconds between two groups at a limited rate
DEATHS = (
    "x-death",
    "x-first-death-reason",
    "x-first-death-queue",
    "x-first-death-exchange",
    "x-last-death-reason",
    "x-last-death-queue",
    "x-last-death-exchange",
)

Verdict = Literal["done", "unroutable", "skipped"]


@dataclass(frozen=True, slots=True)
class Choice:
    """Selection of messages: some positions, or all that a selector matches."""

    positions: frozenset[int] | None
    selector: Selector | None

    @property
    def cost(self) -> int:
        """The cost of the selector, 0 without one."""
        return 0 if self.selector is None else self.selector.cost

    def matches(self, entry: Entry) -> bool:
        """Return True if a message is selected."""
        if self.positions is not None and entry.position not in self.positions:
            return False
        return self.selector is None or at_once(self.selector.check(entry.message))


def parse_selector(text: str) -> ResponseSteps[Selector]:
    """Compile a selector in the language of ``x-selector``. Raises HttpError 400."""
    try:
        return (yield from stepwise(compile_in_slices(text)))
    except SelectorError as error:
        raise bad_request(f"invalid selector: {error}") from None


def check_reader(call: Call, queue: AnyQueue) -> None:
    """Raise HttpError or AccessRefused unless the user may (still) use the API in the virtual host and read
    the queue.
    """
    in_vhost(call)
    call.user.check(queue.vhost, "read", "queue", queue.name)


def browsable(call: Call) -> Queue:
    """Return the queue of the path, which the user may read. Raises HttpError 404; 400 for a stream."""
    found = find_queue(call)
    check_reader(call, found)
    call.vhost.queue_for(found.name, None)  # refuses another connection's exclusive queue
    if not isinstance(found, Queue):
        raise bad_request(f"messages of a {found.settings.queue_type} queue are read by consumers only")
    return found


# -- peek ----------------------------------------------------------------------------------------------------


def show_message(entry: Entry, truncate: int | None) -> Object:
    """Return a ready message as an object."""
    message = entry.message
    return {
        "position": entry.position,
        "payload_bytes": message.size,
        "redelivered": entry.returns > 0,
        "exchange": message.exchange,
        "routing_key": message.routing_key,
        "properties": show_properties(entry),
        **show_payload(message.body, "auto", truncate),
    }


def peek(call: Call) -> ResponseSteps[Response]:
    """Show messages without removing them: ``count`` of them ``from`` a position on that match a
    ``selector``.
    """
    queue, query = browsable(call), call.query
    count = min(_number(query, "count", PEEK), PEEK_MOST)
    truncate = _number(query, "truncate", 0) if "truncate" in query else None
    start = _number(query, "from", 0)
    selector = (yield from parse_selector(query["selector"])) if "selector" in query else None
    choice = Choice(None, selector)
    shown_bytes = BYTES_MOST if truncate is None else truncate
    walk = QueueWalk(queue, start, selector_cost=choice.cost, shown=shown_bytes)
    shown: list[Object] = []
    size = 0
    while len(shown) < count and size < BYTES_MOST and walk.examined < LIMIT_MOST:
        found = yield from walk.next()
        if found is None:
            break
        for entry in found[0]:
            if len(shown) < count and size < BYTES_MOST and choice.matches(entry):
                shown.append(show_message(entry, truncate))
                size += entry.message.size if truncate is None else min(truncate, entry.message.size)
        walk.release(found[1])
        yield Growth(size)
    walk.close()
    return answer(shown)


def _number(query: Mapping[str, str], name: str, default: int) -> int:
    value = query.get(name, str(default))
    if not (value.isascii() and value.isdigit() and len(value) < 19):
        raise bad_request(f"{name} is a whole number")
    return int(value)


# -- delete, move, replay ------------------------------------------------------------------------------------

Act = Callable[[Entry], bool]  # False for a message that no queue accepts
Check = Callable[[Sequence[Entry]], None]  # raises if the user may not act on these messages


def _carry_out(call: Call, queue: Queue, act: Act, may: Check | None = None) -> ResponseSteps[Response]:
    """Apply ``act`` to the messages that the body selects, within its limits, and remove them from the queue.

    This may take hours: permissions are checked again before each group of messages.
    """

    def check(entries: Sequence[Entry]) -> None:
        check_reader(call, queue)
        if may is not None:
            may(entries)

    body = call.body
    choice = yield from _choice(body)
    limit = min(integer(body, "limit", LIMIT), LIMIT_MOST)
    rate = integer(body, "rate", 0)
    if limit < 1 or not 0 <= rate <= RATE_MOST:
        raise bad_request(f"limit is 1 or more, and rate at most {RATE_MOST} messages a second (0: no limit)")
    walk = QueueWalk(queue, integer(body, "from", 0), selector_cost=choice.cost)
    counts: dict[Verdict, int] = {"done": 0, "unroutable": 0, "skipped": 0}
    group_size = max(1, int(rate * PAUSE)) if rate else queue_walk.SLICE
    more = True
    while counts["done"] < limit and walk.examined < EXAMINED_MOST:
        found = yield from walk.next()
        if found is None:
            more = False
            break
        entries, run = found
        matching = [entry for entry in entries if choice.matches(entry)]
        while matching and counts["done"] < limit:
            some = matching[: min(group_size, limit - counts["done"])]
            check(some)
            matching = matching[len(some) :]
            done = [entry for entry in some if act(entry)]
            counts["done"] += len(done)
            counts["unroutable"] += len(some) - len(done)
            queue.remove_ready(done, run)
            if rate:
                yield len(some) / rate
                still = _still_there(queue, run, matching)
                counts["skipped"] += sum(entry.position not in still for entry in matching)
                matching = [entry for entry in matching if entry.position in still]
        walk.release(run)
        yield 0
    walk.close()
    return answer({**counts, "examined": walk.examined, "more": more})


def _still_there(queue: Queue, run: Run | None, matching: Sequence[Entry]) -> set[int]:
    """Return the positions of messages that are still ready after other tasks ran: of a paged run, or of
    none.
    """
    if queue.deleted or not matching:
        return set()
    if run is not None:
        return {entry.position for entry in run.entries or ()} if run in run.line.runs else set()
    first, last = matching[0].position, max(entry.position for entry in matching)
    found: set[int] = set()
    for line in queue.ready.lines:
        for part in line.parts(first):
            if part.position > last:
                break
            if isinstance(part, Entry):
                found.add(part.position)
    return found


def _choice(body: Object) -> ResponseSteps[Choice]:
    """Return the selection of messages. Raises HttpError 400 if the body has none, so that no request acts on
    all messages by mistake.
    """
    positions: Any = body.get("positions")
    if positions is not None:
        if not isinstance(positions, list) or not all(type(each) is int for each in positions):
            raise bad_request("'positions' must be a list of whole numbers, as GET shows them")
        positions = frozenset(positions)
    selector = (yield from parse_selector(text(body, "selector"))) if "selector" in body else None
    if positions is None and selector is None and body.get("all") is not True:
        raise bad_request('messages must be selected by one of "positions", "selector" and "all": true')
    return Choice(positions, selector)


def delete(call: Call) -> ResponseSteps[Response]:
    """Delete messages."""
    return _carry_out(call, browsable(call), lambda entry: True)


def delete_one(call: Call) -> ResponseSteps[Response]:
    """Delete the message at a position. Raises HttpError 404 if no ready message is there."""
    queue = browsable(call)
    position = _number({"position": call["position"]}, "position", 0)
    walk = QueueWalk(queue, position)
    while (found := (yield from walk.next())) is not None:
        entries, run = found
        chosen = [entry for entry in entries if entry.position == position]
        queue.remove_ready(chosen, run)
        walk.release(run)
        if chosen:
            return Response(204)
        yield 0
    raise not_found()


def move(call: Call) -> ResponseSteps[Response]:
    """Publish messages to an exchange, possibly the same one again, and remove them from this queue."""
    queue = browsable(call)
    if "exchange" not in call.body:
        raise bad_request("[{key_missing,exchange}]")
    name = checked_name("exchange", exchange_name(text(call.body, "exchange")))
    own_key = (
        checked_name("routing_key", text(call.body, "routing_key")) if "routing_key" in call.body else None
    )
    # before the response shows if the exchange exists
    call.user.check(call.vhost.name, "write", "exchange", name)
    exchange, vhost = call.vhost.exchange(name), call.vhost

    def may(entries: Sequence[Entry]) -> None:
        refuse_while_alarmed(call)
        for key in {entry.message.routing_key if own_key is None else own_key for entry in entries}:
            check_publish(call.user, vhost.name, exchange, key)

    may(())
    if own_key is not None or exchange.internal:
        check_publish(call.user, vhost.name, exchange, own_key or "")

    def act(entry: Entry) -> bool:
        message = entry.message
        key = message.routing_key if own_key is None else own_key
        moved = message.rewritten(name, key, message.raw_properties)
        targets = vhost.routes.route(exchange, routing_keys(key, moved.headers), moved)
        return _enqueued(call, moved, [target for target in targets if target is not queue])

    return _carry_out(call, queue, act, may)


def replay(call: Call) -> ResponseSteps[Response]:
    """Return dead letters to the queues where they died, in their original form, by the first entry of
    ``x-death``.

    Their dead-letter headers are removed, so that programs count deaths from zero. An ``expiration`` that
    dead-lettering removed is not restored.
    """
    queue = browsable(call)
    vhost = call.vhost

    def may(entries: Sequence[Entry]) -> None:
        refuse_while_alarmed(call)
        call.user.check(vhost.name, "write", "exchange", "")

    may(())

    def act(entry: Entry) -> bool:
        message = entry.message
        death = last_death(message)
        target = None if death is None else vhost.queues.get(death.queue)
        if death is None or target is None or target is queue:
            return False
        key = death.routing_keys[0] if death.routing_keys else message.routing_key
        if refused_name("exchange", death.exchange) or refused_name("routing_key", key):
            return False  # publishers can write x-death too
        properties = splice_properties(message.raw_properties, headers=dict.fromkeys(DEATHS, REMOVE))
        replayed = message.rewritten(death.exchange, key, properties)
        return _enqueued(call, replayed, [target])

    return _carry_out(call, queue, act, may)


def _enqueued(call: Call, message: Message, targets: Sequence[Target]) -> bool:
    """Enqueue a message; return False if no queue has accepted it."""
    message.bits = INTERNAL
    outcomes = [target.enqueue(message, call.broker.now) for target in targets]
    return any(outcome is not REFUSED for outcome in outcomes)


PATH = "/queues/{vhost}/{name}/messages"
RULES: Rules = {
    PATH: {"GET": Rule(in_vhost, peek)},
    f"{PATH}/{{position}}": {"DELETE": Rule(in_vhost, delete_one)},
    f"{PATH}/delete": {"POST": Rule(in_vhost, delete)},
    f"{PATH}/move": {"POST": Rule(in_vhost, move)},
    f"{PATH}/replay": {"POST": Rule(in_vhost, replay)},
}
