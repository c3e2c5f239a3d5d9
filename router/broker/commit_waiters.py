"""Connections waiting for a commit before they send confirms or replies.

Responsible for notifying each connection at most once a batch. Each connection finds out which of its
messages and changes are on disk (``Client.tell``).
"""

from collections.abc import Iterable

from leveret.router.broker.client import Client


class CommitWaiters:
    """The clients of one broker that wait for a commit; ``owed`` are notified when this batch ends.

    ``settled_early``: messages were settled before their commit, so any waiting client may have confirms now.
    """

    def __init__(self) -> None:
        self.owed: dict[Client, None] = {}
        self.settled_early = False
        self._waiting: dict[Client, None] = {}  # to be notified after a commit

    def add(self, client: Client) -> None:
        """Notify the client at the end of this batch, and after commits while it has outstanding confirms or
        replies.
        """
        self.owed[client] = None

    def end_batch(self) -> None:
        """Notify the clients of this batch, and those whose messages were settled before their commit."""
        owed, self.owed = self.owed, {}
        settled_early, self.settled_early = self.settled_early, False
        self._notify({**self._waiting, **owed} if settled_early else owed, settled_early=settled_early)

    def notify_committed(self) -> None:
        """Notify the waiting clients after a commit."""
        self._notify(list(self._waiting), settled_early=False)

    def _notify(self, clients: Iterable[Client], *, settled_early: bool) -> None:
        for client in clients:
            self._waiting.pop(client, None)
            try:
                if client.tell(settled_early=settled_early):
                    self._waiting[client] = None
            except Exception as error:  # the fault of this client; the others are notified all the same
                client.crash(error)
