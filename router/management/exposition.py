"""Metrics written in Prometheus' text format, a piece at a time.

Formatting is ``prometheus_client``'s. Ten thousand queues would take it seconds, so an object's labels are
formatted once, and between two pieces others run. How many objects were left out is told.
"""

from collections.abc import Iterable, Sequence

from prometheus_client import generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric

from router.management.call import World
from router.management.metrics import MOST, OWN, Family, Kind, Value, kinds, of_broker
from router.web.steps import Steps

TEXT = "text/plain; version=0.0.4; charset=utf-8"
PIECE = 500  # samples that are formatted before others have their turn


def scrape(world: World, *, per_object: bool) -> Steps[bytes]:
    """All metrics, as text."""
    found = kinds(world)
    pieces = [_text([_metric(family, values) for family, values in _by_family(of_broker(world)).items()])]
    pieces.append(_text([_total(kind) for kind in found] + [_consumers(found[0])]))
    for kind in found:
        yield 0
        pieces += yield from (_each(kind) if per_object else _sum(kind))
    if per_object:
        left_out = [
            Value(LEFT_OUT, max(0, len(kind.objects) - MOST), (("kind", kind.name),)) for kind in found
        ]
        pieces.append(_text([_metric(LEFT_OUT, left_out)]))
    return b"".join(pieces)


LEFT_OUT = Family("leveret_metrics_objects_left_out", "Objects of which nothing is told here")


def _by_family(values: Iterable[Value]) -> dict[Family, list[Value]]:
    """The values of each family, which have to stand together."""
    found: dict[Family, list[Value]] = {}
    for each in values:
        found.setdefault(each.family, []).append(each)
    return found


def _total(kind: Kind) -> Metric:
    return _metric(
        Family(kind.name, f"{kind.name.title()} currently open"), [Value(LEFT_OUT, len(kind.objects))]
    )


def _consumers(queues: Kind) -> Metric:
    count = sum(len(queue.consumers) for _, queue in queues.objects)
    family = Family("consumers", "Consumers currently connected")
    return _metric(family, [Value(family, count)])


def _metric(family: Family, values: Sequence[Value]) -> Metric:
    """A metric with values whose labels have the same names."""
    names = [name for name, _ in values[0].labels] if values else []
    metric = _family(family, names)
    for each in values:
        metric.add_metric([_label(value) for _, value in each.labels], each.value)
    return metric


def _name(family: Family) -> str:
    """How its samples are called."""
    name = family.name if family.name.startswith(OWN) else f"rabbitmq_{family.name}"
    return f"{name}_total" if family.counter else name


def _family(family: Family, labels: Sequence[str]) -> CounterMetricFamily | GaugeMetricFamily:
    if family.counter:
        return CounterMetricFamily(_name(family), family.help, labels=labels)
    return GaugeMetricFamily(_name(family), family.help, labels=labels)


def _sum(kind: Kind) -> Steps[list[bytes]]:
    """What is told of all objects together."""
    sums: list[float] = [0.0] * len(kind.gauges)
    for start in range(0, len(kind.objects), PIECE):
        if start:
            yield 0
        for _, each in kind.objects[start : start + PIECE]:
            for place, value in enumerate(kind.values(each)[: len(sums)]):
                sums[place] += value
    values = zip(kind.gauges, sums, strict=True)
    return [_text([_metric(family, [Value(family, value)]) for family, value in values])]


def _each(kind: Kind) -> Steps[list[bytes]]:
    """What is told of each object. Its labels are formatted once: most of the work of a sample is theirs."""
    families = (*kind.gauges, *kind.counters)
    lines: list[list[bytes]] = [[_text([_family(family, kind.labels)])] for family in families]
    objects = kind.objects[:MOST]
    for start in range(0, len(objects), PIECE):
        yield 0
        some = objects[start : start + PIECE]
        labels = _formatted(kind.labels, [labels for labels, _ in some])
        values = [kind.values(each) for _, each in some]
        for place, family in enumerate(families):
            name = _name(family).encode()
            lines[place] += [
                b"%b%b %d\n" % (name, label, row[place]) for label, row in zip(labels, values, strict=True)
            ]
    yield 0
    return [b"".join(family) for family in lines]


def _formatted(names: Sequence[str], values: Sequence[Sequence[str]]) -> list[bytes]:
    """Labels with these values as they stand in a sample, braces and all."""
    probe = GaugeMetricFamily("x", "", labels=names)
    for each in values:
        probe.add_metric([_label(value) for value in each], 0)
    lines = _text([probe]).splitlines()
    return [line[1 : line.rindex(b" ")] for line in lines if not line.startswith(b"#")]


def _label(text: str) -> str:
    """A label's value; bytes that are no UTF-8 are shown escaped."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


class _Registry:
    """Metrics, as ``prometheus_client`` asks for them."""

    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> list[Metric]:
        return self._metrics


def _text(metrics: list[Metric]) -> bytes:
    return generate_latest(_Registry(metrics))
