"""Feed parsers and connections with bytes for a long time.

``python -m tests.fuzz --target frames --seconds 3600``; without ``--target`` each has an equal share. With a
target atheris, which looks where the code goes, is used if it is installed (``pip install atheris``); else
inputs are changed at random. An input that fails or takes too long is written to a file, whose name is
printed, and ends the run with 1.
"""

import argparse
import importlib
import itertools
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.fuzz.mutate import inputs
from tests.fuzz.targets import TARGETS, Target

SLOW = 5.0  # seconds that one input may take
WATCHED = ("leveret", "tests")  # packages in which atheris looks where the code goes


class FuzzError(Exception):
    """An input that made a target fail; the text names the file that holds it."""


def try_all(name: str, target: Target, tried: Iterator[bytes]) -> int:
    """Run a target with each input; return how many there were."""
    count = 0
    for data in tried:
        count += 1
        begin = time.monotonic()
        try:
            target.run(data)
        except Exception as error:
            raise _failed(name, data, repr(error)) from error
        if (took := time.monotonic() - begin) > SLOW:
            raise _failed(name, data, f"took {took:.1f} s")
    return count


def _failed(name: str, data: bytes, why: str) -> FuzzError:
    with tempfile.NamedTemporaryFile(prefix=f"{name}-", suffix=".fuzz", delete=False) as file:
        file.write(data)
    return FuzzError(f"{name}: {why}: {file.name}")


def until(when: float, tried: Iterator[bytes]) -> Iterator[bytes]:
    """Inputs up to a time."""
    return itertools.takewhile(lambda _: time.monotonic() < when, tried)


def with_atheris(name: str, seconds: int) -> None:
    """Fuzz one target; comes back only if atheris is not installed, or there is no such target."""
    try:
        import atheris  # noqa: PLC0415 - optional
    except ImportError:
        print("atheris is not installed: inputs are changed at random", flush=True)
        return
    for module in [module for module in sys.modules if module.split(".")[0] in WATCHED]:
        del sys.modules[module]  # to be imported again, and watched
    with atheris.instrument_imports(include=list(WATCHED)):
        target = importlib.import_module("tests.fuzz.targets").TARGETS[name]
    with tempfile.TemporaryDirectory() as corpus:
        for number, data in enumerate(target.seeds):
            Path(corpus, str(number)).write_bytes(data)
        limits = ("-max_len=4096", f"-timeout={int(SLOW)}", "-rss_limit_mb=2048")
        atheris.Setup([sys.argv[0], f"-max_total_time={seconds}", *limits, corpus], target.run)
        atheris.Fuzz()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--target", choices=TARGETS)
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--seed", type=int, default=int(time.time()), help="which inputs, without atheris")
    options = parser.parse_args()
    if options.target:
        with_atheris(options.target, options.seconds)
    names = [options.target] if options.target else list(TARGETS)
    try:
        for name in names:
            end = time.monotonic() + options.seconds / len(names)
            count = try_all(name, TARGETS[name], until(end, inputs(TARGETS[name].seeds, options.seed)))
            print(f"{name}: {count} inputs", flush=True)
    except FuzzError as error:
        print(error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
