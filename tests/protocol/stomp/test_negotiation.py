import pytest

from leveret.protocol.heartbeats import Heartbeats
from leveret.protocol.stomp.errors import StompError
from leveret.protocol.stomp.negotiation import heartbeat_header, negotiate_heartbeats, negotiate_version


@pytest.mark.parametrize(
    ("accepted", "version"),
    [
        (None, "1.0"),
        ("1.0", "1.0"),
        ("1.0,1.1", "1.1"),
        ("1.2,1.0,1.1", "1.2"),
        ("1.1, 1.2", "1.2"),
        ("1.1,2.0", "1.1"),
    ],
)
def test_the_highest_common_version_is_chosen(accepted, version):
    assert negotiate_version(accepted) == version


@pytest.mark.parametrize("accepted", ["", "2.0", "1", "x,y"])
def test_without_a_common_version_the_error_lists_the_supported_ones(accepted):
    with pytest.raises(StompError, match="Version mismatch") as caught:
        negotiate_version(accepted)
    assert caught.value.detail == "Supported versions are 1.0,1.1,1.2\n"


@pytest.mark.parametrize(
    ("header", "agreed"),
    [
        (None, Heartbeats(0, 0)),
        ("0,0", Heartbeats(0, 0)),
        ("5000,0", Heartbeats(0, 5000)),
        ("0,5000", Heartbeats(5000, 0)),
        ("500,1500", Heartbeats(1500, 1000)),
        ("-1,-5", Heartbeats(0, 0)),
        (" 1000 , 2000 ", Heartbeats(2000, 1000)),
    ],
)
def test_heartbeats_are_as_often_as_the_slower_side_says(header, agreed):
    assert negotiate_heartbeats(header) == agreed


@pytest.mark.parametrize("header", ["", "1", "a,b", "1,2,3", "1;2", "9" * 21 + ",0", "1.5,0"])
def test_malformed_heartbeats_are_refused(header):
    with pytest.raises(StompError, match="Invalid header"):
        negotiate_heartbeats(header)


def test_the_header_names_what_this_side_sends_and_expects():
    assert heartbeat_header(Heartbeats(sends=1000, expects=4000)) == "1000,4000"
