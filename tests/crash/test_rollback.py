"""An older copy of what a deployment keeps, put back: of the database, and of what remembers it.

A copy of the database alone, or with the file of the publisher, is refused: HashiCorp Vault knows
of a larger head. Put back all three, and nothing inside knows that there was more: then only what
somebody else holds tells. Here that is a receipt, and a witness.
"""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.crash.elsewhere import Elsewhere, witnessing
from tests.crash.panward import panward
from tests.crash.stage import Place, Stage, staged, wire_to
from tests.flows.deployment import eventually
from tests.flows.merchant import Account, Merchant, new_account, payment
from vault.embedded.layout import Layout
from vault.ledger.entry import LogOpened, decode
from vault.signer_memory import FILE_NAME

pytestmark = [pytest.mark.embedded, pytest.mark.timeout(300)]

EX_CONFIG = 78


@dataclass
class Kept:
    """A deployment that does not run, as it was at two moments.

    The receipt is of the later one, which a witness saw too.
    """

    folder: Path
    earlier: Path
    later: Path
    receipt: dict[str, Any]
    witness: Elsewhere

    @property
    def file(self) -> Path:
        return self.folder / "one.toml"

    def put_back(self, *, database: Path, memory: Path, vault: Path) -> None:
        """Make the folder from parts of the two."""
        here = Layout(self.folder)
        for place, source in (
            (here.postgres_data, Layout(database).postgres_data),
            (here.folder / "one", memory / "one"),
            (here.openbao_raft, Layout(vault).openbao_raft),
        ):
            shutil.rmtree(place)
            shutil.copytree(source, place, symlinks=True)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kept]:
    folder = tmp_path_factory.mktemp("rolled") / "deployment"
    earlier, later = folder.with_name("earlier"), folder.with_name("later")
    with staged(folder) as stage:
        account = asyncio.run(new_account(stage.deployment, routes=("stripe",)))
        asyncio.run(paid(stage, stage.place("one"), account))
        vkey = asyncio.run(key_of_the_log(stage))
    _copy(folder, earlier)
    with witnessing(folder.with_name("elsewhere"), stage.deployment.parts, vkey) as witness:
        with staged(folder) as stage:
            place = stage.place("one")
            witness.write_into(place.file)
            receipt = asyncio.run(paid(stage, place, account))
            asyncio.run(seen(stage, receipt))
        _copy(folder, later)
        yield Kept(folder, earlier, later, receipt, witness)


def _copy(folder: Path, copy: Path) -> None:
    shutil.copytree(folder, copy, symlinks=True, ignore=shutil.ignore_patterns("*.sock*"))


async def value(stage: Stage, statement: str, *values: object) -> Any:  # noqa: ANN401 - asyncpg's
    store = await stage.deployment.store()
    try:
        return await store.fetchval(statement, *values)
    finally:
        await store.close()


async def key_of_the_log(stage: Stage) -> str:
    opened = decode(await value(stage, "SELECT body FROM entry WHERE idx = 0"))
    assert isinstance(opened, LogOpened)
    return opened.vkey


async def paid(stage: Stage, place: Place, account: Account) -> dict[str, Any]:
    """Pay, and give the receipt; it is published when this ends."""
    async with merchant_at(stage, place, account) as merchant:
        reply = await merchant.pay(payment(await merchant.token()))
        assert reply.status == 200, reply.body
        receipt = await merchant.authorization(reply)

    async def is_published() -> bool:
        size = await value(stage, "SELECT coalesce(max(size), 0) FROM publication")
        return bool(size > receipt["ledger"]["index"])

    await eventually(is_published, "nobody publishes it", seconds=20)
    return receipt


async def seen(stage: Stage, receipt: dict[str, Any]) -> None:
    """Wait until the witness has cosigned it."""

    async def is_cosigned() -> bool:
        size = await value(stage, "SELECT coalesce(max(size), 0) FROM cosignature")
        return bool(size > receipt["ledger"]["index"])

    await eventually(is_cosigned, "the witness does not see it", seconds=20)


@asynccontextmanager
async def merchant_at(stage: Stage, place: Place, account: Account) -> AsyncIterator[Merchant]:
    _ = place.gateway
    async with wire_to(stage.deployment.client_context()) as wire:
        yield Merchant(account, place.urls, wire)


@pytest.mark.guards("T-75")
async def test_an_older_database_is_refused_with_and_without_the_publishers_file(
    kept: Kept,
) -> None:
    kept.put_back(database=kept.earlier, memory=kept.later, vault=kept.later)
    with staged(kept.folder):
        await is_refused(kept)
        shutil.copy2(kept.earlier / "one" / FILE_NAME, kept.folder / "one")
        await is_refused(kept)
        status = await panward("ledger", "status", "--config", str(kept.file), "--json")
        assert status.status == 1
        assert "rollback" in json.loads(status.out)["contradiction"]


async def is_refused(kept: Kept) -> None:
    refused = await panward("up", "--config", str(kept.file))
    assert (refused.status, refused.out) == (EX_CONFIG, ""), refused.err
    assert "Traceback" not in refused.err
    assert "the log is shorter than what was signed (rollback)" in " ".join(refused.err.split())


@pytest.mark.guards("T-75")
async def test_an_older_database_and_an_older_vault_are_refused(kept: Kept) -> None:
    """That HashiCorp Vault was put back with it shows in the file."""
    kept.put_back(database=kept.earlier, memory=kept.later, vault=kept.earlier)
    with staged(kept.folder):
        await is_refused(kept)


@pytest.mark.guards("T-75")
async def test_all_three_put_back_start_and_only_what_is_elsewhere_tells(kept: Kept) -> None:
    """The documented limit: hence witnesses, and copies of checkpoints elsewhere."""
    kept.put_back(database=kept.earlier, memory=kept.earlier, vault=kept.earlier)
    with staged(kept.folder) as stage:
        place = stage.place("one")
        _ = place.gateway
        ledger = kept.receipt["ledger"]
        here = "SELECT leaf_hash FROM entry WHERE idx = $1"
        leaf = await value(stage, here, ledger["index"])
        assert leaf is None or leaf.hex() != ledger["leaf"], "the receipt is of another history"
        place.stop()
        kept.witness.write_into(place.file)
        _ = place.gateway

        async def is_sealed() -> bool:
            return await value(stage, "SELECT min(cause) FROM seal") in {"rollback", "fork"}

        await eventually(is_sealed, "the witness is not heard", seconds=20)
        ended = await panward("ledger", "status", "--config", str(place.file), "--json")
        assert (ended.status, json.loads(ended.out)["good"]) == (1, False)
