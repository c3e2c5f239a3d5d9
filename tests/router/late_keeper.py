"""A keeper that keeps nothing, and is as late as a disk: what was done is committed when the test says so."""

from leveret.router.persistence.api import NoKeeper


class LateKeeper(NoKeeper):
    """``commit`` ends the batch that gathers; ``Broker.committed`` is to be called after it."""

    batch = 1

    def hold(self):
        return self.batch

    def commit(self):
        self.committed = self.batch
        self.batch += 1

    def _change(self, *_):
        self.changes += 1
        self.changed = self.batch

    keep_queue = keep_stream = keep_exchange = keep_binding = keep = _change
    forget_queue = forget_exchange = forget_binding = forget = _change
