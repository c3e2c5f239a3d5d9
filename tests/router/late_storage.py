"""A storage that writes nothing and commits only when the test calls `commit`."""

from leveret.router.persistence.api import NoStorage


class LateStorage(NoStorage):
    """``commit`` ends the batch that gathers; ``Broker.notify_committed`` is to be called after it."""

    batch = 1

    def hold(self):
        return self.batch

    def commit(self):
        self.committed_batch = self.batch
        self.batch += 1

    def _change(self, *_):
        self.changes += 1
        self.changed = self.batch

    keep_queue = keep_stream = keep_exchange = keep_binding = keep = _change
    forget_queue = forget_exchange = forget_binding = forget = _change
