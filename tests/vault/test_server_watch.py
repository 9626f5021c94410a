"""A server that has become unsafe: no new intents, no seal, and an end with the cause."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.vault.postgres_relay import relayed
from tests.vault.rows import Sender, statement
from tests.vault.stores import Replica, Store, until
from vault import db, server_watch
from vault.errors import LedgerUnavailable
from vault.server_watch import ServerWatch

pytestmark = pytest.mark.embedded


@pytest.fixture
async def replica(store: Store) -> AsyncIterator[Replica]:
    async with store.replica() as made:
        yield made


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_watch, "AGAIN_SECONDS", 0.02)


UNSAFE = {
    "default": (
        "ALTER DATABASE {name} SET synchronous_commit = 'off'",
        "ALTER DATABASE {name} RESET synchronous_commit",
        "synchronous_commit must be on",
    ),
    "right": (
        "GRANT UPDATE ON entry TO panward_runtime",
        "REVOKE UPDATE ON entry FROM panward_runtime",
        "must not be able to change or delete entries",
    ),
}


@pytest.mark.guards("T-31")
@pytest.mark.parametrize("what", UNSAFE)
async def test_what_was_safe_at_the_start_and_is_no_longer(
    store: Store, replica: Replica, what: str
) -> None:
    begins, ends, words = UNSAFE[what]
    watch = ServerWatch(replica.ledger, store.dsns.runtime_dsn)
    await watch.look()
    await replica.ledger.append(Sender().opens())
    await store.do(begins.format(name=store.dsns.name))

    looking = asyncio.create_task(watch.look())
    await until(lambda: watch.problem)

    assert words in str(watch.problem)
    with pytest.raises(LedgerUnavailable):
        await replica.ledger.append(Sender().opens())
    await replica.ledger.append(statement())
    assert replica.ledger.sealed_because is None
    await store.do(ends.format(name=store.dsns.name))
    await asyncio.wait_for(looking, 10)
    assert watch.problem is None
    await replica.ledger.append(Sender().opens())


@pytest.mark.parametrize("how", ["refusing", "silent"])
async def test_a_server_that_does_not_answer_is_asked_again(
    store: Store, replica: Replica, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_watch, "ANSWER_SECONDS", 0.3)
    monkeypatch.setattr(db, "CONNECT_SECONDS", 60)
    async with relayed(store.dsns.runtime_dsn) as relay:
        setattr(relay, how, True)
        watch = ServerWatch(replica.ledger, relay.dsn)
        looking = asyncio.create_task(watch.look())
        await until(lambda: watch.problem)
        assert "does not answer" in str(watch.problem)
        setattr(relay, how, False)
        await asyncio.wait_for(looking, 10)
    assert watch.problem is None
