"""Requests in doubt, settled by evidence: an inquiry's, an operator's, a deadline's.

What a callback proves is settled as it is received (`vault/callbacks.py`). Nothing here asks a
processor or sends anything to one. What is evidence enough is decided by whoever brings it; here
it becomes part of the record, with all that follows from an outcome: the CVC, tokens for one use,
the answer that a repeat of the request gets.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final
from uuid import UUID

import msgspec

from vault.authorizations import ANSWER_BYTES_MAX, Answer
from vault.doubt_table import Doubt, DoubtTable
from vault.errors import KeysError, Overloaded
from vault.intent_table import AlreadyRecorded, SealedAnswer, TransitionRefused
from vault.keys import RevealKeys, Sealed
from vault.ledger.entry import Actor
from vault.ledger.store import Ledger
from vault.resolutions import RECONCILER, Evidence, Scribe, contradiction, resolution

KEPT_BYTES_MAX: Final = ANSWER_BYTES_MAX


class Resolved(StrEnum):
    """What came of evidence."""

    DONE = "done"
    NOTHING = "nothing"  # no request in doubt is meant
    TOO_LATE = "too_late"  # another outcome is on record since it was looked up


class KeptRequest(msgspec.Struct, frozen=True):
    """A request as it came, tokens in place and without any login."""

    method: str
    path: str
    query: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    idempotency_key: bytes


class Doubts:
    """Settles what is in doubt, and keeps what may be sent again for it."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        table: DoubtTable,
        keys: RevealKeys | None,
        boot: UUID | None,
        now: Callable[[], datetime],
        actor: Actor = RECONCILER,
    ) -> None:
        """Without `keys` no answer and no request is kept: a command has none, and no boot."""
        self._ledger = ledger
        self._table = table
        self._keys = keys
        self._now = now
        self._by = Scribe(actor, boot, now)

    async def resolve(
        self, doubt: Doubt, evidence: Evidence, answer: Answer | None = None
    ) -> Resolved:
        """Put on record what became of a request; `answer` is what a repeat of it will get.

        Raises StoreUnavailable, LedgerUnavailable or Overloaded.
        """
        sealed = None if answer is None else await self._sealed_answer(doubt, answer)
        unit = resolution(doubt, evidence, sealed, self._by)
        try:
            await self._ledger.append(unit)
        except (TransitionRefused, AlreadyRecorded):
            return Resolved.TOO_LATE  # whoever was first had evidence too
        return Resolved.DONE

    async def contradict(self, tenant: str, first: str, evidence: Evidence) -> Resolved:
        """Put on record that a request ended otherwise than was thought.

        Raises StoreUnavailable, LedgerUnavailable or Overloaded.
        """
        ended = await self._table.ended(tenant, first)
        if ended is None:
            return Resolved.NOTHING
        unit = contradiction(tenant, first, ended, evidence, self._by)
        try:
            await self._ledger.append(unit)
        except (TransitionRefused, AlreadyRecorded):
            return Resolved.TOO_LATE
        return Resolved.DONE

    # --- what may be sent again ---------------------------------------------------------------

    async def keep(
        self, tenant: str, first: str, request: KeptRequest, *, lifetime: timedelta
    ) -> None:
        """Keep a request for as long as its processor knows its key, if it is not too large.

        Raises StoreUnavailable; any KeysError; Overloaded.
        """
        assert self._keys is not None, "a gateway has keys"
        content = msgspec.msgpack.encode(request)
        if len(content) > KEPT_BYTES_MAX:
            return
        sealed = await self._keys.seal_reply(content, tenant=tenant, intent=_place(first))
        await self._table.keep(tenant, first, sealed, lifetime)

    async def kept(self, tenant: str, first: str) -> KeptRequest | None:
        """Return a request that was kept. Raises StoreUnavailable; any KeysError; Overloaded."""
        assert self._keys is not None, "a gateway has keys"
        sealed = await self._table.kept(tenant, first, self._now())
        if sealed is None:
            return None
        content = await self._keys.open_reply(
            Sealed(sealed.ciphertext, sealed.key_version), tenant=tenant, intent=_place(first)
        )
        return msgspec.msgpack.decode(content, type=KeptRequest)

    async def _sealed_answer(self, doubt: Doubt, answer: Answer) -> SealedAnswer | None:
        """Seal it; if that fails, the outcome is committed all the same."""
        content = msgspec.msgpack.encode(answer)
        if self._keys is None or len(content) > ANSWER_BYTES_MAX:
            return None
        intent = doubt.sends[0].intent  # the latest: a repeat of the request asks for that one's
        try:
            sealed = await self._keys.seal_reply(content, tenant=doubt.tenant, intent=intent)
        except (KeysError, Overloaded):
            return None
        return SealedAnswer(doubt.tenant, sealed.ciphertext, sealed.key_version)


def _place(first: str) -> str:
    """Where a kept request is sealed to: not where an answer to it would be."""
    return f"{first}/request"
