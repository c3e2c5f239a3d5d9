import pytest

from tests.router.management.api import Api


@pytest.fixture
def api():
    return Api()
