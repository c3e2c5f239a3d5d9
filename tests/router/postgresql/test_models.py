"""The models of queues and streams, with a store in PostgreSQL: the results are those of a data directory."""

from itertools import count

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from leveret.router.postgresql import tables
from leveret.router.postgresql.backend import open_backend
from leveret.router.postgresql.location import StoreLocation
from tests.router.store.kept import Kept
from tests.router.store.test_model import QueueModel
from tests.router.store.test_stream_model import StreamModel

EXAMPLES = settings(deadline=None, max_examples=8, stateful_step_count=25)
numbers = count(1)  # of the examples, each of which has a schema of its own


@pytest.mark.slow
def test_queues_are_like_lists(database: str) -> None:
    class Model(QueueModel):
        def reopen(self) -> Kept:
            if not hasattr(self, "place"):
                self.place = StoreLocation(database, schema=f"queues_{next(numbers)}")
            return Kept(open_backend(self.place), budget=0, sliced=self.sliced)

    run_state_machine_as_test(Model, settings=EXAMPLES)


@pytest.mark.slow
def test_streams_are_like_lists(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "SMALL", 1000)  # segments grow beyond it

    class Model(StreamModel):
        def reopen(self) -> Kept:
            if not hasattr(self, "place"):
                self.place = StoreLocation(database, schema=f"streams_{next(numbers)}")
            return Kept(open_backend(self.place), journal_size=2000)

    run_state_machine_as_test(Model, settings=EXAMPLES)
