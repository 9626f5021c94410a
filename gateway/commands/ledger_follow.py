"""`panward ledger follow`: every entry to a log collector, in order, none skipped.

An entry is told only once a signed checkpoint covers it and the checkpoint's root proves it. The
position is kept after the entry is out, never before: whatever ends this command, and whenever,
the next one begins with an entry that was perhaps told already, and not with a later one.

A pipe takes what its reader may never read. A collector that wants each entry to be safe with it
before it counts echoes the index (`--ack`). What never may live here: what an entry says.
"""

import asyncio
import os
import select
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Annotated, Final

import msgspec
import typer

from gateway.commands.options import (
    ConfigOption,
    EmbeddedOption,
    JsonOption,
    console,
    database_of,
    fail,
    run,
)
from vault.errors import StartRefused, StoreUnavailable
from vault.ledger.checkpoint import Checkpoint, parse_checkpoint
from vault.ledger.note import Note
from vault.private_files import write_private
from vault.proven_log import Bundle, LogBroken, ProvenLog, Published
from vault.published import PublishedLog

POLL_SECONDS: Final = 1.0
STALLED_MILLISECONDS: Final = 50  # how long a full pipe holds up signals and acknowledgements
ACKNOWLEDGEMENT_BYTES_MAX: Final = 20
POSITION_BYTES_MAX: Final = 20
_GONE: Final = select.POLLERR | select.POLLHUP | select.POLLNVAL


class Ended(Exception):
    """The collector has gone, or said what it must not; the message says which."""


def follow(  # noqa: PLR0913 - an option a parameter
    config: ConfigOption = None,
    embedded: EmbeddedOption = None,
    start: Annotated[
        int | None,
        typer.Option("--from", metavar="N", min=0, help="First index, without a FILE yet."),
    ] = None,
    position: Annotated[
        Path | None,
        typer.Option("--position", metavar="FILE", dir_okay=False, help="Keep the next index."),
    ] = None,
    *,
    ack: Annotated[
        bool, typer.Option("--ack", help="An entry counts when its index came on standard input.")
    ] = False,
    once: Annotated[bool, typer.Option("--once", help="End at the log's present end.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Print every entry that a signed checkpoint covers, until Ctrl-C."""
    if ack and (position is None or not as_json):
        raise typer.BadParameter("--ack goes with --position and --json")
    kept = _position(position) if position is not None else None
    feed = Feed(
        start or 0 if kept is None else kept,
        keep=lambda at: _keep(position, at),
        has_acks=ack,
        as_json=as_json,
    )
    reasons: list[str] = []

    async def work() -> None:
        async with database_of(config, embedded) as (database, _):
            try:
                with _ended_by_signals():
                    await _follow(PublishedLog(database), feed, once=once, resumed=kept is not None)
            except asyncio.CancelledError:
                _uncancel()
            except (Ended, LogBroken) as end:
                reasons.append(str(end))

    run(work())
    if reasons:
        fail(f"{reasons[0]}; the next entry is {feed.position}")


async def _follow(log: Published, feed: "Feed", *, once: bool, resumed: bool) -> None:
    """Tell what there is, then what comes. Raises Ended and LogBroken."""
    feed.listen()
    told: Checkpoint | None = None
    least = feed.position if resumed else 0
    is_away = False
    while True:
        try:
            told = await _tell_what_is_new(log, feed, told, least=least)
            is_away = False
        except StoreUnavailable:
            if once:
                raise
            if not is_away:
                console.print("[yellow]the database does not answer: waiting for it[/]")
            is_away = True
        if once:
            await feed.all_acknowledged()
            return
        await asyncio.sleep(POLL_SECONDS)
        feed.check()


async def _tell_what_is_new(
    log: Published, feed: "Feed", told: Checkpoint | None, *, least: int
) -> Checkpoint | None:
    """Tell up to the newest checkpoint, and return it."""
    note = await log.checkpoint()
    checkpoint = parse_checkpoint(note.text) if note is not None else None
    if (checkpoint.size if checkpoint is not None else 0) < least:
        raise LogBroken("the log has fewer entries than were told before")
    if note is None or checkpoint is None or checkpoint == told:
        return told
    proven = await ProvenLog.open(log, checkpoint)
    if told is not None:
        await proven.require_extends(told)
    if feed.next < checkpoint.size:
        async for bundle in proven.bundles(feed.next):
            await feed.entries(bundle)
    await feed.checkpoint(checkpoint, note)
    return checkpoint


class Feed:
    """What the collector has been told, and what of it counts."""

    def __init__(
        self, start: int, *, keep: Callable[[int], None], has_acks: bool, as_json: bool
    ) -> None:
        self.next = start  # to be told
        self.position = start  # to be told again if this process ends now
        self._keep = keep
        self._has_acks = has_acks
        self._as_json = as_json
        self._acknowledged = asyncio.Event()
        self._fault: str | None = None
        self._is_deaf = False  # standard input has ended
        self._unread = b""
        self._poll = select.poll()
        self._poll.register(sys.stdout.fileno(), select.POLLOUT)

    async def entries(self, bundle: Bundle) -> None:
        """Tell those of a bundle that are due, and count them unless the collector does."""
        form = _json_line if self._as_json else _words_line
        skipped = max(0, self.next - bundle.first)
        pairs = zip(bundle.bodies, bundle.leaves, strict=True)
        lines = [form(bundle.first + at, *pair) for at, pair in enumerate(pairs) if at >= skipped]
        # Before the last byte is out: the echo may be here before we are told that it is.
        self.next = bundle.first + len(bundle.bodies)
        await self._write(b"".join(lines))
        if not self._has_acks:
            self._count(self.next)

    async def checkpoint(self, checkpoint: Checkpoint, note: Note) -> None:
        """Tell that all before this is covered by a checkpoint."""
        root = checkpoint.root.hex()
        if self._as_json:
            said = {"size": checkpoint.size, "root": root, "note": note.raw.decode()}
            line = msgspec.json.encode({"checkpoint": said})
        else:
            line = f"checkpoint of {checkpoint.size} entries, root {root}".encode()
        await self._write(line + b"\n")

    def check(self) -> None:
        """Raise Ended if the collector has gone, or said what it must not."""
        if self._fault is not None:
            raise Ended(self._fault)
        if self._is_deaf and self.position < self.next:
            raise Ended("no more acknowledgements can come")
        if any(events & _GONE for _, events in self._poll.poll(0)):
            raise Ended("nobody reads standard output any more")

    def listen(self) -> None:
        """Take acknowledgements from now on."""
        if not self._has_acks:
            return
        loop = asyncio.get_running_loop()

        def read() -> None:
            # A thread, since standard input may be of a kind that no event loop can wait for,
            # and os.read, since a lock on sys.stdin would hold up the end of the process.
            heard = b"?"
            while heard:
                try:
                    heard = os.read(0, 1 << 16)
                except OSError:
                    heard = b""
                try:
                    loop.call_soon_threadsafe(self._hear, heard)
                except RuntimeError:  # the loop has ended
                    return

        Thread(target=read, daemon=True).start()

    async def all_acknowledged(self) -> None:
        """Wait for the collector, if it counts. Raises Ended."""
        while self._has_acks and self.position < self.next:
            self.check()
            self._acknowledged.clear()
            await self._acknowledged.wait()

    def _hear(self, heard: bytes) -> None:
        """Count up to the last index that came, all before it included."""
        if self._fault is not None:
            return
        *lines, self._unread = (self._unread + heard).split(b"\n")
        acknowledged = self.position
        for line in lines:
            index = line.strip()
            if len(index) > ACKNOWLEDGEMENT_BYTES_MAX or not index.isdigit():
                self._fault = "what came on standard input is not an index"
            elif int(index) >= self.next:
                self._fault = "an entry was acknowledged that was not told"
            else:
                acknowledged = max(acknowledged, int(index) + 1)
        if len(self._unread) > ACKNOWLEDGEMENT_BYTES_MAX:
            self._fault = "what came on standard input is not an index"
        self._is_deaf = not heard
        if acknowledged > self.position:
            self._count(acknowledged)
        self._acknowledged.set()

    def _count(self, position: int) -> None:
        try:
            self._keep(position)
        except OSError as error:
            self._fault = f"the position cannot be kept: {error.strerror}"
        else:
            self.position = position

    async def _write(self, data: bytes) -> None:
        """Write without ever waiting in the kernel: signals and acknowledgements go on."""
        rest = memoryview(data)
        while rest:
            await asyncio.sleep(0)
            self.check()
            if not self._poll.poll(STALLED_MILLISECONDS):
                continue
            try:
                # A pipe that is ready takes this much without waiting (POSIX).
                rest = rest[os.write(sys.stdout.fileno(), rest[: select.PIPE_BUF]) :]
            except BlockingIOError:
                continue
            except OSError:
                self._fault = "nobody reads standard output any more"


# --- lines --------------------------------------------------------------------------------


def _json_line(index: int, body: bytes, leaf: bytes) -> bytes:
    """Put the entry's own bytes into a line: they are JSON without a newline, as we write them."""
    if _is_line(body):
        return b'{"index":%d,"leaf":"%s","entry":%s}\n' % (index, leaf.hex().encode(), body)
    said = {"index": index, "leaf": leaf.hex(), "entry": None, "base64": body}
    return msgspec.json.encode(said) + b"\n"


def _is_line(body: bytes) -> bool:
    try:
        msgspec.json.decode(body)
    except msgspec.DecodeError:
        return False
    return b"\n" not in body and b"\r" not in body


def _words_line(index: int, body: bytes, _leaf: bytes) -> bytes:
    found: object = msgspec.json.decode(body) if _is_line(body) else None
    words = [found.get(name) for name in ("ts", "type", "id")] if isinstance(found, dict) else []
    return "  ".join([str(index), *map(str, words)]).encode() + b"\n"


# --- the position and signals -------------------------------------------------------------


def _position(file: Path) -> int | None:
    """Read where an earlier run ended; None before the first. Raises StartRefused."""
    try:
        text = file.read_bytes()[: POSITION_BYTES_MAX + 1].strip()
    except FileNotFoundError:
        return None
    except OSError:
        text = b""
    if not text.isdigit() or len(text) > POSITION_BYTES_MAX:
        raise StartRefused(f"{file} does not hold the position of a follower")
    return int(text)


def _keep(file: Path | None, position: int) -> None:
    if file is not None:
        write_private(file, b"%d\n" % position)


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Cancel the task that is running at the first SIGINT or SIGTERM."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, task.cancel)
    try:
        yield
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


def _uncancel() -> None:
    """An end that was asked for is a good one."""
    task = asyncio.current_task()
    assert task is not None
    while task.cancelling():
        task.uncancel()
