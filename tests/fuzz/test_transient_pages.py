"""A running broker survives pages of transient messages that are read back with other content."""

from hypothesis import HealthCheck, given, settings

from tests.fuzz.test_stored import changes
from tests.fuzz.transient_pages import check_page_change


@given(change=changes)
@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_a_broker_gets_past_a_transient_page_with_a_right_checksum(change):
    check_page_change(*change)
