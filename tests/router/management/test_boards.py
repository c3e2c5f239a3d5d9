"""Every metric that public Grafana boards read is in a scrape, or in docs/management.md with a reason.

The names are those in the queries of the boards, which are not here themselves.
"""

import re
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from leveret.router.management.metrics.broker_metrics import GROUPS
from leveret.router.management.metrics.detailed_metrics import EMPTY, PER_OBJECT
from tests.router.management.test_metrics import asked

MANUAL = Path(__file__).parents[3] / "docs" / "management.md"

# RabbitMQ-Overview, 10991, of today and as it was before 3.9.
OVERVIEW = """
build_info identity_info channels connections consumers queues global_consumers global_publishers
queue_messages_ready queue_messages_unacked channel_consumers
global_messages_received_total global_messages_received_confirm_total global_messages_confirmed_total
global_messages_routed_total
global_messages_unroutable_dropped_total global_messages_unroutable_returned_total
global_messages_delivered_consume_auto_ack_total global_messages_delivered_consume_manual_ack_total
global_messages_delivered_get_auto_ack_total global_messages_delivered_get_manual_ack_total
global_messages_get_empty_total global_messages_redelivered_total global_messages_acknowledged_total
resident_memory_limit_bytes process_resident_memory_bytes disk_space_available_bytes
disk_space_available_limit_bytes process_max_fds process_open_fds process_max_tcp_sockets
process_open_tcp_sockets queues_created_total queues_declared_total queues_deleted_total
channels_opened_total channels_closed_total connections_opened_total connections_closed_total
channel_messages_published_total channel_messages_confirmed_total channel_messages_redelivered_total
channel_messages_delivered_total channel_messages_delivered_ack_total channel_messages_acked_total
channel_messages_unroutable_returned_total channel_messages_unroutable_dropped_total
channel_messages_unconfirmed channel_get_total channel_get_ack_total channel_get_empty_total
queue_messages_published_total queue_messages_ready_bytes queue_messages_bytes
erlang_uptime_seconds alarms_file_descriptor_limit alarms_free_disk_space_watermark
alarms_memory_used_watermark
"""
# RabbitMQ-Stream, 14798: what clients of the stream protocol do.
STREAM = """
build_info identity_info global_publishers global_consumers
global_messages_received_total global_messages_confirmed_total global_messages_delivered_total
global_stream_error_stream_does_not_exist_total global_stream_error_subscription_id_already_exists_total
global_stream_error_subscription_id_does_not_exist_total global_stream_error_stream_already_exists_total
global_stream_error_stream_not_available_total global_stream_error_sasl_mechanism_not_supported_total
global_stream_error_authentication_failure_total global_stream_error_sasl_error_total
global_stream_error_sasl_challenge_total global_stream_error_sasl_authentication_failure_loopback_total
global_stream_error_vhost_access_failure_total global_stream_error_unknown_frame_total
global_stream_error_frame_too_large_total global_stream_error_internal_error_total
global_stream_error_access_refused_total global_stream_error_precondition_failed_total
global_stream_error_publisher_does_not_exist_total
"""
# RabbitMQ-Quorum-Queues-Raft, 11340.
RAFT = """
raft_term_total raft_log_snapshot_index raft_log_last_applied_index raft_log_commit_index
raft_log_last_written_index raft_entry_commit_latency_seconds
"""
# The boards of Seventh State, 20697 to 20831, and alerts that read /metrics/detailed.
DETAILED = """
detailed_queue_messages detailed_queue_messages_ready detailed_queue_messages_unacked detailed_queue_consumers
detailed_queue_get_total detailed_queue_get_ack_total detailed_queue_get_empty_total
detailed_queue_messages_acked_total detailed_queue_messages_delivered_total
detailed_queue_messages_delivered_ack_total detailed_queue_messages_redelivered_total
detailed_queue_exchange_messages_published_total detailed_queue_messages_published_total
detailed_queue_consumer_utilisation detailed_queue_consumer_capacity detailed_channel_consumers
detailed_channel_prefetch detailed_consumer_prefetch detailed_channel_messages_unacked
detailed_channel_messages_unconfirmed detailed_channel_messages_uncommitted detailed_channel_acks_uncommitted
detailed_connection_incoming_bytes_total detailed_connection_outgoing_bytes_total
detailed_connection_process_reductions_total detailed_queue_process_reductions_total
cluster_vhost_status cluster_exchange_bindings cluster_exchange_name
"""
BOARDS = {"overview": OVERVIEW, "stream": STREAM, "raft": RAFT, "detailed": DETAILED}


def not_applicable():
    """The patterns of the table of missing metrics, each with its reason."""
    page = MANUAL.read_text()
    section = page.split("### Missing metrics\n", 1)[1].split("\n#", 1)[0]
    rows = re.findall(r"^\| (`.*?) \| (.+?) \|$", section, re.MULTILINE)
    return {pattern: reason for cell, reason in rows for pattern in re.findall("`([^`]+)`", cell)}


def is_listed(name):
    """Whether a metric's name is in the table. Those of detailed scrapes are the same metrics."""
    name = name.replace("rabbitmq_detailed_", "rabbitmq_")
    return any(fnmatchcase(name, pattern) for pattern in not_applicable())


def described(text):
    """The names of the metrics that a scrape describes, whether there is an object to tell of or not."""
    types = re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE)
    return {name.removeprefix("rabbitmq_") for name, _ in types}


@pytest.fixture
def told(api):
    families = "&".join(f"family={name}" for name in (*PER_OBJECT, *GROUPS, *EMPTY))
    api.node.queue("q")
    return described(asked(api)[1]) | described(asked(api, f"/metrics/detailed?{families}")[1])


@pytest.mark.parametrize("board", BOARDS)
def test_every_metric_of_a_dashboard_exists_or_is_listed_with_a_reason(told, board):
    names = BOARDS[board].split()
    assert [name for name in names if name not in told and not is_listed(f"rabbitmq_{name}")] == []


def test_existing_metrics_are_not_listed_as_missing(told):
    assert [name for name in told if is_listed(f"rabbitmq_{name}")] == []
    assert all(not_applicable().values())
