"""The command line's skeleton, and the parts of its client side that need no server."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from domain.values import Filename
from entrypoints.cli.app import COMMANDS, cli
from entrypoints.cli.client import Problem, Refused, Retries, Words, filename_of
from entrypoints.cli.text import human_size, shown
from entrypoints.cli.upload import idempotency_key


def test_help_names_every_command() -> None:
    output = CliRunner().invoke(cli, ["--help"]).output
    assert [name for name in COMMANDS if f"\n  {name} " in output] == list(COMMANDS)


@pytest.mark.parametrize("name", list(COMMANDS))
def test_the_table_of_commands_says_what_the_commands_say(name: str) -> None:
    command = cli.get_command(cli.make_context("calotype", [name]), name)
    assert command is not None
    assert command.name == name
    assert command.get_short_help_str(limit=200) == COMMANDS[name].help


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_explains_itself(name: str) -> None:
    result = CliRunner().invoke(cli, [name, "-h"])
    assert result.exit_code == 0
    assert result.output.startswith(f"Usage: cli {name}")


def test_an_unknown_command_is_wrong_usage() -> None:
    assert CliRunner().invoke(cli, ["uplaod"]).exit_code == 2


# ---- idempotency keys


@given(st.text(), st.text(), st.lists(st.text()))
def test_a_key_is_one_that_the_server_takes_and_depends_on_every_part(name: str, text: str, tags: list[str]) -> None:
    filename, words = Filename(name), Words(title=text, description=text, tags=tuple(tags))
    keys = {
        idempotency_key("0" * 64, filename, words),
        idempotency_key("1" * 64, filename, words),
        idempotency_key("0" * 64, Filename(filename[:100] + "x.jpg"), words),
        idempotency_key("0" * 64, filename, Words(title=None, description=text, tags=tuple(tags))),
        idempotency_key("0" * 64, filename, Words(title=text, description=text + "x", tags=tuple(tags))),
        idempotency_key("0" * 64, filename, Words(title=text, description=text, tags=(*tags, ""))),
    }
    assert len(keys) == 6
    assert idempotency_key("0" * 64, filename, words) in keys


def test_a_key_never_changes_from_release_to_release() -> None:
    key = idempotency_key("0" * 64, Filename("cat.jpg"), Words(title="Cat", tags=("a", "b")))
    assert key == "cli-32b84172e778da89109c6c084ec805fdf799307bfa18aaea3f5cc5797e5faf05"


# ---- problems and retries


def test_a_problem_of_a_proxy_is_still_a_line() -> None:
    answer = httpx.Response(502, html="<h1>Bad</h1>", headers={"X-Request-ID": "r-1"})
    assert Problem.of(answer).lines == ("HTTP 502 Bad Gateway (request r-1)",)


@pytest.mark.parametrize(
    "body", [{"errors": "x", "title": 7}, {"errors": [1, {"field": "a"}]}, {"detail": None}, [], 1]
)
def test_a_malformed_problem_is_still_a_line(body: object) -> None:
    assert all(Problem.of(httpx.Response(400, json=body)).lines)


def test_a_problem_without_a_failure_of_the_server_keeps_its_id_for_itself() -> None:
    answer = httpx.Response(400, json={"title": "T", "detail": "D", "request_id": "r-1"})
    assert Problem.of(answer).lines == ("T: D",)


@pytest.mark.parametrize(("header", "expected_s"), [("7", 7), ("0", 0), ("soon", None), ("-1", None), ("", None)])
def test_retry_after_in_seconds_is_read_and_nonsense_is_not(header: str, expected_s: float | None) -> None:
    assert Refused.by(httpx.Response(503, headers={"Retry-After": header})).retry_after_s == expected_s


def test_retry_after_may_be_a_date() -> None:
    at = datetime.now(UTC) + timedelta(hours=1)
    for text in (format_datetime(at, usegmt=True), at.strftime("%a, %d %b %Y %H:%M:%S -0000")):
        refusal = Refused.by(httpx.Response(503, headers={"Retry-After": text}))
        assert refusal.retry_after_s == pytest.approx(3600, abs=60)
    past = format_datetime(at - timedelta(days=1), usegmt=True)
    assert Refused.by(httpx.Response(503, headers={"Retry-After": past})).retry_after_s == 0


@pytest.mark.parametrize("status", [400, 401, 404, 413, 422, 500])
def test_what_another_try_can_t_change_is_not_tried_again(status: int) -> None:
    assert Retries().wait_s(1, Refused.by(httpx.Response(status, headers={"Retry-After": "1"}))) is None


# ---- names and texts


@pytest.mark.parametrize(
    ("disposition", "name"),
    [
        ('inline; filename="cat.jpg"', "cat.jpg"),
        ("attachment; filename=cat.jpg", "cat.jpg"),
        ("attachment; filename=\"k_tze.jpg\"; filename*=UTF-8''k%C3%A4tze%3B.jpg", "kätze;.jpg"),
        (r'inline; filename="a\"b\\c.jpg"', 'a"b\\c.jpg'),
        ("inline; filename*=utf-8'de'%FF.jpg", "\ufffd.jpg"),
        ("inline", None),
        ("", None),
    ],
)
def test_a_name_is_read_from_content_disposition(disposition: str, name: str | None) -> None:
    assert filename_of(disposition) == name


@given(st.text())
def test_no_text_can_break_a_line_or_steer_the_terminal(text: str) -> None:
    safe = shown(text)
    assert len(f"x{safe}".splitlines()) == 1
    assert not set(safe) & set(map(chr, [*range(32), *range(127, 160), 0x202E, 0x2066]))
    safe.encode()


def test_ordinary_text_is_shown_as_it_is() -> None:
    assert shown("Größe: 東京 👩‍👩‍👧 - a\u3000b") == "Größe: 東京 👩‍👩‍👧 - a\u3000b"


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (26_214_400, "26.2 MB"),
        (123_456_789, "123 MB"),
        (2e15, "2,000.0 TB"),
    ],
)
def test_sizes_are_short(size_bytes: float, text: str) -> None:
    assert human_size(size_bytes) == text
