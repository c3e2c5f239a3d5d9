import pytest
from hypothesis import given
from hypothesis import strategies as st

from leveret.protocol.stomp.errors import StompError
from leveret.router.stomp.destinations import (
    decode_name,
    destination_of,
    encode_name,
    parse_destination,
    reply_destination,
)

names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)


@pytest.mark.parametrize(
    ("path", "kind", "exchange", "key"),
    [
        ("/queue/a", "queue", "", "a"),
        ("a", "queue", "", "a"),
        ("/amq/queue/a", "amqqueue", "", "a"),
        ("/topic/a.b", "topic", "amq.topic", "a.b"),
        ("/exchange/e", "exchange", "e", ""),
        ("/exchange/e/", "exchange", "e", ""),
        ("/exchange/e/k", "exchange", "e", "k"),
        ("/exchange/a%2Fb/%25%zz%c3%bc", "exchange", "a/b", "%%zzü"),
        ("/temp-queue/a", "temp_queue", "", "a"),
        ("/reply-queue/a/b%2Fc", "reply-queue", "", "a/b/c"),
    ],
)
def test_destinations_name_an_exchange_and_a_routing_key(path, kind, exchange, key):
    assert parse_destination(path) == (kind, exchange, key, path)


@pytest.mark.parametrize(
    ("exchange", "key", "path"),
    [
        ("", "a/b", "/queue/a%2Fb"),
        ("amq.topic", "a.#", "/topic/a.#"),
        ("e", "", "/exchange/e"),
        ("e/f", "ü%", "/exchange/e%2Ff/%C3%BC%25"),
    ],
)
def test_messages_tell_where_they_were_sent_to(exchange, key, path):
    assert destination_of(exchange, key) == path


@pytest.mark.parametrize(
    ("reply_to", "destination"), [("q", "/reply-queue/q"), ("/queue/q", "/queue/q"), ("", "/reply-queue/")]
)
def test_what_is_no_destination_is_a_reply_queue(reply_to, destination):
    assert reply_destination(reply_to) == destination


@given(names)
def test_encoded_names_are_decoded_again_and_are_plain(name):
    encoded = encode_name(name)
    assert decode_name(encoded) == name
    assert encoded.isascii()
    assert encoded.isprintable()
    assert "/" not in encoded


@given(names, names)
def test_an_answer_can_be_sent_to_where_a_message_came_from(exchange, key):
    destination = parse_destination(destination_of(exchange, key))
    assert (destination.exchange, destination.routing_key) == (exchange, key)


def test_names_that_are_no_utf_8_keep_their_bytes():
    assert encode_name("\udcff") == "%FF"
    assert decode_name("%FF") == "\udcff"


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/queue/" + "%41" * 255, "A" * 255),
        ("/topic/" + "%" * 255, "%" * 255),
        ("/queue/" + "a" * 255, "a" * 255),
    ],
)
def test_a_name_may_have_255_bytes_however_it_is_encoded(path, name):
    assert parse_destination(path).routing_key == name


@pytest.mark.parametrize("name", ["a" * 256, "%41" * 256, "%" * 256, "ü" * 128, "%4" * 129, "%41" * 40_000])
@pytest.mark.parametrize("kind", ["/queue/", "/topic/", "/exchange/", "/exchange/e/", "/reply-queue/", ""])
def test_a_longer_name_is_refused(kind, name):
    with pytest.raises(StompError) as caught:
        parse_destination(kind + name)
    assert caught.value.detail == "A name in a destination may have 255 bytes\n"
