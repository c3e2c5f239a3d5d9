"""Numbers in the form of the API: each with its rate, and with samples on request."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from leveret.router.management.errors import bad_request
from leveret.router.management.json_values import Object
from leveret.router.management.statistics.rates import DELIVERED, LENGTHS, PUBLISHED, Numbers, Series, Window

if TYPE_CHECKING:
    from leveret.router.management.call import Call

SAMPLES_MAX = 1000


def window_of(call: "Call", kind: str) -> Window | None:
    """Return the requested ``KIND_age`` and ``KIND_incr``, in seconds. Raises HttpError 400."""
    query = call.query
    if f"{kind}_age" not in query or f"{kind}_incr" not in query:
        return None
    try:
        age, step = int(query[f"{kind}_age"]), int(query[f"{kind}_incr"])
    except ValueError:
        raise bad_request(f"{kind}_age and {kind}_incr must be numbers of seconds") from None
    if not (0 < step <= age and age // step < SAMPLES_MAX and age < 2**31):
        raise bad_request(
            f"{kind}_age and {kind}_incr ask for less than 1 or more than {SAMPLES_MAX} samples"
        )
    return Window(age // step + 1, step * 1000, call.epoch)


def with_rates(
    names: Sequence[str], numbers: Numbers, series: Series, window: Window | None = None
) -> Object:
    """Return numbers, each with its ``_details``."""
    document: dict[str, Any] = {}
    for name, number in zip(names, numbers, strict=True):
        document[name] = number
        document[f"{name}_details"] = series.details(name, window)
    return document


def message_stats(
    names: Sequence[str], numbers: Numbers, series: Series, window: Window | None = None
) -> Object:
    """Return the ``message_stats`` of an object: its counters; empty if all are zero."""
    by_name = dict(zip(names, numbers, strict=True))
    groups: list[tuple[str, ...]] = (
        [DELIVERED, PUBLISHED] if "confirm" in by_name else [DELIVERED, ("publish",)]
    )
    if "publish_in" in by_name:
        groups = [tuple(names)]
    chosen = [name for group in groups if any(by_name[each] for each in group) for name in group]
    if not chosen:
        return {}
    return {"message_stats": with_rates(chosen, tuple(by_name[name] for name in chosen), series, window)}


def lengths(names: Sequence[str], numbers: Numbers, series: Series, window: Window | None = None) -> Object:
    """Return the numbers of messages of a queue or of several, with rates."""
    by_name = dict(zip(names, numbers, strict=True))
    return with_rates(LENGTHS, tuple(by_name[name] for name in LENGTHS), series, window)
