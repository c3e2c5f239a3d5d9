import pytest
import trio
import trio.testing

from leveret.router.server.outbox import (
    LARGE_BATCH,
    LARGE_CHUNK,
    PIECE,
    SMALL_BATCH,
    BufferedOutbox,
    Outboxes,
    Part,
    pieces,
    unsent,
)


def outbox(high: int = 100, low: int = 50) -> BufferedOutbox:
    return BufferedOutbox(high, low, 0)


async def taken(box: BufferedOutbox) -> list[bytes]:
    """All that is left in a closed outbox, each piece sent before the next is taken."""
    pieces = []
    while parts := await box.take():
        pieces.append(b"".join(parts))
        box.sent(len(pieces[-1]), 0)
    return pieces


async def test_what_was_written_is_taken_in_order_as_one():
    box = outbox()
    box.write(b"a")
    box.extend([b"b", b"c"])
    box.write(b"d")
    assert await box.take() == [b"abcd"]


async def test_taking_waits_for_the_first_bytes(nursery, autojump_clock):
    box = outbox()

    async def write_later() -> None:
        await trio.sleep(1)
        box.write(b"late")

    nursery.start_soon(write_later)
    assert await box.take() == [b"late"]
    assert trio.current_time() == pytest.approx(autojump_clock.current_time())


async def test_closing_ends_a_wait_for_bytes(nursery, autojump_clock):
    box = outbox()

    async def close_later() -> None:
        await trio.sleep(1)
        box.close()

    nursery.start_soon(close_later)
    assert await box.take() == []


async def test_what_was_written_before_closing_is_taken_after_it():
    box = outbox()
    box.write(b"last")
    box.close()
    assert await taken(box) == [b"last"]


async def test_closing_ends_reading():
    box = outbox()
    with trio.fail_after(5), box.open:
        box.close()
        await trio.sleep_forever()
    assert box.open.cancelled_caught


async def test_much_is_taken_in_pieces():
    chunk = bytes(range(256)) * 2
    count = 3 * PIECE // len(chunk) + 1
    box = outbox()
    box.extend([chunk] * count)
    box.close()
    pieces = await taken(box)
    assert [len(piece) for piece in pieces] == [PIECE, PIECE, PIECE, len(chunk)]
    assert b"".join(pieces) == chunk * count


async def test_a_large_chunk_is_neither_copied_nor_cut():
    large = bytes(2 * PIECE)
    box = outbox()
    box.extend([b"before", large, b"after"])
    box.close()
    before, same, after = await box.take()
    assert (before, after) == (b"before", b"after")
    assert same is large


@pytest.mark.parametrize(
    ("written", "sent", "writable"),
    [
        (100, 0, True),
        (101, 0, False),
        (101, 50, False),
        (101, 51, True),
        (300, 249, False),
        (300, 250, True),
    ],
)
async def test_marks(written, sent, writable):
    box = outbox(high=100, low=50)
    box.write(bytes(written))
    assert box.writable() == (written <= 100)
    await box.take()
    assert box.writable() == (written <= 100), "taken is not yet sent"
    assert box.sent(sent, 0) == (writable and written > 100)
    assert box.writable() == writable


async def test_room_comes_once_enough_is_sent(nursery, autojump_clock):
    box = outbox()
    box.write(bytes(200))
    events = []

    async def wait() -> None:
        await box.wait_readable()
        events.append("room")

    nursery.start_soon(wait)
    nursery.start_soon(wait)
    await trio.testing.wait_all_tasks_blocked()
    box.sent(149, 0)
    await trio.testing.wait_all_tasks_blocked()
    assert events == []
    box.sent(1, 0)
    await trio.testing.wait_all_tasks_blocked()
    assert events == ["room", "room"]
    await box.wait_readable()


def test_when_bytes_were_last_sent_is_known():
    box = BufferedOutbox(100, 50, 7)
    assert box.last_sent() == 7
    box.write(b"x")
    assert box.last_sent() == 7
    box.sent(1, 9)
    assert box.last_sent() == 9


async def test_a_paused_client_may_be_written_to_and_is_not_read_from():
    box = BufferedOutbox(100, 10, 0)
    box.pause()
    assert (box.writable(), box.readable()) == (True, False)
    box.write(b"x")
    assert await box.take() == [b"x"]


async def test_reading_goes_on_when_it_is_neither_paused_nor_full(autojump_clock):
    box = BufferedOutbox(10, 1, 0)
    box.pause()
    box.write(bytes(20))
    with trio.move_on_after(1) as waiting:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(box.wait_readable)
            await trio.testing.wait_all_tasks_blocked()
            box.resume()
            await trio.testing.wait_all_tasks_blocked()
            assert not box.readable()
            box.sent(20, 0)
    assert not waiting.cancelled_caught


class Socket:
    """Takes ``room`` bytes at once, and no more."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.data = b""

    def send(self, parts: list[Part]) -> int:
        taken = b"".join(parts)[: self.room]
        self.room -= len(taken)
        self.data += taken
        return len(taken)


@pytest.mark.parametrize("room", [0, 2, 5])
async def test_little_is_sent_when_the_batch_ends_and_the_rest_taken(nursery, room):
    socket, shared, taken = Socket(room), Outboxes(), []
    box = BufferedOutbox(1 << 20, 1, 0, send=socket.send, shared=shared)

    async def write() -> None:
        taken.append(b"".join(await box.take()))

    nursery.start_soon(write)
    await trio.testing.wait_all_tasks_blocked()
    box.write(b"abc")
    box.extend([b"d", b"e"])
    assert shared.due == [box]
    box.end_batch(9)
    assert (socket.data, box.size, box.last_sent()) == (b"abcde"[:room], 5 - room, 9 if room else 0)
    box.close()
    await trio.testing.wait_all_tasks_blocked()
    assert taken == [b"abcde"[room:]]


async def test_much_is_left_to_be_taken_when_the_batch_ends(nursery):
    socket, shared, taken = Socket(1 << 20), Outboxes(), []
    box = BufferedOutbox(1 << 20, 1, 0, send=socket.send, shared=shared)

    async def write() -> None:
        taken.append(b"".join(await box.take()))

    nursery.start_soon(write)
    await trio.testing.wait_all_tasks_blocked()
    box.write(bytes(SMALL_BATCH))
    box.write(b"x")
    box.end_batch(9)
    await trio.testing.wait_all_tasks_blocked()
    assert (taken, socket.data) == ([bytes(SMALL_BATCH) + b"x"], b"")


async def test_nothing_overtakes_what_is_being_sent():
    socket, shared = Socket(100), Outboxes()
    box = BufferedOutbox(1 << 20, 1, 0, send=socket.send, shared=shared)
    box.write(b"first")
    assert await box.take() == [b"first"]
    box.write(b"second")
    for each in shared.due:
        each.end_batch(9)
    box.sent(5, 9)
    assert (await box.take(), socket.data) == ([b"second"], b"")


@pytest.mark.parametrize("closed", ["before", "after", "never"])
@pytest.mark.parametrize(("room", "started"), [(5, 0), (4, 1)])
async def test_the_task_is_started_for_bytes_that_cannot_be_sent_at_once(room, started, closed):
    socket, shared, starts = Socket(room), Outboxes(), []
    box = BufferedOutbox(1 << 20, 1, 0, send=socket.send, shared=shared)
    box.start_writer_with(lambda: starts.append(1))
    box.write(b"abcde")
    if closed == "before":
        box.close()
    for each in shared.due:
        each.end_batch(9)
    if closed == "after":
        box.close()
    assert (len(starts), box.writer_started) == (started, bool(started))
    if started:
        assert await box.take() == [b"e"]
    if closed != "never":
        assert await box.take() == []


@pytest.mark.parametrize("room", [0, 70_000, 1 << 20])
async def test_large_chunks_are_sent_when_the_batch_ends_and_the_rest_taken_as_it_is(nursery, room):
    socket, shared, taken = Socket(room), Outboxes(), []
    box = BufferedOutbox(1 << 20, 1, 0, send=socket.send, shared=shared)

    async def write() -> None:
        taken.extend(await box.take())

    nursery.start_soon(write)
    await trio.testing.wait_all_tasks_blocked()
    chunks = [b"head", bytes(LARGE_BATCH), b"head", b"x" * LARGE_BATCH]
    box.extend(chunks)
    box.end_batch(9)
    box.close()
    await trio.testing.wait_all_tasks_blocked()
    assert socket.data + b"".join(taken) == b"".join(chunks)
    assert len(socket.data) == min(room, len(b"".join(chunks)))
    assert len(taken) == {0: 4, 70_000: 1}.get(room, 0)


async def test_as_many_bytes_in_small_chunks_are_taken_joined(nursery):
    box = outbox(1 << 20, 1)
    box.extend([b"x" * (LARGE_CHUNK - 1)] * 100)
    assert [len(part) for part in await box.take()] == [100 * (LARGE_CHUNK - 1)]


def test_which_outboxes_are_full_is_known_of_all():
    shared = Outboxes()
    box, other = (BufferedOutbox(10, 5, 0, shared=shared) for _ in range(2))
    box.write(b"x" * 11)
    other.write(b"x" * 11)
    assert shared.full == {box, other}
    box.sent(6, 0)
    other.close()
    assert shared.full == set()


@pytest.mark.parametrize("count", range(7))
def test_what_is_behind_some_bytes(count):
    assert b"".join(unsent([b"ab", b"c", b"def"], count)) == b"abcdef"[count:]


@pytest.mark.parametrize(
    ("sizes", "joined"),
    [
        ([], []),
        ([5], [5]),
        ([1, 2, 3], [6]),
        ([PIECE, 1], [PIECE, 1]),
        ([PIECE - 1, 1, 1], [PIECE, 1]),
        ([4, 2 * PIECE, 4, 4], [4, 2 * PIECE, 8]),
    ],
)
def test_pieces_are_joined_from_small_chunks_and_large_ones_stay(sizes, joined):
    chunks = [bytes([number]) * size for number, size in enumerate(sizes)]
    made = list(pieces(chunks))
    assert [len(piece) for piece in made] == joined
    assert b"".join(made) == b"".join(chunks)
    assert all(any(piece is chunk for chunk in chunks) for piece in made if len(piece) > PIECE)
