"""Many cards at once: the rules of one, in few calls and few transactions, in their order."""

import asyncio
from collections.abc import Sequence
from itertools import count

import pytest

from tests import cards
from tests.vault.card_custody import Custody
from tests.vault.fake_node import fake_cluster
from tests.vault.keyrings import tokenize_keys
from tests.vault.places import place_of_cluster
from tests.vault.rows import statement
from vault import card_vault, token_creation
from vault.card import Card, Expiry
from vault.card_slices import in_slices
from vault.card_vault import SLICE_CARDS, CardVault
from vault.errors import (
    CustodyError,
    FormatRefused,
    InvalidCard,
    KeysError,
    KeysSealed,
    LedgerUnavailable,
    Overloaded,
)
from vault.keys import FEW_CARDS
from vault.ledger.entry import TokenUpdated
from vault.ledger.store import QUEUE_UNITS_MAX
from vault.token_table import TokenTable
from vault.tokens import is_token, looks_pan_like

pytestmark = pytest.mark.embedded

MANY = 2 * SLICE_CARDS + 44


def drawn_cards(number: int) -> list[Card]:
    """Give so many cards, each another."""
    return [Card.number_only(cards.luhn_completed(f"42222{n:010}")) for n in range(number)]


# --- what comes of it ------------------------------------------------------------------------


async def test_each_card_gets_its_row_in_order_in_few_transactions(custody: Custody) -> None:
    many = drawn_cards(MANY)
    custody.replica.appends.seen.clear()
    rows = await custody.vault.tokenize_many(many, custody.wanted(customer_reference="p_1"))
    assert len({row.id for row in rows}) == MANY
    assert all(is_token(row.id, "test") for row in rows)
    assert sorted(custody.replica.appends.sizes) == [44, SLICE_CARDS, SLICE_CARDS]

    tokens = TokenTable(custody.store.database)
    for n in (0, 1, SLICE_CARDS - 1, SLICE_CARDS, MANY - 1):
        stored = await tokens.load(custody.tenant, rows[n].id)
        assert stored == rows[n]
        (pan,) = await custody.open(stored, "pan")
        assert pan == many[n].pan
    await tokens.close()
    assert {one.type for one in await custody.entries()} == {"token.created"}
    assert len(await custody.entries()) == await custody.count("token") == MANY
    report = await custody.store.report()
    assert report.violations_total == 0


async def test_none_and_one_are_many_too(custody: Custody) -> None:
    assert await custody.vault.tokenize_many([], custody.wanted()) == []
    (row,) = await custody.vault.tokenize_many([custody.card(cvc="123")], custody.wanted())
    stored = await custody.vault.load(custody.tenant, row.id)
    assert [one.reveal() for one in await custody.open(stored, "pan", "cvc")] == [cards.VISA, "123"]


async def test_the_same_card_twice_shares_a_fingerprint_or_with_reuse_a_token(
    custody: Custody,
) -> None:
    same = [custody.card()] * 3
    rows = await custody.vault.tokenize_many(same, custody.wanted())
    stored = [await custody.vault.load(custody.tenant, row.id) for row in rows]
    assert len({row.id for row in stored}) == 3
    assert len({row.fingerprint for row in stored}) == 1

    first = await custody.token(reuse=True)
    again = await custody.vault.tokenize_many(same, custody.wanted(reuse=True))
    assert {row.id for row in again} == {first.id}


async def test_with_reuse_the_latest_of_the_dates_counts_wherever_it_stood(
    custody: Custody, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(card_vault, "SLICE_CARDS", 3)
    years = [2029, None, 2033, 2031, 2030, 2032, None, 2029]
    several = [custody.card(year=year) if year else Card.number_only(cards.VISA) for year in years]
    rows = await custody.vault.tokenize_many(several, custody.wanted(reuse=True))
    (token,) = {row.id for row in rows}
    stored = await custody.vault.load(custody.tenant, token)
    assert stored.expiry == rows[-1].expiry == Expiry(2033, 12)
    updates = [one for one in await custody.entries() if isinstance(one, TokenUpdated)]
    assert 1 <= len(updates) <= 2
    assert await custody.count("token") == 1


async def test_with_reuse_the_last_code_counts(custody: Custody) -> None:
    several = [custody.card(cvc=code) for code in ("111", "222", "333")]
    rows = await custody.vault.tokenize_many(several, custody.wanted(reuse=True))
    stored = await custody.vault.load(custody.tenant, rows[0].id)
    (code,) = await custody.open(stored, "cvc")
    assert code.reveal() == "333"


async def test_names_that_are_taken_are_drawn_again(
    custody: Custody, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = count()
    taken = "9900000000014242"
    monkeypatch.setattr(
        token_creation,
        "new_pan_like",
        lambda _pan: taken if (n := next(numbers)) < 3 else f"99{n:010}4242",
    )
    rows = await custody.vault.tokenize_many(
        [custody.card()] * 3, custody.wanted(format="pan_like")
    )
    assert len({row.pan_like for row in rows}) == 3
    assert rows[0].pan_like == taken
    for row in rows:
        assert (await custody.vault.load(custody.tenant, row.id)).pan_like == row.pan_like

    monkeypatch.setattr(token_creation, "new_pan_like", lambda _pan: taken)
    with pytest.raises(FormatRefused):
        await custody.vault.tokenize_many([custody.card()], custody.wanted(format="pan_like"))
    monkeypatch.undo()
    (drawn,) = await custody.vault.tokenize_many(
        [custody.card()], custody.wanted(format="pan_like")
    )
    assert drawn.pan_like is not None
    assert looks_pan_like(drawn.pan_like)


# --- what is refused -------------------------------------------------------------------------


async def test_what_no_card_may_be_is_found_before_any_is_stored(custody: Custody) -> None:
    many = drawn_cards(SLICE_CARDS + 1)
    with pytest.raises(InvalidCard) as refusal:
        await custody.live.tokenize_many([*many, custody.card()], custody.wanted())
    assert (refusal.value.field, refusal.value.reason) == ("number", "test_number")
    short = Card.number_only(cards.DINERS)
    with pytest.raises(FormatRefused):
        await custody.vault.tokenize_many([*many, short], custody.wanted(format="pan_like"))
    assert await custody.count("token") == 0


async def test_what_fails_fails_all_and_no_card_is_half_stored(
    custody: Custody, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ledger gives up in the middle: whole slices are there, each row with its entry."""
    many = drawn_cards(8 * SLICE_CARDS)
    append_all = custody.replica.ledger.append_all
    calls = count()

    async def until_the_third(units: Sequence[object]) -> object:
        if next(calls) == 2:
            raise LedgerUnavailable
        return await append_all(units)  # type: ignore[arg-type]

    monkeypatch.setattr(custody.replica.ledger, "append_all", until_the_third)
    with pytest.raises(LedgerUnavailable):
        await custody.vault.tokenize_many(many, custody.wanted())
    stored = await custody.count("token")
    assert stored in {slices * SLICE_CARDS for slices in range(2, 6)}
    assert len(await custody.entries()) == stored


async def test_nothing_is_stored_of_what_is_not_sealed(custody: Custody) -> None:
    with fake_cluster() as cluster:
        async with place_of_cluster(cluster).transit("test") as transit:
            keys = tokenize_keys(transit)
            table = TokenTable(custody.store.database)
            ledger = custody.replica.ledger
            vault = CardVault(keys, table, ledger, env="test", now=custody.store.clock)
            cluster.node.faults.always = (503, b'{"errors": ["Vault is sealed"]}')
            with pytest.raises(KeysSealed):
                await vault.tokenize_many(drawn_cards(MANY), custody.wanted())
            await keys.close()
            await table.close()
    assert (await custody.count("token"), await custody.entries()) == (0, [])


async def test_units_that_find_no_room_are_not_taken_at_all(custody: Custody) -> None:
    ledger, before = custody.replica.ledger, custody.replica.ledger.size
    with pytest.raises(Overloaded):
        await ledger.append_all([statement()] * (QUEUE_UNITS_MAX + 1))
    await ledger.append(statement())
    assert ledger.size == before + 1


async def test_what_was_canceled_is_not_appended_later(custody: Custody) -> None:
    ledger, before = custody.replica.ledger, custody.replica.ledger.size
    async with custody.store.head_locked():
        waiting = asyncio.create_task(ledger.append_all([statement(), statement()]))
        await custody.store.until_blocked()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    await ledger.append(statement())
    assert ledger.size == before + 1


# --- slices ----------------------------------------------------------------------------------


async def test_slices_keep_the_order_and_a_few_are_under_way() -> None:
    under_way, most = 0, 0

    async def work(some: Sequence[int]) -> list[int]:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0)
        if some[0] == 0:
            await asyncio.sleep(0)  # the first ends last
            await asyncio.sleep(0)
        under_way -= 1
        return [-one for one in some]

    made = await in_slices(range(10), work, size=3, at_once=2)
    assert made == [-one for one in range(10)]
    assert most == 2
    assert await in_slices([], work, size=3, at_once=2) == []


async def test_after_a_failure_no_slice_is_begun_and_the_first_failure_is_told() -> None:
    begun: list[int] = []

    async def work(some: Sequence[int]) -> Sequence[int]:
        begun.append(some[0])
        await asyncio.sleep(0)
        if some[0] == 0:
            await asyncio.sleep(0)
            raise KeysError
        if some[0] == 1:
            raise CustodyError
        return some

    with pytest.raises(KeysError):
        await in_slices(range(9), work, size=1, at_once=3)
    assert begun == [0, 1, 2]


def test_a_few_cards_go_with_those_of_others() -> None:
    assert 1 < FEW_CARDS < SLICE_CARDS
