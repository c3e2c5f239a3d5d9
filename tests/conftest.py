"""Loads what the tests and the conformance tests share: options, marks, and the summary of skipped tests."""

pytest_plugins = ["tests.selection", "tests.postgresql"]
