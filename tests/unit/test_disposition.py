"""Content-Disposition: the exact name for those who read RFC 8187, a safe one for the rest."""

import re
from email import message_from_string
from email.message import EmailMessage
from email.policy import HTTP
from typing import Literal
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.http import parse_options_header

from domain.disposition import content_disposition

Disposition = Literal["inline", "attachment"]

# RFC 9110's quoted-string without escapes, and RFC 8187's ext-value, nothing else.
_GRAMMAR = re.compile(
    r"""(?P<type>inline|attachment); filename="(?P<plain>[ !#-$&-.0-9<-\[\]-~]*)\""""
    r"""(; filename\*=UTF-8''(?P<exact>([A-Za-z0-9!#$&+.^_`|~-]|%[0-9A-F]{2})*))?""",
    re.ASCII,
)


@pytest.mark.parametrize(
    ("filename", "expected"),
    [
        ("cat.jpg", 'inline; filename="cat.jpg"'),
        ("my cat (1).jpg", 'inline; filename="my cat (1).jpg"'),
        ("café.jpg", "inline; filename=\"cafe.jpg\"; filename*=UTF-8''caf%C3%A9.jpg"),
        ("猫.jpg", "inline; filename=\"_.jpg\"; filename*=UTF-8''%E7%8C%AB.jpg"),
        ("100%25.jpg", "inline; filename=\"100_25.jpg\"; filename*=UTF-8''100%2525.jpg"),
        ('a"; x="b.jpg', "inline; filename=\"a__ x=_b.jpg\"; filename*=UTF-8''a%22%3B%20x%3D%22b.jpg"),
        ("a\r\nSet-Cookie: x", "inline; filename=\"a__Set-Cookie_ x\"; filename*=UTF-8''a%0D%0ASet-Cookie%3A%20x"),
        ("\uff02\u2100.jpg", "inline; filename=\"_a_c.jpg\"; filename*=UTF-8''%EF%BC%82%E2%84%80.jpg"),
    ],
)
def test_names_are_written_as_the_rfc_says(filename: str, expected: str) -> None:
    assert content_disposition("inline", filename) == expected


def test_the_disposition_comes_first() -> None:
    assert content_disposition("attachment", "cat.jpg") == 'attachment; filename="cat.jpg"'


@given(disposition=st.sampled_from(["inline", "attachment"]), filename=st.text())
def test_any_name_gives_a_value_of_the_grammar(disposition: Disposition, filename: str) -> None:
    parsed = _GRAMMAR.fullmatch(content_disposition(disposition, filename))

    assert parsed is not None
    assert parsed["type"] == disposition


# What has a meaning somewhere between a header and a disk: quoting, escaping, line ends, folders, direction of writing.
mean_names = st.text(
    st.sampled_from("\"\\';=%/:*?<>|,()\r\n\t\0\x7f\x85\u2028\u202e\u2066\ufeff\uff02\u0130\U0001f600a.")
    | st.characters(),
    max_size=60,
)


@given(disposition=st.sampled_from(["inline", "attachment"]), filename=mean_names)
def test_other_peoples_parsers_find_one_name_and_nothing_besides(disposition: Disposition, filename: str) -> None:
    value = content_disposition(disposition, filename)
    assert value.isascii()
    assert value.isprintable()

    # One that knows RFC 8187 gives the exact name, as far as UTF-8 has it.
    exact = filename.encode(errors="replace").decode()
    assert parse_options_header(value) == (disposition, {"filename": exact})
    # One that doesn't, or not beside `filename`, gives what is in quotes; and there is no other parameter.
    old = EmailMessage(policy=HTTP)
    old["Content-Disposition"] = value
    (header,) = old.get_all("Content-Disposition", [])
    assert (header.content_disposition, header.params.keys()) == (disposition, {"filename"})
    assert not set(header.params["filename"]) & set('"\\/:;%\r\n')
    # And a message that has it among its headers is still the same message.
    sent = message_from_string(f"Content-Disposition: {value}\r\nX-Last: 1\r\n\r\nbody", policy=HTTP)
    assert sent.keys() == ["Content-Disposition", "X-Last"]
    assert sent.get_payload() == "body"


@given(filename=st.text(st.characters(exclude_categories=["Cs"])))
def test_the_exact_name_can_be_read_back(filename: str) -> None:
    parsed = _GRAMMAR.fullmatch(content_disposition("inline", filename))

    assert parsed is not None
    assert (parsed["plain"] if parsed["exact"] is None else unquote(parsed["exact"])) == filename
