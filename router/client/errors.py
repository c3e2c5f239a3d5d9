"""What can go wrong between this client and a broker; each text is for the person at the terminal."""


class ClientError(Exception):
    """What the client could not do, and why."""


class BadUrl(ClientError):
    """The address makes no sense."""


class CannotConnect(ClientError):
    """No broker answers at that address. ``advice`` is what to try, if the reason suggests something."""

    def __init__(self, text: str, advice: str = "") -> None:
        super().__init__(text)
        self.advice = advice


class Ended(ClientError):
    """The broker ended something; ``code`` is its reply code, 0 where it gave none."""

    def __init__(self, text: str, code: int = 0) -> None:
        super().__init__(text)
        self.code = code


class ConnectionEnded(Ended):
    """The broker closed the connection, or it was lost."""


class ChannelEnded(Ended):
    """The broker closed the channel: it refused what was asked of it there."""


class ConsumerEnded(Ended):
    """The broker cancelled a consumer: its queue is gone."""
