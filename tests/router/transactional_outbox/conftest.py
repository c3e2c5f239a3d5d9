"""Fixtures of the tests of transactional outboxes."""

from tests.router.store.conftest import quick_path

__all__ = ["quick_path"]
