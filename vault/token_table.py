"""Token rows, their fingerprints and their stored CVCs; and how they change with the ledger.

Every change of a token row is a unit of the ledger, made under its head lock. A CVC row has no
entry of its own: what becomes of it follows from the authorization that claimed it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar, Final, Self

from vault.batching import Batching
from vault.card import Expiry
from vault.db import Connection, Database, Record, first_if_alike, known
from vault.errors import CustodyError, SealedReplayed, TokenInUse, TokenUnknown
from vault.ledger.unit import Line, Placed, Unit
from vault.nonce_table import Nonce, use

PAGE_MAX: Final = 100
SWEEP_ROWS_MAX: Final = 200


@dataclass(frozen=True, slots=True)
class TokenRow:
    """One stored card. `ciphertext` opens only in HashiCorp Vault, and only as this token."""

    id: str
    tenant: str
    pan_like: str | None
    format: str
    brand: str
    pan_length: int
    last4: str
    bin: str | None
    exp_month: int | None
    exp_year: int | None
    """Both or neither: a number that was found alone has no date yet."""
    ciphertext: str
    key_version: int
    fingerprint: str
    reusable: bool
    single_use: bool
    expires_at: datetime | None
    customer_reference: str | None
    created_at: datetime
    made_from: str | None = None
    """The network of a page that made it with a publishable key, for its first day."""
    has_cvc: bool = False
    cvc_ciphertext: str | None = None
    cvc_key_version: int | None = None

    @property
    def expiry(self) -> Expiry | None:
        if self.exp_month is None or self.exp_year is None:
            return None
        return Expiry(self.exp_year, self.exp_month)


@dataclass(frozen=True, slots=True)
class FingerprintValue:
    """The keyed hash of a card for one tenant; 32 bytes that never leave custody."""

    version: int
    value: bytes


@dataclass(frozen=True, slots=True)
class CvcRow:
    """A CVC before its authorization, encrypted, for at most fifteen minutes."""

    ciphertext: str
    key_version: int
    expires_at: datetime


class TokenExists(CustodyError):
    """This tenant has a reusable token for this card already."""

    def __init__(self, row: TokenRow) -> None:
        super().__init__()
        self.row = row


class PanLikeTaken(CustodyError):
    """Another token of this tenant has this pan_like name: draw another."""


@dataclass(frozen=True, slots=True)
class CreateToken(Unit):
    """A new token; refused with TokenExists when reuse finds the card's own.

    A card that came sealed uses up its nonce in the token's own transaction: no replay gets a
    token, on whichever replica, and no crash leaves one without the other.
    """

    order: ClassVar[int] = 10
    row: TokenRow
    fingerprint: FingerprintValue
    cvc: CvcRow | None
    lines: Sequence[Line]
    nonce: Nonce | None = None

    @classmethod
    async def check(
        cls,
        connection: Connection,
        units: Sequence[Self],
        at: datetime,  # noqa: ARG003 - a new token has no past
    ) -> Mapping[int, CustodyError]:
        refused = dict(await _pan_likes_taken(connection, units))
        wanted = [unit for unit in units if unit.row.reusable]
        stored = await _reusable(connection, wanted) if wanted else {}
        looked_at: set[int] = set()
        while True:
            exist = _known_in(units, stored, refused)
            left = {
                n: unit
                for n, unit in enumerate(units)
                if n not in refused and n not in exist and n not in looked_at
            }
            looked_at.update(left)
            replayed = await _replayed(connection, left)
            if not replayed:
                return refused | exist
            refused |= replayed  # whoever was to get the token of one of these has none yet

    @classmethod
    async def apply(
        cls,
        connection: Connection,
        units: Sequence[Self],
        placed: Sequence[Sequence[Placed]],  # noqa: ARG003 - a row does not know its entry
    ) -> None:
        rows = [unit.row for unit in units]
        ids: dict[tuple[str, int, bytes], str] = {}  # of a card that is new, the first one's
        fingerprints = [
            ids.setdefault(
                (unit.row.tenant, unit.fingerprint.version, unit.fingerprint.value),
                unit.row.fingerprint,
            )
            for unit in units
        ]
        await connection.execute(
            _INSERT_TOKENS,
            [row.id for row in rows],
            first_if_alike([row.tenant for row in rows]),
            known([row.pan_like for row in rows]),
            first_if_alike([row.format for row in rows]),
            first_if_alike([row.brand for row in rows]),
            first_if_alike([row.pan_length for row in rows]),
            [row.last4 for row in rows],
            known([row.bin for row in rows]),
            known([row.exp_month for row in rows]),
            known([row.exp_year for row in rows]),
            [row.ciphertext for row in rows],
            first_if_alike([row.key_version for row in rows]),
            fingerprints,
            first_if_alike([unit.fingerprint.version for unit in units]),
            [unit.fingerprint.value for unit in units],
            first_if_alike([row.reusable for row in rows]),
            first_if_alike([row.single_use for row in rows]),
            known([row.expires_at for row in rows]),
            known([row.customer_reference for row in rows]),
            first_if_alike([row.created_at for row in rows]),
            known([row.made_from for row in rows]),
        )
        await keep_cvcs(connection, [(unit.row, unit.cvc) for unit in units if unit.cvc])


@dataclass(frozen=True, slots=True)
class ChangeToken(Unit):
    """New values for a token's changeable fields."""

    order: ClassVar[int] = 20
    tenant: str
    token: str
    exp_month: int | None
    exp_year: int | None
    expires_at: datetime | None
    customer_reference: str | None
    lines: Sequence[Line]

    @classmethod
    async def check(
        cls, connection: Connection, units: Sequence[Self], at: datetime
    ) -> Mapping[int, CustodyError]:
        return await _absent(connection, [(unit.tenant, unit.token) for unit in units], at)

    @classmethod
    async def apply(
        cls,
        connection: Connection,
        units: Sequence[Self],
        placed: Sequence[Sequence[Placed]],  # noqa: ARG003
    ) -> None:
        for unit in units:
            await connection.execute(
                "UPDATE token SET exp_month = $3, exp_year = $4, expires_at = $5,"
                " customer_reference = $6, reusable = reusable AND $5::timestamptz IS NULL"
                " WHERE tenant = $1 AND id = $2",
                unit.tenant,
                unit.token,
                unit.exp_month,
                unit.exp_year,
                unit.expires_at,
                unit.customer_reference,
            )


@dataclass(frozen=True, slots=True)
class DeleteToken(Unit):
    """A token is gone: its row, its CVC, and its fingerprint if it was the card's last."""

    order: ClassVar[int] = 30
    tenant: str
    token: str
    lines: Sequence[Line]

    @classmethod
    async def check(
        cls, connection: Connection, units: Sequence[Self], at: datetime
    ) -> Mapping[int, CustodyError]:
        wanted = [(unit.tenant, unit.token) for unit in units]
        refused = dict(await _absent(connection, wanted, at, expired_too=True))
        open_tokens = await _under_way(connection, [unit.token for unit in units])
        seen: set[str] = set()
        for position, unit in enumerate(units):
            if position in refused:
                continue
            if unit.token in open_tokens:
                refused[position] = TokenInUse()
            elif unit.token in seen:
                refused[position] = TokenUnknown()
            seen.add(unit.token)
        return refused

    @classmethod
    async def apply(
        cls,
        connection: Connection,
        units: Sequence[Self],
        placed: Sequence[Sequence[Placed]],  # noqa: ARG003
    ) -> None:
        await erase_rows(connection, [unit.token for unit in units])


async def erase_rows(connection: Connection, tokens: Sequence[str]) -> None:
    """Delete token rows, their CVCs, and fingerprints that no token has any more."""
    await connection.execute(
        """
        WITH gone AS (DELETE FROM token WHERE id = ANY($1) RETURNING id, fingerprint),
        codes AS (DELETE FROM cvc WHERE token = ANY($1))
        DELETE FROM fingerprint f USING gone g
        WHERE f.id = g.fingerprint AND NOT EXISTS (
          SELECT 1 FROM token t WHERE t.fingerprint = f.id AND t.id <> ALL($1))
        """,
        tokens,
    )


async def keep_cvcs(connection: Connection, cvcs: Sequence[tuple[TokenRow, CvcRow]]) -> int:
    """Store CVCs beside their tokens; a fresh one replaces one that nobody has claimed."""
    if not cvcs:
        return 0
    status = await connection.execute(
        """
        INSERT INTO cvc (token, tenant, ciphertext, key_version, expires_at)
        SELECT w.* FROM unnest($1::text[], $2::text[], $3::text[], $4::int[], $5::timestamptz[])
          AS w (token, tenant, ciphertext, key_version, expires_at)
        JOIN token t ON t.id = w.token
        ON CONFLICT (token) DO UPDATE SET ciphertext = excluded.ciphertext,
          key_version = excluded.key_version, expires_at = excluded.expires_at
        WHERE cvc.claimed_by IS NULL
        """,
        [row.id for row, _ in cvcs],
        [row.tenant for row, _ in cvcs],
        [cvc.ciphertext for _, cvc in cvcs],
        [cvc.key_version for _, cvc in cvcs],
        [cvc.expires_at for _, cvc in cvcs],
    )
    return int(status.rpartition(" ")[2])


async def _reusable(
    connection: Connection, units: Sequence[CreateToken]
) -> dict[tuple[str, bytes, str], TokenRow]:
    rows = await connection.fetch(
        """
        SELECT t.*, f.value FROM unnest($1::text[], $2::int[], $3::bytea[], $4::text[])
          AS want (tenant, version, value, format)
        JOIN fingerprint f USING (tenant, version, value)
        JOIN token t ON t.tenant = want.tenant AND t.fingerprint = f.id
          AND t.format = want.format AND t.reusable
        """,
        [unit.row.tenant for unit in units],
        [unit.fingerprint.version for unit in units],
        [unit.fingerprint.value for unit in units],
        [unit.row.format for unit in units],
    )
    return {(row["tenant"], row["value"], row["format"]): _token(row) for row in rows}


def _known_in(
    units: Sequence[CreateToken],
    stored: Mapping[tuple[str, bytes, str], TokenRow],
    refused: Mapping[int, CustodyError],
) -> dict[int, CustodyError]:
    """Who gets a token that is stored, or that of another of the batch."""
    found = dict(stored)
    exist: dict[int, CustodyError] = {}
    for position, unit in enumerate(units):
        if not unit.row.reusable or position in refused:
            continue
        key = (unit.row.tenant, unit.fingerprint.value, unit.row.format)
        if key in found:
            exist[position] = TokenExists(found[key])
        else:
            found[key] = unit.row  # the first of a batch wins, as the unique key would have it
    return exist


async def _pan_likes_taken(
    connection: Connection, units: Sequence[CreateToken]
) -> Mapping[int, CustodyError]:
    """Looked up before, because a failed unique key would fail everybody's batch."""
    names = [(unit.row.tenant, unit.row.pan_like) for unit in units if unit.row.pan_like]
    if not names:
        return {}
    rows = await connection.fetch(
        "SELECT tenant, pan_like FROM token WHERE (tenant, pan_like) IN"
        " (SELECT * FROM unnest($1::text[], $2::text[]))",
        [tenant for tenant, _ in names],
        [name for _, name in names],
    )
    taken: set[tuple[str, str | None]] = {(row["tenant"], row["pan_like"]) for row in rows}
    refused: dict[int, CustodyError] = {}
    for position, unit in enumerate(units):
        name = (unit.row.tenant, unit.row.pan_like)
        if name[1] is not None and name in taken:
            refused[position] = PanLikeTaken()
        taken.add(name)
    return refused


async def _replayed(
    connection: Connection, units: Mapping[int, CreateToken]
) -> Mapping[int, CustodyError]:
    """Use up the nonces of units that nothing else refuses: the last check, for it writes.

    A nonce may be used up elsewhere at the same moment, outside the head lock: what was inserted
    here says whose it is. A transaction of refused units alone is rolled back, and has none.
    """
    wanted = {position: unit.nonce for position, unit in units.items() if unit.nonce is not None}
    if not wanted:
        return {}
    ours = await use(connection, list(wanted.values()))
    refused: dict[int, CustodyError] = {}
    for position, nonce in wanted.items():
        name = (nonce.tenant, nonce.value)
        if name not in ours:
            refused[position] = SealedReplayed()
        ours.discard(name)  # the first of a batch is the one
    return refused


async def _absent(
    connection: Connection,
    wanted: Sequence[tuple[str, str]],
    at: datetime,
    *,
    expired_too: bool = False,
) -> Mapping[int, CustodyError]:
    rows = await connection.fetch(
        "SELECT tenant, id FROM token WHERE id = ANY($1)"
        " AND ($3 OR expires_at IS NULL OR expires_at > $2)",
        [token for _, token in wanted],
        at,
        expired_too,
    )
    there = {(row["tenant"], row["id"]) for row in rows}
    return {position: TokenUnknown() for position, key in enumerate(wanted) if key not in there}


async def _under_way(connection: Connection, tokens: Sequence[str]) -> set[str]:
    rows = await connection.fetch(
        "SELECT unnest(tokens) AS token FROM intent_state"
        " WHERE state = 'attempted' AND tokens && $1::text[]",
        tokens,
    )
    return {row["token"] for row in rows}


# --- reading --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Wanted:
    """A token of a tenant: by id, or by its pan_like name."""

    tenant: str
    token: str


class TokenTable:
    """Token rows as they are read; concurrent reads share a query."""

    def __init__(
        self, database: Database, *, on_foreign: Callable[[str], None] = lambda _tenant: None
    ) -> None:
        """`on_foreign` is told a tenant that asked for another's token."""
        self._database = database
        self._on_foreign = on_foreign
        self._reads: Batching[Wanted, TokenRow | None] = Batching(self._read_batch)

    async def close(self) -> None:
        await self._reads.close()

    async def load(self, tenant: str, token: str) -> TokenRow | None:
        """Return a tenant's token with its stored CVC, whatever its expiry.

        Raises StoreUnavailable; Overloaded.
        """
        return await self._reads.submit(Wanted(tenant, token))

    async def load_all(self, tenant: str, tokens: Sequence[str]) -> Sequence[TokenRow | None]:
        """Return several tokens as `load` does, in one query if there is room."""
        return await self._reads.submit_all([Wanted(tenant, token) for token in tokens])

    async def _read_batch(self, wanted: Sequence[Wanted]) -> Sequence[TokenRow | None]:
        async def work(connection: Connection) -> Sequence[Record]:
            return await connection.fetch(
                """
                SELECT t.*, c.ciphertext AS cvc_ciphertext, c.key_version AS cvc_key_version
                FROM token t LEFT JOIN cvc c ON c.token = t.id AND c.expires_at > now()
                WHERE t.id = ANY($1)
                UNION ALL
                SELECT t.*, c.ciphertext, c.key_version
                FROM unnest($2::text[], $3::text[]) AS want (tenant, pan_like)
                JOIN token t USING (tenant, pan_like)
                LEFT JOIN cvc c ON c.token = t.id AND c.expires_at > now()
                """,
                [one.token for one in wanted if not one.token.isdigit()],
                [one.tenant for one in wanted if one.token.isdigit()],
                [one.token for one in wanted if one.token.isdigit()],
            )

        found: dict[Wanted, TokenRow] = {}
        for record in await self._database.read(work):
            row = _token(record, with_cvc=True)
            found[Wanted(row.tenant, row.id)] = row
            if row.pan_like is not None:
                found[Wanted(row.tenant, row.pan_like)] = row
        ids = {one.token for one in found}
        for one in wanted:
            if one not in found and one.token in ids:
                self._on_foreign(one.tenant)
        return [found.get(one) for one in wanted]

    async def of_customer(
        self,
        tenant: str,
        customer_reference: str,
        *,
        limit: int,
        after: tuple[datetime, str] | None,
    ) -> Sequence[TokenRow]:
        """Return a page of a person's tokens, newest first, older than `after`.

        Raises StoreUnavailable.
        """

        async def work(connection: Connection) -> Sequence[TokenRow]:
            rows = await connection.fetch(
                """
                SELECT * FROM token WHERE tenant = $1 AND customer_reference = $2
                  AND (expires_at IS NULL OR expires_at > now())
                  AND ($3::timestamptz IS NULL OR (created_at, id) < ($3, $4))
                ORDER BY created_at DESC, id DESC LIMIT $5
                """,
                tenant,
                customer_reference,
                after[0] if after else None,
                after[1] if after else None,
                limit,
            )
            return [_token(row) for row in rows]

        return await self._database.read(work)

    async def expired(self, at: datetime) -> Sequence[tuple[str, str]]:
        """Return (tenant, token) of tokens whose time is up, at most 200, oldest first.

        Raises StoreUnavailable.
        """

        async def work(connection: Connection) -> Sequence[tuple[str, str]]:
            rows = await connection.fetch(
                "SELECT tenant, id FROM token WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2",
                at,
                SWEEP_ROWS_MAX,
            )
            return [(row["tenant"], row["id"]) for row in rows]

        return await self._database.read(work)

    async def attach_cvc(self, row: TokenRow, cvc: CvcRow | None, nonce: Nonce | None) -> bool:
        """Store a CVC for a token that exists already; False while an authorization has the old.

        What came sealed uses up its nonce in the same transaction, whatever came of the CVC.
        Raises SealedReplayed; TokenUnknown when the token is gone; StoreUnavailable.
        """

        async def work(connection: Connection) -> bool | CustodyError:
            if nonce is not None and not await use(connection, [nonce]):
                return SealedReplayed()
            if cvc is None or await keep_cvcs(connection, [(row, cvc)]) == 1:
                return True
            there = await connection.fetchval("SELECT true FROM token WHERE id = $1", row.id)
            return False if there else TokenUnknown()

        kept = await self._database.transact(work)
        if isinstance(kept, CustodyError):
            raise kept
        return kept

    async def sweep_cvcs(self, at: datetime) -> int:
        """Delete CVCs whose time is up, claimed or not; return how many. Raises StoreUnavailable.

        SKIP LOCKED: a row that an authorization is settling goes with it.
        """

        async def work(connection: Connection) -> int:
            status = await connection.execute(
                "DELETE FROM cvc WHERE token IN (SELECT token FROM cvc WHERE expires_at <= $1"
                " ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED)",
                at,
                SWEEP_ROWS_MAX,
            )
            return int(status.rpartition(" ")[2])

        return await self._database.read(work)

    async def forget_networks(self, before: datetime) -> int:
        """Forget where cards came from that were made before; return of how many.

        Raises StoreUnavailable.
        """

        async def work(connection: Connection) -> int:
            status = await connection.execute(
                "UPDATE token SET made_from = NULL WHERE id IN (SELECT id FROM token"
                " WHERE made_from IS NOT NULL AND created_at < $1 LIMIT $2)",
                before,
                SWEEP_ROWS_MAX,
            )
            return int(status.rpartition(" ")[2])

        return await self._database.read(work)

    async def live_cvcs(self) -> int:
        """Return how many CVCs are stored at this moment. Raises StoreUnavailable."""

        async def work(connection: Connection) -> int:
            return int(await connection.fetchval("SELECT count(*) FROM cvc"))

        return await self._database.read(work)


def _token(row: Record, *, with_cvc: bool = False) -> TokenRow:
    return TokenRow(
        id=row["id"],
        tenant=row["tenant"],
        pan_like=row["pan_like"],
        format=row["format"],
        brand=row["brand"],
        pan_length=row["pan_length"],
        last4=row["last4"],
        bin=row["bin"],
        exp_month=row["exp_month"],
        exp_year=row["exp_year"],
        ciphertext=row["ciphertext"],
        key_version=row["key_version"],
        fingerprint=row["fingerprint"],
        reusable=row["reusable"],
        single_use=row["single_use"],
        expires_at=row["expires_at"],
        customer_reference=row["customer_reference"],
        created_at=row["created_at"],
        made_from=row["made_from"],
        has_cvc=with_cvc and row["cvc_ciphertext"] is not None,
        cvc_ciphertext=row["cvc_ciphertext"] if with_cvc else None,
        cvc_key_version=row["cvc_key_version"] if with_cvc else None,
    )


# All that makes or erases a fingerprint holds the head lock: what is not there at the start of this
# statement is there at its end under the id given here.
_INSERT_TOKENS: Final = """
WITH want AS (
  SELECT id, coalesce(tenant, ($2::text[])[1]) AS tenant, pan_like,
    coalesce(format, ($4::text[])[1]) AS format, coalesce(brand, ($5::text[])[1]) AS brand,
    coalesce(pan_length, ($6::int[])[1]) AS pan_length, last4, bin, exp_month, exp_year,
    ciphertext, coalesce(key_version, ($12::int[])[1]) AS key_version, fingerprint,
    coalesce(fp_version, ($14::int[])[1]) AS fp_version, fp_value,
    coalesce(reusable, ($16::boolean[])[1]) AS reusable,
    coalesce(single_use, ($17::boolean[])[1]) AS single_use, expires_at, customer_reference,
    coalesce(created_at, ($20::timestamptz[])[1]) AS created_at, made_from
  FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::int[],
    $7::text[], $8::text[], $9::int[], $10::int[], $11::text[], $12::int[], $13::text[],
    $14::int[], $15::bytea[], $16::boolean[], $17::boolean[], $18::timestamptz[], $19::text[],
    $20::timestamptz[], $21::text[])
  AS w (id, tenant, pan_like, format, brand, pan_length, last4, bin, exp_month, exp_year,
    ciphertext, key_version, fingerprint, fp_version, fp_value, reusable, single_use, expires_at,
    customer_reference, created_at, made_from)
), made AS (
  INSERT INTO fingerprint (id, tenant, version, value)
  SELECT DISTINCT ON (fingerprint) fingerprint, tenant, fp_version, fp_value FROM want
  ON CONFLICT (tenant, version, value) DO NOTHING
)
INSERT INTO token (id, tenant, pan_like, format, brand, pan_length, last4, bin, exp_month,
  exp_year, ciphertext, key_version, fingerprint, reusable, single_use, expires_at,
  customer_reference, created_at, made_from)
SELECT w.id, w.tenant, w.pan_like, w.format, w.brand, w.pan_length, w.last4,
  w.bin, w.exp_month, w.exp_year, w.ciphertext, w.key_version, coalesce(f.id, w.fingerprint),
  w.reusable, w.single_use, w.expires_at, w.customer_reference, w.created_at, w.made_from
FROM want w
LEFT JOIN fingerprint f
  ON f.tenant = w.tenant AND f.version = w.fp_version AND f.value = w.fp_value
"""
