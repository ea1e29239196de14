"""The measurements measure what they say: seeded libraries are real, wrong answers end a run, and prose stays."""

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import httpx
import pytest
from PIL import Image

import calotype
from application.ports import Filter
from application.queries.audit import Audit
from bench import growth
from bench.library import ONE_IN_10, ONE_IN_40, PAGE, READER, UNTITLED, jpeg_template, newest
from bench.peers.peer import content_check, multipart
from bench.processes import Server
from bench.report import into_page, ratios, spread
from bench.seed import seed
from bench.wrk import Ask, Wrong, one_answer
from entrypoints.audit import open_audit
from entrypoints.settings import load_settings


def test_a_seeded_library_pages_as_foretold_and_audits_clean(tmp_path: Path) -> None:
    seed(tmp_path, 1020)

    with calotype.open(data_dir=tmp_path) as bus:
        foretellings: list[tuple[Filter, object]] = [
            (calotype.ByTags(calotype.parse_tags([ONE_IN_10])), newest(1020, tags=(ONE_IN_10,))),
            (calotype.ByTitle(calotype.Title(UNTITLED)), newest(1020, title=UNTITLED)),
            (calotype.ByOwner(), newest(1020)),
        ]
        for which, foretold in foretellings:
            page = bus.ask(calotype.ListImages(owner=calotype.UserId(READER), which=which, limit=50))
            assert [(image.title, image.tags) for image in page.images] == foretold
        (image,) = bus.ask(calotype.ListImages(owner=calotype.UserId(READER), which=calotype.ByOwner(), limit=1)).images
        with bus.ask(calotype.ReadContent(owner=image.owner, image_id=image.image_id)).open() as body:
            assert Image.open(io.BytesIO(body.read())).size == (image.width, image.height)
    with open_audit(load_settings(data_dir=str(tmp_path))) as (audits, _):
        steps = list(audits.ask(Audit()))
    assert len(steps) == 1020 * (1 + 1 + 3)  # records, objects, postings
    assert [step.findings for step in steps if step.findings] == []


def test_a_library_seeded_on_aws_pages_as_foretold_and_a_larger_one_asks_for_no_more(tmp_path: Path) -> None:
    sizes = 60, 90
    for size in sizes:
        folder = tmp_path / str(size)
        folder.mkdir()
        growth.OnMinistack().seed(folder, size)

    # Each is served by a server of its own, from what another has left on the disk.
    with growth.opened(tmp_path / "60", 60) as small, growth.opened(tmp_path / "90", 90) as large:
        spent, more = [[growth.metered(each.clients, ask) for ask in each.asks.values()] for each in (small, large)]
        table = growth.table([small, large])

    assert [each.requests for each in spent] == [
        {"Query": 1},
        {"Query": 1, "BatchGetItem": 1},
        {"Query": 1},
        {"GetItem": 1},
    ]
    assert [each.requests for each in more] == [each.requests for each in spent]
    assert spent[0].read_bytes == pytest.approx(more[0].read_bytes, rel=0.05)
    assert all(name in table for name in small.asks)


def test_a_page_that_is_not_the_right_one_ends_a_run_on_aws_too(tmp_path: Path) -> None:
    growth.OnMinistack().seed(tmp_path, 60)

    with pytest.raises(Wrong, match=f"list page of {PAGE} of 61"), growth.opened(tmp_path, 61):
        pass


def test_two_tags_meet_in_one_of_four_hundred() -> None:
    assert len(newest(20_000, tags=(ONE_IN_10, ONE_IN_40))) == 50
    assert len(newest(4_000, tags=(ONE_IN_10, ONE_IN_40))) == 10


def test_each_filling_of_a_template_is_a_whole_jpeg_of_the_same_size() -> None:
    template = jpeg_template(20_000)

    one, other = template.filled("1" * 32), template.filled("2" * 32)

    assert one != other
    assert len(one) == len(other) == 20_000
    Image.open(io.BytesIO(one)).load()


def test_a_form_holds_the_whole_file() -> None:
    headers, upload = multipart([("title", "A bridge")], file="file", picture=jpeg_template(20_000))

    sent = httpx.Request("POST", "http://x", headers=headers, content=upload.body("1" * 32)).read()

    assert upload.picture.filled("1" * 32) in sent


@pytest.mark.parametrize(("status", "body"), [(500, b"right"), (304, b""), (200, b"wrong")])
def test_a_wrong_answer_ends_the_run(status: int, body: bytes) -> None:
    with _answering(status, body) as url, pytest.raises(Wrong):
        one_answer(url, Ask(("/",), 200, content_check(b"right")))


def test_a_right_answer_is_as_long_as_what_came(tmp_path: Path) -> None:
    del tmp_path
    with _answering(200, b"right") as url:
        assert one_answer(url, Ask(("/",), 200, content_check(b"right"))) == len(
            b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nright"
        )


def test_the_next_is_not_measured_while_a_server_works_on_what_nobody_waits_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.processes._IDLE_FOR_S", 1.0)  # for that long it waits for no processor
    busy = """
import http.server, pathlib, sys, threading, time

def work():
    until = time.process_time() + 0.6
    while time.process_time() < until:
        pass
    pathlib.Path("done").touch()

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        threading.Thread(target=work).start()

http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""
    with Server([sys.executable, "-c", busy, "{port}"], log=tmp_path / "log", cwd=tmp_path) as server:
        server.start("/")
        server.wait_until_idle()
        assert (tmp_path / "done").exists()


def test_tables_go_between_their_markers_and_the_prose_stays() -> None:
    page = "before\n<!-- measured: rows -->\nold\n<!-- end: rows -->\nbehind\n"

    assert into_page(page, {"rows": "new"}) == page.replace("old", "new")
    with pytest.raises(ValueError, match="no place for other"):
        into_page(page, {"other": "new"})


def test_ratios_are_taken_round_by_round() -> None:
    ours, theirs = [{"rate": 2.0}, {"rate": 9.0}, {"rate": 4.0}], [{"rate": 1.0}, {"rate": 3.0}, {"rate": 4.0}]

    assert spread(ratios(ours, theirs, "rate")) == "1.00, 2.00, 3.00"


@contextmanager
def _answering(status: int, body: bytes) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response_only(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
