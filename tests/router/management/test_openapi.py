"""The description of the API says what the API answers."""

import json

from leveret.router.management.api import PREFIX, rules
from leveret.router.management.openapi import BODIES, QUERIES, UPLOADS, describe


def test_every_path_and_method_is_described():
    told = describe(rules(), PREFIX, "0")
    described = {
        (path.removeprefix(PREFIX), method.upper())
        for path, operations in told["paths"].items()
        for method in operations
        if method != "parameters"
    }
    assert described == {(pattern, method) for pattern, methods in rules().items() for method in methods}
    names = [
        each["operationId"] for path in told["paths"].values() for each in path.values() if "tags" in each
    ]
    assert len(set(names)) == len(names)
    json.dumps(told)


def test_what_is_said_of_bodies_and_queries_is_of_paths_that_are_there():
    known = {(method, pattern) for pattern, methods in rules().items() for method in methods}
    assert BODIES.keys() <= known
    assert QUERIES.keys() <= known
    assert {("POST", pattern) for pattern in UPLOADS} <= BODIES.keys()


def test_definitions_may_be_uploaded_as_a_form():
    told = describe(rules(), PREFIX, "0")["paths"][f"{PREFIX}/definitions"]["post"]
    assert set(told["requestBody"]["content"]) == {"application/json", "multipart/form-data"}


def test_description_is_for_everybody(api):
    told = api.ask("GET", "/openapi.json", user=None)
    assert (told.status, told.json["openapi"]) == (200, "3.1.0")
