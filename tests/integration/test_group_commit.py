"""Writes of several threads on one connection: one commit for those that wait for it, each alone in what it does."""

import fcntl
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from adapters.sqlite.session import Session
from adapters.sqlite.turns import FileTurns, Turns
from domain.errors import NotFound, Unavailable
from tests.waiting import wait_until

Block = Callable[[sqlite3.Connection], None]
ROOT = Path(__file__).parents[2]


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    opened = Session(tmp_path / "catalog.sqlite3", timeout_s=30)
    opened.fetch("CREATE TABLE parents (name TEXT PRIMARY KEY)")
    opened.fetch(
        "CREATE TABLE told (name TEXT PRIMARY KEY, parent TEXT REFERENCES parents DEFERRABLE INITIALLY DEFERRED)"
    )
    yield opened
    opened.close()


@contextmanager
def commits_of(session: Session) -> Iterator[list[str]]:
    """Give the list that fills with the commits to come."""
    seen: list[str] = []
    session._connection.set_trace_callback(lambda statement: seen.append(statement) if statement == "COMMIT" else None)
    yield seen
    session._connection.set_trace_callback(None)


def tell(name: str, parent: str | None = None) -> Block:
    def block(db: sqlite3.Connection) -> None:
        db.execute("INSERT INTO told VALUES (?, ?)", (name, parent))

    return block


def told(session: Session) -> set[str]:
    return {name for (name,) in session.fetch("SELECT name FROM told")}


def together(session: Session, *blocks: Block) -> list[Future[None]]:
    """Run the blocks, in their order, in the group of one that does nothing but wait until all of them wait for it."""
    pool = ThreadPoolExecutor(len(blocks) + 1)
    entered, leave = threading.Event(), threading.Event()

    def first(db: sqlite3.Connection) -> None:
        del db
        entered.set()
        assert leave.wait(timeout=60)

    futures = [pool.submit(session.write, first)]
    assert entered.wait(timeout=60)
    for number, block in enumerate(blocks, start=1):
        futures.append(pool.submit(session.write, block))
        wait_until(lambda number=number: len(session._turns._waiting) == number)  # type: ignore[misc]
    leave.set()
    pool.shutdown(wait=True)
    return futures[1:]


def test_those_who_wait_are_committed_together(session: Session) -> None:
    with commits_of(session) as commits:
        for future in together(session, *[tell(str(number)) for number in range(8)]):
            future.result()
    assert told(session) == {str(number) for number in range(8)}
    assert len(commits) == 1


def test_nobody_is_told_before_the_commit(session: Session) -> None:
    seen: list[bool] = []

    def last(db: sqlite3.Connection) -> None:
        assert db.in_transaction
        seen.extend(future.done() for future in futures)

    futures: list[Future[None]] = []
    with ThreadPoolExecutor(2) as pool:
        entered, leave = threading.Event(), threading.Event()

        def first(db: sqlite3.Connection) -> None:
            tell("a")(db)
            entered.set()
            assert leave.wait(timeout=60)

        futures.append(pool.submit(session.write, first))
        assert entered.wait(timeout=60)
        futures.append(pool.submit(session.write, last))
        wait_until(lambda: len(session._turns._waiting) == 1)
        leave.set()
    for future in futures:
        future.result()
    assert seen[0] is False


def test_one_that_raises_undoes_only_what_it_did(session: Session) -> None:
    def refuse(db: sqlite3.Connection) -> None:
        tell("refused")(db)
        raise NotFound

    def break_off(db: sqlite3.Connection) -> None:
        tell("broken")(db)
        tell("broken")(db)

    blocks = [tell("a"), refuse, tell("b"), break_off, tell("c")]
    for futures in (together(session, *blocks), together(session, refuse, tell("d"), refuse, tell("e"))):
        errors = [type(future.exception()) for future in futures]
        assert NotFound in errors
    assert told(session) == set("abcde")
    assert not session._connection.in_transaction


def test_when_the_commit_fails_all_of_it_failed_and_the_next_works(session: Session) -> None:
    def refuse(db: sqlite3.Connection) -> None:
        del db
        raise NotFound

    # A reference that leads nowhere is found at the commit.
    futures = together(session, tell("a"), tell("orphan", parent="nobody"), refuse, tell("b"))
    assert [type(future.exception()) for future in futures] == [Unavailable] * 4
    assert told(session) == set()
    session.write(tell("c"))
    assert told(session) == {"c"}


def test_a_failure_that_undoes_everything_fails_the_group(session: Session) -> None:
    def lose_all(db: sqlite3.Connection) -> None:
        tell("lost")(db)
        db.execute("ROLLBACK")  # as SQLite does itself when the disk is full
        raise sqlite3.OperationalError("disk full")

    futures = together(session, tell("a"), lose_all)
    assert [type(future.exception()) for future in futures] == [Unavailable] * 2
    session.write(tell("b"))
    assert told(session) == {"b"}


def test_the_others_learn_nothing_of_what_is_undone_with_them(session: Session) -> None:
    """One that reads what another wrote, and is refused for it, hears of the failure and not of the refusal."""

    def refuse_if_there(db: sqlite3.Connection) -> None:
        if db.execute("SELECT 1 FROM told WHERE name = 'orphan'").fetchone():
            raise NotFound

    futures = together(session, tell("orphan", parent="nobody"), refuse_if_there)
    assert [type(future.exception()) for future in futures] == [Unavailable] * 2


def test_whoever_has_the_turn_does_the_work_of_all_who_wait(session: Session) -> None:
    workers: list[int] = []

    def work(db: sqlite3.Connection) -> int:
        del db
        workers.append(threading.get_ident())
        return threading.get_ident()

    def results(number: int) -> Block:
        def block(db: sqlite3.Connection) -> None:
            work(db)
            tell(str(number))(db)

        return block

    for future in together(session, *map(results, range(4))):
        future.result()
    assert len(workers) == 4
    assert len(set(workers)) == 1
    assert session.write(work) == threading.get_ident()


def test_what_a_block_returns_comes_to_whom_it_belongs(session: Session) -> None:
    def name(number: int) -> Callable[[sqlite3.Connection], int]:
        return lambda _: number

    with ThreadPoolExecutor(8) as pool:
        futures = [pool.submit(session.write, name(number)) for number in range(64)]
        assert [future.result() for future in futures] == list(range(64))


def test_a_reader_in_the_queue_gets_a_turn_of_its_own_behind_those_before_it(session: Session) -> None:
    seen: list[set[str]] = []
    entered, leave = threading.Event(), threading.Event()

    def first(db: sqlite3.Connection) -> None:
        tell("first")(db)
        entered.set()
        assert leave.wait(timeout=60)

    with ThreadPoolExecutor(4) as pool, commits_of(session) as commits:
        jobs: list[Callable[[], object]] = [
            lambda: session.write(tell("before")),
            lambda: seen.append(told(session)),
            lambda: session.write(tell("behind")),
        ]
        futures: list[Future[object]] = [pool.submit(session.write, first)]
        assert entered.wait(timeout=60)
        for number, job in enumerate(jobs, start=1):
            futures.append(pool.submit(job))
            wait_until(lambda number=number: len(session._turns._waiting) == number)  # type: ignore[misc]
        leave.set()
        for future in futures:
            future.result()
    assert seen == [{"first", "before"}]
    assert len(commits) == 2


def test_whoever_has_waited_too_long_goes_and_his_work_is_not_done(tmp_path: Path) -> None:
    session = Session(tmp_path / "catalog.sqlite3", timeout_s=0.05)
    session.fetch("CREATE TABLE told (name TEXT, parent TEXT)")
    entered, leave = threading.Event(), threading.Event()

    def first(db: sqlite3.Connection) -> None:
        tell("first")(db)
        entered.set()
        assert leave.wait(timeout=60)

    with ThreadPoolExecutor(1) as pool:
        leading = pool.submit(session.write, first)
        assert entered.wait(timeout=60)
        with pytest.raises(Unavailable, match="busy"):
            session.write(tell("late"))
        leave.set()
        leading.result()
    assert told(session) == {"first"}
    session.close()


def test_work_that_was_begun_is_waited_for_however_long_it_takes(tmp_path: Path) -> None:
    session = Session(tmp_path / "catalog.sqlite3", timeout_s=1)
    session.fetch("CREATE TABLE told (name TEXT, parent TEXT)")
    entered, leave, begun, end = (threading.Event() for _ in range(4))

    def first(db: sqlite3.Connection) -> None:
        del db
        entered.set()
        assert leave.wait(timeout=60)

    def slow(db: sqlite3.Connection) -> None:
        tell("slow")(db)
        begun.set()
        assert end.wait(timeout=60)

    with ThreadPoolExecutor(2) as pool:
        leading = pool.submit(session.write, first)
        assert entered.wait(timeout=60)
        waiting = pool.submit(session.write, slow)
        wait_until(lambda: bool(session._turns._waiting) or waiting.done())
        leave.set()
        if begun.wait(timeout=60):
            time.sleep(2)  # longer than anybody waits for a turn
        end.set()
        leading.result()
        waiting.result()
    assert told(session) == {"slow"}
    session.close()


@pytest.mark.parametrize("is_begun", [False, True])
def test_an_interrupted_leader_leaves_nobody_asleep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_begun: bool
) -> None:
    session = Session(tmp_path / "catalog.sqlite3", timeout_s=1)
    session.fetch("CREATE TABLE told (name TEXT, parent TEXT)")
    entered, leave = threading.Event(), threading.Event()

    def first(db: sqlite3.Connection) -> None:
        tell("first")(db)
        entered.set()
        assert leave.wait(timeout=60)

    def interrupt(db: sqlite3.Connection) -> None:
        tell("interrupted")(db)
        raise KeyboardInterrupt

    next_errand = session._turns.next_errand

    def take_and_be_interrupted() -> None:
        if next_errand() is not None:  # and what would have woken somebody is gone
            raise KeyboardInterrupt

    if not is_begun:
        monkeypatch.setattr(session._turns, "next_errand", take_and_be_interrupted)
    with ThreadPoolExecutor(2) as pool:
        leading = pool.submit(session.write, first)
        assert entered.wait(timeout=60)
        waiting = pool.submit(session.write, interrupt)
        wait_until(lambda: bool(session._turns._waiting) or waiting.done())
        leave.set()
        assert isinstance(leading.exception(timeout=60), KeyboardInterrupt)
        assert isinstance(waiting.exception(timeout=60), Unavailable)
    monkeypatch.undo()
    assert told(session) == set()
    session.write(tell("a"))
    assert told(session) == {"a"}
    session.close()


def test_of_many_writes_at_once_those_that_were_answered_are_there_and_the_others_are_not(session: Session) -> None:
    def write(name: str) -> str | None:
        def block(db: sqlite3.Connection) -> None:
            tell(name)(db)
            if name.endswith("3"):
                raise NotFound
            if name.endswith("7"):
                tell(name)(db)  # there is one already

        try:
            session.write(block)
        except (NotFound, Unavailable):
            return None
        return name

    names = [f"{number}" for number in range(600)]
    with ThreadPoolExecutor(12) as pool:
        answered = set(pool.map(write, names)) - {None}
    assert answered == {name for name in names if name[-1] not in "37"}
    assert told(session) == answered
    assert not session._connection.in_transaction


def test_whoever_is_interrupted_while_the_file_is_locked_leaves_no_transaction_open(
    session: Session, tmp_path: Path
) -> None:
    main = threading.get_ident()

    def interrupt() -> None:
        wait_until(lambda: is_locked(tmp_path / "catalog.sqlite3-turn"))
        time.sleep(0.1)  # by now it waits for the file; if it does not, nothing is checked
        signal.pthread_kill(main, signal.SIGINT)
        time.sleep(0.1)
        other.rollback()

    other = sqlite3.connect(tmp_path / "catalog.sqlite3", isolation_level=None, check_same_thread=False)
    usual = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with closing(other), ThreadPoolExecutor(1) as pool:
            other.execute("BEGIN IMMEDIATE")
            pool.submit(interrupt)
            with pytest.raises(KeyboardInterrupt):
                session.write(tell("interrupted"))
    finally:
        signal.signal(signal.SIGINT, usual)
    session.write(tell("a"))
    assert told(session) == {"a"}


def test_the_connection_closes_behind_the_last_commit(session: Session) -> None:
    session.write(tell("a"))
    session.close()
    session.close()
    with pytest.raises(Unavailable):
        session.write(tell("b"))


# ---- turns


def test_turns_come_in_the_order_of_asking() -> None:
    turns, order = Turns[str](), list[int]()
    assert turns.take()

    def take(number: int) -> None:
        assert turns.take()
        order.append(number)
        turns.give()

    with ThreadPoolExecutor(8) as pool:
        for number in range(8):
            pool.submit(take, number)
            wait_until(lambda number=number: len(turns._waiting) == number + 1)  # type: ignore[misc]
        turns.give()
    assert order == list(range(8))
    assert turns.take(0)


def test_who_waited_too_long_is_passed_over() -> None:
    turns = Turns[str]()
    assert turns.take()
    assert not turns.take(0.01)
    turns.give()
    assert turns.take(0)


def test_two_never_have_the_turn_at_once() -> None:
    turns, inside, worst = Turns[str](), list[int](), list[int]()

    def take(number: int) -> None:
        for _ in range(200):
            if turns.take(0.001):
                inside.append(number)
                worst.append(len(inside))
                inside.remove(number)
                turns.give()

    with ThreadPoolExecutor(8) as pool:
        for future in [pool.submit(take, number) for number in range(8)]:
            future.result()
    assert set(worst) == {1}
    assert turns.take(0)


# ---- turns between processes; each FileTurns is like another process to the system


HOLDER = """
import sys
from pathlib import Path
from adapters.sqlite.turns import FileTurns

assert FileTurns(Path(sys.argv[1])).take(60)
print("taken", flush=True)
sys.stdin.read()
"""


def is_locked(path: Path) -> bool:
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def test_a_process_that_wants_to_write_again_comes_behind_the_one_that_waits(tmp_path: Path) -> None:
    path, order = tmp_path / "file", list[str]()
    one, other = FileTurns(path), FileTurns(path)
    assert one.take(60)

    def wait() -> None:
        assert other.take(60)
        order.append("other")
        other.give()

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(wait)
        wait_until(lambda: is_locked(tmp_path / "file-next"))
        one.give()
        assert one.take(60)
        order.append("one")
        waiting.result(60)
    assert order == ["other", "one"]
    one.close()
    other.close()


def test_a_turn_that_does_not_come_in_time_is_not_taken(tmp_path: Path) -> None:
    one, other = FileTurns(tmp_path / "file"), FileTurns(tmp_path / "file")
    assert one.take(0)
    assert not other.take(0.01)
    one.give()
    assert other.take(0)
    one.close()
    other.close()


def test_a_process_that_was_stopped_while_it_waits_keeps_nobody_from_his_turn(tmp_path: Path) -> None:
    turns = FileTurns(tmp_path / "file")
    with (tmp_path / "file-next").open() as stopped:
        fcntl.flock(stopped, fcntl.LOCK_EX)
        assert turns.take(0.1)
        assert is_locked(tmp_path / "file-turn")
    turns.close()


def test_the_turn_of_a_process_that_dies_is_free(tmp_path: Path) -> None:
    path = tmp_path / "file"
    command = [sys.executable, "-c", HOLDER, str(path)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "taken\n"
        turns = FileTurns(path)
        assert not turns.take(0.01)
        holder.kill()
        assert turns.take(60)
        turns.close()


def test_closed_turns_are_refused_and_end(tmp_path: Path) -> None:
    one, other = FileTurns(tmp_path / "file"), FileTurns(tmp_path / "file")
    assert one.take(0)
    one.close()
    one.close()
    with pytest.raises(OSError, match="closed"):
        one.take(0)
    assert other.take(0)
    other.close()


def test_a_session_waits_only_so_long_for_another_process(tmp_path: Path) -> None:
    one, other = (Session(tmp_path / "catalog.sqlite3", timeout_s=seconds) for seconds in (30, 0.05))
    one.fetch("CREATE TABLE told (name TEXT, parent TEXT)")

    def keep_the_other_waiting(db: sqlite3.Connection) -> None:
        tell("one")(db)
        with pytest.raises(Unavailable, match="busy"):
            other.write(tell("a"))

    one.write(keep_the_other_waiting)
    # What failed to begin has left nothing behind: both can write, one after the other.
    for session in (other, one):
        session.write(tell("b"))
    assert told(one) == {"one", "b"}
    for session in (other, one):
        session.close()


def test_files_of_turns_that_vanish_let_no_two_write_at_once(session: Session, tmp_path: Path) -> None:
    def write_as_another_does(db: sqlite3.Connection) -> Session:
        tell("a")(db)
        for name in ("turn", "next"):
            (tmp_path / f"catalog.sqlite3-{name}").unlink()
        other = Session(tmp_path / "catalog.sqlite3", timeout_s=0.05)
        with pytest.raises(Unavailable, match="failed"):
            other.write(tell("b"))
        return other

    other = session.write(write_as_another_does)
    other.write(tell("c"))
    session.write(tell("d"))
    assert told(session) == set("acd")
    other.close()


def test_a_transaction_that_fails_gives_the_turn_away(session: Session, tmp_path: Path) -> None:
    def fail(_: sqlite3.Connection) -> None:
        raise NotFound

    with pytest.raises(NotFound):
        session.write(fail)
    assert not is_locked(tmp_path / "catalog.sqlite3-turn")
    assert not is_locked(tmp_path / "catalog.sqlite3-next")
