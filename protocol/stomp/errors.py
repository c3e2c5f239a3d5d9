"""What a client is told in an ERROR frame."""


class StompError(Exception):
    """A refusal, after which the connection ends.

    ``str(error)`` is the frame's header ``message``, a few words; ``detail`` its body, which says what to do.
    """

    def __init__(self, message: str, detail: str) -> None:
        super().__init__(message)
        self.detail = detail
