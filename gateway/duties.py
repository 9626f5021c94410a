"""What a gateway does besides answering: readiness probes, gauges, a watch on the ledger's writer.

What never lives here: anything that a payment waits for.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from gateway.custody import Custody
from gateway.in_flight import InFlight
from gateway.metrics import Metrics
from gateway.upstream_tls import load_crl
from vault.authorization_table import AuthorizationTable
from vault.deployment import probe_store
from vault.errors import CustodyError, LedgerSealed, Overloaded, StartRefused
from vault.ledger.store import Ledger
from vault.spool import Spool
from vault.token_table import TokenTable


class WriterGone(Exception):
    """The ledger's writer has ended without being told to."""


def probes(custody: Custody, in_flight: InFlight) -> dict[str, Callable[[], Awaitable[None]]]:
    async def ledger() -> None:
        if custody.ledger.sealed_because is not None:
            raise LedgerSealed

    async def load() -> None:
        if in_flight.is_full:
            raise Overloaded

    async def store() -> None:
        await probe_store(custody.database, custody.boot.replica)

    async def tokenize() -> None:
        await custody.tokenize_keys.probe()

    return {
        "vault_tokenize": tokenize,
        "vault_reveal": custody.reveal_keys.probe,
        "store": store,
        "ledger": ledger,
        "load": load,
    }


def gauges(
    table: AuthorizationTable,
    tokens: TokenTable,
    custody: Custody,
    spool: Spool,
    metrics: Metrics,
) -> Callable[[], Awaitable[None]]:
    async def refresh() -> None:
        """What can only be counted by asking: open and unknown intents, live CVCs, the ledger."""
        metrics.ledger_size(custody.ledger.size)
        metrics.ledger_state(
            sealed=custody.ledger.sealed_because is not None, spooled=len(spool.waiting())
        )
        try:
            counts = await table.open_counts()
            metrics.cvc_stored(await tokens.live_cvcs())
        except CustodyError:
            return
        flat = [(route, one) for route, ones in counts.items() for one in ones]
        metrics.unknown_open(
            {route: (c.count, c.oldest_seconds) for route, c in flat if c.state == "unknown"}
        )
        opened = [one for _, one in flat if one.state == "attempted"]
        metrics.intents_open(
            sum(one.count for one in opened),
            max((one.oldest_seconds for one in opened), default=0.0),
        )

    return refresh


def watch(ledger: Ledger) -> Callable[[], Awaitable[None]]:
    async def watch() -> None:
        """End the process with its writer: what it answers from then on would be on no record."""
        if not ledger.is_writing:
            raise WriterGone

    return watch


@asynccontextmanager
async def repeating(
    duties: Sequence[tuple[float, Callable[[], Awaitable[None]]]],
) -> AsyncIterator[None]:
    """Keep duties going for as long as the gateway runs; none of them holds a payment."""

    async def repeat(seconds: float, duty: Callable[[], Awaitable[None]]) -> None:
        while True:
            await duty()
            await asyncio.sleep(seconds)

    alone: BaseException | None = None
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(repeat(seconds, duty)) for seconds, duty in duties]
            yield
            for task in tasks:
                task.cancel()
    except BaseExceptionGroup as several:
        if len(several.exceptions) > 1:
            raise
        alone = several.exceptions[0]
    if alone is not None:  # as it was: whoever started us knows a StartRefused, not a group
        raise alone


def refreshed_crls(lists: Mapping[ssl.SSLContext, Path]) -> Callable[[], Awaitable[None]]:
    """Read lists of revoked certificates again: without it everything is refused once one ends."""

    async def refresh() -> None:
        for context, crl_file in list(lists.items()):
            await asyncio.sleep(0)  # a long list is read between two turns of the loop
            with suppress(StartRefused):  # the list in use stays, and refuses when it is over
                load_crl(context, crl_file)

    return refresh
