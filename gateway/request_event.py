"""What is logged, and the only way to log it: closed records, one JSON line each.

A request is one event, filled in on its way and written once. What is not a field cannot be
logged: no path, query, header, body, address, or text of an exception. Whatever libraries,
warnings, threads and the event loop say is reduced to who said it and the error's type, because
their messages quote what they choke on. As a last lock, a finished line with a card number in
it is replaced.
"""

import asyncio
import logging
import re
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, BinaryIO, Final, Protocol, TextIO

import msgspec
import structlog
from aiohttp import web
from msgspec import Struct

from gateway.problems import Fault

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

_REDACTED: Final = b'{"event":"redacted"}'
_CARD_LIKE = re.compile(rb"(?<![0-9])[0-9]{13,19}(?![0-9])")
_DIGITS_AS_ZERO: Final = bytes.maketrans(b"123456789", b"0" * 9)
_MANY_DIGITS: Final = b"0" * 13

_encode = msgspec.json.Encoder().encode


class RequestEvent(Struct, omit_defaults=True, tag_field="event", tag="request"):
    """One request: the closed list of what is ever told about it."""

    listener: str
    request_id: str
    method: str = ""
    route: str = "unmatched"  # the template, never the path
    status: int = 0
    ms: float = 0.0
    tenant: str | None = None
    key: str | None = None  # the API key's id, never the key
    code: str | None = None
    reason: str | None = None  # why, in a word of ours, where the code does not say it
    fault: Fault = Fault.NONE
    state: str | None = None
    authorization: str | None = None
    error: str | None = None  # the type of an unforeseen error, nothing more
    at: datetime | None = None


REQUEST_EVENT: Final = web.RequestKey("request_event", RequestEvent)


class Incident(Struct, omit_defaults=True, rename={"name": "event"}):
    """Something that is no request: a start, a stop, what a library complained about."""

    name: str
    listener: str | None = None
    port: int | None = None
    logger: str | None = None
    level: str | None = None
    where: str | None = None
    error: str | None = None
    at: datetime | None = None


class LogWatch(Protocol):
    """Who counts what the log could not or must not write."""

    def log_dropped(self, reason: str) -> None: ...

    def log_redacted(self, reason: str) -> None: ...


class EventLog:
    """Writes the records to one stream, and never fails a request over it."""

    def __init__(self, stream: BinaryIO, *, now: Callable[[], datetime], watch: LogWatch) -> None:
        self._now = now
        self._watch = watch
        self._logger = structlog.wrap_logger(
            structlog.BytesLogger(stream),
            processors=[self._render],
            wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
            context_class=dict,
        ).bind()

    def request(self, event: RequestEvent) -> None:
        self._write(event)

    def incident(self, incident: Incident) -> None:
        self._write(incident)

    def _write(self, record: RequestEvent | Incident) -> None:
        record.at = self._now()
        try:
            self._logger.info("", record=record)
        except (OSError, ValueError, TypeError):  # no reader, no room, a closed stream
            self._watch.log_dropped("write")

    def _render(self, _logger: object, _method: str, fields: MutableMapping[str, object]) -> bytes:
        line = _encode(fields["record"])
        if _MANY_DIGITS in line.translate(_DIGITS_AS_ZERO) and any(
            _passes_luhn(run) for run in _CARD_LIKE.findall(line)
        ):
            self._watch.log_redacted("card_like")
            return _REDACTED
        return line


def _passes_luhn(digits: bytes) -> bool:
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = (digit - 48) << (place & 1)
        total += value - 9 if value > 9 else value  # noqa: PLR2004 - the digit sum, ISO/IEC 7812-1
    return total % 10 == 0


def type_name(error: BaseException | type[BaseException] | None) -> str | None:
    """Name the error's type, which is all that is ever said of an unforeseen one."""
    if error is None:
        return None
    kind = error if isinstance(error, type) else type(error)
    return f"{kind.__module__}.{kind.__qualname__}"


class _Reduced(logging.Handler):
    """Says of a library's record who wrote it, where, and the error's type; never the message."""

    def __init__(self, log: EventLog) -> None:
        super().__init__(level=logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        self._log.incident(
            Incident(
                "library",
                logger=record.name,
                level=record.levelname,
                where=f"{record.module}:{record.lineno}",
                error=type_name(record.exc_info[0]) if record.exc_info else None,
            )
        )


@contextmanager
def quiet_logging(log: EventLog) -> Iterator[None]:
    """Reduce what libraries, warnings, threads and the event loop would print, in this block."""
    with _quiet_records(log), _quiet_hooks(log), _quiet_loop(log):
        yield


@contextmanager
def _quiet_records(log: EventLog) -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers[:] = [_Reduced(log)]
    root.setLevel(logging.WARNING)
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)


@contextmanager
def _quiet_hooks(log: EventLog) -> Iterator[None]:
    before = (sys.excepthook, sys.unraisablehook, threading.excepthook, warnings.showwarning)

    def died(kind: type[BaseException], _error: BaseException | None, _trace: object) -> None:
        log.incident(Incident("process_error", error=type_name(kind)))

    def unraisable(problem: "UnraisableHookArgs") -> None:
        log.incident(Incident("unraisable", error=type_name(problem.exc_type)))

    def thread_died(problem: threading.ExceptHookArgs) -> None:
        log.incident(Incident("thread_error", error=type_name(problem.exc_type)))

    def warned(
        message: Warning | str,  # noqa: ARG001
        category: type[Warning],
        filename: str,  # noqa: ARG001
        lineno: int,
        file: TextIO | None = None,  # noqa: ARG001
        line: str | None = None,  # noqa: ARG001
    ) -> None:
        log.incident(Incident("warning", where=f"line:{lineno}", error=type_name(category)))

    sys.excepthook, sys.unraisablehook = died, unraisable
    threading.excepthook, warnings.showwarning = thread_died, warned
    try:
        yield
    finally:
        sys.excepthook, sys.unraisablehook, threading.excepthook, warnings.showwarning = before


@contextmanager
def _quiet_loop(log: EventLog) -> Iterator[None]:
    """Let the running event loop, if there is one, report a lost failure by its type."""

    def lost(_loop: asyncio.AbstractEventLoop, context: MutableMapping[str, object]) -> None:
        error = context.get("exception")
        kind = type_name(error) if isinstance(error, BaseException) else None
        log.incident(Incident("loop_error", error=kind))

    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        yield
        return
    loop.set_exception_handler(lost)
    try:
        yield
    finally:
        loop.set_exception_handler(None)
