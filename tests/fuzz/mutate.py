"""Inputs made of others: bytes changed, cut out, repeated, put in, and two inputs joined.

For where atheris is not installed, and for tests, which need the same inputs each time.
"""

from collections.abc import Iterator, Sequence
from random import Random

LENGTHS = (
    b"\0\0\0\0",
    b"\xff\xff\xff\xff",
    b"\x7f\xff\xff\xff",
    b"\0\0\0\1",
    b"\xff",
    b"\0",
    b"\xce",
    b"\n",
    b"\0\n\n",
)
LONGEST = 4096  # bytes


def inputs(seeds: Sequence[bytes], number: int) -> Iterator[bytes]:
    """The seeds, and then changed ones without end; ``number`` chooses which."""
    random = Random(number)
    yield from seeds
    while True:
        data = bytearray(random.choice(seeds))
        for _ in range(random.randint(1, 6)):
            change_bytes(data, seeds, random)
        yield bytes(data[:LONGEST])


def change_bytes(data: bytearray, seeds: Sequence[bytes], random: Random) -> None:
    """Change ``data`` in one place."""
    start = random.randint(0, len(data))
    end = min(len(data), start + random.randint(0, 12))
    match random.randrange(6):
        case 0 if start < len(data):
            data[start] = random.randrange(256)
        case 1:
            del data[start:end]
        case 2:
            data[start:start] = data[start:end] * random.randint(1, 4)
        case 3:
            special = random.choice(LENGTHS)
            data[start : start + len(special)] = special
        case 4:
            other = random.choice(seeds)
            data[start:] = other[random.randint(0, len(other)) :]
        case _:
            data[start:start] = random.randbytes(random.randint(1, 4))
