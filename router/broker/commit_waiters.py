"""Connections waiting for a commit before they send confirms or replies.

Responsible for notifying each connection at most once a batch. Each connection finds out which of its
messages and changes are on disk (``Client.tell``).
"""

from collections.abc import Iterable

from leveret.router.broker.client import Client


class CommitWaiters:
    """The clients of one broker that wait for a commit; ``owed`` are notified when this batch ends.

    ``early``: messages were settled before their commit, so any waiting client may have confirms now.
    """

    def __init__(self) -> None:
        self.owed: dict[Client, None] = {}
        self.early = False
        self._waiting: dict[Client, None] = {}  # to be notified after a commit

    def add(self, client: Client) -> None:
        """Notify the client at the end of this batch, and after commits while it has outstanding confirms or
        replies.
        """
        self.owed[client] = None

    def end_batch(self) -> None:
        """Notify the clients of this batch, and those whose messages were settled before their commit."""
        owed, self.owed = self.owed, {}
        early, self.early = self.early, False
        self._notify({**self._waiting, **owed} if early else owed, early=early)

    def committed(self) -> None:
        """Notify the waiting clients after a commit."""
        self._notify(list(self._waiting), early=False)

    def _notify(self, clients: Iterable[Client], *, early: bool) -> None:
        for client in clients:
            self._waiting.pop(client, None)
            try:
                if client.tell(early=early):
                    self._waiting[client] = None
            except Exception as error:  # the fault of this client; the others are notified all the same
                client.crash(error)
