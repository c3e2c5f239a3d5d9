"""Connections waiting for a commit before they send confirms or replies.

Responsible for notifying each connection at most once a batch. Each connection finds out which of its
messages and changes are on disk (``Client.tell``).
"""

from itertools import islice

from leveret.router.broker.client import Client
from leveret.router.turns.backlog import Slices, Start

SOME = 16  # clients that are notified at a time


class CommitWaiters:
    """The clients of one broker that wait for a commit; ``owed`` are notified when this batch ends.

    ``settled_early``: messages were settled before their commit, so any waiting client may have confirms now.
    ``start`` starts work that may take longer than a turn: thousands of clients may wait.
    """

    def __init__(self, start: Start) -> None:
        self.owed: dict[Client, None] = {}
        self.settled_early = False
        self._start = start
        self._waiting: dict[Client, None] = {}  # to be notified after a commit
        self._due: dict[Client, bool] = {}  # to be notified now, with the value of ``settled_early``
        self._notifying = False

    def add(self, client: Client) -> None:
        """Notify the client at the end of this batch, and after commits while it has outstanding confirms or
        replies.
        """
        self.owed[client] = None

    def end_batch(self) -> None:
        """Notify the clients of this batch, and those whose messages were settled before their commit."""
        owed, self.owed = self.owed, {}
        settled_early, self.settled_early = self.settled_early, False
        if settled_early and self._waiting:
            for client in owed:
                self._waiting.pop(client, None)
            self._notify_waiting(settled_early=True)
        for client in owed:
            self._notify(client, settled_early=settled_early)

    def notify_committed(self) -> None:
        """Notify the waiting clients after a commit."""
        self._notify_waiting(settled_early=False)

    def _notify_waiting(self, *, settled_early: bool) -> None:
        """Notify all waiting clients, after those that are due already."""
        if len(self._waiting) <= SOME and not self._due:
            for client in list(self._waiting):
                self._notify(client, settled_early=settled_early)
            return
        waiting, self._waiting = self._waiting, {}
        if settled_early:
            self._due = dict.fromkeys({**self._due, **waiting}, True)
        else:
            self._due = {**self._due, **dict.fromkeys(waiting, False), **self._due}
        if self._due and not self._notifying:
            self._notifying = True
            self._start("notifying clients of a commit", self._notify_due())

    def _notify_due(self) -> Slices:
        try:
            while self._due:
                for client in list(islice(self._due, SOME)):
                    self._notify(client, settled_early=self._due.pop(client))
                yield
        finally:
            self._notifying = False

    def _notify(self, client: Client, *, settled_early: bool) -> None:
        self._waiting.pop(client, None)
        try:
            if client.tell(settled_early=settled_early):
                self._waiting[client] = None
        except Exception as error:  # the fault of this client; the others are notified all the same
            client.crash(error)
