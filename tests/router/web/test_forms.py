"""Forms: what is read of the body of an upload, and what is said of a malformed one."""

# ruff: noqa: E501 - a malformed form and its error stand on one line

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leveret.protocol.http import HttpError, Request
from leveret.router.web.forms import HEAD_MAX, PARTS_MAX, FormField, field_of, is_form, read_form

FORM = "multipart/form-data; boundary=B"
DISPOSITION = b'Content-Disposition: form-data; name="file"'


def request(body: bytes, content_type: str = FORM) -> Request:
    return Request("POST", "/", ("",), "", {"content-type": content_type}, body)


def form(*parts: bytes, boundary: bytes = b"B") -> bytes:
    """A body of parts, each with its headers."""
    return b"".join(b"--%b\r\n%b\r\n" % (boundary, part) for part in parts) + b"--%b--\r\n" % boundary


def part(content: bytes, *headers: bytes) -> bytes:
    return b"\r\n".join((*(headers or (DISPOSITION,)), b"", content))


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        (FORM, True),
        ("Multipart/Form-Data; Boundary=B", True),
        ("multipart/mixed; boundary=B", False),
        ("application/json", False),
        ("", False),
    ],
)
def test_form_is_recognized_by_its_content_type(content_type, expected):
    assert is_form(request(b"", content_type)) is expected


@pytest.mark.parametrize(
    ("body", "content_type", "parts"),
    [
        (form(part(b"{}")), FORM, [("file", b"{}")]),
        (form(part(b"{}"), boundary=b"a b"), 'multipart/form-data; boundary="a b"', [("file", b"{}")]),
        (form(part(b"{}")), "Multipart/Form-Data; charset=x; Boundary=B", [("file", b"{}")]),
        (form(part(b"{}"))[:-2], FORM, [("file", b"{}")]),
        (b"before\r\n" + form(part(b"{}")) + b"behind", FORM, [("file", b"{}")]),
        (form(part(b"")), FORM, [("file", b"")]),
        (form(part(b"a\r\n--Bc\r\n\r\n--")), FORM, [("file", b"a\r\n--Bc\r\n\r\n--")]),
        (form(part(b"1"), part(b"2")), FORM, [("file", b"1"), ("file", b"2")]),
        (form(part(b"1", b"Content-Type: a/b", DISPOSITION + b'; filename="x"')), FORM, [("file", b"1")]),
        (form(part(b"1", b"CONTENT-DISPOSITION:form-data;name=file")), FORM, [("file", b"1")]),
        (form(part(b"1", b'Content-Disposition: form-data; name="a;b"')), FORM, [("a;b", b"1")]),
        (b"--B--\r\n", FORM, []),
    ],
)
def test_form_is_parsed_into_its_parts(body, content_type, parts):
    assert read_form(request(body, content_type)) == [FormField(*each) for each in parts]


@pytest.mark.parametrize(
    ("body", "content_type", "text"),
    [
        (form(part(b"{}")), "multipart/form-data", "its Content-Type needs a boundary"),
        (form(part(b"{}")), 'multipart/form-data; boundary=""', "its Content-Type needs a boundary"),
        (form(part(b"{}")), f"multipart/form-data; boundary={'B' * 71}", "its Content-Type needs a boundary"),
        (form(part(b"{}")), "multipart/form-data; boundary=C", "there is no line with the boundary '--C'"),
        (b"", FORM, "there is no line with the boundary '--B'"),
        (form(part(b"{}")).replace(b"\r", b""), FORM, "there is no line with the boundary '--B', ended by CR and LF"),
        (form(part(b"{}")).replace(b"--B--\r\n", b""), FORM, "the line '--B--' that ends it is missing"),
        (form(part(b"{}"))[:-5], FORM, "the line '--B--' that ends it is missing"),
        (form(b"{}"), FORM, "part 1 has no empty line"),
        (form(b""), FORM, "part 1 has no empty line"),
        (form(part(b"{}"), b"\r\n{}"), FORM, "part 2 has no header 'Content-Disposition"),
        (form(part(b"{}", b"Content-Disposition: form-data")), FORM, "part 1 has no header 'Content-Disposition"),
        (form(*[part(b"")] * (PARTS_MAX + 1)), FORM, f"it has more than {PARTS_MAX} parts"),
    ],
)  # fmt: skip
def test_malformed_form_is_refused_with_what_is_wrong(body, content_type, text):
    with pytest.raises(HttpError) as caught:
        read_form(request(body, content_type))
    assert caught.value.status == 400
    assert caught.value.text.startswith(f"the form is malformed: {text}")


def test_repeated_field_is_refused():
    parts = [FormField("a", b"1"), FormField("b", b"2"), FormField("b", b"3")]
    assert (field_of(parts, "a"), field_of(parts, "c")) == (b"1", None)
    with pytest.raises(HttpError, match="it has 2 fields named 'b'"):
        field_of(parts, "b")


@given(st.lists(st.binary().filter(lambda content: b"--B" not in content), max_size=PARTS_MAX))
def test_content_may_be_any_bytes(contents):
    assert [each.content for each in read_form(request(form(*map(part, contents))))] == contents


@given(st.lists(st.sampled_from([b"--B", b"--", b"\r\n", b"\n", b" ", DISPOSITION, b"x"])).map(b"".join))
def test_any_body_is_read_or_refused(body):
    with suppress(HttpError):
        assert all(isinstance(part, FormField) for part in read_form(request(body)))


def test_headers_of_a_part_have_a_bound():
    padding = b"X: " + b"y" * (HEAD_MAX - len(DISPOSITION) - 100)
    assert read_form(request(form(part(b"c", padding, DISPOSITION)))) == [FormField("file", b"c")]
    with pytest.raises(
        HttpError, match=f"part 1 has no empty line, ended by CR and LF, within {HEAD_MAX} bytes"
    ):
        read_form(request(form(part(b"c", b"\r\n".join([b"X: y"] * HEAD_MAX), DISPOSITION))))
