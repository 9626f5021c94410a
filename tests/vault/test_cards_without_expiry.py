"""A number that was found alone is a card too; its date may come later."""

import hashlib
import traceback
from datetime import UTC, datetime

import asyncpg
import pytest
from msgspec import structs

from tests import cards, databases
from tests.vault.card_custody import Custody
from tests.vault.rows import ACTOR, change, create, deleted_entry, new_row, new_tenant
from tests.vault.stores import Store, opened
from vault import db
from vault.card import Card, Expiry
from vault.card_vault import Change
from vault.db import migrate
from vault.embedded.layout import RUNTIME
from vault.errors import InvalidCard, StartRefused
from vault.ledger.entry import TokenCreated, TokenUpdated, inbound_actor
from vault.ledger.unit import Line, Statement
from vault.pan import Pan
from vault.token_table import TokenTable

AT = datetime(2026, 11, 22, tzinfo=UTC)


# --- cards and masks ------------------------------------------------------------------------


@pytest.mark.parametrize("number", list(cards.BRANDS))
def test_a_number_alone_is_a_card_of_its_brand(number: str) -> None:
    alone = Card.number_only(number)
    whole = Card.parse(number, 12, 2031, None, at=AT)
    assert (alone.pan, alone.brand) == (whole.pan, whole.brand)
    assert (alone.expiry, alone.cvc) == (None, None)


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (cards.VISA[:-1] + "1", "luhn"),
        (cards.VISA[:12], "length"),
        (cards.VISA + "5", "length"),
        (cards.VISA.replace("2", "\uff12", 1), "not_digits"),
        (cards.VISA.replace("2", "--2", 1), "format"),
        ("", "length"),
    ],
)
def test_it_passes_every_check_of_a_number(number: str, reason: str) -> None:
    with pytest.raises(InvalidCard) as refusal:
        Card.number_only(number)
    assert (refusal.value.field, refusal.value.reason) == ("number", reason)


@pytest.mark.guards("T-22")
def test_its_refusal_holds_no_digit() -> None:
    with pytest.raises(InvalidCard) as refusal:
        Card.number_only(cards.VISA[:-1] + "1")
    told = traceback.TracebackException.from_exception(refusal.value, capture_locals=True)
    lines = "".join(told.stack[-1].locals or {})  # of the frame that raises; ours is this test
    assert "number" not in lines
    assert cards.VISA[:-1] not in "".join((told.stack[-1].locals or {}).values())


@pytest.mark.parametrize("number", list(cards.BRANDS))
def test_a_mask_keeps_the_last_four(number: str) -> None:
    assert Pan.parse(number).mask == "*" * (len(number) - 4) + number[-4:]


# --- what is stored ---------------------------------------------------------------------------


@pytest.mark.embedded
async def test_it_is_stored_and_opens_without_a_date(custody: Custody) -> None:
    row = await custody.token(Card.number_only(cards.AMEX))
    assert (row.exp_month, row.exp_year, row.expiry) == (None, None, None)
    assert (row.brand, row.last4) == ("amex", "0005")
    (pan,) = await custody.open(row, "pan")
    assert pan.reveal() == cards.AMEX
    (entry,) = await custody.entries()
    assert isinstance(entry, TokenCreated)


@pytest.mark.embedded
async def test_reuse_brings_a_date_and_takes_none_away(custody: Custody) -> None:
    alone = Card.number_only(cards.VISA)
    first = await custody.token(alone, reuse=True)
    seen = []
    for card in (alone, custody.card(year=2031), alone, custody.card(year=2030)):
        again, is_new = await custody.vault.tokenize(card, custody.wanted(reuse=True))
        assert (again.id, is_new) == (first.id, False)
        stored = await custody.vault.load(custody.tenant, first.id)
        assert stored.expiry == again.expiry
        seen.append(again.expiry)
    assert seen == [None, *[Expiry(2031, 12)] * 3]

    _, entry = await custody.entries()
    assert isinstance(entry, TokenUpdated)
    assert (entry.changed, entry.reason) == (("expiry",), "reuse")
    (detail,) = await custody.store.rows("SELECT * FROM detail WHERE id::text = $1", entry.id)
    assert detail["body"] == b'{"after":{"expiry":"2031-12"}}'


@pytest.mark.embedded
async def test_a_change_can_set_the_date_later(custody: Custody) -> None:
    row = await custody.token(Card.number_only(cards.VISA))
    named = await custody.vault.change(row, Change(None, None, None, "person-1"), ACTOR)
    assert (named.expiry, named.customer_reference) == (None, "person-1")
    dated = await custody.vault.change(named, Change(1, 2034, None, "person-1"), ACTOR)
    stored = await custody.vault.load(custody.tenant, row.id)
    assert stored.expiry == dated.expiry == Expiry(2034, 1)
    *_, entry = await custody.entries()
    assert isinstance(entry, TokenUpdated)
    assert entry.changed == ("expiry",)


@pytest.mark.embedded
async def test_half_a_date_is_none(shared_store: Store) -> None:
    row = new_row(new_tenant(), exp_month=None, exp_year=None)
    async with shared_store.replica() as replica:
        await replica.ledger.append(create(row))
        await replica.ledger.append(change(row, exp_month=2, exp_year=2033))
        found = await TokenTable(shared_store.database).load(row.tenant, row.id)
        assert found is not None
        assert found.expiry == Expiry(2033, 2)
    for half in ("exp_month = NULL", "exp_year = NULL", "exp_month = 13"):
        with pytest.raises(asyncpg.CheckViolationError):
            await shared_store.do(f"UPDATE token SET {half} WHERE id = $1", row.id)  # noqa: S608


# --- the way there ----------------------------------------------------------------------------


@pytest.mark.embedded
async def test_the_migration_rewrites_nothing_and_waits_for_nobody(
    database: databases.Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = db._migrations()
    with monkeypatch.context() as before:
        before.setattr(db, "_migrations", lambda: known[:5])
        await migrate(database.owner_dsn, runtime_role=RUNTIME)
    file = "SELECT pg_relation_filenode('token')"
    async with opened(database) as store:
        old = await store.value(file)
        async with store.session() as reader, reader.transaction():
            await reader.execute("SELECT count(*) FROM token")  # a dump, say
            with pytest.raises(StartRefused, match="LockNotAvailable"):
                await migrate(database.owner_dsn, runtime_role=RUNTIME)
        assert (await migrate(database.owner_dsn, runtime_role=RUNTIME))[0] == "0006.sql"
        assert await store.value(file) == old


# --- who it was -------------------------------------------------------------------------------


def test_the_actor_of_an_inbound_route_tells_the_route_alone() -> None:
    actor = inbound_actor("partner-feed")
    assert actor == inbound_actor("partner-feed") != inbound_actor("partner-feed2")
    assert actor.kind == "endpoint"
    assert actor.id == "in_" + hashlib.sha256(b"partner-feed").hexdigest()[:12]


@pytest.mark.embedded
async def test_it_may_stand_in_an_entry(custody: Custody) -> None:
    actor = inbound_actor("a" * 64)
    entry = structs.replace(deleted_entry(new_row(custody.tenant)), actor=actor)
    await custody.replica.ledger.append(Statement((Line(entry),)))
    (found,) = await custody.entries()
    assert found.actor == actor
