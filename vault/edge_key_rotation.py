"""The rotation of edge keys: a new pair in time, and the end of the old ones' private halves.

Whoever recorded what browsers sent opens it with the private key, if that can still be had. So
each is destroyed in HashiCorp Vault (`kv/destroy`) when its time is over, and nothing that was
sealed to it can be opened any more, by us neither.

Every gateway may do this: each step is idempotent, and looked for before it is done. Two that
act at the same moment make two keys, which both are good; one more pair is their only cost. The
login that acts here writes and destroys, and reads no key back: how old one is, its kid tells.
What never may live here: a private key after the call that made it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from hashlib import sha256
from typing import ClassVar, Final, Protocol, Self
from uuid import UUID

from nacl.bindings import crypto_box_keypair

from vault.db import Connection
from vault.edge_keys import (
    FIRST_VERSION,
    FOLDER,
    LIFE_MAX,
    SETTLED,
    SIGNING_KEY,
    SKEW,
    YOUNG,
    EdgeKey,
    edge_key_text,
    kid_of,
    made_at,
    record_of,
    uuid_of,
    verifies,
)
from vault.errors import CustodyError, KeysMisconfigured, StartRefused
from vault.ids import new_uuid7, uuid7
from vault.intent_table import AlreadyRecorded
from vault.ledger.entry import Actor, EdgeKeyCreated, EdgeKeyDestroyed
from vault.ledger.store import Ledger
from vault.ledger.unit import Line, Placed, Unit

TURN_SECONDS: Final = 60.0
DESTROYED_A_TURN_MAX: Final = 32
"""HashiCorp Vault lists a destroyed key for ever. After a start all are destroyed once more."""
RETURNING: Final = timedelta(days=40)
"""A snapshot that is restored brings keys back. So those of this time are destroyed again whenever
a new one is made."""

ROTATION: Final = Actor(id="rotation", kind="system")

_DESTROYED: Final = b"panward/edge-key/destroyed/v1"
_TAIL_BYTES: Final = 10


class EdgeKeyMaker(Protocol):
    """The part of HashiCorp Vault that is asked here, under a login that reads no secret of it."""

    async def list_secrets(self, path: str) -> list[str]: ...

    async def write_secret(self, path: str, data: Mapping[str, str], *, cas: int) -> int | None: ...

    async def destroy_secret(self, path: str, versions: Sequence[int]) -> None: ...

    async def public_keys(self, key: str) -> Mapping[int, bytes]: ...

    async def sign(self, key: str, version: int, message: bytes) -> bytes: ...


@dataclass(frozen=True, slots=True)
class PutEdgeKey(Unit):
    """What became of an edge key: it changes no row, and appending it twice is appending once.

    The id of such an entry follows from the kid. So who finds a key whose entry may be missing
    appends it, and two who find it at once have appended one.
    """

    order: ClassVar[int] = 0
    lines: Sequence[Line]

    @classmethod
    async def check(
        cls,
        connection: Connection,
        units: Sequence[Self],
        at: datetime,  # noqa: ARG003 - it is never too late
    ) -> Mapping[int, CustodyError]:
        ids = [UUID(unit.lines[0].entry.id) for unit in units]
        rows = await connection.fetch("SELECT id FROM entry WHERE id = ANY($1)", ids)
        recorded = {row["id"] for row in rows}
        refused: dict[int, CustodyError] = {}
        for position, one in enumerate(ids):
            if one in recorded:
                refused[position] = AlreadyRecorded()
            recorded.add(one)
        return refused

    @classmethod
    async def apply(
        cls, connection: Connection, units: Sequence[Self], placed: Sequence[Sequence[Placed]]
    ) -> None:
        """Change nothing."""


class EdgeKeyRotation:
    """What one gateway, or an operator's command, does about the edge keys of a deployment."""

    def __init__(  # noqa: PLR0913 - the parts of one wiring
        self,
        store: EdgeKeyMaker,
        ledger: Ledger,
        *,
        origin: str,
        now: Callable[[], datetime],
        rotate: timedelta,
        overlap: timedelta,
        actor: Actor = ROTATION,
    ) -> None:
        """A key is the newest for `rotate`, and good for `overlap` more. Raises StartRefused."""
        if rotate <= timedelta(0) or overlap <= timedelta(0) or rotate + overlap > LIFE_MAX:
            raise StartRefused(f"edge keys: rotation and overlap together: up to {LIFE_MAX.days} d")
        self._store = store
        self._ledger = ledger
        self._origin = origin
        self._now = now
        self._rotate = rotate
        self._life = rotate + overlap
        self._actor = actor
        self._newest: str | None = None  # ours: a node that lags does not list it yet
        self._recorded: set[str] = set()
        self._ended: set[str] = set()  # destroyed, and on record

    async def turn(self, *, usable: bool = True) -> bool:
        """Make a key if one is due, destroy those that are over; say whether anything changed.

        `usable` is whether whoever reads keys has one in use. Without, one is due soon: what is
        listed may be destroyed, or of a name that the deployment had before.

        Raises any KeysError, StoreUnavailable, LedgerUnavailable or Overloaded: what was not
        done or not put on record then, the next turn does. No trouble with the ledger saves a key.
        """
        kids = await self._listed()
        changed = self._is_due(kids, self._rotate if usable else min(YOUNG, self._rotate))
        if changed:
            kids.insert(0, await self._make())
        over = [kid for kid in kids if self._is_over(kid)]
        ending, later = over[:DESTROYED_A_TURN_MAX], frozenset(over[DESTROYED_A_TURN_MAX:])
        for kid in ending:
            await self._destroy(kid)
        known = [kid for kid in kids if kid not in later and self._age(kid) >= -SKEW]
        for kid in known:
            changed = await self._put_created(kid) or changed
        for kid in ending:
            changed = await self._put_destroyed(kid) or changed
        return changed

    async def replace_all(self) -> tuple[str, ...]:
        """Make a new key and destroy all others at once; return those that were destroyed now.

        For a key that may have been seen by somebody. What was sealed to the others cannot be
        opened any more: pages fetch the new key and seal anew. All are destroyed before anything
        about it is put on record, so that no trouble with the ledger saves one. Raises as `turn`.
        """
        others = await self._listed()
        made = await self._make()
        for kid in others:
            await self._destroy(kid)
        await self._put_created(made)
        ended = {}
        for kid in others:
            await self._put_created(kid)
            ended[kid] = await self._put_destroyed(kid)
        return tuple(kid for kid, is_new in ended.items() if is_new)

    # --- which ----------------------------------------------------------------------------

    async def _listed(self) -> list[str]:
        """List the kids that ever were and are not known to have ended, newest first."""
        names = set(await self._store.list_secrets(FOLDER)) - self._ended
        if self._newest is not None and self._age(self._newest) <= SETTLED:
            names.add(self._newest)  # what is not listed later was lost, by a restored snapshot
        return sorted((name for name in names if made_at(name) is not None), reverse=True)

    def _is_due(self, kids: Sequence[str], age_max: timedelta) -> bool:
        """Whether no key is young enough. One of a clock that is far ahead of ours is none."""
        ages = [self._age(kid) for kid in kids]
        return not any(-SKEW <= age < age_max for age in ages)

    def _is_over(self, kid: str) -> bool:
        """Whether its time has passed, if it was made under the same settings as ours."""
        return self._age(kid) >= self._life

    def _age(self, kid: str) -> timedelta:
        at = made_at(kid)
        assert at is not None, "a kid"
        return self._now() - at

    # --- what is done ---------------------------------------------------------------------

    async def _make(self) -> str:
        """Make a pair, have it signed, and store it; nobody has its private half after that."""
        kid = kid_of(new_uuid7(self._now()))
        at = made_at(kid)
        assert at is not None, "a kid of ours"
        versions = await self._store.public_keys(SIGNING_KEY)
        public_key, private_key = crypto_box_keypair()
        key = EdgeKey(kid, public_key, at, at + _whole_seconds(self._life), b"", max(versions))
        text = edge_key_text(self._origin, kid, public_key, key.not_before, key.not_after)
        signature = await self._store.sign(SIGNING_KEY, key.signed_by, text)
        key = replace(key, signature=signature)
        if not verifies(key, self._origin, versions):
            raise KeysMisconfigured
        record = record_of(key, private_key)
        if await self._store.write_secret(f"{FOLDER}/{kid}", record, cas=0) is None:
            raise KeysMisconfigured  # of 74 random bits, another has the same
        self._newest = kid
        self._ended = {one for one in self._ended if self._age(one) > RETURNING}
        return kid

    async def _destroy(self, kid: str) -> None:
        await self._store.destroy_secret(f"{FOLDER}/{kid}", [FIRST_VERSION])

    # --- what is put on record ------------------------------------------------------------

    async def _put_created(self, kid: str) -> bool:
        id_ = str(uuid_of(kid))
        return await self._put(EdgeKeyCreated(actor=self._actor, id=id_, kid=kid))

    async def _put_destroyed(self, kid: str) -> bool:
        id_ = str(_destroyed_id(kid))
        is_new = await self._put(EdgeKeyDestroyed(actor=self._actor, id=id_, kid=kid))
        self._ended.add(kid)
        return is_new

    async def _put(self, entry: EdgeKeyCreated | EdgeKeyDestroyed) -> bool:
        """Append it unless it is there; say whether it was not."""
        if entry.id in self._recorded:
            return False
        is_new = True
        try:
            await self._ledger.append(PutEdgeKey([Line(entry)]))
        except AlreadyRecorded:
            is_new = False
        self._recorded.add(entry.id)
        return is_new


def _destroyed_id(kid: str) -> UUID:
    """Derive the id of the entry about a key's end: the time of the kid, and bits of their own."""
    uuid = uuid_of(kid)
    assert uuid is not None, "a kid"
    return uuid7(uuid.int >> 80, sha256(_DESTROYED + uuid.bytes).digest()[:_TAIL_BYTES])


def _whole_seconds(span: timedelta) -> timedelta:
    return timedelta(seconds=span // timedelta(seconds=1))
