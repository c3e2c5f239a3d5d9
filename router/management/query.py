"""Query parameters of lists: pages, order, columns, names.

As in RabbitMQ: ``page`` and ``page_size`` (500 at most), ``name`` with ``use_regex``, ``sort`` with
``sort_reverse``, ``columns``; a dot separates the names of nested objects. Without pages, ``name`` has no
effect.
"""

import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from heapq import merge
from itertools import islice
from typing import Any, Generic, TypeAlias, TypeVar

from leveret.protocol.http import HttpError, Response, in_parts
from leveret.protocol.json_text import encode_json
from leveret.router.management.call import Call
from leveret.router.management.errors import bad_request
from leveret.router.management.json_values import JSON, Object, answer
from leveret.router.values.patterns import PatternError, compile_pattern
from leveret.router.web.response_steps import Growth, ResponseSteps

PAGE_SIZE = 100
PAGE_SIZE_MAX = 500
RUN = 512  # rows that are sorted at once: half a millisecond
PART = 100  # rows in a part of a response
CHECKED = 32  # rows that are merged between two looks at the clock
ROW = 400  # bytes of memory of a row beside its JSON

T = TypeVar("T")
_Sortable: TypeAlias = tuple[int, Any]
_Row: TypeAlias = tuple[tuple[_Sortable, ...], int, T]  # key, number, JSON or an object

Columns: TypeAlias = dict[str, "Columns | None"]  # a tree of path segments; None: the whole value


@dataclass(frozen=True, slots=True)
class ListPage:
    """Requested part of a list; ``matches`` is the predicate for names that belong to the list."""

    number: int
    size: int
    matches: Callable[[str], bool]


def page_of(query: Mapping[str, str]) -> ListPage | None:
    """Return the requested page, None for the whole list. Raises HttpError 400."""
    if "page" not in query:
        return None
    number, size = _integer(query["page"]), _integer(query.get("page_size", str(PAGE_SIZE)))
    if not (number > 0 and 0 < size <= PAGE_SIZE_MAX):
        text = f"Invalid pagination parameters: page number {number}, page size {size}"
        raise HttpError(400, text, error="invalid_pagination_parameters")
    name = query.get("name", "")
    if query.get("use_regex") == "true":
        try:
            return ListPage(number, size, compile_pattern(name))
        except PatternError as error:
            raise bad_request(f"invalid regular expression: {error}") from None
    return ListPage(number, size, lambda text: name.lower() in text.lower())


def _integer(text: str) -> int:
    if not re.fullmatch("-?[0-9]{1,9}", text):
        raise bad_request("Pagination parameters are invalid")
    return int(text)


def at(item: Any, path: str) -> Any:
    """Return the value at a dotted path in an object; None if there is none."""
    dot = "."
    while dot and isinstance(item, dict):
        part, dot, path = path.partition(".")
        item = item.get(part)
    return None if dot else item


def columns_of(query: Mapping[str, str]) -> Columns:
    """Return the requested columns; an empty tree means all columns."""
    tree: Columns = {}
    for path in query.get("columns", "").split(","):
        if not path:
            continue
        *outer, last = path.split(".")
        node = tree
        for part in outer:
            below = node.setdefault(part, {})
            if below is None:  # the whole value is requested already
                break
            node = below
        else:
            node[last] = None
    return tree


def narrowed(item: Object, columns: Columns) -> Object:
    """Return a copy of an object with only these columns; columns that the object does not have are left out.

    The time is bounded by the size of the object, however many columns are requested.
    """
    if not columns:
        return item
    result: Object = {}
    unfinished = [(item, columns, result)]
    while unfinished:
        source, wanted, into = unfinished.pop()
        for name in wanted if len(wanted) <= len(source) else source:
            if name not in source or name not in wanted:
                continue
            below, value = wanted[name], source[name]
            if below is None:
                into[name] = value
            elif isinstance(value, dict):
                into[name] = {}
                unfinished.append((value, below, into[name]))
    return result


def listing(
    call: Call,
    sources: Iterable[T | None],
    show: Callable[[T], Object],
    *,
    sort: Sequence[str] = ("vhost", "name"),
    name_of: Callable[[T], str] | None = None,
    key_of: Callable[[T], Object] | None = None,
) -> ResponseSteps[Response]:
    """Respond with a list: each of ``sources`` in the form that ``show`` returns.

    ``name_of`` returns the name that a page's ``name`` is compared with; without it, that is a shown object's
    ``name``. ``key_of`` returns the columns of ``sort``, so that only the objects of a page are shown if
    these are its order. Sources are taken a slice at a time: an iterator must tolerate objects that appear or
    vanish between two slices, and yields None for objects that it skips. Raises HttpError 400 for a page that
    does not exist.
    """
    query, spent = call.query, call.broker.budget.spent
    page, columns = page_of(query), columns_of(query)
    by, reverse = [query["sort"]] if query.get("sort") else sort, query.get("sort_reverse") == "true"
    if page is not None and name_of is not None and key_of is not None and set(by) <= set(sort):
        keys: SortedRows[T] = SortedRows(by, reverse)
        return (yield from _page(call, page, keys, sources, show, name_of=name_of, key_of=key_of))
    rows: SortedRows[bytes] = SortedRows(by, reverse)
    total = 0
    for source in sources:
        if source is None:
            pass
        elif page is None or name_of is None or page.matches(name_of(source)):
            item = show(source)
            if page is None or name_of is not None or page.matches(str(item.get("name", ""))):
                row = encode_json(narrowed(item, columns))
                rows.add(item, row, len(row))
        total += source is not None
        if spent():
            yield Growth(rows.size)
    if page is None:
        return in_parts((yield from rows.joined(spent, 0, len(rows), b"[", b"]")), JSON)
    first, last, head = _extent(page, total, len(rows))
    return in_parts((yield from rows.joined(spent, first, last, head, b"]}")), JSON)


def _page(
    call: Call,
    page: ListPage,
    rows: "SortedRows[T]",
    sources: Iterable[T | None],
    show: Callable[[T], Object],
    *,
    name_of: Callable[[T], str],
    key_of: Callable[[T], Object],
) -> ResponseSteps[Response]:
    """Respond with a page in an order that is known without showing the objects."""
    columns, spent = columns_of(call.query), call.broker.budget.spent
    total = 0
    for source in sources:
        if source is not None:
            total += 1
            if page.matches(name_of(source)):
                rows.add(key_of(source), source, 0)
        if spent():
            yield Growth(rows.size)
    first, last, head = _extent(page, total, len(rows))
    shown: list[bytes] = []
    for source in (yield from rows.taken(spent, first, last)):
        shown.append(encode_json(narrowed(show(source), columns)))
        if spent():
            yield Growth(sum(map(len, shown)))
    return in_parts([head, b",".join(shown), b"]}"], JSON)


def _extent(page: ListPage, total: int, filtered: int) -> tuple[int, int, bytes]:
    """Return the first and the last row of a page, and the beginning of the response.

    Raises HttpError 400 for a page that does not exist.
    """
    pages = max(1, -(-filtered // page.size))
    if page.number > pages:
        text = f"Page out of range, page: {page.number} page size: {page.size}, len: {filtered}"
        raise HttpError(400, text, error="page_out_of_range")
    first = (page.number - 1) * page.size
    last = min(first + page.size, filtered)
    document = {
        "total_count": total,
        "item_count": last - first,
        "filtered_count": filtered,
        "page": page.number,
        "page_size": page.size,
        "page_count": pages,
    }
    return first, last, encode_json(document).removesuffix(b"}") + b',"items":['


def with_list(
    call: Call, document: Object, name: str, items: Sequence[T], show: Callable[[T], Object]
) -> ResponseSteps[Response]:
    """Respond with an object one member of which is a list of ``items``."""
    spent, columns = call.broker.budget.spent, columns_of(call.query)
    document = narrowed(document, columns)
    if columns and name not in columns:
        return answer(document)
    parts = [encode_json(document).removesuffix(b"}") + b"," * bool(document) + encode_json(name) + b":["]
    size = 0
    for start in range(0, len(items), PART):
        some: list[bytes] = []
        for item in items[start : start + PART]:
            some.append(encode_json(show(item)))
            size += len(some[-1])
            if spent():
                yield Growth(size)
        parts.append(b"," * bool(start) + b",".join(some))
    return in_parts([*parts, b"]}"], JSON)


class SortedRows(Generic[T]):
    """Rows that are sorted by columns of their objects, in steps of about a millisecond each.

    Sorting 20,000 rows at once takes 40 ms, in a thread too, because sorting holds Python's global lock.
    Therefore runs of ``RUN`` rows are sorted as they arrive, and merged when they are read. The objects are
    not kept, because freeing 20,000 objects at once takes as long.
    """

    def __init__(self, columns: Sequence[str], reverse: bool) -> None:
        self.size = 0  # bytes of memory of all rows
        self._columns = columns
        self._reverse = reverse
        self._count = 0
        self._run: list[_Row[T]] = []
        self._runs: list[deque[_Row[T]]] = []

    def __len__(self) -> int:
        return self._count

    def add(self, item: Object, row: T, size: int) -> None:
        """Add the row of an object, of ``size`` bytes. Rows with equal columns stay in the order of their
        addition.
        """
        self._count += 1
        self.size += size + ROW
        key = tuple(_sortable(at(item, column)) for column in self._columns)
        self._run.append((key, -self._count if self._reverse else self._count, row))
        if len(self._run) >= RUN:
            self._end_run()

    def _end_run(self) -> None:
        self._run.sort(reverse=self._reverse)
        self._runs.append(deque(self._run))
        self._run = []

    def merged(self, last: int) -> Iterator[T]:
        """Yield the rows up to ``last`` in their order, and remove them."""
        self._end_run()
        return (row for _, _, row in islice(merge(*map(_drained, self._runs), reverse=self._reverse), last))

    def clear(self, spent: Callable[[], bool]) -> ResponseSteps[None]:
        """Remove all rows."""
        while self._runs:
            self._runs.pop().clear()
            if spent():
                yield 0

    def taken(self, spent: Callable[[], bool], first: int, last: int) -> ResponseSteps[list[T]]:
        """Return the rows from ``first`` up to ``last`` in their order. All rows are removed."""
        found: list[T] = []
        for index, row in enumerate(self.merged(last)):
            if index >= first:
                found.append(row)
            if not index % CHECKED and spent():
                yield 0
        yield from self.clear(spent)
        return found

    def joined(
        self: "SortedRows[bytes]", spent: Callable[[], bool], first: int, last: int, head: bytes, tail: bytes
    ) -> ResponseSteps[list[bytes]]:
        """Return the rows from ``first`` up to ``last`` in their order, separated by commas, in parts of
        ``PART`` rows, between ``head`` and ``tail``. The rows are removed.
        """
        parts = [head]
        some: list[bytes] = []
        for index, row in enumerate(self.merged(last)):
            if index >= first:
                some.append(row)
                if len(some) == PART and index < last - 1:
                    parts.append(b",".join(some) + b",")
                    some.clear()
            if not index % CHECKED and spent():
                yield 0
        parts.append(b",".join(some) + tail)
        yield from self.clear(spent)
        return parts


def _drained(rows: deque[_Row[T]]) -> Iterator[_Row[T]]:
    """Yield the rows in order, and remove them from ``rows``."""
    while rows:
        yield rows.popleft()


def _sortable(value: Any) -> _Sortable:
    """Return a key that orders values of different types: nothing, numbers, text, all others."""
    match value:
        case None:
            return (0, 0)
        case bool() | int() | float():
            return (1, value)
        case str():
            return (2, value)
    return (3, encode_json(value))
