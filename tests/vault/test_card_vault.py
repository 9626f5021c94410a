"""A card becomes a token, is looked after and erased; and it opens as itself or not at all."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Literal

import pytest

from tests import cards
from tests.vault.card_custody import Custody
from tests.vault.fake_node import FakeCluster, fake_cluster
from tests.vault.keyrings import INTENT, reveal_keys, tokenize_keys
from tests.vault.places import place_of_cluster
from tests.vault.rows import ACTOR, Sender, new_row, new_tenant
from vault import token_creation
from vault.authorization import State
from vault.card_vault import CVC_KEPT, PAN_LIKE_TRIES_MAX, CardOpener, Change
from vault.errors import (
    CvcExpired,
    FormatRefused,
    InvalidCard,
    KeyVersionRetired,
    RecordCorrupt,
    TokenInUse,
    TokenUnknown,
)
from vault.ledger.detail import commitment
from vault.ledger.entry import Opening, TokenCreated, TokenDeleted, TokenUpdated
from vault.pan import Cvc, Pan
from vault.tokens import is_token, looks_pan_like, new_token

Reason = Literal["request", "customer_erasure", "expired", "used"]


pytestmark = pytest.mark.embedded


# --- tokenize -------------------------------------------------------------------------------


async def test_a_card_becomes_a_row_and_an_entry(custody: Custody) -> None:
    made, is_new = await custody.vault.tokenize(
        custody.card(cards.AMEX, cvc="1234"), custody.wanted(customer_reference="person-1")
    )
    assert is_new
    assert is_token(made.id, "test")
    row = await custody.vault.load(custody.tenant, made.id)
    assert (row.brand, row.pan_length, row.last4, row.bin) == ("amex", 15, "0005", "378282")
    assert (row.exp_month, row.exp_year, row.customer_reference) == (12, 2031, "person-1")
    assert row.has_cvc
    pan, cvc = await custody.open(row, "pan", "cvc")
    assert (pan.reveal(), cvc.reveal()) == (cards.AMEX, "1234")

    (entry,) = await custody.entries()
    assert isinstance(entry, TokenCreated)
    assert (entry.token, entry.format, entry.single_use) == (row.id, "opaque", False)
    (detail,) = await custody.store.rows("SELECT * FROM detail WHERE id::text = $1", entry.id)
    assert entry.detail == commitment(detail["salt"], detail["body"])
    assert b"person-1" in detail["body"]


@pytest.mark.guards("T-22")
async def test_a_card_number_is_in_no_column(custody: Custody) -> None:
    await custody.token(custody.card(cards.MASTERCARD, cvc="987"), reuse=True)
    for table in ("token", "fingerprint", "cvc", "entry", "detail"):
        rows = await custody.store.rows(f"SELECT t::text AS words FROM {table} t")  # noqa: S608
        words = " ".join(row["words"] for row in rows)
        assert words
        assert cards.MASTERCARD not in words
        assert cards.MASTERCARD.encode().hex() not in words


async def test_each_call_gets_a_token_of_its_own_unless_reuse_is_wanted(custody: Custody) -> None:
    one, other = await custody.token(), await custody.token()
    assert one.id != other.id
    (fingerprint,) = {
        (await custody.vault.load(custody.tenant, t.id)).fingerprint for t in (one, other)
    }
    assert fingerprint.startswith("fp_")


async def test_reuse_gives_the_same_token(custody: Custody) -> None:
    first = await custody.token(reuse=True)
    again, is_new = await custody.vault.tokenize(custody.card(), custody.wanted(reuse=True))
    assert (again.id, is_new) == (first.id, False)
    assert [entry.type for entry in await custody.entries()] == ["token.created"]

    elsewhere = replace(custody, tenant=new_tenant())
    assert (await elsewhere.token(reuse=True)).id != first.id


async def test_reuse_at_the_same_moment_makes_one_token(custody: Custody) -> None:
    made = await asyncio.gather(
        *(custody.vault.tokenize(custody.card(), custody.wanted(reuse=True)) for _ in range(8))
    )
    assert len({row.id for row, _ in made}) == 1
    assert sorted(is_new for _, is_new in made) == [False] * 7 + [True]
    assert await custody.count("token") == 1


async def test_reuse_takes_a_later_expiry_and_no_earlier_one(custody: Custody) -> None:
    first = await custody.token(reuse=True)
    for year, kept in ((2033, 2033), (2032, 2033)):
        again, _ = await custody.vault.tokenize(custody.card(year=year), custody.wanted(reuse=True))
        stored = await custody.vault.load(custody.tenant, first.id)
        assert again.exp_year == stored.exp_year == kept
    created, updated = await custody.entries()
    assert created.type == "token.created"
    assert isinstance(updated, TokenUpdated)
    assert (updated.changed, updated.reason) == (("expiry",), "reuse")


async def test_reuse_attaches_a_code_and_replaces_one(custody: Custody) -> None:
    first = await custody.token(reuse=True)
    assert not first.has_cvc
    for code in ("111", "222"):
        await custody.vault.tokenize(custody.card(cvc=code), custody.wanted(reuse=True))
        (opened,) = await custody.open(await custody.vault.load(custody.tenant, first.id), "cvc")
        assert opened.reveal() == code
    ends = await custody.store.value("SELECT expires_at FROM cvc WHERE token = $1", first.id)
    assert ends == custody.store.clock.at + CVC_KEPT


@pytest.mark.guards("T-71")
async def test_a_code_that_an_authorization_has_is_not_replaced(custody: Custody) -> None:
    row = await custody.token(custody.card(cvc="111"), reuse=True)
    await custody.replica.ledger.append(Sender(custody.tenant).opens(row, cvc=True))
    with pytest.raises(TokenInUse):
        await custody.vault.tokenize(custody.card(cvc="222"), custody.wanted(reuse=True))


async def test_a_live_deployment_refuses_a_published_test_number(custody: Custody) -> None:
    """PCI DSS 6.5.6."""
    with pytest.raises(InvalidCard) as refusal:
        await custody.live.tokenize(custody.card(), custody.wanted())
    assert (refusal.value.field, refusal.value.reason) == ("number", "test_number")
    assert (await custody.count("token"), await custody.entries()) == (0, [])

    unpublished = custody.card(cards.luhn_completed("422222100000007"))
    row, _ = await custody.live.tokenize(unpublished, custody.wanted())
    assert is_token(row.id, "live")


async def test_a_name_like_a_number_that_is_taken_is_drawn_again(
    custody: Custody, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await custody.token(format="pan_like")
    assert first.pan_like is not None
    assert looks_pan_like(first.pan_like)
    draws = [first.pan_like, "9900000000014242"]
    monkeypatch.setattr(token_creation, "new_pan_like", lambda _pan: draws.pop(0))
    second = await custody.token(format="pan_like")
    assert (second.pan_like, draws) == ("9900000000014242", [])

    draws = [first.pan_like] * (PAN_LIKE_TRIES_MAX + 1)
    with pytest.raises(FormatRefused):
        await custody.token(format="pan_like")
    assert len(draws) == 1
    assert await custody.count("token") == 2


# --- looking after --------------------------------------------------------------------------


@pytest.mark.guards("T-20", "T-21")
async def test_unknown_foreign_expired_and_deleted_look_the_same(custody: Custody) -> None:
    kept, gone = await custody.token(), await custody.token()
    over = await custody.token(expires_at=custody.store.clock.at + timedelta(seconds=1))
    await custody.erase(gone)
    custody.store.clock.advance(seconds=1)
    named = await custody.token(format="pan_like")
    assert named.pan_like is not None
    for tenant, token in (
        (new_tenant(), kept.id),
        (custody.tenant, gone.id),
        (custody.tenant, over.id),
        (custody.tenant, new_token("test")),
        (custody.tenant, named.pan_like),
    ):
        with pytest.raises(TokenUnknown):
            await custody.vault.load(tenant, token)


async def test_a_change_is_stored_and_on_record(custody: Custody) -> None:
    row = await custody.token(reuse=True)
    ends = custody.store.clock.at + timedelta(days=1)
    changed = await custody.vault.change(row, Change(1, 2034, ends, "person-2"), ACTOR)
    stored = await custody.vault.load(custody.tenant, row.id)
    assert (stored.exp_month, stored.exp_year, stored.expires_at) == (1, 2034, ends)
    assert (changed.customer_reference, stored.customer_reference) == ("person-2", "person-2")
    assert not stored.reusable  # one that will end is not handed out again

    _, entry = await custody.entries()
    assert isinstance(entry, TokenUpdated)
    assert entry.changed == ("customer_reference", "expires_at", "expiry")
    assert entry.reason == "patch"

    same = await custody.vault.change(stored, Change(1, 2034, ends, "person-2"), ACTOR)
    assert same == stored
    assert len(await custody.entries()) == 2

    foreign = replace(stored, tenant=new_tenant())
    with pytest.raises(TokenUnknown):
        await custody.vault.change(foreign, Change(2, 2035, None, None), ACTOR)


async def test_deleting_erases_the_row_the_code_and_the_last_fingerprint(custody: Custody) -> None:
    one, other = await custody.token(custody.card(cvc="123")), await custody.token()
    await custody.erase(one)
    assert (await custody.count("cvc"), await custody.count("fingerprint")) == (0, 1)
    await custody.erase(other, "used")
    assert (await custody.count("token"), await custody.count("fingerprint")) == (0, 0)
    deleted = [entry for entry in await custody.entries() if isinstance(entry, TokenDeleted)]
    assert [(entry.token, entry.reason) for entry in deleted] == [
        (one.id, "request"),
        (other.id, "used"),
    ]
    with pytest.raises(TokenUnknown):
        await custody.erase(one)


async def test_a_person_s_cards_are_erased_but_for_those_in_use(custody: Custody) -> None:
    rows = [await custody.token(customer_reference="person-3") for _ in range(3)]
    other = await custody.token(customer_reference="person-4")
    sender = Sender(custody.tenant)
    sent = sender.opens(rows[1])
    await custody.replica.ledger.append(sent)

    erase = custody.vault.delete_of_customer
    assert await erase(custody.tenant, "person-3", ACTOR) == (2, 1)
    left = await custody.vault.of_customer(custody.tenant, "person-3", limit=9, after=None)
    assert [row.id for row in left] == [rows[1].id]

    await custody.replica.ledger.append(sender.settles(sent, State.UNKNOWN))
    assert await erase(custody.tenant, "person-3", ACTOR) == (1, 0)
    assert await erase(custody.tenant, "person-3", ACTOR) == (0, 0)
    assert (await custody.vault.load(custody.tenant, other.id)).id == other.id
    reasons = [one.reason for one in await custody.entries() if isinstance(one, TokenDeleted)]
    assert reasons == ["customer_erasure"] * 3


async def test_a_person_s_cards_are_erased_once_by_whoever_is_quicker(custody: Custody) -> None:
    for _ in range(4):
        await custody.token(customer_reference="person-5")
    erase = custody.vault.delete_of_customer
    counts = await asyncio.gather(*(erase(custody.tenant, "person-5", ACTOR) for _ in range(3)))
    assert sum(erased for erased, _ in counts) == 4
    deleted = [one for one in await custody.entries() if isinstance(one, TokenDeleted)]
    assert len({one.token for one in deleted}) == len(deleted) == 4


# --- opening --------------------------------------------------------------------------------


@pytest.mark.guards("T-20")
async def test_a_moved_ciphertext_does_not_open(custody: Custody) -> None:
    one, other = await custody.token(), await custody.token(custody.card(cards.VISA_ALT))
    swap = "UPDATE token SET ciphertext = $2 WHERE id = $1"
    await custody.store.do(swap, one.id, other.ciphertext)
    await custody.store.do(swap, other.id, one.ciphertext)
    for row in (one, other):
        with pytest.raises(RecordCorrupt):
            await custody.open(await custody.vault.load(custody.tenant, row.id), "pan")


@pytest.mark.parametrize("change", ["last4 = '0000'", "pan_length = 15"])
async def test_a_number_that_its_row_does_not_describe_is_not_used(
    custody: Custody, change: str
) -> None:
    row = await custody.token()
    await custody.store.do(f"UPDATE token SET {change} WHERE id = $1", row.id)  # noqa: S608
    with pytest.raises(RecordCorrupt):
        await custody.open(await custody.vault.load(custody.tenant, row.id), "pan")


async def test_one_item_that_does_not_open_fails_all(custody: Custody) -> None:
    good = await custody.token()
    bad = replace(good, last4="0000")
    openings = [(Opening(key="pan", token=good.id, version=1), row) for row in (good, bad, good)]
    with pytest.raises(RecordCorrupt):
        await custody.opener.open(openings, intent=INTENT)


async def test_a_card_without_a_code_has_none_to_open(custody: Custody) -> None:
    row = await custody.token()
    with pytest.raises(CvcExpired):
        await custody.open(row, "pan", "cvc")


@pytest.fixture
def cluster() -> Iterator[FakeCluster]:
    with fake_cluster() as made:
        yield made


@pytest.mark.guards("F-08", "T-71", "T-74")
async def test_a_code_ends_with_its_key_and_a_number_does_not_end_quietly(
    cluster: FakeCluster,
) -> None:
    async with place_of_cluster(cluster).transit("test") as transit:
        tokenize, reveal = tokenize_keys(transit), reveal_keys(transit)
        row = new_row("t_01")
        pan, cvc = Pan.parse(cards.VISA), Cvc.parse("123")
        kept = await tokenize.protect(pan, cvc, tenant="t_01", token=row.id)
        assert kept.cvc is not None
        row = replace(
            row,
            ciphertext=kept.pan.ciphertext,
            cvc_ciphertext=kept.cvc.ciphertext,
            cvc_key_version=1,
        )
        openings = [
            (Opening(key="pan", token=row.id, version=1), row),
            (Opening(key="cvc", token=row.id, version=1), row),
        ]
        opener = CardOpener(reveal)
        assert await opener.open(openings, intent=INTENT) == [pan, cvc]
        shown = [one.reference for one in cluster.vault.audit if "decrypt" in one.path]
        assert sorted(shown) == [f"{INTENT}/0", f"{INTENT}/1"]

        for name, error in (("cvc", CvcExpired), ("pan", KeyVersionRetired)):
            cluster.vault.keys[name].rotate()
            cluster.vault.keys[name].min_decryption = 2
            with pytest.raises(error):
                await opener.open(openings[:1] if name == "pan" else openings, intent=INTENT)
        await tokenize.close()
        await reveal.close()
