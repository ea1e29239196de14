"""The client commands and the HTTP client under them, against a server that fails on demand."""

import hashlib
import json
import os
import select
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from entrypoints.cli.app import cli
from entrypoints.cli.client import (
    Client,
    ConnectionLost,
    Corrupted,
    Filter,
    Refused,
    Retries,
    Unintelligible,
    Unreachable,
    Words,
)
from entrypoints.cli.files import SteadyFile
from tests.integration.cli_server import Answer, CliServer, Seen, json_answer, problem, running_server
from tests.waiting import PATIENCE_S

BYTES = bytes(range(256)) * 300
ROOT = Path(__file__).parents[2]

Run = Callable[..., Result]


@pytest.fixture
def server() -> Iterator[CliServer]:
    with running_server() as server:
        yield server


@pytest.fixture
def client(server: CliServer) -> Iterator[Client]:
    with Client(server.url, user="ann", timeout_s=PATIENCE_S, retries=Retries(base_s=0)) as client:
        yield client


@pytest.fixture
def run(server: CliServer) -> Run:
    def run(command: str, *args: object) -> Result:
        environment = {"CALOTYPE_SERVER": server.url, "CALOTYPE_USER": "ann"}
        return CliRunner().invoke(cli, [command, *map(str, args)], env=environment)

    return run


@pytest.fixture
def cat(tmp_path: Path) -> Path:
    path = tmp_path / "cat.jpg"
    path.write_bytes(BYTES)
    return path


def lines_of(result: Result) -> list[dict[str, object]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


# ---- the client


def test_a_request_is_tried_again_while_the_server_says_it_is_unavailable(server: CliServer, client: Client) -> None:
    server.next_answers.extend([problem(503, "unavailable"), problem(429, "slow_down"), Answer(status=502)])
    assert [page["items"] for page in client.pages(Filter())] == [[]]
    assert len(server.seen) == 4


def test_the_client_never_comes_back_before_the_time_the_server_asked_for(server: CliServer) -> None:
    waits: list[float] = []
    server.next_answers.append(problem(503, "unavailable", headers={"Retry-After": "7"}))
    with Client(server.url, user="ann", pause=waits.append) as client:
        list(client.pages(Filter()))
    assert len(waits) == 1
    assert 7 < waits[0] < 9


def test_waits_grow_and_tries_end(server: CliServer) -> None:
    waits: list[float] = []
    server.next_answers.extend([problem(503, "unavailable", request_id="r-1")] * 9)
    with (
        Client(server.url, user="ann", pause=waits.append, retries=Retries(attempts=4, base_s=1)) as client,
        pytest.raises(Refused, match="r-1"),
    ):
        list(client.pages(Filter()))
    assert len(waits) == 3
    assert all(low <= wait <= 2 * low for wait, low in zip(waits, [0.5, 1, 2], strict=True))


def test_a_server_that_asks_for_too_much_patience_is_not_waited_for(server: CliServer, client: Client) -> None:
    server.next_answers.append(problem(503, "unavailable", headers={"Retry-After": "86400"}))
    with pytest.raises(Refused):
        list(client.pages(Filter()))
    assert len(server.seen) == 1


def test_a_conflict_is_tried_again_only_when_the_server_says_when(server: CliServer, client: Client, cat: Path) -> None:
    with cat.open("rb") as file:
        server.next_answers.append(problem(409, "conflict", headers={"Retry-After": "0"}))
        assert not client.upload("cat.jpg", file, Words(), key="k").replayed
        server.next_answers.append(problem(409, "conflict"))
        with pytest.raises(Refused):
            client.upload("cat.jpg", file, Words(), key="k2")


def test_an_upload_sends_the_whole_file_again_with_the_same_key(server: CliServer, client: Client, cat: Path) -> None:
    server.next_answers.extend([Answer(cut_after=0, body=b"x"), problem(503, "unavailable")])
    with SteadyFile(cat) as file:
        uploaded = client.upload("cat.jpg", file, Words(title="T", description="D", tags=("a", "b")), key="k")  # type: ignore[arg-type]
    assert uploaded.image["sha256"] == hashlib.sha256(BYTES).hexdigest()
    assert [seen.headers["idempotency-key"] for seen in server.seen] == ["k"] * 3
    assert {seen.content for seen in server.seen} == {BYTES}
    assert server.seen[-1].form == {"title": ["T"], "description": ["D"], "tags": ["a", "b"]}
    assert "content-length" in server.seen[-1].headers


def test_who_asks_is_sent_along(server: CliServer) -> None:
    with Client(server.url, user="ann", token="secret") as client:
        list(client.pages(Filter()))
    assert server.seen[0].headers["x-user-id"] == "ann"
    assert server.seen[0].headers["authorization"] == "Bearer secret"


def test_a_base_url_may_have_a_path(server: CliServer) -> None:
    server.next_answers.append(json_answer({"items": [], "next_cursor": None}))
    with Client(f"{server.url}/images-service/", user="ann") as client:
        list(client.pages(Filter()))
    assert server.seen[0].path == "/images-service/api/v1/images"


def test_nobody_at_the_address_is_told_as_such() -> None:
    with (
        Client("http://127.0.0.1:1", retries=Retries(attempts=2, base_s=0)) as client,
        pytest.raises(Unreachable, match="no connection"),
    ):
        list(client.pages(Filter()))


@pytest.mark.parametrize("body", [b"<html>", b"[]", b'{"items": []}'])
def test_another_kind_of_server_is_told_as_such(server: CliServer, client: Client, body: bytes) -> None:
    server.next_answers.append(Answer(body=body))
    with pytest.raises(Unintelligible, match="Calotype"):
        list(client.pages(Filter()))


def test_a_redirection_is_told_with_its_target(server: CliServer, client: Client) -> None:
    server.next_answers.append(Answer(status=308, headers={"Location": "https://images.example/"}))
    with pytest.raises(Refused, match=r"308 Permanent Redirect to https://images\.example/"):
        list(client.pages(Filter()))


def test_a_listing_is_read_page_by_page_up_to_the_limit(server: CliServer, client: Client) -> None:
    for number in range(250):
        server.add(b"%d" % number)
    assert [len(page["items"]) for page in client.pages(Filter())] == [100, 100, 50]
    assert [len(page["items"]) for page in client.pages(Filter(), limit=120)] == [100, 20]
    assert [seen.query["limit"] for seen in server.seen] == [["100"], ["100"], ["100"], ["100"], ["20"]]


def test_a_filter_is_asked_for_in_the_api_s_words(server: CliServer, client: Client) -> None:
    list(client.pages(Filter(tags=("a", "b"), match="all")))
    list(client.pages(Filter(title="Ä & b")))
    assert server.seen[0].query == {"filter_by": ["tags"], "tags": ["a", "b"], "match": ["all"], "limit": ["100"]}
    assert server.seen[1].query == {"filter_by": ["title"], "title": ["Ä & b"], "limit": ["100"]}


def test_a_download_that_breaks_off_goes_on_where_it_broke(server: CliServer, client: Client) -> None:
    image_id = server.add(BYTES)["image_id"]
    etag = f'"{hashlib.sha256(BYTES).hexdigest()}"'
    server.next_answers.append(Answer(body=BYTES, headers={"ETag": etag}, cut_after=10_000))
    with client.download(uuid.UUID(image_id)) as download:
        assert b"".join(download) == BYTES
    assert server.seen[1].headers["range"] == "bytes=10000-"
    assert server.seen[1].headers["if-range"] == etag


def test_a_download_is_not_patched_together_of_two_images(server: CliServer, client: Client) -> None:
    image_id = server.add(BYTES)["image_id"]
    server.next_answers.append(Answer(body=BYTES, headers={"ETag": f'"{"0" * 64}"'}, cut_after=10_000))
    server.next_answers.append(Answer(body=BYTES))
    with client.download(uuid.UUID(image_id)) as download, pytest.raises(ConnectionLost, match="10000 bytes"):
        list(download)


@pytest.mark.parametrize("etag", [f'"{"0" * 64}"', '"1"', ""])
def test_bytes_that_can_t_be_proved_right_are_an_error(server: CliServer, client: Client, etag: str) -> None:
    server.next_answers.append(Answer(body=BYTES, headers={"ETag": etag} if etag else {}))
    with client.download(uuid.uuid4()) as download, pytest.raises(Corrupted):
        list(download)


# ---- upload


def test_a_repeated_upload_uploads_nothing_twice(server: CliServer, run: Run, cat: Path) -> None:
    first, second = run("upload", cat), run("upload", cat)
    assert (first.exit_code, second.exit_code) == (0, 0)
    assert first.stdout.startswith("uploaded\t")
    assert second.stdout.startswith("already there\t")
    assert first.stdout.split("\t")[1:] == second.stdout.split("\t")[1:]
    assert second.stderr.startswith("1 already there")
    assert len(server.images) == 1


def test_other_words_make_another_upload(server: CliServer, run: Run, cat: Path) -> None:
    for words in (
        [],
        ["--title", "x"],
        ["--description", "x"],
        ["--tag", "x"],
        ["--tag", "x,y"],
        ["-t", "X", "-t", "y"],
    ):
        assert run("upload", cat, *words).exit_code == 0
    assert len(server.images) == 5  # the last two are the same


def test_folders_are_uploaded_with_all_their_images(server: CliServer, run: Run, tmp_path: Path) -> None:
    for name in ("a.JPG", "deep/er/b.png", "notes.txt", ".hidden.jpg", ".cache/c.jpg"):
        path = tmp_path / "pictures" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    named = tmp_path / "no-extension"
    named.write_bytes(b"x")
    result = run("upload", tmp_path / "pictures", named, named)
    assert result.exit_code == 0
    assert sorted(seen.filename for seen in server.seen) == ["a.JPG", "b.png", "no-extension"]


def test_files_go_up_in_parallel_and_equal_ones_become_one_image(server: CliServer, run: Run, tmp_path: Path) -> None:
    for number in range(12):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "cat.jpg").write_bytes(b"%d" % (number // 2))
    result = run("upload", "-j", 4, tmp_path)
    assert result.exit_code == 0
    assert "6 uploaded, 6 already there" in result.stderr
    assert 1 < server.most_at_once <= 4


def test_one_bad_file_does_not_stop_the_others(server: CliServer, run: Run, cat: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    faults = [{"field": "file", "reason": "is empty"}, {"field": "title", "reason": "is\nodd"}]
    server.next_answers.append(problem(400, "empty_file", errors=faults))
    result = run("upload", "-j", 1, cat, tmp_path / "gone.jpg", tmp_path / "pipe.jpg", tmp_path)
    assert result.exit_code == 1
    assert result.stderr.splitlines()[:-1] == [
        f"failed: {cat}: file is empty",
        f"failed: {cat}: title is odd",
        f"failed: {tmp_path}/gone.jpg: No such file or directory",
        f"failed: {tmp_path}/pipe.jpg: not a regular file",
    ]
    assert result.stderr.splitlines()[-1] == "3 failed"


def test_an_image_in_the_trash_is_an_outcome_of_its_own(server: CliServer, run: Run, cat: Path) -> None:
    run("upload", cat)
    server.trashed_keys.add(server.seen[0].headers["idempotency-key"])
    result = run("upload", cat)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith(f"in the trash: {cat}: it was uploaded before, and then deleted")
    (line,) = lines_of(run("upload", "--json", cat))
    assert line["outcome"] == "in_trash"


def test_json_has_a_line_for_every_file(server: CliServer, run: Run, cat: Path, tmp_path: Path) -> None:
    result = run("upload", "--json", "-j", 1, cat, tmp_path / "gone.jpg")
    good, bad = lines_of(result)
    assert good["file"] == str(cat)
    assert good["outcome"] == "uploaded"
    assert good["image"] == next(iter(server.images.values()))
    assert bad["outcome"] == "failed"
    assert bad["error"] == {"message": "No such file or directory"}


def test_quiet_says_only_what_went_wrong(run: Run, cat: Path, tmp_path: Path) -> None:
    result = run("upload", "--quiet", cat, tmp_path / "gone.jpg")
    assert result.stdout == ""
    assert result.stderr == f"failed: {tmp_path}/gone.jpg: No such file or directory\n"


def test_a_file_that_changes_while_it_is_sent_is_never_stored(server: CliServer, run: Run, cat: Path) -> None:
    def change_then_refuse(_: object) -> Answer:
        cat.write_bytes(BYTES[::-1])
        return problem(503, "unavailable")

    server.next_answers.append(change_then_refuse)
    result = run("upload", cat)
    assert result.exit_code == 1
    assert "changed while it was read" in result.stderr
    assert server.images == {}


@pytest.mark.parametrize("status", [401, 403])
def test_a_server_that_lets_nobody_in_is_asked_once(server: CliServer, run: Run, tmp_path: Path, status: int) -> None:
    for number in range(20):
        (tmp_path / f"{number}.jpg").write_bytes(b"x")
    server.next_answers.extend([problem(status, "unauthenticated", "Who are you?")] * 20)
    result = run("upload", "-j", 1, tmp_path)
    assert result.exit_code == 1
    assert "Who are you?" in result.stderr
    assert "not finished" in result.stderr
    assert len(server.seen) < 20


def test_a_quota_that_is_full_ends_the_run_and_is_told(server: CliServer, run: Run, tmp_path: Path) -> None:
    for number in range(20):
        (tmp_path / f"{number:02}.jpg").write_bytes(b"x" * (100 - number))
    detail = "3 of 3 images of the quota are used; the trash counts"
    server.next_answers.extend([problem(403, "quota_exceeded", detail, title="It does not fit")] * 20)
    result = run("upload", "-j", 1, tmp_path)
    assert result.exit_code == 1
    assert f"failed: {tmp_path}/00.jpg: It does not fit: {detail}\n" in result.stderr
    assert "not finished" in result.stderr
    assert len(server.seen) < 20


def test_while_there_is_room_smaller_files_are_sent_and_others_are_not(
    server: CliServer, run: Run, tmp_path: Path
) -> None:
    for name, size in {"a": 1, "b": 50, "c": 70, "d": 50, "e": 49}.items():
        (tmp_path / f"{name}.jpg").write_bytes(name.encode() * size)

    def room_for_49(seen: Seen) -> Answer:
        if len(seen.content) < 50:
            return server._upload(seen)
        fault = {"field": "file", "reason": "is too large: 10 of 59 bytes of the quota are used"}
        return problem(403, "quota_exceeded", errors=[fault])

    server.next_answers.extend([room_for_49] * 5)
    result = run("upload", "-j", 1, tmp_path)
    assert result.exit_code == 1
    assert [seen.filename for seen in server.seen] == ["a.jpg", "b.jpg", "e.jpg"]
    assert f"failed: {tmp_path}/b.jpg: file is too large: 10 of 59 bytes of the quota are used\n" in result.stderr
    for name in "cd":
        assert f"failed: {tmp_path}/{name}.jpg: not sent: the quota had no room for a file that" in result.stderr
    assert "2 uploaded, 3 failed" in result.stderr


def test_an_empty_folder_is_no_failure(run: Run, tmp_path: Path) -> None:
    result = run("upload", tmp_path)
    assert result.exit_code == 0
    assert result.stderr == "nothing to upload\n"


def test_on_a_terminal_there_is_a_progress_bar_and_every_line_stays(server: CliServer, cat: Path) -> None:
    output, code = on_a_terminal("upload", "--server", server.url, "--user", "ann", str(cat), f"{cat}.gone")
    assert code == 1
    assert "2 of 2" in output
    assert "76.8/76.8 kB" in output
    assert "uploaded " in output
    assert "failed: " in output
    assert "1 uploaded, 1 failed" in output


def test_ctrl_c_stops_soon_with_a_summary_and_130(server: CliServer, cat: Path) -> None:
    server.silent = True
    # Without the interruption it would wait for an answer much longer than the test does.
    options = ["--server", server.url, "--user", "ann", "--timeout", "3600"]
    process = subprocess.Popen(
        [sys.executable, "-m", "entrypoints.cli", "upload", *options, str(cat)],
        stderr=subprocess.PIPE,
        cwd=ROOT,
        text=True,
    )
    assert server.arrived.wait(PATIENCE_S)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130
    assert "1 not finished" in stderr
    assert "Traceback" not in stderr


# ---- list


def test_a_piped_list_has_tabs_and_no_heading(server: CliServer, run: Run) -> None:
    image = server.add(BYTES, tags=["a", "b\tc"])
    result = run("list")
    assert result.stdout.rstrip("\n").split("\t") == [
        image["image_id"],
        "2024-01-04T10:30:00.000000",
        "image/jpeg",
        str(len(BYTES)),
        "3",
        "2",
        "cat.jpg",
        "cat",
        "a,b\\tc",
    ]


def test_a_list_goes_on_only_when_asked(server: CliServer, run: Run) -> None:
    for number in range(130):
        server.add(b"%d" % number)
    assert len(run("list").stdout.splitlines()) == 20
    assert len(run("list", "--limit", 110).stdout.splitlines()) == 110
    assert len(run("list", "--all").stdout.splitlines()) == 130
    assert lines_of(run("list", "--json", "-n", 3)) == list(reversed(server.images.values()))[:3]


@pytest.mark.parametrize(
    "arguments",
    [
        ["list", "--all", "--limit", "3"],
        ["list", "--tag", "a", "--title", "b"],
        ["list", "--tag", " "],
        ["list", "--limit", "0"],
        ["list", "--server", "ftp://x"],
        ["list", "--user", "a b"],
        ["list", "--token", "a b"],
        ["get", "not-an-id"],
        ["rm"],
        ["rm", "--permanent", str(uuid.uuid4())],
        ["upload"],
        ["nonsense"],
    ],
)
def test_wrong_usage_ends_with_2_before_anything_is_sent(server: CliServer, run: Run, arguments: list[str]) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert server.seen == []


def test_a_failing_server_is_one_line_with_the_request_s_id(server: CliServer, run: Run) -> None:
    server.next_answers.append(problem(500, "internal_error", "Look at the log.", request_id="r-17"))
    result = run("list")
    assert result.exit_code == 1
    assert result.stderr == "Error: internal_error: Look at the log. (request r-17)\n"


def test_a_broken_pipe_ends_quietly(server: CliServer) -> None:
    for number in range(300):
        server.add(b"%d" % number)
    command = f"{sys.executable} -m entrypoints.cli list --all --json --server {server.url} --user ann | head -n 1"
    result = subprocess.run(["bash", "-c", command], capture_output=True, cwd=ROOT, text=True, check=True)
    assert len(result.stdout.splitlines()) == 1
    assert result.stderr == ""


def test_on_a_terminal_there_is_a_table_that_says_when_there_is_more(server: CliServer) -> None:
    for number in range(30):
        server.add(b"%d" % number, filename="[red]cat\x1b[2J.jpg")
    output, code = on_a_terminal("list", "--server", server.url, "--user", "ann", "-n", "2")
    assert code == 0
    assert "Title" in output
    assert "[red]cat\\x1b[2J" in output
    assert "There are more" in output


# ---- get


def test_an_image_is_saved_under_its_own_name(
    server: CliServer, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run("get", server.add(BYTES)["image_id"])
    assert result.stdout == "cat.jpg\n"
    assert Path("cat.jpg").read_bytes() == BYTES
    assert [path.name for path in tmp_path.iterdir()] == ["cat.jpg"]


@pytest.mark.parametrize("name", ["../../etc/passwd", ".bashrc", "..", "/abs", "a/b\\c", "NUL.jpg"])
def test_a_server_can_t_choose_the_place(server: CliServer, run: Run, tmp_path: Path, name: str) -> None:
    (tmp_path / "in").mkdir()
    result = run("get", server.add(BYTES, filename=name.replace("\\", "\\\\"))["image_id"], "-o", tmp_path / "in")
    assert result.exit_code == 0
    (saved,) = (tmp_path / "in").iterdir()
    assert not saved.name.startswith(".")
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_a_file_that_is_there_is_replaced_only_by_force(server: CliServer, run: Run, tmp_path: Path) -> None:
    image_id, target = server.add(BYTES)["image_id"], tmp_path / "mine.jpg"
    target.write_bytes(b"mine")
    refused = run("get", image_id, "-o", target)
    assert refused.exit_code == 1
    assert "--force" in refused.stderr
    assert target.read_bytes() == b"mine"
    assert run("get", image_id, "-o", target, "--force").exit_code == 0
    assert target.read_bytes() == BYTES


def test_a_spoilt_download_leaves_nothing_behind(server: CliServer, run: Run, tmp_path: Path) -> None:
    target = tmp_path / "cat.jpg"
    target.write_bytes(b"mine")
    image_id = server.add(BYTES)["image_id"]
    server.contents[image_id] = BYTES[:-1] + b"?"
    result = run("get", image_id, "-o", target, "--force")
    assert result.exit_code == 1
    assert "SHA-256" in result.stderr
    assert target.read_bytes() == b"mine"
    assert [path.name for path in tmp_path.iterdir()] == ["cat.jpg"]


@pytest.mark.parametrize("output", ["missing/cat.jpg", "missing/", "pipe"])
def test_a_place_that_can_t_be_written_is_told(server: CliServer, run: Run, tmp_path: Path, output: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    result = run("get", server.add(BYTES)["image_id"], "--force", "-o", f"{tmp_path}/{output}")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: ")
    assert len(result.stderr.splitlines()) == 1


def test_an_image_can_go_to_stdout(server: CliServer, run: Run) -> None:
    result = run("get", server.add(BYTES)["image_id"], "-o", "-")
    assert result.exit_code == 0
    assert result.stdout_bytes == BYTES


def test_an_image_that_is_not_there_is_told(run: Run) -> None:
    result = run("get", uuid.uuid4())
    assert result.exit_code == 1
    assert result.stderr == "Error: not_found: It does not exist, or it is not yours.\n"


# ---- rm


def test_images_are_deleted_one_by_one_and_a_failure_does_not_stop_the_rest(server: CliServer, run: Run) -> None:
    first, missing, last = server.add(b"1")["image_id"], uuid.uuid4(), server.add(b"2")["image_id"]
    result = run("rm", first, missing, last)
    assert result.exit_code == 1
    assert result.stdout == (f"deleted\t{first}\t2024-02-03T10:30:00\ndeleted\t{last}\t2024-02-03T10:30:00\n")
    assert result.stderr.startswith(f"{missing}: not_found")
    assert server.images == {}


@pytest.mark.parametrize(
    "instead",
    [
        pytest.param(Answer(body=b"{}", cut_after=0), id="a connection that breaks"),
        pytest.param(Answer(status=502), id="a gateway"),
        pytest.param(problem(503, "unavailable"), id="a server that lost a store"),
    ],
)
def test_what_was_deleted_by_a_try_whose_answer_was_lost_is_deleted(
    server: CliServer, run: Run, instead: Answer
) -> None:
    image_id = server.add(b"1")["image_id"]

    def delete(_: Seen) -> Answer:
        del server.images[image_id]
        return instead

    server.next_answers.append(delete)
    result = run("rm", image_id)
    assert (result.stdout, result.stderr, result.exit_code) == (f"deleted\t{image_id}\t\n", "", 0)
    assert len(server.seen) == 2


def test_a_deletion_that_was_turned_away_before_it_began_may_find_nothing(server: CliServer, run: Run) -> None:
    server.next_answers.extend([problem(503, "overloaded"), problem(429, "rate_limited")])
    result = run("rm", uuid.uuid4())
    assert result.exit_code == 1
    assert "not_found" in result.stderr


def test_yes_deletes_for_good_without_a_question(server: CliServer, run: Run) -> None:
    image_id = server.add(b"1")["image_id"]
    assert run("rm", "--permanent", "--yes", image_id).stdout == f"deleted\t{image_id}\n"
    assert server.seen[0].query == {"permanent": ["true"]}


@pytest.mark.parametrize(("reply", "code", "left"), [(b"y\n", 0, 0), (b"n\n", 1, 1), (b"\x03", 130, 1)])
def test_a_permanent_deletion_asks_on_a_terminal(server: CliServer, reply: bytes, code: int, left: int) -> None:
    image_id = server.add(b"1")["image_id"]
    output, exit_code = on_a_terminal(
        "rm", "--permanent", "--server", server.url, "--user", "ann", image_id, reply=reply, when="[y/N]"
    )
    assert "for good?" in output
    assert exit_code == code
    assert len(server.images) == left


# In a process of its own: to fork this one, with its threads, is asking for trouble.
_TERMINAL = "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))"


def on_a_terminal(*args: str, reply: bytes = b"", when: str = "") -> tuple[str, int]:
    """Run the command line with a terminal for all its streams; give the reply when it asks."""
    command = [sys.executable, "-c", _TERMINAL, sys.executable, "-m", "entrypoints.cli", *args]
    environment = os.environ | {"COLUMNS": "160"}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, env=environment, bufsize=0
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        output = b""
        while True:
            # Given again until it helps: a Ctrl-C that meets Python on its way into `input` is lost.
            if not select.select([process.stdout], [], [], 0.5)[0]:
                if reply and when.encode() in output:
                    process.stdin.write(reply)
                continue
            if not (chunk := process.stdout.read(4096)):
                break
            output += chunk
    return output.decode(), process.returncode
