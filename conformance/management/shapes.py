"""Shapes of the management API's answers: their keys and the types of their values, without the values.

Owns how a shape is made, compared and kept. RabbitMQ's stand in ``golden/``; ``python -m
conformance.management.shapes --record`` asks a RabbitMQ and writes them down.

A shape is an object of shapes, a list with the shape of all its items, or the names of JSON types joined by
``|``. A key with ``?`` behind it is not in all items of a list.
"""

import argparse
import json
from typing import Any, TypeAlias

from conformance.differential.golden import DIRECTORY, versions
from conformance.management.scene import Scene
from conformance.management.sides import Side, rabbitmq_side, segment

Shape: TypeAlias = Any

FILE = "management-shapes.json"
NODE = "*"  # stands for the node's name where that is a key
PATHS = (
    "/overview",
    "/nodes",
    "/nodes/{node}",
    "/nodes/{node}/memory",
    "/nodes/{node}/memory/relative",
    "/auth/attempts/{node}",
    "/connections",
    "/connections/{connection}",
    "/channels",
    "/channels/{channel}",
    "/consumers",
    "/exchanges",
    "/exchanges/%2F/scene.topic",
    "/queues",
    "/queues/%2F/scene.work",
    "/queues/%2F/scene.quorum",
    "/queues/%2F/scene.stream",
    "/bindings",
    "/vhosts",
    "/vhosts/%2F",
    "/users",
    "/users/guest",
    "/permissions",
    "/policies",
    "/parameters",
    "/definitions",
)


def shape(value: Any, node: str) -> Shape:
    """The shape of an answer of the node of this name."""
    if isinstance(value, dict):
        return {NODE if key == node else key: shape(each, node) for key, each in sorted(value.items())}
    if isinstance(value, list):
        return [joined([shape(item, node) for item in value])] if value else []
    if isinstance(value, int | float) and not isinstance(value, bool):
        return "number"
    return {bool: "boolean", str: "string", type(None): "null"}[type(value)]


def joined(shapes: list[Shape]) -> Shape:
    """The shape that all of these have."""
    objects = [each for each in shapes if isinstance(each, dict)]
    lists = [each for each in shapes if isinstance(each, list)]
    if objects and len(objects) == len(shapes):
        found = {}
        for key in sorted({key for each in objects for key in each}):
            values = [each[key] for each in objects if key in each]
            optional = len(values) < len(objects) and not key.endswith("?")
            found[f"{key}?" if optional else key] = joined(values)
        return found
    if lists and len(lists) == len(shapes):
        items = [item for each in lists for item in each]
        return [joined(items)] if items else []
    return "|".join(sorted({name for each in shapes for name in _kind(each).split("|")}))


def differences(theirs: Shape, ours: Shape, path: str = "") -> list[str]:
    """Where an answer of the second shape lacks a key of the first, or has a value of another type there."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        found = []
        for name, value in theirs.items():
            key = name.removesuffix("?")
            mine = ours.get(key, ours.get(f"{key}?"))
            if mine is None:
                if name == key:  # and not one of those that some items only have
                    found.append(f"{path}.{key} is missing")
            else:
                found += differences(value, mine, f"{path}.{key}")
        return found
    if isinstance(theirs, list) and isinstance(ours, list):
        return differences(theirs[0], ours[0], f"{path}[]") if theirs and ours else []
    strange = set(_kind(ours).split("|")) - set(_kind(theirs).split("|"))
    return [f"{path} is {_kind(ours)}, not {_kind(theirs)}"] if strange else []


def _kind(value: Shape) -> str:
    return "object" if isinstance(value, dict) else "list" if isinstance(value, list) else str(value)


def shapes_of(side: Side) -> dict[str, Shape]:
    """The shapes of all answers, while a scene goes on."""
    node = side.get("/overview")["node"]
    names = {
        "node": node,
        "connection": segment(side.get("/connections")[0]["name"]),
        "channel": segment(side.get("/channels")[0]["name"]),
    }
    return {path: shape(side.get(path.format(**names)), node) for path in PATHS}


def read(version: str | None = None) -> dict[str, Shape]:
    """The recorded shapes of a version, or of the newest."""
    found: dict[str, Shape] = json.loads((DIRECTORY / (version or versions()[-1]) / FILE).read_text())
    return found


def record() -> None:
    """Ask a RabbitMQ and write down the shapes of its answers."""
    with rabbitmq_side() as side, Scene(side):
        version = f"rabbitmq-{side.get('/overview')['rabbitmq_version']}"
        shapes = shapes_of(side)
    path = DIRECTORY / version / FILE
    path.write_text(json.dumps(shapes, indent=1, sort_keys=True) + "\n")
    print(f"{len(shapes)} shapes of {version} are in {path}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m conformance.management.shapes", description=__doc__)
    parser.add_argument("--record", action="store_true", required=True, help="write down RabbitMQ's shapes")
    parser.parse_args()
    record()
