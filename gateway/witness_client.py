"""One witness of another operator, asked by HTTPS (C2SP tlog-witness).

What lives here: which status means what. What never may: what follows from it, and any belief in
a body: a line's signature is checked where it is kept.
"""

from typing import Final

from gateway.https_client import Fetched, HttpsClient, Unreachable
from vault.ledger.checkpoint import AddCheckpoint, origin_hash, parse_checkpoint
from vault.ledger.note import NoteRefused, VerifierKey, decimal
from vault.ledger.policy import WITNESS_KINDS
from vault.witnessing import (
    Cosigned,
    HoldsOther,
    NoExtension,
    Result,
    Unusable,
    WitnessAnswer,
)

REPLY_BYTES_MAX: Final = 65_536
SIZE_TYPE: Final = "text/x.tlog.size"

_NOT_NOW: Final = frozenset({408, 425, 429})


class HttpsWitness:
    """A witness, by its address and its key."""

    def __init__(self, name: str, key: VerifierKey, client: HttpsClient) -> None:
        """`client` calls the witness's submission prefix, and is closed with this."""
        self.name = name
        self.key = key
        self._client = client

    async def close(self) -> None:
        await self._client.close()

    async def add(self, request: AddCheckpoint) -> WitnessAnswer:
        try:
            fetched = await self._client.post("/add-checkpoint", request.body)
        except Unreachable:
            return Unusable(Result.UNREACHABLE)
        return _answer(fetched, request)

    async def held(self, origin: str) -> bytes | None:
        """Return the checkpoint that it says it holds, for whoever checks it."""
        try:
            fetched = await self._client.get(f"/{origin_hash(origin)}/checkpoint")
        except Unreachable:
            return None
        return fetched.body if fetched.status == 200 else None  # noqa: PLR2004 - RFC 9110 15.3.1


def witness_key(text: str) -> VerifierKey:
    """Read the key of a witness from a configuration. Raises NoteRefused."""
    key = VerifierKey.parse(text)
    if key.kind not in WITNESS_KINDS:
        raise NoteRefused("this is not the key of a witness, which signs cosignatures")
    return key


def _answer(fetched: Fetched, request: AddCheckpoint) -> WitnessAnswer:
    match fetched.status:
        case 200:
            return Cosigned(fetched.body)
        case 409:
            return _conflict(fetched, request)
        case 422:
            return NoExtension()
        case status if status >= 500 or status in _NOT_NOW:  # noqa: PLR2004 - RFC 9110 15.6
            return Unusable(Result.UNREACHABLE)
        case status if status >= 400:  # noqa: PLR2004 - RFC 9110 15.5
            return Unusable(Result.NOT_ACCEPTED)
    return Unusable(Result.INVALID)


def _conflict(fetched: Fetched, request: AddCheckpoint) -> WitnessAnswer:
    """Read which size is held.

    Where it is the size that we asked about, and of our checkpoint, the roots differ: there the
    protocol says 409 without a size, and most witnesses say 422.
    """
    held = _size(fetched) if fetched.content_type == SIZE_TYPE else None
    if held is not None and held != request.old_size:
        return HoldsOther(held)
    is_of_same_size = request.old_size == parse_checkpoint(request.note.text).size
    return NoExtension() if is_of_same_size else Unusable(Result.INVALID)


def _size(fetched: Fetched) -> int | None:
    try:
        return decimal(fetched.body.decode("latin-1").removesuffix("\n"))
    except NoteRefused:
        return None
