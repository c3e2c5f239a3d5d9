"""Services of a virtual host for its queues: the implementation of ``QueueHost``.

Responsible for the services of the virtual host and the broker that queues need: time, deliveries, timers,
dead letters, and the deletion of a queue.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import structlog

from leveret.protocol.amqp.message import Message
from leveret.router.queue.entry import Entry
from leveret.router.queue.host import Reason
from leveret.router.queue.interface import AnyQueue
from leveret.router.queue.queue import Queue
from leveret.router.turns.backlog import Slices
from leveret.router.vhost.dead_letters import DeadLetter

if TYPE_CHECKING:
    from leveret.router.vhost.vhost import VHost


class QueueServices:
    """The services of one virtual host for its queues.

    ``dead_lettered`` counts the messages that queues dead-lettered, by the reason and by RabbitMQ's name of
    the strategy: ``disabled`` without a dead-letter exchange, ``at_most_once`` with one.
    """

    def __init__(self, vhost: "VHost") -> None:
        self.dead_lettered: dict[tuple[Reason, str], int] = {}
        self._vhost = vhost
        self._host = vhost.host
        self._scheduler = vhost.host.scheduler
        self.touch: Callable[[AnyQueue], None] = vhost.host.scheduler.touch  # without a call in between
        self._log = structlog.get_logger()

    @property
    def now(self) -> int:
        return self._host.now

    @property
    def wall(self) -> int:
        return self._host.wall

    def schedule_repair(self, queue: AnyQueue) -> None:
        self._host.schedule_repair(queue)

    def catch_up(self) -> None:
        self._scheduler.catch_up()

    def deliver_touched(self) -> None:
        self._scheduler.deliver_touched()

    def carry_on(self, what: str, slices: Slices) -> None:
        self._host.backlog.start(what, slices)

    def schedule(self, when: int, queue: AnyQueue) -> None:
        self._host.schedule(when, queue)

    def dead_letter(self, queue: Queue, entries: Sequence[Entry], reason: Reason) -> None:
        exchange, key = queue.settings.dead_letter_exchange, queue.settings.dead_letter_routing_key
        count = reason, "disabled" if exchange is None else "at_most_once"
        self.dead_lettered[count] = self.dead_lettered.get(count, 0) + len(entries)
        if exchange is None:
            self._host.drops.add(queue.vhost, queue.name, reason, len(entries), self._host.now)
            queue.settle(entries)
        else:
            vhost = self._vhost
            letters = (DeadLetter(vhost, queue, entry, reason, exchange, key) for entry in entries)
            self._host.dead_letters.add(letters)

    def forget_published(self, message: Message) -> None:
        exchange = self._vhost.exchanges.get(message.exchange)
        if exchange is not None:
            exchange.forget_message(message)

    def refused(self, queue: Queue) -> None:
        self._host.drops.add(queue.vhost, queue.name, "refused", 1, self._host.now)

    def drop_queue(self, queue: AnyQueue) -> None:
        if not queue.deleted:
            what = f"deleting queue '{queue.name}' in vhost '{queue.vhost}'"
            self.carry_on(what, self._vhost.deletion.delete_queue(queue))

    def expire_queue(self, queue: Queue) -> None:
        if not queue.deleted:
            self._log.info(
                "queue expired",
                vhost=queue.vhost,
                queue=queue.name,
                messages=len(queue.ready) + queue.unacked,
                unused_ms=queue.settings.expires,
                set_by=self._vhost.policy_effects.source_of_expiry(queue),
            )
            self.drop_queue(queue)
