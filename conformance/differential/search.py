"""Play made-up scripts to RabbitMQ and to leveret at the same time, and compare what both deliver.

``python -m conformance.differential.search --examples 2000`` looks for scripts that are answered differently
and prints the smallest one that it finds; ``--seed`` looks elsewhere. Such a script becomes a scenario.
"""

import argparse
import contextlib
import itertools
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from hypothesis import HealthCheck, Phase, given, seed, settings

from conformance.differential import stages
from conformance.differential.compare import diff
from conformance.differential.play import Needs, Play, Probe, Stage
from conformance.differential.scripts import Script, play, scripts

QUIET = 0.012  # seconds; what differs is played again with more
SLOWLY = 0.3


class Pair:
    """Both brokers."""

    def __init__(self, *sides: tuple[Stage, stages.Prepare]) -> None:
        self._sides = sides
        self._probes = [Probe(stage.amqp) for stage, _ in sides]
        self._numbers = itertools.count()
        self._threads = ThreadPoolExecutor(len(sides))

    def difference(self, script: Script) -> tuple[str, ...]:
        """What one answers otherwise than the other, twice; nothing if all is the same."""
        for quiet in (QUIET, SLOWLY):
            theirs, ours = self._play(script, quiet)
            if theirs == ours:
                return ()
        return diff(theirs, ours)

    def _play(self, script: Script, quiet: float) -> list[list[str]]:
        vhost = f"random-{next(self._numbers):06}"
        return list(self._threads.map(lambda side: self._one(side, script, vhost, quiet), (0, 1)))

    def _one(self, side: int, script: Script, vhost: str, quiet: float) -> list[str]:
        stage, prepare = self._sides[side]
        clear = prepare(vhost, Needs())
        played = Play(stage, vhost, quiet, self._probes[side])
        try:
            play(script, played)
        finally:
            played.close()
            clear()
        return played.lines


@contextlib.contextmanager
def pair() -> Iterator[Pair]:
    """A RabbitMQ and a leveret for made-up scripts."""
    with stages.rabbitmq([]) as theirs, stages.leveret([]) as ours:
        yield Pair(theirs, ours)


def search(both: Pair, examples: int, number: int | None = None) -> Callable[[], None]:
    """The property that no script is answered differently; always the same scripts without a ``number``."""

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=number is None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink),
    )
    @given(scripts())
    def answered_alike(script: Script) -> None:
        found = both.difference(script)
        assert not found, "\n".join(["answered differently:", *found])

    return answered_alike if number is None else seed(number)(answered_alike)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m conformance.differential.search", description=__doc__)
    parser.add_argument("--examples", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with pair() as both:
        try:
            search(both, options.examples, options.seed)()
        except AssertionError as difference:
            print(difference)
            return 1
    print(f"{options.examples} scripts answered alike")
    return 0


if __name__ == "__main__":
    sys.exit(main())
