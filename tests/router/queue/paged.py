"""Queues whose messages are on disk, at sizes where a few of them make a page."""

from leveret.router.queue.paging import NextMessagePending

HEAD, PAGE, FEW = 3, 4, 2
ALL = 1 << 30


def publish(client, numbers, key="q", **properties):
    for number in numbers:
        client.publish(str(number), key, **properties)
    client.node.settle()


def page_out(queue, pager, most=ALL):
    """Have the queue give up what it can, and that on disk; return of how many messages that was."""
    moved = queue.paging.page_out(most)
    pager.finish_writing()
    return moved


def fill(node, pager, numbers, **arguments):
    """The queue q with these messages, of which only the head is in memory."""
    queue = node.queue(**arguments)
    publish(node.client(), numbers)
    page_out(queue, pager)
    return queue


def names(numbers):
    return [str(number) for number in numbers]


def in_memory(node, queue="q"):
    return node.contents(queue)


def positions(runs):
    return [run.position for _, run in runs]


def exhaust(client):
    """Get messages until the next one has to be read from disk."""
    while True:
        try:
            assert client.get() is not None
        except NextMessagePending:
            return


def exhaust_and_land(client, pager, expected):
    """Get all messages; read pages when the next message is on disk."""
    got = []
    while len(got) < len(expected):
        try:
            got.append(client.get())
        except NextMessagePending:
            pager.land()
    assert got == expected


class Waiter:
    """A client that waits for a queue's next message."""

    def __init__(self, broker, queue):
        self.went_on = 0
        broker.await_message(self, queue)

    def go_on(self):
        self.went_on += 1
