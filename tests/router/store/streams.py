"""The stream ``s`` of a broker with a store: declare it, publish to it, read it."""


def declare(kept, **arguments):
    return kept.node.queue("s", queue_type="stream", durable=True, **arguments)


def publish(kept, *bodies, **properties):
    kept.publish(*bodies, queue="s", **properties)


def numbers(first, below):
    return [str(number) for number in range(first, below)]


def read(kept, start="first", tag="r", prefetch=1000, **arguments):
    """Offsets and bodies from there to the end."""
    client = kept.node.client()
    client.consume("s", tag, prefetch=prefetch, arguments={"x-stream-offset": start, **arguments})
    kept.settle()
    found = [
        (entry.message.headers["x-stream-offset"], entry.message.body.decode())
        for _, _, entry in client.delivered
    ]
    client.session.close()
    return found


def whole(first, below):
    return [(number, str(number)) for number in range(first, below)]
