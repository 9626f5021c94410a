"""An observer that remembers, and a search for what must be nowhere."""

import base64
import logging
import traceback
from dataclasses import dataclass, field
from datetime import datetime

import pytest
from rich.console import Console
from rich.traceback import Traceback


@dataclass
class Recorder:
    """Implements `vault.observer.Observer`."""

    called: list[tuple[str, int, str]] = field(default_factory=list)
    waited: list[str] = field(default_factory=list)
    failed: list[tuple[str, str]] = field(default_factory=list)
    mismatched: int = 0

    def transit_called(self, operation: str, items: int, seconds: float, result: str) -> None:
        assert seconds >= 0
        self.called.append((operation, items, result))

    def transit_waited(self, operation: str, seconds: float) -> None:
        assert seconds >= 0
        self.waited.append(operation)

    def transit_item_failed(self, operation: str, kind: str) -> None:
        self.failed.append((operation, kind))

    def transit_mismatched(self) -> None:
        self.mismatched += 1

    def store_called(self, operation: str, seconds: float, result: str) -> None:
        raise AssertionError(operation)

    def ledger_appended(self, entries: int, seconds: float, result: str) -> None:
        raise AssertionError(result)

    def ledger_published(self, size: int, at: datetime) -> None:
        raise AssertionError(size)

    def ledger_publish_failed(self, reason: str) -> None:
        raise AssertionError(reason)

    def words(self) -> str:
        return repr(self)


def encodings(canary: bytes) -> list[str]:
    """How a canary could stand in text: plain, hex, and base64 at each of three offsets."""
    assert len(canary) >= 10, "shorter ones are found by chance"
    shifted = [base64.b64encode(b"\0" * n + canary + b"\0" * 3).decode() for n in range(3)]
    middles = [text[4:-8] for text in shifted]
    return [canary.decode(), canary.hex(), *middles]


def assert_nowhere(canary: bytes, error: BaseException, log: pytest.LogCaptureFixture) -> None:
    """Search an error, all it drags along, its frames' locals, and the log."""
    texts = [record.getMessage() + str(record.exc_info) for record in log.records]
    seen: list[BaseException | None] = [error]
    for one in seen:
        if one is None:
            continue
        texts += [repr(one), str(one), repr(one.args), repr(vars(one))]
        shown = traceback.TracebackException.from_exception(one, capture_locals=True)
        texts += shown.format()
        console = Console(record=True, quiet=True, width=500)
        console.print(Traceback.from_exception(type(one), one, one.__traceback__, show_locals=True))
        texts.append(console.export_text())
        seen += [cause for cause in (one.__cause__, one.__context__) if cause not in seen]
    everything = "\n".join(texts)
    for form in encodings(canary):
        assert form not in everything


def listen_to_everything(log: pytest.LogCaptureFixture) -> None:
    log.set_level(logging.DEBUG)
    log.set_level(logging.DEBUG, logger="urllib3")
