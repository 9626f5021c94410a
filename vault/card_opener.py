"""A token opens for one recorded intent, as itself or not at all.

The name of the intent goes with each item into HashiCorp Vault's own audit log. What never may
live here: storing a card, and deciding whether one may be opened: who asks has it on record.
"""

import asyncio
from collections.abc import Sequence

from vault.errors import CvcExpired, KeyVersionRetired, RecordCorrupt
from vault.keys import RevealKeys, Sealed
from vault.ledger.entry import Opening
from vault.pan import Cvc, Pan
from vault.token_table import TokenRow


class CardOpener:
    """Opens cards for an intent that is durable."""

    def __init__(self, keys: RevealKeys) -> None:
        self._keys = keys

    async def open(
        self, rows: Sequence[tuple[Opening, TokenRow]], *, intent: str
    ) -> list[Pan | Cvc]:
        """Open each item, in order, under the reference `<intent>/<n>`.

        One item that does not open fails all: none of the numbers is used. Raises any
        KeysError; CvcExpired; RecordCorrupt when a number is not the one its row describes.
        """
        if len(rows) == 1:  # most intents open one card, and no code: no task for it
            return [await self._open_one(*rows[0], f"{intent}/0")]
        opened = await asyncio.gather(
            *(
                self._open_one(opening, row, f"{intent}/{n}")
                for n, (opening, row) in enumerate(rows)
            ),
            return_exceptions=True,
        )
        cards: list[Pan | Cvc] = []
        for one in opened:
            if isinstance(one, BaseException):
                raise one
            cards.append(one)
        return cards

    async def _open_one(self, opening: Opening, row: TokenRow, reference: str) -> Pan | Cvc:
        if opening.key == "cvc":
            return await self._open_cvc(row, reference)
        sealed = Sealed(row.ciphertext, row.key_version)
        pan = await self._keys.open_pan(
            sealed, tenant=row.tenant, token=row.id, reference=reference
        )
        if len(pan) != row.pan_length or pan.last4 != row.last4:
            raise RecordCorrupt
        return pan

    async def _open_cvc(self, row: TokenRow, reference: str) -> Cvc:
        if row.cvc_ciphertext is None or row.cvc_key_version is None:
            raise CvcExpired
        sealed = Sealed(row.cvc_ciphertext, row.cvc_key_version)
        try:
            return await self._keys.open_cvc(
                sealed, tenant=row.tenant, token=row.id, reference=reference
            )
        except KeyVersionRetired:
            pass  # its key's life is part of the CVC's: no incident
        raise CvcExpired
