"""Output of metrics in Prometheus' text format, in pieces.

``prometheus_client`` formats the text. That would take seconds for ten thousand queues. So the labels of an
object are formatted once for all its metrics, and other tasks run between two pieces. One metric shows how
many objects were left out.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence

from prometheus_client import generate_latest
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    Metric,
    UntypedMetricFamily,
)

from leveret.router.management.call import ApiContext
from leveret.router.management.metrics.broker_metrics import GROUPS, MOST, OWN, Value, identity, of_broker
from leveret.router.management.metrics.detailed_metrics import PER_OBJECT, ScrapeSelection, select
from leveret.router.management.metrics.object_metrics import Family, Kind, kinds
from leveret.router.management.metrics.outbox_metrics import outboxes
from leveret.router.web.response_steps import ResponseSteps, gathered, released

TEXT = "text/plain; version=0.0.4; charset=utf-8"
PIECE = 100  # objects that are formatted between two yields: 2 ms for queues with all metrics
PREFIX, DETAILED = "rabbitmq_", "rabbitmq_detailed_"
CLUSTER = "cluster_"  # prefix of names that a detailed scrape does not change
# After EVERY pieces a pause of LISTEN seconds lets the connection notice that its client has disconnected.
LISTEN, EVERY = 0.0005, 20

LEFT_OUT = Family("leveret_metrics_objects_left_out", "Objects whose metrics are left out of this scrape")
MetricFamily = CounterMetricFamily | GaugeMetricFamily | UntypedMetricFamily
FAMILIES = {"gauge": GaugeMetricFamily, "counter": CounterMetricFamily, "untyped": UntypedMetricFamily}


def scrape(context: ApiContext, *, per_object: bool) -> ResponseSteps[list[bytes]]:
    """Return all metrics as text: summed up, or for each object."""
    return (yield from _paced(_scrape(context, per_object=per_object)))


def scrape_detailed(context: ApiContext, wanted: ScrapeSelection) -> ResponseSteps[list[bytes]]:
    """Return the metrics of the selected families, for each object."""
    return (yield from _paced(_scrape_detailed(context, wanted)))


def _paced(steps: ResponseSteps[list[bytes]]) -> ResponseSteps[list[bytes]]:
    """Run the steps with pauses in which a disconnected client is noticed."""
    count = 0
    while True:
        try:
            step = next(steps)
        except StopIteration as end:
            text: list[bytes] = end.value
            return text
        count += 1
        yield LISTEN if step == 0 and count % EVERY == 0 else step


def _scrape(context: ApiContext, *, per_object: bool) -> ResponseSteps[list[bytes]]:
    values = yield from of_broker(context)
    values += outboxes(context.broker)
    yield 0
    found = yield from kinds(context)
    if per_object:  # each metric appears once: as a sum, or for each object
        each = {family.name for kind in found for family in (*kind.gauges, *kind.counters)}
        values = [value for value in values if value.family.name not in each]
    text: list[bytes] = []
    yield from _write_values(text, values)
    consumers = yield from _consumers(found[0])
    text.append(_text([_total(kind) for kind in found] + [consumers]))
    for kind in found:
        yield 0
        if per_object:
            yield from _write_each(text, kind, PREFIX, range(len(kind.gauges) + len(kind.counters)))
        else:
            yield from _write_sum(text, kind)
    if per_object:
        left_out = [
            Value(LEFT_OUT, max(0, len(kind.objects) - MOST), (("kind", kind.name),)) for kind in found
        ]
        text.append(_text([_metric(LEFT_OUT, left_out)]))
    for kind in found:
        yield from released(kind.objects)
    return text


def _scrape_detailed(context: ApiContext, wanted: ScrapeSelection) -> ResponseSteps[list[bytes]]:
    text = [_text([_metric(value.family, [value]) for value in identity(context)])]
    for name in sorted(wanted.families & GROUPS.keys()):
        for family, values in _by_family(GROUPS[name](context)).items():
            text.append(_text([_metric(family, values, DETAILED)]))
    seen: set[str] = set()
    for name in sorted(wanted.families & PER_OBJECT.keys()):
        part = PER_OBJECT[name]
        yield 0
        kind = yield from part.make(context, wanted.vhosts)
        yield from _write_each(text, kind, DETAILED, select(kind, part.names, seen))
        yield from released(kind.objects)
    return text


def _write_values(text: list[bytes], values: Sequence[Value]) -> ResponseSteps[None]:
    """Write the metrics of the broker in pieces, since consumers of streams may be many."""
    for family, some in _by_family(values).items():
        for start in range(0, len(some), PIECE):
            if start:
                yield 0
            written = _text([_metric(family, some[start : start + PIECE])])
            if start:  # help and type are written once
                written = b"\n".join(line for line in written.split(b"\n") if not line.startswith(b"#"))
            text.append(written)


def _by_family(values: Iterable[Value]) -> dict[Family, list[Value]]:
    """Group values by family: the text format wants those of a family together."""
    found: dict[Family, list[Value]] = {}
    for each in values:
        found.setdefault(each.family, []).append(each)
    return found


def _total(kind: Kind) -> Metric:
    return _metric(
        Family(kind.name, f"{kind.name.title()} that exist now"), [Value(LEFT_OUT, len(kind.objects))]
    )


def _consumers(queues: Kind) -> ResponseSteps[Metric]:
    counts = yield from gathered(len(queue.consumers) for _, queue in queues.objects)
    family = Family("consumers", "Consumers that exist now")
    return _metric(family, [Value(family, sum(counts))])


def _metric(family: Family, values: Sequence[Value], prefix: str = PREFIX) -> Metric:
    """Return a metric with its values; the labels of all values have the same names."""
    names = [name for name, _ in values[0].labels] if values else []
    metric = _family(family, names, prefix)
    for each in values:
        metric.add_metric([_label(value) for _, value in each.labels], each.value)
    return metric


def _name(family: Family, prefix: str) -> str:
    """Return the name of a family's samples."""
    name = family.name
    if name.startswith(CLUSTER):
        prefix = PREFIX
    if not name.startswith(OWN):
        name = f"{prefix}{name}"
    return f"{name}_total" if family.type == "counter" else name


def _family(family: Family, labels: Sequence[str], prefix: str) -> MetricFamily:
    make: Callable[..., MetricFamily] = FAMILIES[family.type]
    return make(_name(family, prefix), family.help, labels=labels)


def _write_sum(text: list[bytes], kind: Kind) -> ResponseSteps[None]:
    """Write the sums of a kind's gauges over all its objects."""
    sums: list[float] = [0.0] * len(kind.gauges)
    for start in range(0, len(kind.objects), PIECE):
        if start:
            yield 0
        for _, each in kind.objects[start : start + PIECE]:
            for place, value in enumerate(kind.values(each)[: len(sums)]):
                sums[place] += value or 0
    values = zip(kind.gauges, sums, strict=True)
    text.append(_text([_metric(family, [Value(family, value)]) for family, value in values]))


def _write_each(text: list[bytes], kind: Kind, prefix: str, places: Sequence[int]) -> ResponseSteps[None]:
    """Write the metrics at these indexes for each object.

    Labels are formatted once for an object, since they take most of the time of a sample.
    """
    families = (*kind.gauges, *kind.counters)
    written = {place: [_text([_family(families[place], kind.labels, prefix)])] for place in places}
    names = {place: _name(families[place], prefix).encode() for place in places}
    objects = kind.objects[:MOST]
    for start in range(0, len(objects), PIECE):
        yield 0
        some = objects[start : start + PIECE]
        labels = _formatted(kind.labels, [labels for labels, _ in some])
        rows = [kind.values(each) for _, each in some]
        for place, name in names.items():
            written[place].append(b"".join(_samples(name, labels, [row[place] for row in rows])))
    for family in written.values():
        yield 0
        text.append(b"".join(family))


def _samples(name: bytes, labels: Sequence[bytes], values: Sequence[float | None]) -> Iterator[bytes]:
    """Yield the lines of a metric, without objects that have no such value."""
    for label, value in zip(labels, values, strict=True):
        if value is not None:
            yield b"%b%b %a\n" % (name, label, value)


def _formatted(names: Sequence[str], values: Sequence[Sequence[str]]) -> list[bytes]:
    """Return labels with these values in the form of a sample, with braces."""
    probe = GaugeMetricFamily("x", "", labels=names)
    for each in values:
        probe.add_metric([_label(value) for value in each], 0)
    lines = _text([probe]).splitlines()
    return [line[1 : line.rindex(b" ")] for line in lines if not line.startswith(b"#")]


def _label(text: str) -> str:
    """Return the value of a label, with bytes that are not UTF-8 as escapes."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


class _Registry:
    """Registry of metrics in the form that ``prometheus_client`` expects."""

    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> list[Metric]:
        return self._metrics


def _text(metrics: list[Metric]) -> bytes:
    return generate_latest(_Registry(metrics))
