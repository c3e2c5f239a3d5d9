"""Errors of the AMQP client, with texts for the person at the terminal."""


class ClientError(Exception):
    """An operation of the client failed; the text has the reason."""


class BadUrl(ClientError):
    """The URL is invalid."""


class CannotConnect(ClientError):
    """The client could not connect. ``advice`` suggests a remedy, if the reason is a known one, else it is
    empty.
    """

    def __init__(self, text: str, advice: str = "") -> None:
        super().__init__(text)
        self.advice = advice


class Ended(ClientError):
    """The broker closed something; ``code`` is its reply code, 0 if it gave none."""

    def __init__(self, text: str, code: int = 0) -> None:
        super().__init__(text)
        self.code = code


class ConnectionEnded(Ended):
    """The broker closed the connection, or it was lost."""


class ChannelEnded(Ended):
    """The broker closed the channel because it refused a request."""


class ConsumerEnded(Ended):
    """The broker cancelled a consumer because its queue was deleted."""
