"""What the OpenAPI document says of words and headers is what is taken. Each was found by Schemathesis to differ."""

import re
from typing import Any
from unicodedata import normalize

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from adapters.http.conditions import expected_versions
from adapters.http.openapi import openapi_document
from adapters.http.problems import CATALOGUE, Problem
from domain.errors import Invalid
from domain.values import Tag, Title, fold

DESCRIBED: Any = openapi_document("1.0", ["/"], identity="header")
PATHS: Any = DESCRIBED["paths"]
FORM: Any = DESCRIBED["components"]["schemas"]["UploadForm"]["properties"]

# Those that keep their length when they are folded: of the others a schema can't say how long they are.
words = st.text(max_size=6).filter(lambda text: len(fold(text)) == len(text)) | st.sampled_from(
    [" ", "\t", " a", "a\n", "a\nb", "\x1c", "\x1f", "\x85", "\xa0", "\u2003", "\x7f", "\x00", "a\x00", "\u200b"]
)


def _matches(pattern: str, text: str) -> bool:
    assert not re.search(r"\\[sSwWdDbB]", pattern), "these mean one thing in Python and another in ECMA-262"
    return re.search(pattern.replace("$", r"\Z"), text) is not None


@given(words)
@example("\u1f71")  # in NFC it is another character
def test_a_title_that_is_described_is_taken(text: str) -> None:
    described = FORM["title"]
    if _matches(described["pattern"], text):
        assert Title(text) == normalize("NFC", text).strip()
    elif text.strip() == text:  # what is trimmed away is let pass
        with pytest.raises(Invalid):
            Title(text)


@given(words)
def test_a_tag_that_is_described_is_taken(text: str) -> None:
    if _matches(FORM["tags"]["items"]["pattern"], text):
        assert Tag(text)
    else:
        with pytest.raises(Invalid):
            Tag(text)


@given(st.text('"W/*1, \t', max_size=12) | st.from_regex(r'^(W/)?"[0-9]"(, "1")*$'))
def test_an_if_match_that_is_described_is_taken(value: str) -> None:
    parameters = {each["name"]: each for each in PATHS["/api/v1/images/{image_id}"]["delete"]["parameters"]}
    if re.search(parameters["If-Match"]["schema"]["pattern"], value) and not value.endswith("\n"):
        expected_versions({"if-match": value})
    elif not re.search(r"^[ \t,]|[ \t,]$|,[ \t]*,", value):  # holes in a list, and blanks around it, are let pass
        with pytest.raises(Problem):
            expected_versions({"if-match": value})


def test_head_is_described_without_ranges_which_are_for_get_alone() -> None:
    image = PATHS["/api/v1/images/{image_id}"]
    assert {"206", "416"} <= image["get"]["responses"].keys()
    assert not {"206", "416"} & image["head"]["responses"].keys()
    assert all("content" not in answer for answer in image["head"]["responses"].values())


def test_presigned_urls_are_described_only_where_the_service_answers_them() -> None:
    elsewhere = openapi_document("1.0", ["/"], signs_urls=False, identity="header")
    assert PATHS.keys() - elsewhere["paths"].keys() == {"/objects/images/{image_id}/{filename}"}


@pytest.mark.parametrize(("code", "status"), [(code, status) for code, (status, _) in CATALOGUE.items()])
def test_a_code_stands_with_its_status_alone(code: str, status: int) -> None:
    for path in PATHS.values():
        for name, operation in path.items():
            for answered, answer in {} if name == "parameters" else operation["responses"].items():
                schema = answer.get("content", {}).get("application/problem+json", {}).get("schema", {})
                assert code not in schema.get("properties", {}).get("code", {}).get("enum", ()) or answered == str(
                    status
                )
