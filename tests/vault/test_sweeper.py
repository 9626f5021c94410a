"""Each duty ends what is over, leaves what is not, and survives a store that is away."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest

from tests.vault.fake_node import fake_cluster
from tests.vault.keyrings import reveal_keys, tokenize_keys
from tests.vault.places import place_of_cluster
from tests.vault.rows import Sender, create, new_cvc, now
from tests.vault.stores import Replica, Store
from vault.authorization import Claimed, RepeatRules, Result, State
from vault.authorization_table import AuthorizationTable
from vault.authorizations import Authorizations
from vault.card_vault import CardVault
from vault.claim_table import KEPT, ClaimHold, ClaimRequest, ClaimTable
from vault.intent_table import ANSWER_KEPT, SealedAnswer
from vault.ledger.entry import TokenDeleted
from vault.ledger.unit import Unit
from vault.spool import Spool
from vault.sweeper import SWEEPER, Sweeper
from vault.token_table import TokenRow, TokenTable

pytestmark = pytest.mark.embedded


@dataclass
class Swept:
    """A sweeper and what it sweeps; the sender's process is the sweeper's own."""

    store: Store
    replica: Replica
    claims: ClaimTable
    spool: Spool
    sweeper: Sweeper
    sender: Sender

    async def append(self, *units: Unit) -> None:
        for unit in units:
            await self.replica.ledger.append(unit)

    async def token(self, **changes: object) -> TokenRow:
        row = self.sender.row(**changes)
        await self.append(create(row))
        return row

    async def claim(self, key: bytes) -> ClaimHold:
        digest = key.ljust(32, b"\0")
        at = self.store.clock.at
        request = ClaimRequest(self.sender.tenant, "stripe", digest, bytes(32), RepeatRules(), at)
        claimed = await self.claims.claim(request)
        assert isinstance(claimed, Claimed)
        return ClaimHold(self.sender.tenant, "stripe", digest, claimed.nonce)


@pytest.fixture
async def swept(store: Store, tmp_path: Path) -> AsyncIterator[Swept]:
    tokens, claims = TokenTable(store.database), ClaimTable(store.database)
    table = AuthorizationTable(store.database)
    with fake_cluster() as cluster:
        async with place_of_cluster(cluster).transit("test") as transit, store.replica() as replica:
            tokenize, reveal = tokenize_keys(transit), reveal_keys(transit)
            spool = Spool(tmp_path / "spool", replica.boot)
            sweeper = Sweeper(
                cards=CardVault(tokenize, tokens, replica.ledger, env="test", now=store.clock),
                tokens=tokens,
                claims=claims,
                table=table,
                authorizations=Authorizations(
                    ledger=replica.ledger,
                    claims=claims,
                    table=table,
                    keys=reveal,
                    spool=spool,
                    replica=replica.name,
                    boot=replica.boot,
                    now=store.clock,
                ),
                boot=replica.boot,
                now=store.clock,
            )
            sender = Sender(replica=replica.name, boot=replica.boot)
            yield Swept(store, replica, claims, spool, sweeper, sender)
            for each in (tokenize, reveal, tokens, claims):
                await each.close()


async def test_an_expired_token_is_erased_and_on_record(swept: Swept) -> None:
    """PCI DSS 3.2.1."""
    at = swept.store.clock.at
    over = await swept.token(expires_at=at + timedelta(seconds=60))
    await swept.token(expires_at=at + timedelta(seconds=61))
    await swept.token()
    await swept.sweeper.end_tokens()
    assert await swept.store.count("token") == 3

    swept.store.clock.advance(seconds=60)
    await swept.sweeper.end_tokens()
    assert await swept.store.count("token") == 2
    (entry,) = await swept.store.entries("token.deleted")
    assert isinstance(entry, TokenDeleted)
    assert (entry.token, entry.reason, entry.actor) == (over.id, "expired", SWEEPER)


async def test_an_expired_token_in_use_stays_until_it_is_not(swept: Swept) -> None:
    ends = swept.store.clock.at + timedelta(seconds=60)
    used, other = await swept.token(expires_at=ends), await swept.token(expires_at=ends)
    sent = swept.sender.opens(used)
    await swept.append(sent)
    swept.store.clock.advance(seconds=60)

    await swept.sweeper.end_tokens()
    (left,) = await swept.store.rows("SELECT id FROM token")
    assert (left["id"], other.id != used.id) == (used.id, True)

    await swept.append(swept.sender.settles(sent, State.COMPLETED, Result.APPROVED))
    await swept.sweeper.end_tokens()
    assert await swept.store.count("token") == 0


@pytest.mark.guards("T-71")
async def test_an_expired_code_is_gone_claimed_or_not(swept: Swept) -> None:
    rows = [swept.sender.row() for _ in range(3)]
    short, long = new_cvc(60), new_cvc(900)
    for row, cvc in zip(rows, (short, short, long), strict=True):
        await swept.append(create(row, cvc=cvc))
    await swept.append(swept.sender.opens(rows[0], cvc=True))
    swept.store.clock.at = short.expires_at - timedelta(seconds=1)
    await swept.sweeper.end_cvcs()
    assert await swept.store.count("cvc") == 3

    swept.store.clock.at = short.expires_at
    await swept.sweeper.end_cvcs()
    (left,) = await swept.store.rows("SELECT token FROM cvc")
    assert left["token"] == rows[2].id
    assert await swept.store.count("token") == 3


async def test_claims_and_answers_are_forgotten_but_not_those_of_an_unknown(swept: Swept) -> None:
    """While nobody knows whether a send was carried out, its key must not be free again."""
    answer = SealedAnswer(swept.sender.tenant, "vault:v1:sealed", 1)
    for key, state, result in (
        (b"known", State.COMPLETED, Result.APPROVED),
        (b"unknown", State.UNKNOWN, None),
        (b"under way", None, None),
    ):
        sent = swept.sender.opens(await swept.token(), hold=await swept.claim(key))
        await swept.append(sent)
        if state is not None:
            kept = replace(swept.sender.settles(sent, state, result), answer=answer)
            await swept.append(kept if result else replace(kept, answer=None))
    await swept.claim(b"led to nothing")

    swept.store.clock.advance(seconds=KEPT.total_seconds() - 60)
    young = await swept.claim(b"young")
    await swept.sweeper.forget_repeats()
    assert (await swept.store.count("claim"), await swept.store.count("answer")) == (5, 1)

    assert KEPT == ANSWER_KEPT
    swept.store.clock.advance(seconds=120)
    await swept.sweeper.forget_repeats()
    left = await swept.store.rows("SELECT key_digest FROM claim ORDER BY key_digest")
    names = [row["key_digest"].rstrip(b"\0") for row in left]
    assert names == [b"under way", b"unknown", young.key_digest.rstrip(b"\0")]
    assert await swept.store.count("answer") == 0


async def test_orphans_become_unknown_and_what_is_alive_does_not(swept: Swept) -> None:
    gone = Sender(swept.sender.tenant)
    own, orphan = swept.sender.opens(), gone.opens()
    await swept.append(own, orphan)
    swept.store.clock.advance(seconds=29)
    await swept.sweeper.end_orphans()
    assert await swept.store.count("intent_state WHERE state = 'unknown'") == 0

    await swept.sweeper.renew_leases()
    swept.store.clock.advance(seconds=2)
    await swept.sweeper.end_orphans()
    rows = await swept.store.rows("SELECT intent, due FROM intent_state WHERE state = 'attempted'")
    assert [(row["intent"], row["due"]) for row in rows] == [
        (UUID(own.facts.intent), swept.store.clock.at + timedelta(seconds=28))
    ]
    assert (await swept.store.types())[-1] == "authorization.unknown"


@pytest.mark.guards("F-21")
async def test_the_spool_is_drained_and_disclosures_go_on(swept: Swept) -> None:
    sent = swept.sender.opens()
    await swept.append(sent)
    assert swept.spool.write(swept.sender.settles(sent, State.COMPLETED, Result.APPROVED))
    swept.replica.ledger.seal("spool")

    await swept.sweeper.drain_spool()
    assert not swept.spool.holds_any()
    assert swept.replica.ledger.sealed_because is None
    assert (await swept.store.types())[-1] == "authorization.completed"


@pytest.mark.guards("F-10")
async def test_a_store_that_is_away_ends_no_duty(swept: Swept) -> None:
    at = swept.store.clock.at
    expired = await swept.token(expires_at=at + timedelta(seconds=1))
    await swept.append(create(swept.sender.row(), cvc=new_cvc(0)))
    swept.store.clock.at = max(at, now()) + timedelta(seconds=1)

    await swept.store.do("ALTER TABLE token RENAME TO token_away")
    await swept.store.do("ALTER TABLE claim RENAME TO claim_away")
    await swept.store.do("ALTER TABLE cvc RENAME TO cvc_away")
    for seconds, duty in swept.sweeper.duties():
        assert seconds > 0
        await duty()
    for table in ("token", "claim", "cvc"):
        await swept.store.do(f"ALTER TABLE {table}_away RENAME TO {table}")

    for _, duty in swept.sweeper.duties():
        await duty()
    assert await swept.store.value("SELECT 1 FROM token WHERE id = $1", expired.id) is None
    assert await swept.store.count("cvc") == 0
