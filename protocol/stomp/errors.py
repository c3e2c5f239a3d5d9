"""The error that a STOMP server reports in an ERROR frame."""


class StompError(Exception):
    """A refusal, after which the connection ends.

    ``str(error)`` is the header ``message`` of the frame, a few words; ``detail`` is the body, which says
    what to do.
    """

    def __init__(self, message: str, detail: str) -> None:
        super().__init__(message)
        self.detail = detail
