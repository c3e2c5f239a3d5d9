"""Checks of names that an operator gives, and the error for an object that does not exist."""

from leveret.router.values.bounds import refused_name


class NoSuchObject(LookupError):
    """A named object does not exist; the text names it."""


def check_new_name(what: str, name: str) -> None:
    """Raise ValueError for an empty name, and for a name that cannot be encoded as an AMQP short string."""
    if not name:
        raise ValueError(f"a {what} needs a name")
    if refusal := refused_name(f"{what} name", name):
        raise ValueError(refusal)
