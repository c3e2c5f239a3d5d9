"""What a request for a list asks for: pages, order, columns, names.

As in RabbitMQ: ``page`` and ``page_size`` (500 at the most), ``name`` with ``use_regex``, ``sort`` with
``sort_reverse``, ``columns``; a dot leads into an object. Without pages, ``name`` has no effect.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from leveret.protocol.http import HttpError, Response
from leveret.protocol.json_text import encode_json
from leveret.router.management.errors import bad_request
from leveret.router.management.values import JSON, SLICE, Object, encode_list
from leveret.router.patterns import PatternError, compile_pattern
from leveret.router.web.steps import Steps

PAGE_SIZE = 100
PAGE_SIZE_MAX = 500

Columns: TypeAlias = dict[str, "Columns | None"]  # a tree of the parts of their paths; None: all there is


@dataclass(frozen=True, slots=True)
class Page:
    """Which part of a list is wanted; ``matches`` says of a name whether it belongs to the list at all."""

    number: int
    size: int
    matches: Callable[[str], bool]


def page_of(query: Mapping[str, str]) -> Page | None:
    """The page that is asked for, None when that is everything. HttpError 400."""
    if "page" not in query:
        return None
    number, size = _integer(query["page"]), _integer(query.get("page_size", str(PAGE_SIZE)))
    if not (number > 0 and 0 < size <= PAGE_SIZE_MAX):
        text = f"Invalid pagination parameters: page number {number}, page size {size}"
        raise HttpError(400, text, error="invalid_pagination_parameters")
    name = query.get("name", "")
    if query.get("use_regex") == "true":
        try:
            return Page(number, size, compile_pattern(name))
        except PatternError as error:
            raise bad_request(f"invalid regular expression: {error}") from None
    return Page(number, size, lambda text: name.lower() in text.lower())


def _integer(text: str) -> int:
    if not re.fullmatch("-?[0-9]{1,9}", text):
        raise bad_request("Pagination parameters are invalid")
    return int(text)


def at(item: Any, path: str) -> Any:
    """What stands at a dotted path in an object; None when there is nothing."""
    dot = "."
    while dot and isinstance(item, dict):
        part, dot, path = path.partition(".")
        item = item.get(part)
    return None if dot else item


def columns_of(query: Mapping[str, str]) -> Columns:
    """The columns that are asked for; none stands for all."""
    tree: Columns = {}
    for path in query.get("columns", "").split(","):
        if not path:
            continue
        *outer, last = path.split(".")
        node = tree
        for part in outer:
            below = node.setdefault(part, {})
            if below is None:  # all of it is asked for already
                break
            node = below
        else:
            node[last] = None
    return tree


def narrowed(item: Object, columns: Columns) -> Object:
    """An object with these columns only, as far as it has them.

    That takes no longer than the object is large, however many columns are asked for.
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


def order(items: list[Object], query: Mapping[str, str], default: Sequence[str]) -> list[Object]:
    """The objects in the order that is asked for: by one column, else by the default ones."""
    columns = [query["sort"]] if query.get("sort") else default
    return sorted(
        items,
        key=lambda item: tuple(_sortable(at(item, column)) for column in columns),
        reverse=query.get("sort_reverse") == "true",
    )


def _sortable(value: Any) -> tuple[int, Any]:
    """A key that puts values of different types into some order: nothing, numbers, text, the rest."""
    match value:
        case None:
            return (0, 0)
        case bool() | int() | float():
            return (1, value)
        case str():
            return (2, value)
    return (3, encode_json(value))


def listing(
    query: Mapping[str, str],
    sources: Sequence[Any],
    show: Callable[[Any], Object],
    *,
    sort: Sequence[str] = ("vhost", "name"),
    name_of: Callable[[Any], str] | None = None,
) -> Steps[Response]:
    """The answer to a request for a list: each of ``sources`` as ``show`` has it.

    ``name_of`` tells what a page's ``name`` looks at; without it, that is a shown object's ``name``.
    HttpError 400 for a page that does not exist.
    """
    page, columns = page_of(query), columns_of(query)
    if page is not None and name_of is not None:
        chosen = [source for source in sources if page.matches(name_of(source))]
    else:
        chosen = list(sources)
    items: list[Object] = []
    for start in range(0, len(chosen), SLICE):
        if start:
            yield 0
        items += map(show, chosen[start : start + SLICE])
    if page is not None and name_of is None:
        items = [item for item in items if page.matches(str(item.get("name", "")))]
    items = order(items, query, sort)
    if page is None:
        return Response(200, (yield from encode_list([narrowed(item, columns) for item in items])), JSON)
    pages = max(1, -(-len(items) // page.size))
    if page.number > pages:
        text = f"Page out of range, page: {page.number} page size: {page.size}, len: {len(items)}"
        raise HttpError(400, text, error="page_out_of_range")
    shown = items[(page.number - 1) * page.size : page.number * page.size]
    told = {
        "total_count": len(sources),
        "item_count": len(shown),
        "filtered_count": len(items),
        "page": page.number,
        "page_size": page.size,
        "page_count": pages,
        "items": [narrowed(item, columns) for item in shown],
    }
    return Response(200, encode_json(told), JSON)
