"""Writes of several threads on one connection: one commit for those that wait for it, each alone in what it does."""

import fcntl
import gc
import itertools
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

import pytest

from adapters.sqlite.session import Session, _Block, one_write
from adapters.sqlite.turns import FileTurns, Turns
from domain.errors import NotFound, Unavailable
from tests.waiting import PATIENCE_S, wait_until

R = TypeVar("R")
Block = Callable[[sqlite3.Connection], object]
ROOT = Path(__file__).parents[2]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "catalog.sqlite3"


@pytest.fixture
def session(path: Path) -> Iterator[Session]:
    with opened(path, timeout_s=PATIENCE_S) as session:
        yield session


@contextmanager
def opened(path: Path, *, timeout_s: float) -> Iterator[Session]:
    session = Session(path, timeout_s=timeout_s)
    session.fetch("CREATE TABLE IF NOT EXISTS parents (name TEXT PRIMARY KEY)")
    session.fetch(
        "CREATE TABLE IF NOT EXISTS told"
        " (name TEXT PRIMARY KEY, parent TEXT REFERENCES parents DEFERRABLE INITIALLY DEFERRED)"
    )
    yield session
    start(session.close).result(PATIENCE_S)


def start(call: Callable[[], R], *, before: Callable[[], object] = bool) -> Future[R]:
    """Call it in a thread that keeps nobody from ending: a test fails where such a thread is left asleep."""
    future = Future[R]()

    def run() -> None:
        before()
        try:
            future.set_result(call())
        except BaseException as error:  # noqa: BLE001 (as threads of a pool do)
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


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


def refuse(db: sqlite3.Connection) -> None:
    tell("refused")(db)
    raise NotFound


def break_off(db: sqlite3.Connection) -> None:
    tell("broken")(db)
    tell("broken")(db)


def lose_all(db: sqlite3.Connection) -> None:
    tell("lost")(db)
    db.execute("ROLLBACK")  # as SQLite does itself when the disk is full
    raise sqlite3.OperationalError("disk full")


# A reference that leads nowhere is found at the commit.
tell_orphan = tell("orphan", parent="nobody")


def told(session: Session) -> set[str]:
    return {name for (name,) in session.fetch("SELECT name FROM told")}


def told_in_a_snapshot(session: Session) -> set[str]:
    with session.snapshot() as db:
        return {name for (name,) in db.execute("SELECT name FROM told")}


@contextmanager
def leading(session: Session, block: Block, *, before: Callable[[], object] = bool) -> Iterator[Future[object]]:
    """Be in the midst of a write of another thread, which does the block when this ends."""
    entered, leave = threading.Event(), threading.Event()

    def waiting(db: sqlite3.Connection) -> object:
        entered.set()
        assert leave.wait(PATIENCE_S)
        return block(db)

    leader = start(partial(session.write, waiting), before=before)
    try:
        assert entered.wait(PATIENCE_S)
        yield leader
    finally:
        leave.set()
    leader.exception(PATIENCE_S)


def line_up(session: Session, *calls: Callable[[], object]) -> list[Future[object]]:
    """Start the calls, each once those before it wait for their turn."""
    futures: list[Future[object]] = []
    for call in calls:
        futures.append(start(call))
        wait_until(lambda: len(session._turns._waiting) == len(futures) or futures[-1].done())
    return futures


def together(session: Session, first: Block, *others: Block) -> list[Future[object]]:
    """Write the blocks, each in a thread of its own: when the first is done, the others wait, in their order."""
    with leading(session, first) as leader:
        waiting = line_up(session, *(partial(session.write, block) for block in others))
    return [leader, *waiting]


def raised(futures: list[Future[object]]) -> list[type[BaseException] | None]:
    """Return what each raised, once all are done: nobody wakes by himself before this has lost its patience."""
    errors = [future.exception(PATIENCE_S) for future in futures]
    return [None if error is None else type(error) for error in errors]


def is_at_rest(session: Session, path: Path) -> bool:
    """Tell whether no transaction is open, no file locked, and nobody waits."""
    is_locked_by_us = is_locked(Path(f"{path}-turn")) or is_locked(Path(f"{path}-next"))
    return not (session._connection.in_transaction or is_locked_by_us or session._turns._waiting)


@contextmanager
def interrupted(when: Callable[[], bool], then: Callable[[], object] = bool) -> Iterator[None]:
    """Press Ctrl-C while the main thread waits for something in the block, and do what ends that wait."""
    main = threading.get_ident()

    def interrupt() -> None:
        wait_until(when)
        time.sleep(0.1)  # by now it waits; if it does not, nothing is checked
        signal.pthread_kill(main, signal.SIGINT)
        time.sleep(0.1)
        then()

    usual = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        interrupting = start(interrupt)
        with pytest.raises(KeyboardInterrupt):
            yield
        interrupting.result(PATIENCE_S)
    finally:
        signal.signal(signal.SIGINT, usual)


def test_those_who_wait_are_committed_together(session: Session) -> None:
    with commits_of(session) as commits:
        assert raised(together(session, *[tell(str(number)) for number in range(8)])) == [None] * 8
    assert told(session) == {str(number) for number in range(8)}
    assert len(commits) == 1


def test_nobody_is_told_before_the_commit(session: Session) -> None:
    seen: list[bool] = []

    def look(statement: str) -> None:
        if statement == "COMMIT":
            time.sleep(0.2)  # by now whoever has been told is done; if he is not, nothing is checked
            seen.extend(future.done() for future in futures)

    with leading(session, tell("a")) as leader:
        futures = [leader, *line_up(session, *(partial(session.write, block) for block in (tell("b"), refuse)))]
        session._connection.set_trace_callback(look)
    assert seen == [False] * 3
    assert raised(futures) == [None, None, NotFound]


def test_whoever_has_the_turn_does_the_work_of_all_who_wait(session: Session) -> None:
    def where(db: sqlite3.Connection) -> int:
        del db
        return threading.get_ident()

    assert len({future.result() for future in together(session, where, where, where, where)}) == 1
    assert session.write(where) == threading.get_ident()


def test_what_a_block_returns_comes_to_whom_it_belongs(session: Session) -> None:
    def name(number: int) -> Callable[[sqlite3.Connection], int]:
        return lambda _: number

    with ThreadPoolExecutor(8) as pool:
        futures = [pool.submit(session.write, name(number)) for number in range(64)]
        assert [future.result() for future in futures] == list(range(64))


def test_one_that_raises_undoes_only_what_it_did(session: Session) -> None:
    futures = together(session, tell("a"), refuse, tell("b"), break_off, tell("c"))
    assert raised(futures) == [None, NotFound, None, Unavailable, None]
    assert told(session) == set("abc")


@pytest.mark.parametrize(("block", "error"), [(refuse, NotFound), (break_off, Unavailable), (lose_all, Unavailable)])
def test_one_that_raises_while_others_wait_undoes_only_what_it_did(
    session: Session, path: Path, block: Block, error: type[Exception]
) -> None:
    assert raised(together(session, block, tell("a"), tell("b"))) == [error, None, None]
    assert told(session) == set("ab")
    assert is_at_rest(session, path)


def test_what_a_block_raises_comes_as_it_is_to_whom_it_belongs(session: Session) -> None:
    class OfTheirOwnError(Exception):
        pass

    def fail(error: Exception) -> Block:
        def block(_: sqlite3.Connection) -> None:
            raise error

        return block

    errors = [OfTheirOwnError(), NotFound(), OfTheirOwnError(), Unavailable("elsewhere")]
    futures = together(session, tell("a"), *map(fail, errors))
    assert [future.exception() for future in futures] == [None, *errors]


def test_a_failure_of_the_database_has_its_cause(session: Session) -> None:
    for futures in (together(session, tell("a"), break_off), together(session, break_off, tell("b"))):
        [error] = [error for future in futures if (error := future.exception()) is not None]
        assert isinstance(error, Unavailable)
        assert isinstance(error.__cause__, sqlite3.IntegrityError)


def test_what_a_block_raised_is_gone_when_its_caller_is_done_with_it(session: Session) -> None:
    left: list[weakref.ref[Exception]] = []

    def refuse(_: sqlite3.Connection) -> None:
        error = NotFound()
        left.append(weakref.ref(error))
        try:
            raise error
        finally:
            del error

    def be_refused() -> None:
        with suppress(NotFound):
            session.write(refuse)

    gc.collect()
    gc.disable()  # what is part of a circle stays
    try:
        be_refused()
        with leading(session, tell("a")):
            waiting = line_up(session, be_refused)
        assert raised(waiting) == [None]
        assert [error() for error in left] == [None, None]
    finally:
        gc.enable()


def test_what_a_failed_commit_raised_is_gone_when_its_callers_are_done_with_it(session: Session) -> None:
    class Upload:
        """What a block works on."""

    left: list[weakref.ref[Upload]] = []

    def write(block: Block) -> None:
        upload = Upload()
        left.append(weakref.ref(upload))

        def work(db: sqlite3.Connection) -> None:
            assert isinstance(upload, Upload)
            block(db)

        with suppress(Unavailable):
            session.write(work)

    entered, leave = threading.Event(), threading.Event()

    def wait(_: sqlite3.Connection) -> None:
        entered.set()
        assert leave.wait(PATIENCE_S)

    gc.collect()
    gc.disable()
    try:
        leader: Future[object] = start(partial(write, wait))
        assert entered.wait(PATIENCE_S)
        waiting = line_up(session, *(partial(write, block) for block in (tell("b"), tell_orphan, refuse)))
        leave.set()
        assert raised([leader, *waiting]) == [None] * 4
        wait_until(lambda: [upload() for upload in left] == [None] * 4)
    finally:
        gc.enable()


def test_an_error_does_not_tell_what_another_was_just_handling(session: Session) -> None:
    """Whose thread it was in: the trace in the log would be of two requests."""

    def histories(error: BaseException | None) -> Iterator[BaseException]:
        if error is not None:
            yield error
            yield from histories(error.__context__)
            yield from histories(error.__cause__)

    def refuse_because_of_another(db: sqlite3.Connection) -> None:
        cause: Exception | None = None
        try:
            refuse(db)
        except NotFound as error:
            cause = error
        raise Unavailable("behind it") from cause

    entered, leave = threading.Event(), threading.Event()

    def wait(_: sqlite3.Connection) -> None:
        entered.set()
        assert leave.wait(PATIENCE_S)

    def write_while_an_error_is_handled() -> None:
        try:
            Path("nothing here").stat()
        except OSError:
            session.write(wait)

    leader: Future[object] = start(write_while_an_error_is_handled)
    assert entered.wait(PATIENCE_S)
    blocks = (refuse, break_off, refuse_because_of_another)
    waiting = line_up(session, *(partial(session.write, block) for block in blocks))
    leave.set()
    assert raised([leader, *waiting]) == [None, NotFound, Unavailable, Unavailable]
    for future in waiting:
        assert not any(isinstance(each, OSError) for each in histories(future.exception()))


def test_a_block_that_is_done_leaves_no_savepoint_behind(session: Session) -> None:
    """Of a page that several of them write SQLite would keep a copy each, and before long in a file."""
    seen: list[str] = []
    session._connection.set_trace_callback(seen.append)
    together(session, tell("a"), tell("b"), refuse, tell("c"))
    session._connection.set_trace_callback(None)
    assert seen.count("SAVEPOINT block") == seen.count("RELEASE block") == 3


def test_when_the_commit_fails_all_of_it_failed_and_the_next_works(session: Session, path: Path) -> None:
    futures = together(session, tell("a"), tell_orphan, refuse, tell("b"))
    assert raised(futures) == [Unavailable] * 4
    assert told(session) == set()
    assert is_at_rest(session, path)
    session.write(tell("c"))
    assert told(session) == {"c"}


def test_the_others_learn_nothing_of_what_is_undone_with_them(session: Session) -> None:
    """One that reads what another wrote, and is refused for it, hears of the failure and not of the refusal."""

    def refuse_if_there(db: sqlite3.Connection) -> None:
        if db.execute("SELECT 1 FROM told WHERE name = 'orphan'").fetchone():
            raise NotFound

    assert raised(together(session, tell_orphan, refuse_if_there)) == [Unavailable] * 2


def test_a_failure_that_undoes_everything_fails_the_group_and_nobody_behind_it(session: Session, path: Path) -> None:
    futures = together(session, tell("a"), lose_all, tell("b"))
    assert raised(futures) == [Unavailable, Unavailable, None]
    assert [str(getattr(future.exception(), "__cause__", None)) for future in futures] == ["disk full"] * 2 + ["None"]
    assert told(session) == {"b"}
    assert is_at_rest(session, path)


def test_a_leader_whose_work_was_undone_unheard_is_not_told_that_it_is_done(session: Session, path: Path) -> None:
    def lose_all_unheard(db: sqlite3.Connection) -> None:
        with suppress(sqlite3.Error):
            lose_all(db)

    assert raised(together(session, lose_all_unheard, tell("b"))) == [Unavailable, None]
    assert told(session) == {"b"}
    assert is_at_rest(session, path)


def test_what_a_write_has_read_cannot_change_before_it_writes(session: Session, path: Path) -> None:
    def look_and_tell(db: sqlite3.Connection) -> None:
        assert db.execute("SELECT * FROM told").fetchall() == []
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            other.execute("INSERT INTO told VALUES ('other', NULL)")
        tell("a")(db)

    # A program that knows nothing of turns.
    with closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as other:
        session.write(look_and_tell)
    assert told(session) == {"a"}


@pytest.mark.parametrize("read", [told, told_in_a_snapshot])
def test_a_reader_in_the_queue_gets_a_turn_of_its_own_behind_those_before_it(
    session: Session, read: Callable[[Session], set[str]]
) -> None:
    with commits_of(session) as commits:
        with leading(session, tell("first")):
            before, seen, behind = line_up(
                session,
                partial(session.write, tell("before")),
                partial(read, session),
                partial(session.write, tell("behind")),
            )
        assert raised([before, behind]) == [None, None]
        assert seen.result() == {"first", "before"}
        assert len(commits) == 2
    assert told(session) == {"first", "before", "behind"}


def test_a_snapshot_that_raises_leaves_nothing_open(session: Session, path: Path) -> None:
    def fail() -> None:
        with session.snapshot() as db:
            db.execute("SELECT * FROM told").fetchone()
            raise NotFound

    with pytest.raises(NotFound):
        fail()
    assert is_at_rest(session, path)
    session.write(tell("a"))


def test_whoever_has_waited_too_long_goes_and_his_work_is_not_done(path: Path) -> None:
    with opened(path, timeout_s=0.05) as session:
        with leading(session, tell("first")), pytest.raises(Unavailable, match="busy"):
            session.write(tell("late"))
        session.write(tell("next"))
        assert told(session) == {"first", "next"}


def test_work_that_was_begun_is_waited_for_however_long_it_takes(path: Path) -> None:
    with opened(path, timeout_s=2) as session:

        def slow(db: sqlite3.Connection) -> None:
            tell("slow")(db)
            # As long as one waits for a turn, and more: whose work it is asks for one, to find out if he was forgotten.
            wait_until(lambda: bool(session._turns._waiting))

        with leading(session, tell("first")):
            [waiting] = line_up(session, partial(session.write, slow))
        assert raised([waiting]) == [None]
        assert told(session) == {"first", "slow"}


def test_a_leader_who_is_interrupted_takes_nobody_with_him_but_those_whose_work_was_begun(
    session: Session, path: Path
) -> None:
    def interrupt(db: sqlite3.Connection) -> None:
        tell("interrupted")(db)
        raise KeyboardInterrupt

    futures = together(session, tell("a"), tell("b"), refuse, interrupt, tell("c"))
    assert raised(futures) == [KeyboardInterrupt, Unavailable, Unavailable, Unavailable, None]
    assert told(session) == {"c"}
    assert is_at_rest(session, path)


def test_wherever_a_leader_is_interrupted_in_the_midst_of_the_work_nobody_is_left_asleep(path: Path) -> None:
    """Also where he had taken somebody's work over, and did not come to remember whom to wake."""
    watched = [method.__code__ for method in (Session._run_together, _Block.run_within, _Block.run)]
    unsure = 0

    def interrupt_at(line: int, begun: threading.Event) -> None:
        lines = itertools.count()

        def trace(frame: FrameType, event: str, _: object) -> Any:
            if frame.f_code in watched and event == "line" and begun.is_set() and next(lines) == line:
                raise KeyboardInterrupt
            return trace

        sys.settrace(trace)

    with opened(path, timeout_s=0.5) as session:
        for line in itertools.count():
            names = [f"{line}{letter}" for letter in "abc"]
            begun = threading.Event()

            def first(db: sqlite3.Connection, name: str = names[0], begun: threading.Event = begun) -> None:
                begun.set()
                tell(name)(db)

            with leading(session, first, before=partial(interrupt_at, line, begun)) as leader:
                waiting = line_up(session, *(partial(session.write, tell(name)) for name in names[1:]))
            assert set(raised([leader])) <= {KeyboardInterrupt, None}
            assert set(raised(waiting)) <= {Unavailable, None}
            assert is_at_rest(session, path)
            answered = {
                name for name, future in zip(names, [leader, *waiting], strict=True) if future.exception() is None
            }
            there = told(session) & set(names)
            assert answered <= there
            unsure += answered != there
            session.write(tell(f"{line}next"))
            if leader.exception() is None:
                break
    assert line > 10
    # Between the commit and the note that it was done.
    assert unsure <= 1


def test_of_many_writes_at_once_those_that_were_answered_are_there_and_the_others_are_not(
    session: Session, path: Path
) -> None:
    def block_of(number: int) -> Block:
        def block(db: sqlite3.Connection) -> None:
            tell(str(number))(db)
            if number % 10 == 3:
                raise NotFound
            if number % 10 == 7:
                tell(str(number))(db)  # there is one already
            if number % 40 == 11:
                lose_all(db)
            if number % 40 == 31:
                tell(f"orphan {number}", parent="nobody")(db)

        return block

    def write(number: int) -> bool:
        try:
            [session, other][number % 2].write(block_of(number))
        except Unavailable:
            return False
        except NotFound:
            assert number % 10 == 3
            return False
        return True

    numbers = range(600)
    with opened(path, timeout_s=PATIENCE_S) as other, ThreadPoolExecutor(12) as pool:
        answered = {number for number, done in zip(numbers, pool.map(write, numbers), strict=True) if done}
        assert is_at_rest(other, path)
    assert told(session) == {str(number) for number in answered}
    assert answered
    assert not any(number % 10 in {3, 7} or number % 20 == 11 for number in answered)
    assert is_at_rest(session, path)


def test_whoever_is_interrupted_while_the_file_is_locked_leaves_no_transaction_open(
    session: Session, path: Path
) -> None:
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    with closing(other):
        other.execute("BEGIN IMMEDIATE")
        with interrupted(lambda: is_locked(Path(f"{path}-turn")), other.rollback):
            session.write(tell("interrupted"))
    assert is_at_rest(session, path)
    session.write(tell("a"))
    assert told(session) == {"a"}


def test_the_work_of_one_who_is_interrupted_while_he_waits_is_not_done(session: Session) -> None:
    with leading(session, tell("first")), interrupted(lambda: bool(session._turns._waiting)):
        session.write(tell("interrupted"))
    session.write(tell("next"))
    assert told(session) == {"first", "next"}


def test_the_connection_closes_behind_those_who_wait(session: Session, path: Path) -> None:
    with leading(session, tell("first")) as leader:
        waiting = line_up(session, partial(session.write, tell("a")), session.close, partial(session.write, tell("b")))
    assert raised([leader, *waiting]) == [None, None, None, Unavailable]
    session.close()
    for call in (partial(session.write, tell("c")), partial(told, session), partial(told_in_a_snapshot, session)):
        with pytest.raises(Unavailable):
            call()
    with opened(path, timeout_s=PATIENCE_S) as other:
        assert told(other) == {"first", "a"}


def test_a_method_can_be_one_write(session: Session) -> None:
    class Gossip:
        def __init__(self, writer: Session) -> None:
            self._writer = writer

        @one_write
        def pass_on(self, db: sqlite3.Connection, name: str, *, again: str) -> int:
            """Tell it twice."""
            tell(name)(db)
            tell(again)(db)
            return db.total_changes

    gossip = Gossip(session)
    with commits_of(session) as commits:
        assert gossip.pass_on("a", again="b") == 2
    assert len(commits) == 1
    with pytest.raises(Unavailable, match="failed"):
        gossip.pass_on("c", again="a")
    assert told(session) == {"a", "b"}
    assert Gossip.pass_on.__doc__ == "Tell it twice."


# ---- turns


def wait_in_line(turns: Turns[str], *errands: str | None) -> list[Future[bool]]:
    """Start to wait with each errand, or only for the turn; each when those before it wait."""
    futures: list[Future[bool]] = []
    for errand in errands:
        futures.append(start(partial(turns.take, PATIENCE_S, errand)))
        wait_until(lambda: len(turns._waiting) == len(futures))
    return futures


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


def test_errands_are_handed_out_in_their_order_up_to_one_who_wants_the_turn_itself() -> None:
    turns = Turns[str]()
    assert turns.take()
    a, b, turn, c = wait_in_line(turns, "a", "b", None, "c")
    handed_out = [errand for errand in (turns.next_errand() for _ in range(3)) if errand is not None]
    assert [errand for errand, _ in handed_out] == ["a", "b"]
    turns.give()
    assert turn.result(PATIENCE_S)
    for _, wake in handed_out:
        wake()
    assert not a.result(PATIENCE_S)
    assert not b.result(PATIENCE_S)
    assert not turns.take(0)  # it is with the one who asked for it
    turns.give()
    assert c.result(PATIENCE_S)  # nobody took that over, so it is his turn
    assert turns.next_errand() is None


def test_who_waited_too_long_is_passed_over() -> None:
    turns = Turns[str]()
    assert turns.take()
    assert not turns.take(0.01)
    turns.give()
    assert turns.take(0)


def test_the_errand_of_one_who_waited_too_long_is_not_handed_out() -> None:
    turns = Turns[str]()
    assert turns.take()
    assert not turns.take(0.01, "errand")
    assert turns.next_errand() is None
    turns.give()
    assert turns.take(0)


def test_one_who_is_interrupted_leaves_the_queue() -> None:
    turns = Turns[str]()
    assert turns.take()
    with interrupted(lambda: bool(turns._waiting)):
        turns.take(PATIENCE_S, "errand")
    assert turns.next_errand() is None
    turns.give()
    assert turns.take(0)


def test_an_errand_is_given_up_only_when_the_turn_of_whoever_took_it_has_ended() -> None:
    turns, tries = Turns[str](), list[Future[bool]]()
    assert turns.take()

    def was_taken() -> bool:
        if all(attempt.done() for attempt in tries):  # who waits that short a time may have gone by now
            tries.append(start(partial(turns.take, 0.1, "errand")))
        return turns.next_errand() is not None

    wait_until(was_taken, every_s=0.01)
    # He asks for the turn now and then, and does not go before he gets it.
    for is_asking in (True, False, True):
        wait_until(lambda is_asking=is_asking: bool(turns._waiting) == is_asking)  # type: ignore[misc]
    assert not tries[-1].done()
    turns.give()
    assert not tries[-1].result(PATIENCE_S)
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
