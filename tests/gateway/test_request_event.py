"""What is logged: closed records, and nothing that others say."""

import asyncio
import io
import json
import logging
import sys
import threading
import warnings
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

import pytest

from gateway.request_event import EventLog, Incident, RequestEvent, quiet_logging, type_name
from tests.cards import ALL, VISA

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


class Watch:
    """Remembers what was counted."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def log_dropped(self, reason: str) -> None:
        self.told.append(f"dropped {reason}")

    def log_redacted(self, reason: str) -> None:
        self.told.append(f"redacted {reason}")


class Kept:
    """A log into memory."""

    def __init__(self) -> None:
        self.stream = io.BytesIO()
        self.watch = Watch()
        self.log = EventLog(self.stream, now=lambda: AT, watch=self.watch)

    def lines(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.stream.getvalue().splitlines()]


@pytest.fixture
def kept() -> Kept:
    return Kept()


def test_a_request_is_one_line_of_json_with_what_is_known(kept: Kept) -> None:
    event = RequestEvent("public", "some-id", "POST")
    event.route, event.status, event.ms = "/v1/tokens", 201, 4.25
    event.tenant, event.key = "t_abc", "k_abc"
    kept.log.request(event)
    assert kept.lines() == [
        {
            "event": "request",
            "listener": "public",
            "request_id": "some-id",
            "method": "POST",
            "route": "/v1/tokens",
            "status": 201,
            "ms": 4.25,
            "tenant": "t_abc",
            "key": "k_abc",
            "at": "2026-01-02T03:04:05Z",
        }
    ]


@pytest.mark.guards("T-36")
def test_what_is_no_field_cannot_be_logged() -> None:
    event = RequestEvent("public", "some-id")
    with pytest.raises(AttributeError):
        event.body = VISA  # type: ignore[attr-defined]
    assert set(RequestEvent.__struct_fields__) == {
        *("listener", "request_id", "method", "route", "status", "ms", "tenant", "key", "code"),
        *("reason", "fault", "state", "authorization", "error", "at"),
    }


@pytest.mark.guards("T-36")
@pytest.mark.parametrize("form", ["{}", "a{}b", "t_{}", "/v1/{}/x"])
def test_a_line_with_a_card_number_is_withheld_and_counted(kept: Kept, form: str) -> None:
    for card in ALL:
        kept.log.request(RequestEvent("public", "some-id", tenant=form.format(card)))
    kept.log.incident(Incident("odd", port=int(VISA)))
    assert {line["event"] for line in kept.lines()} == {"redacted"}
    assert set(kept.watch.told) == {"redacted card_like"}


def test_ids_and_times_are_no_card_numbers(kept: Kept) -> None:
    for number in range(300):
        event = RequestEvent("public", f"00000000-0000-4000-a000-{number:012d}")
        event.ms = 4242424242.42 + number
        event.key = f"k_{'4' * 12}x{number:03x}"
        kept.log.request(event)
    assert kept.watch.told == []


def test_a_log_that_cannot_be_written_fails_no_request() -> None:
    kept = Kept()
    kept.stream.close()
    kept.log.request(RequestEvent("public", "some-id"))
    with Path("/dev/full").open("wb", buffering=0) as full:
        EventLog(full, now=lambda: AT, watch=kept.watch).incident(Incident("start"))
    kept_too = Kept()
    kept_too.log.request(RequestEvent("public", "some-id", tenant=cast("str", object())))
    assert kept.watch.told == ["dropped write", "dropped write"]
    assert kept_too.watch.told == ["dropped write"]


def test_an_error_is_told_by_its_type() -> None:
    assert type_name(ValueError(VISA)) == "builtins.ValueError"
    assert type_name(asyncio.CancelledError) == "asyncio.exceptions.CancelledError"
    assert type_name(None) is None


# --- what others say ------------------------------------------------------------------------


@pytest.mark.guards("T-32")
def test_libraries_are_reduced_to_who_and_what_kind(kept: Kept) -> None:
    with quiet_logging(kept.log):
        logger = logging.getLogger("aiohttp.server")
        logger.warning("cannot parse %s", VISA)
        try:
            int(VISA + "x")
        except ValueError:
            logger.exception("error handling %s", VISA)
        logger.info("not even told %s", VISA)
    first, second = kept.lines()
    assert first == {
        "event": "library",
        "logger": "aiohttp.server",
        "level": "WARNING",
        "where": first["where"],
        "at": "2026-01-02T03:04:05Z",
    }
    assert second["error"] == "builtins.ValueError"
    assert VISA.encode() not in kept.stream.getvalue()


@pytest.mark.guards("T-32")
def test_warnings_threads_and_the_interpreter_are_reduced(
    kept: Kept, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise ValueError(VISA)

    class Unraisable:
        """Fails where nobody can hear it."""

        def __del__(self) -> None:
            raise KeyError(VISA)

    with quiet_logging(kept.log), warnings.catch_warnings():
        warnings.simplefilter("always")
        with quiet_logging(kept.log):
            warnings.warn(VISA, UserWarning, stacklevel=1)
            thread = threading.Thread(target=fail)
            thread.start()
            thread.join()
            Unraisable()
            sys.excepthook(TypeError, TypeError(VISA), None)
    told = {(line["event"], line["error"]) for line in kept.lines()}
    assert told == {
        ("warning", "builtins.UserWarning"),
        ("thread_error", "builtins.ValueError"),
        ("unraisable", "builtins.KeyError"),
        ("process_error", "builtins.TypeError"),
    }
    assert VISA not in "".join(capfd.readouterr())


@pytest.mark.guards("T-32")
async def test_the_event_loop_is_reduced(kept: Kept, capfd: pytest.CaptureFixture[str]) -> None:
    loop = asyncio.get_running_loop()
    with quiet_logging(kept.log):
        loop.call_soon(int, VISA + "x")
        loop.call_exception_handler({"message": VISA})
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert [line.get("error") for line in kept.lines()] == [None, "builtins.ValueError"]
    assert {line["event"] for line in kept.lines()} == {"loop_error"}
    assert loop.get_exception_handler() is None
    assert VISA not in "".join(capfd.readouterr())


def test_everything_is_as_before_afterwards(kept: Kept) -> None:
    root = logging.getLogger()
    before = (
        *(root.handlers[:], root.level, sys.excepthook, sys.unraisablehook),
        *(threading.excepthook, warnings.showwarning),
    )
    with quiet_logging(kept.log):
        assert root.handlers != before[0]
    after = (
        *(root.handlers[:], root.level, sys.excepthook, sys.unraisablehook),
        *(threading.excepthook, warnings.showwarning),
    )
    assert after == before


def test_the_time_is_asked_for_each_line() -> None:
    times = iter([AT, AT + timedelta(seconds=1)])
    stream = io.BytesIO()
    log = EventLog(stream, now=lambda: next(times), watch=Watch())
    log.incident(Incident("start"))
    log.incident(Incident("stop"))
    assert b"03:04:05Z" in stream.getvalue().splitlines()[0]
    assert b"03:04:06Z" in stream.getvalue().splitlines()[1]
