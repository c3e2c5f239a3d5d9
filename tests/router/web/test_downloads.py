"""The page at /cli/ and the program that it offers."""

import ast
import sys
from pathlib import Path

import pytest

import leveret.router.web
from leveret.protocol.http import Request, split_path
from leveret.router.web.downloads import downloads
from leveret.router.web.routes import HttpRoutes

PROGRAM = Path(leveret.router.web.__file__).parent / "cli" / "rabbitmqadmin"


def asked(path):
    routes = HttpRoutes(downloads())
    return routes.find(request := Request("GET", path, split_path(path), "", {}))(request)


@pytest.mark.parametrize("path", ["/cli", "/cli/"])
def test_the_directory_leads_to_its_page(path):
    response = asked(path)
    assert (response.status, dict(response.headers)["Location"]) == (301, "/cli/index.html")


def test_the_page_links_to_the_program():
    response = asked("/cli/index.html")
    assert response.status == 200
    assert b'href="rabbitmqadmin"' in response.body
    assert "Content-Security-Policy" in dict(response.headers)


def test_the_program_is_sent_as_a_file():
    response = asked("/cli/rabbitmqadmin")
    assert response.content_type == "application/octet-stream"
    assert response.body == PROGRAM.read_bytes()
    assert response.body.startswith(b"#!/usr/bin/env python3\n")


def test_the_program_needs_an_old_python_and_no_library():
    tree = ast.parse(PROGRAM.read_text(), feature_version=(3, 9))
    names = {
        name.split(".")[0]
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert names - sys.stdlib_module_names == set()
