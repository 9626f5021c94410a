"""Token rows: made, found, changed and erased with the ledger, and their CVCs beside them."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest

from tests.vault.ledger.test_store import appending, together
from tests.vault.rows import (
    Sender,
    change,
    create,
    delete,
    deleted_entry,
    new_cvc,
    new_fingerprint,
    new_row,
    new_tenant,
    now,
)
from tests.vault.stores import Replica, Store
from vault import token_table
from vault.authorization import State
from vault.errors import StoreUnavailable, TokenInUse, TokenUnknown
from vault.ledger.unit import Line, Placed, Unit
from vault.token_table import (
    DeleteToken,
    FingerprintValue,
    PanLikeTaken,
    TokenExists,
    TokenRow,
    TokenTable,
    keep_cvcs,
)

pytestmark = pytest.mark.embedded


async def append(replica: Replica, *units: Unit) -> list[Sequence[Placed] | BaseException]:
    tasks = appending(replica.ledger, *units)
    return await asyncio.gather(*tasks, return_exceptions=True)


async def stored(store: Store, *rows: TokenRow) -> None:
    async with store.replica() as replica:
        await append(replica, *(create(row) for row in rows))


async def leaves_of(store: Store, row: TokenRow) -> list[str]:
    found = await store.rows(
        "SELECT type FROM entry WHERE position($1::bytea IN body) > 0 ORDER BY idx",
        row.id.encode(),
    )
    return [each["type"] for each in found]


async def loaded(store: Store, row: TokenRow) -> TokenRow | None:
    table = TokenTable(store.database)
    found = await table.load(row.tenant, row.id)
    await table.close()
    return found


# --- made and found -------------------------------------------------------------------------


async def test_what_is_stored_is_what_is_found(shared_store: Store) -> None:
    plain = new_row(new_tenant())
    full = new_row(
        new_tenant(),
        pan_like="99" + "0" * 10 + "4242",
        format="pan_like",
        bin=None,
        pan_length=12,
        single_use=True,
        expires_at=now() + timedelta(hours=1),
        customer_reference="c_1",
    )
    await stored(shared_store, plain, full)
    assert await loaded(shared_store, plain) == plain
    assert await loaded(shared_store, full) == full
    table = TokenTable(shared_store.database)
    assert full.pan_like is not None
    assert await table.load(full.tenant, full.pan_like) == full
    assert await leaves_of(shared_store, full) == ["token.created"]


@pytest.mark.guards("T-20")
async def test_a_token_is_its_tenant_s_alone(shared_store: Store) -> None:
    row = new_row(new_tenant(), pan_like="99" + "1" * 10 + "4242", format="pan_like")
    await stored(shared_store, row)
    table = TokenTable(shared_store.database)
    stranger = new_tenant()
    assert row.pan_like is not None
    assert await table.load(stranger, row.id) is None
    assert await table.load(stranger, row.pan_like) is None
    assert await table.load(row.tenant, new_row(row.tenant).id) is None


async def test_reads_at_the_same_time_share_a_statement_and_get_each_their_own(
    shared_store: Store,
) -> None:
    rows = [new_row(new_tenant()) for _ in range(30)]
    await stored(shared_store, *rows)
    table = TokenTable(shared_store.database)
    wanted = [*rows, new_row(new_tenant()), replace(rows[0], tenant=new_tenant())]
    found = await asyncio.gather(*(table.load(row.tenant, row.id) for row in wanted))
    assert found == [*rows, None, None]
    tenant = rows[3].tenant
    some = [rows[3].id, rows[4].id, rows[3].id]
    assert await table.load_all(tenant, some) == [rows[3], None, rows[3]]
    await table.close()


async def test_a_stored_code_is_found_with_its_token_until_its_time_is_up(
    shared_store: Store,
) -> None:
    fresh, over = new_row(new_tenant()), new_row(new_tenant())
    cvc, old = new_cvc(), new_cvc(seconds=-1)
    async with shared_store.replica() as replica:
        await append(replica, create(fresh, cvc=cvc), create(over, cvc=old))
    assert await loaded(shared_store, fresh) == replace(
        fresh, has_cvc=True, cvc_ciphertext=cvc.ciphertext, cvc_key_version=3
    )
    assert await loaded(shared_store, over) == over


# --- reuse ----------------------------------------------------------------------------------


@pytest.mark.guards("T-27")
async def test_fifty_at_once_make_one_reusable_token(shared_store: Store) -> None:
    tenant, value = new_tenant(), new_fingerprint()
    async with shared_store.replica() as one, shared_store.replica() as two:
        for replicas in ((one,), (one, two)):
            rows = [
                new_row(
                    tenant, reusable=True, format="opaque" if len(replicas) == 1 else "pan_like"
                )
                for _ in range(50)
            ]
            outcomes = await asyncio.gather(
                *(
                    replicas[n % len(replicas)].ledger.append(create(row, value), seconds=10)
                    for n, row in enumerate(rows)
                ),
                return_exceptions=True,
            )
            (winner,) = (
                row for row, one in zip(rows, outcomes, strict=True) if isinstance(one, list)
            )
            losers = [one for one in outcomes if not isinstance(one, list)]
            assert {type(one) for one in losers} == {TokenExists}
            assert {one.row.id for one in losers if isinstance(one, TokenExists)} == {winner.id}
            assert await leaves_of(shared_store, winner) == ["token.created"]
    counts = await shared_store.rows("SELECT count(*) FROM token WHERE tenant = $1", tenant)
    assert counts[0]["count"] == 2  # one a format
    assert await fingerprints(shared_store, value) == 1
    assert (await shared_store.report()).violations == ()


async def fingerprints(store: Store, value: FingerprintValue) -> object:
    return await store.value("SELECT count(*) FROM fingerprint WHERE value = $1", value.value)


async def test_reuse_finds_only_what_it_may(shared_store: Store) -> None:
    """Not another tenant's, nor of another format, nor a token that was made for one purpose."""
    tenant, value = new_tenant(), new_fingerprint()
    own = new_row(tenant, reusable=True)
    others = [
        new_row(tenant),
        new_row(tenant, single_use=True),
        new_row(tenant, reusable=True, format="pan_like", pan_like="99" + "2" * 10 + "4242"),
        new_row(new_tenant(), reusable=True),
    ]
    async with shared_store.replica() as replica:
        made = await append(replica, *(create(row, value) for row in others), create(own, value))
        assert not any(isinstance(one, BaseException) for one in made)
        again = await append(replica, create(new_row(tenant, reusable=True), value))
        found = again[0]
        assert isinstance(found, TokenExists)
        assert found.row.id == own.id


async def test_cards_of_one_tenant_share_a_fingerprint_and_tenants_do_not(
    shared_store: Store,
) -> None:
    tenant, stranger, value = new_tenant(), new_tenant(), new_fingerprint()
    rows = [new_row(tenant), new_row(tenant), new_row(stranger)]
    async with shared_store.replica() as replica:
        await append(replica, create(rows[0], value))
        await append(replica, create(rows[1], value), create(rows[2], value))
    found = [await loaded(shared_store, row) for row in rows]
    names = [row.fingerprint for row in found if row is not None]
    assert names[0] == names[1] == rows[0].fingerprint
    assert names[2] == rows[2].fingerprint


async def test_a_token_that_expires_is_reused_no_more(shared_store: Store) -> None:
    tenant, value = new_tenant(), new_fingerprint()
    row = new_row(tenant, reusable=True)
    async with shared_store.replica() as replica:
        await append(replica, create(row, value))
        await append(replica, change(row, expires_at=now() + timedelta(hours=1)))
        (made,) = await append(replica, create(new_row(tenant, reusable=True), value))
        assert isinstance(made, list)


# --- pan_like -------------------------------------------------------------------------------


@pytest.mark.guards("T-27")
async def test_a_pan_like_name_is_given_once_a_tenant(shared_store: Store) -> None:
    tenant = new_tenant()
    named = {"format": "pan_like", "pan_like": "99" + "3" * 10 + "4242"}
    async with shared_store.replica() as replica:
        outcomes = await together(
            shared_store,
            replica,
            *(create(new_row(tenant, **named)) for _ in range(3)),
            create(new_row(new_tenant(), **named)),
            create(new_row(tenant)),
            create(new_row(tenant)),
        )
        assert [type(one) for one in outcomes] == [list, *[PanLikeTaken] * 2, *[list] * 3]
        (later,) = await append(replica, create(new_row(tenant, **named)))
        assert isinstance(later, PanLikeTaken)


# --- changed --------------------------------------------------------------------------------


async def test_a_change_is_on_record_and_in_the_row(shared_store: Store) -> None:
    row = new_row(new_tenant())
    new = replace(
        row, exp_month=1, exp_year=2033, customer_reference="c_2", expires_at=now() + timedelta(1)
    )
    async with shared_store.replica() as replica:
        await append(replica, create(row))
        await append(replica, change(new))
    assert await loaded(shared_store, row) == new
    assert await leaves_of(shared_store, row) == ["token.created", "token.updated"]


async def test_only_a_live_token_of_the_tenant_is_changed(shared_store: Store) -> None:
    row, over = new_row(new_tenant()), new_row(new_tenant(), expires_at=now() - timedelta(hours=1))
    async with shared_store.replica() as replica:
        await append(replica, create(row), create(over))
        outcomes = await append(
            replica,
            replace(change(row), tenant=new_tenant()),
            change(over, customer_reference="c_3"),
            change(new_row(row.tenant)),
        )
        assert {type(one) for one in outcomes} == {TokenUnknown}
    assert await loaded(shared_store, row) == row


# --- erased ---------------------------------------------------------------------------------


@pytest.mark.guards("T-27")
async def test_a_token_is_erased_once_with_its_code(shared_store: Store) -> None:
    row = new_row(new_tenant())
    async with shared_store.replica() as replica:
        await append(replica, create(row, cvc=new_cvc()))
        outcomes = await together(shared_store, replica, *(delete(row) for _ in range(5)))
        assert [type(one) for one in outcomes] == [list, *[TokenUnknown] * 4]
        assert [type(one) for one in await append(replica, delete(row))] == [TokenUnknown]
    assert await loaded(shared_store, row) is None
    assert await leaves_of(shared_store, row) == ["token.created", "token.deleted"]
    assert not await shared_store.value("SELECT count(*) FROM cvc WHERE token = $1", row.id)


@pytest.mark.guards("T-20")
async def test_a_stranger_erases_nothing_and_is_in_nobody_s_way(shared_store: Store) -> None:
    row = new_row(new_tenant())
    async with shared_store.replica() as replica:
        await append(replica, create(row))
        outcomes = await together(
            shared_store, replica, replace(delete(row), tenant=new_tenant()), delete(row)
        )
        assert [type(one) for one in outcomes] == [TokenUnknown, list]
    assert await loaded(shared_store, row) is None


async def test_the_fingerprint_goes_with_the_card_s_last_token(shared_store: Store) -> None:
    tenant, value = new_tenant(), new_fingerprint()
    one, two, three = (new_row(tenant) for _ in range(3))
    async with shared_store.replica() as replica:
        await append(replica, create(one, value), create(two, value))
        await append(replica, delete(one))
        assert await fingerprints(shared_store, value) == 1
        made = await together(shared_store, replica, delete(two), create(three, value))
        assert [type(each) for each in made] == [list, list]
        assert await fingerprints(shared_store, value) == 1
        await append(replica, delete(three))
        assert await fingerprints(shared_store, value) == 0
        four, five = new_row(tenant), new_row(tenant)
        await append(replica, create(four, value), create(five, value))
        await together(shared_store, replica, delete(four), delete(five))
        assert await fingerprints(shared_store, value) == 0


@pytest.mark.guards("T-27")
@pytest.mark.parametrize("delete_first", [True, False])
async def test_a_token_is_erased_or_used_and_never_both(
    shared_store: Store,
    delete_first: bool,  # noqa: FBT001
) -> None:
    sender = Sender()
    row = sender.row()
    async with shared_store.replica() as replica:
        await append(replica, create(row))
        units: list[Unit] = [delete(row), sender.opens(row)]
        if not delete_first:
            units.reverse()
        outcomes = await together(shared_store, replica, *units)
        by_kind = {type(unit): one for unit, one in zip(units, outcomes, strict=True)}
        assert isinstance(by_kind[DeleteToken], list)  # in one batch, erasure goes first
        assert [type(one) for one in outcomes if not isinstance(one, list)] == [TokenUnknown]
    assert (await shared_store.report()).violations == ()


async def test_a_token_in_use_stays_until_the_intent_has_ended(shared_store: Store) -> None:
    sender = Sender()
    row = sender.row()
    async with shared_store.replica() as replica:
        await append(replica, create(row))
        intent = sender.opens(row)
        await append(replica, intent)
        outcomes = await together(shared_store, replica, delete(row), delete(row))
        assert [type(one) for one in outcomes] == [TokenInUse] * 2
        await append(replica, sender.settles(intent, State.NOT_SENT))
        assert [type(one) for one in await append(replica, delete(row))] == [list]


async def test_an_expired_token_can_still_be_erased(shared_store: Store) -> None:
    row = new_row(new_tenant(), expires_at=now() - timedelta(hours=1))
    async with shared_store.replica() as replica:
        await append(replica, create(row))
        assert [type(one) for one in await append(replica, delete(row))] == [list]


# --- codes ----------------------------------------------------------------------------------


async def test_a_fresh_code_replaces_one_that_nobody_has(shared_store: Store) -> None:
    row, old, new = new_row(new_tenant()), new_cvc(), new_cvc()
    table = TokenTable(shared_store.database)
    async with shared_store.replica() as replica:
        await append(replica, create(row, cvc=old))
    assert await table.attach_cvc(row, new, None)
    found = await loaded(shared_store, row)
    assert found is not None
    assert found.cvc_ciphertext == new.ciphertext
    bare = new_row(new_tenant())
    await stored(shared_store, bare)
    assert await table.attach_cvc(bare, new, None)


@pytest.mark.guards("T-71")
async def test_a_code_that_an_authorization_has_is_not_replaced(shared_store: Store) -> None:
    sender = Sender()
    row, old = sender.row(), new_cvc()
    table = TokenTable(shared_store.database)
    async with shared_store.replica() as replica:
        await append(replica, create(row, cvc=old))
        await append(replica, sender.opens(row, cvc=True))
        assert not await table.attach_cvc(row, new_cvc(), None)
    assert (
        await shared_store.value("SELECT ciphertext FROM cvc WHERE token = $1", row.id)
        == old.ciphertext
    )


async def test_no_codes_are_no_statement(shared_store: Store) -> None:
    async with shared_store.session() as connection:
        assert await keep_cvcs(connection, []) == 0


@pytest.mark.guards("T-71")
async def test_codes_end_with_their_time_claimed_or_not(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token_table, "SWEEP_ROWS_MAX", 3)
    sender = Sender()
    rows = [sender.row() for _ in range(5)]
    table = TokenTable(store.database)
    async with store.replica() as replica:
        await append(replica, *(create(row, cvc=new_cvc()) for row in rows))
        await append(replica, sender.opens(rows[0], cvc=True))
        at = store.clock.at
        assert await table.live_cvcs() == 5
        assert await table.sweep_cvcs(at) == 0
        later = at + timedelta(minutes=16)
        async with store.session() as settling, settling.transaction():
            await settling.execute("SELECT 1 FROM cvc WHERE token = $1 FOR UPDATE", rows[1].id)
            assert await table.sweep_cvcs(later) + await table.sweep_cvcs(later) == 4
            assert await table.live_cvcs() == 1
        assert await table.sweep_cvcs(later) == 1
        assert await table.live_cvcs() == 0


@pytest.mark.guards("T-71")
async def test_codes_are_in_no_log_that_could_be_kept(shared_store: Store) -> None:
    kind = await shared_store.value("SELECT relpersistence FROM pg_class WHERE relname = 'cvc'")
    assert kind == b"u"  # UNLOGGED: no WAL, no replica, no base backup


# --- lists ----------------------------------------------------------------------------------


async def test_a_person_s_tokens_newest_first_page_by_page(shared_store: Store) -> None:
    tenant, at = new_tenant(), now()
    rows = [
        new_row(tenant, customer_reference="c_1", created_at=at - timedelta(seconds=n // 2))
        for n in range(7)
    ]
    others = [
        new_row(tenant, customer_reference="c_2"),
        new_row(new_tenant(), customer_reference="c_1"),
        new_row(tenant),
        new_row(tenant, customer_reference="c_1", expires_at=at - timedelta(seconds=1)),
    ]
    await stored(shared_store, *rows, *others)
    table = TokenTable(shared_store.database)
    expected = sorted(rows, key=lambda row: (row.created_at, row.id), reverse=True)
    pages: list[TokenRow] = []
    after = None
    while page := await table.of_customer(tenant, "c_1", limit=3, after=after):
        assert len(page) <= 3
        pages += page
        after = page[-1].created_at, page[-1].id
    assert pages == expected


async def test_tokens_whose_time_is_up_oldest_first(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token_table, "SWEEP_ROWS_MAX", 2)
    at = now()
    rows = [
        new_row(new_tenant(), expires_at=at + timedelta(seconds=seconds))
        for seconds in (-3, -2, -1, 1)
    ]
    await stored(store, *rows, new_row(new_tenant()))
    table = TokenTable(store.database)
    assert await table.expired(at) == [(row.tenant, row.id) for row in rows[:2]]


# --- what cannot be -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"last4": "42424"},
        {"bin": "4242424"},
        {"pan_length": 20},
        {"exp_month": 13},
        {"customer_reference": "a b"},
        {"format": "plain"},
    ],
)
async def test_a_row_that_could_hold_more_than_it_may_is_refused(
    shared_store: Store, changes: dict[str, object]
) -> None:
    row = new_row(new_tenant())
    unit = replace(create(row), row=replace(row, **changes))  # type: ignore[arg-type]
    async with shared_store.replica() as replica:
        (outcome,) = await append(replica, unit)
    assert isinstance(outcome, StoreUnavailable)
    assert await leaves_of(shared_store, row) == []


async def test_a_line_alone_is_no_token(shared_store: Store) -> None:
    """The unit's rows and lines are one: rows without the entry cannot be."""
    row = new_row(new_tenant(), id="no token")
    unit = replace(create(new_row(new_tenant())), row=row, lines=(Line(deleted_entry(row)),))
    async with shared_store.replica() as replica:
        (outcome,) = await append(replica, unit)
    assert isinstance(outcome, BaseException)
    assert await loaded(shared_store, row) is None
