"""Where an import's cards go: a deployment's vault, opened for the time of the command.

Like every act of an operator's it is a boot of its own, and each token is on record as made by
the console. What never may live here: files.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final, Literal

from gateway.card_files.run import Store
from gateway.commands.on_record import CONSOLE, OnRecord, on_record
from gateway.config import Config, vault_access
from gateway.custody import utc_now
from gateway.inbound.filtering import WantedCard
from vault.card_vault import CardVault, NewToken
from vault.deployment import check_keys, check_login, recognize
from vault.keys import TokenizeKeys
from vault.observer import Silent
from vault.token_table import TokenTable
from vault.transit import Transit

FOLDER: Final = "import"
FORMATS: Final[tuple[Literal["opaque", "pan_like"], ...]] = ("opaque", "pan_like")


@asynccontextmanager
async def card_store(config: Config, tenant: str, *, reuse: bool) -> AsyncIterator[Store]:
    """Give what stores cards for a tenant, by its id.

    Raises StartRefused; any KeysError; StoreUnavailable; LedgerUnavailable.
    """
    async with on_record(config, folder=FOLDER) as act, _keys(config, act) as keys:
        tokens = TokenTable(act.database)
        cards = CardVault(keys, tokens, act.ledger, env=config.env, now=utc_now)
        turn = asyncio.Lock()  # of all blocks that are under way: a card may be in several

        async def store(wanted: Sequence[WantedCard]) -> Sequence[str]:
            made: dict[int, str] = {}
            for format_ in FORMATS:
                places = [at for at, each in enumerate(wanted) if each.format == format_]
                new = NewToken(tenant, CONSOLE, format=format_, reuse=reuse)
                rows = await cards.tokenize_many([wanted[at].card for at in places], new, turn=turn)
                made.update(zip(places, (row.pan_like or row.id for row in rows), strict=True))
            return [made[at] for at in range(len(wanted))]

        yield store


@asynccontextmanager
async def _keys(config: Config, act: OnRecord) -> AsyncIterator[TokenizeKeys]:
    transit = Transit(vault_access(config, config.vault.tokenize), observer=Silent())
    try:
        await transit.start()
        await check_login(transit)
        pins = await recognize(
            act.database,
            transit,
            await check_keys(transit),
            env=config.env,
            origin=config.ledger.origin,
            at=utc_now(),
        )
        keys = TokenizeKeys(
            transit,
            config.env,
            fingerprint_version=pins.fingerprint_version,
            digest_version=pins.digest_version,
            observer=Silent(),
        )
        try:
            yield keys
        finally:
            await keys.close()
    finally:
        await transit.close()
