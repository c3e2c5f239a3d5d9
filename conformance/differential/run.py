"""Playing many scenarios to one broker at the same time: each in a thread and a virtual host of its own."""

import itertools
import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

from conformance.differential.play import Play, PlayError, Probe, Scenario, Stage
from conformance.differential.stages import Prepare

QUIET = 0.15  # seconds of silence after which a step is over
JOBS = 24
SLOWER = 3.0  # how much longer the silence is when time is no object
FEWER = 6
Transcripts = dict[str, list[str]]


class Company:
    """Plays scenarios on a stage."""

    def __init__(
        self, stage: Stage, prepare: Prepare, scenarios: Sequence[Scenario], jobs: int = JOBS
    ) -> None:
        self.stage = stage
        self._prepare = prepare
        self._scenarios = {each.name: each for each in scenarios}
        self._numbers = itertools.count()
        self._jobs = jobs
        self._thread = threading.local()
        self.seconds: dict[str, float] = {}

    def play(self, names: Iterable[str], *, few: bool = False, slowly: bool = False) -> Transcripts:
        """The transcript of each; ``few`` at a time, and ``slowly``, give a busy machine time to answer."""
        wanted = list(names)
        quiet, jobs = QUIET * SLOWER if slowly else QUIET, FEWER if few else self._jobs
        with ThreadPoolExecutor(jobs) as threads:
            return dict(zip(wanted, threads.map(lambda name: self._one(name, quiet), wanted), strict=True))

    def _one(self, name: str, quiet: float) -> list[str]:
        each = self._scenarios[name]
        vhost = f"vhost-{next(self._numbers):06}"  # all names are equally long
        clear = self._prepare(vhost, each.needs)
        if not hasattr(self._thread, "probe"):
            self._thread.probe = Probe(self.stage.amqp)
        play = Play(self.stage, vhost, quiet, self._thread.probe)
        begin = time.monotonic()
        try:
            each.script(play)
        except (PlayError, OSError) as problem:
            play.say(f"could not go on: {problem}")
        finally:
            play.close()
            clear()
        self.seconds[name] = time.monotonic() - begin
        return play.lines
