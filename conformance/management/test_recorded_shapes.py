"""Whatever RabbitMQ's API told when it was recorded, leveret's tells under the same name, in the same type.

Generated clients decode into fixed types and fail where a field is missing. ``EXCEPTIONS`` has what is
missing all the same, and why. ``shapes`` records.
"""

import pytest

from conformance.management import shapes
from conformance.management.scene import Scene
from conformance.management.sides import leveret_side

EXCEPTIONS: dict[str, str] = {}


@pytest.fixture(scope="module")
def ours() -> dict[str, shapes.Shape]:
    """The shapes of a leveret's own, in which nothing else goes on."""
    with leveret_side() as side, Scene(side):
        return shapes.shapes_of(side)


@pytest.mark.parametrize("path", shapes.PATHS)
def test_answer_has_the_recorded_shape(ours: dict[str, shapes.Shape], path: str) -> None:
    found = shapes.differences(shapes.read()[path], ours[path])
    assert [each for each in found if f"{path}{each}" not in EXCEPTIONS] == []


def test_no_exception_is_out_of_date(ours: dict[str, shapes.Shape]) -> None:
    found = {
        f"{path}{each}"
        for path, theirs in shapes.read().items()
        for each in shapes.differences(theirs, ours[path])
    }
    assert set(EXCEPTIONS) - found == set()


def test_keys_that_only_some_items_have_are_optional() -> None:
    theirs = shapes.shape([{"a": 1, "b": {"n": None}}, {"a": 2}], "n")
    assert theirs == [{"a": "number", "b?": {"*": "null"}}]
    assert shapes.differences(theirs, shapes.shape([{"a": 1}], "n")) == []
    assert shapes.differences(theirs, shapes.shape([{"b": {"n": None}}], "n")) == ["[].a is missing"]


@pytest.mark.parametrize(
    ("theirs", "ours", "found"),
    [
        (1, 2.5, []),
        (1, "1", [" is string, not number"]),
        (None, 1, [" is number, not null"]),
        ([1, None], [None], []),
        ([], [1], []),
        ({"a": []}, {"a": {}}, [".a is object, not list"]),
        ([{"a": []}, {"a": {}}], [{"a": {}}], []),
    ],
)
def test_differences_of_shapes_are_named(theirs: object, ours: object, found: list[str]) -> None:
    assert shapes.differences(shapes.shape(theirs, "n"), shapes.shape(ours, "n")) == found
