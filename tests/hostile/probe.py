"""A client in a process of its own that publishes and gets every 50 ms until its standard input ends.

``python -m tests.hostile.probe PORT`` prints a line when it is ready, and at the end the seconds of each look
as JSON.
"""

import json
import sys

import trio

from leveret.protocol.amqp import methods as m
from tests.router.server.client import Client, publish_frames

EVERY = 0.05  # seconds from one look to the next
QUEUE = "probe"


async def look(client: Client) -> float:
    """Seconds that a publish and a get of it take."""
    began = trio.current_time()
    await client.stream.send_all(publish_frames(QUEUE))
    await client.send(m.BasicGet(QUEUE, True))
    answer = await client.next()
    assert not isinstance(answer, m.BasicGetEmpty)
    return trio.current_time() - began


async def main(port: int) -> None:
    client = await Client(await trio.open_tcp_stream("127.0.0.1", port)).login()
    await client.call(m.QueueDeclare(QUEUE), m.QueueDeclareOk)
    await look(client)
    print("ready", flush=True)
    waits: list[float] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_watch, nursery.cancel_scope)
        while True:
            await trio.sleep(EVERY)
            with trio.CancelScope(shield=True):
                waits.append(await look(client))
    print(json.dumps(waits), flush=True)


async def _watch(scope: trio.CancelScope) -> None:
    stdin = trio.lowlevel.FdStream(0)
    while await stdin.receive_some():
        pass
    scope.cancel()


if __name__ == "__main__":
    trio.run(main, int(sys.argv[1]))
