"""What comes back from HashiCorp Vault, and what it means. Pure.

Here lives every text of HashiCorp Vault and OpenBao that we rely on. Texts are compared and then
dropped: nothing of an answer but a class, a ciphertext, a MAC, a plaintext or a stored value
gets out. Who tries again, where and when, is not decided here; only where it would make sense.
"""

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Final, TypeVar

import msgspec

from vault.errors import (
    KeysError,
    KeysMisconfigured,
    KeysSealed,
    KeysThrottled,
    KeysTimedOut,
    KeysUnavailable,
    KeyVersionRetired,
    RecordCorrupt,
)
from vault.transit_items import ItemResult, Unprintable


class KeyVersionTooNew(KeysUnavailable):
    """The node that answered does not know this version of the key yet; in a moment it will."""


class Verdict(Enum):
    """What became of one request to one node; the value is its word in the metrics."""

    ANSWERED = "ok"
    ABSENT = "absent"  # a path that holds nothing: an answer too
    OUTRUN = "outrun"  # so is a write that came second
    POISONED = "poisoned"  # one item made the whole batch fail
    RETIRED = "too_old"  # the pinned version of an hmac key
    REFUSED = "refused"
    FORBIDDEN = "forbidden"
    GARBLED = "garbled"
    NOT_CONNECTED = "not_connected"  # certain that nothing was sent
    BROKEN = "broken"
    TIMED_OUT = "timeout"
    ELSEWHERE = "elsewhere"
    THROTTLED = "throttled"
    SEALED = "sealed"
    UNAVAILABLE = "unavailable"
    FAILED = "error"


class Again(Enum):
    """Where a request that ended badly may be tried once more."""

    NOWHERE = 0
    ON_ANOTHER_NODE = 1
    ANYWHERE = 2  # on the same node too, when there is no other


FAILURES: Final[Mapping[Verdict, tuple[type[KeysError], Again]]] = {
    Verdict.ABSENT: (KeysMisconfigured, Again.NOWHERE),
    Verdict.OUTRUN: (KeysMisconfigured, Again.NOWHERE),
    Verdict.POISONED: (RecordCorrupt, Again.NOWHERE),  # a batch of several is halved
    Verdict.RETIRED: (KeyVersionRetired, Again.NOWHERE),
    Verdict.REFUSED: (KeysMisconfigured, Again.NOWHERE),
    Verdict.FORBIDDEN: (KeysMisconfigured, Again.NOWHERE),  # after a look at our token
    Verdict.GARBLED: (KeysError, Again.NOWHERE),
    Verdict.NOT_CONNECTED: (KeysUnavailable, Again.ANYWHERE),
    Verdict.BROKEN: (KeysUnavailable, Again.ANYWHERE),  # a kept connection may have gone stale
    Verdict.TIMED_OUT: (KeysTimedOut, Again.ON_ANOTHER_NODE),
    Verdict.ELSEWHERE: (KeysUnavailable, Again.ON_ANOTHER_NODE),
    Verdict.THROTTLED: (KeysThrottled, Again.ANYWHERE),
    Verdict.SEALED: (KeysSealed, Again.ON_ANOTHER_NODE),
    Verdict.UNAVAILABLE: (KeysUnavailable, Again.ANYWHERE),
    Verdict.FAILED: (KeysError, Again.ON_ANOTHER_NODE),  # a full audit disk is one node's
}
"""Every verdict but ANSWERED: the error it ends as, and where a second try makes sense."""

MAY_HAVE_HAPPENED: Final = frozenset(
    {Verdict.BROKEN, Verdict.TIMED_OUT, Verdict.UNAVAILABLE, Verdict.FAILED, Verdict.GARBLED}
)
"""Verdicts after which the request may have been carried out all the same."""


_NOTHING: Final = msgspec.Raw(b"null")


class Answer(Unprintable):
    """A verdict; with ANSWERED also the `data` and `auth` of the body, not yet decoded."""

    verdict: Verdict
    data: msgspec.Raw = _NOTHING
    auth: msgspec.Raw = _NOTHING

    @property
    def failure(self) -> type[KeysError]:
        return FAILURES[self.verdict][0]


Data = TypeVar("Data")


def data_of(answer: Answer, shape: type[Data]) -> Data:
    """Read the `data` of a good answer; another shape is a misconfiguration. Raises KeysError."""
    if answer.verdict is not Verdict.ANSWERED:
        raise answer.failure
    try:
        return msgspec.json.decode(answer.data, type=shape)
    except (msgspec.DecodeError, UnicodeDecodeError):
        pass  # its text may quote a secret
    raise KeysMisconfigured


class _Body(Unprintable):
    """What every body of HashiCorp Vault may hold."""

    data: msgspec.Raw = _NOTHING
    auth: msgspec.Raw = _NOTHING
    errors: tuple[str, ...] = ()


class _BatchData(Unprintable):
    """`data` of a batch."""

    batch_results: list[ItemResult] | None = None


_BODY: Final = msgspec.json.Decoder(_Body)
_BATCH_DATA: Final = msgspec.json.Decoder(_BatchData | None)

_OK: Final = 200
_NO_CONTENT: Final = 204
_NOT_FOUND: Final = 404

# The first line that fits decides: lowest and highest status, a part of the text, the verdict.
_MEANINGS: Final[Sequence[tuple[int, int, str, Verdict]]] = (
    (300, 399, "", Verdict.ELSEWHERE),
    (403, 403, "", Verdict.FORBIDDEN),
    (412, 412, "", Verdict.ELSEWHERE),  # this node lags behind what another one told us
    (413, 413, "", Verdict.POISONED),
    (429, 429, "", Verdict.THROTTLED),
    (472, 473, "", Verdict.ELSEWHERE),
    (501, 501, "", Verdict.SEALED),  # not initialized
    (503, 503, "sealed", Verdict.SEALED),
    (502, 503, "", Verdict.UNAVAILABLE),
    (400, 599, "context should be set", Verdict.POISONED),
    (400, 599, "failed to parse batch input", Verdict.POISONED),
    (400, 599, "refused JSON input", Verdict.POISONED),
    (400, 599, "message authentication failed", Verdict.POISONED),
    (400, 400, "too old", Verdict.RETIRED),
    (400, 400, "check-and-set parameter did not match", Verdict.OUTRUN),
    (500, 599, "", Verdict.FAILED),
)


def answer_of(status: int, content: bytes) -> Answer:
    """Say what a reply means. The shape of the body goes first: an all-failed batch is a 400."""
    if status == _NO_CONTENT:
        return Answer(Verdict.ANSWERED)
    try:
        body = _BODY.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError):  # its text may quote what was decrypted
        return Answer(Verdict.GARBLED if status == _OK else _verdict(status, ""))
    if status == _OK or results_in(body.data) is not None:
        return Answer(Verdict.ANSWERED, body.data, body.auth)
    if status == _NOT_FOUND and not body.errors:
        return Answer(Verdict.ABSENT, body.data)  # of a deleted secret: its metadata
    return Answer(_verdict(status, " ".join(body.errors)))


def _verdict(status: int, text: str) -> Verdict:
    for low, high, part, verdict in _MEANINGS:
        if low <= status <= high and part in text:
            return verdict
    return Verdict.REFUSED


# --- batches --------------------------------------------------------------------------------


def results_in(data: msgspec.Raw) -> list[ItemResult] | None:
    """Read the results of a batch; None where `data` does not hold any."""
    try:
        batch = _BATCH_DATA.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return None if batch is None else batch.batch_results


TOO_NEW: Final = "too_new"

_ITEM_ERRORS: Final[Sequence[tuple[str, type[KeysError], str]]] = (
    ("too new", KeyVersionTooNew, TOO_NEW),
    ("too old", KeyVersionRetired, "too_old"),
    ("message authentication failed", RecordCorrupt, "context"),
    ("missing 'context'", RecordCorrupt, "context"),
    ("invalid ciphertext", RecordCorrupt, "base64"),
    ("missing ciphertext", RecordCorrupt, "base64"),
    ("base64", RecordCorrupt, "base64"),
)


def item_failure(text: str) -> tuple[type[KeysError], str]:
    """Find the error behind the text of an item, and its word in the metrics."""
    for part, failure, kind in _ITEM_ERRORS:
        if part in text:
            return failure, kind
    return KeysError, "other"
