"""The rotation of edge keys: days of it, races, crashes, and an emergency."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import timedelta

import pytest

from tests.vault.edge_key_places import (
    DAY,
    START,
    Login,
    Places,
    edge_key_places,
    sealed_to,
)
from tests.vault.ledger.samples import ORIGIN, new_uuid
from tests.vault.stores import Store
from vault.edge_key_rotation import DESTROYED_A_TURN_MAX, EdgeKeyRotation
from vault.edge_keys import EdgeKey, EdgeKeys, kid_of, made_at, uuid_of
from vault.embedded.bootstrap import EmbeddedParts
from vault.errors import (
    EdgeKeyUnknown,
    KeysMisconfigured,
    KeysUnavailable,
    LedgerUnavailable,
    StartRefused,
)
from vault.ids import new_uuid7
from vault.ledger.entry import Actor, EdgeKeyCreated, EdgeKeyDestroyed
from vault.ledger.store import Ledger
from vault.ledger.unit import Line, Statement

pytestmark = pytest.mark.embedded

CONSOLE = Actor(id="op_console", kind="operator")
CREATED, DESTROYED = "edge_key.created", "edge_key.destroyed"


@pytest.fixture
async def places(embedded: EmbeddedParts) -> AsyncIterator[Places]:
    async with edge_key_places(embedded) as made:
        yield made


async def recorded(store: Store) -> list[tuple[str, str]]:
    """Read what the ledger says of edge keys, in its order."""
    entries = await store.entries()
    return [
        (entry.type, entry.kid)
        for entry in entries
        if isinstance(entry, EdgeKeyCreated | EdgeKeyDestroyed)
    ]


async def published(gateway: EdgeKeys) -> tuple[EdgeKey, ...]:
    await gateway.refresh()
    return gateway.published()


async def test_five_days(places: Places, shared_store: Store) -> None:
    """Each key is sealed to for a day and opens for one more; then nobody opens it any more."""
    gateway = places.gateway()
    boxes: dict[str, bytes] = {}
    async with shared_store.replica() as replica:
        rotation = places.rotation(replica.ledger)
        for hour in range(0, 5 * 24, 4):
            places.clock.at = START + timedelta(hours=hour)
            changed = await rotation.turn()
            assert changed is (hour % 24 == 0)
            keys = await published(gateway)
            assert len(keys) == (1 if hour < 24 else 2)
            boxes.setdefault(keys[0].kid, sealed_to(keys[0], keys[0].kid.encode()))
            for key in keys:
                assert await gateway.open(key.kid, boxes[key.kid]) == key.kid.encode()
            for kid in boxes.keys() - {key.kid for key in keys}:
                with pytest.raises(EdgeKeyUnknown):
                    await gateway.open(kid, boxes[kid])
    kids = sorted(boxes)
    assert len(kids) == 5
    for kid in kids[:3]:
        assert await places.tokenize.read_secret(f"edge/{kid}") is None
    for kid in kids[3:]:
        assert await places.tokenize.read_secret(f"edge/{kid}") is not None
    assert [one for one in await recorded(shared_store) if one[1] in kids] == [
        (CREATED, kids[0]), (CREATED, kids[1]),
        (CREATED, kids[2]), (DESTROYED, kids[0]),
        (CREATED, kids[3]), (DESTROYED, kids[1]),
        (CREATED, kids[4]), (DESTROYED, kids[2]),
    ]  # fmt: skip
    assert places.refused == []


async def test_a_key_has_the_times_of_the_settings(places: Places, shared_store: Store) -> None:
    places.clock.at += timedelta(microseconds=678_901)
    async with shared_store.replica() as replica:
        rotation = places.rotation(
            replica.ledger, rotate=timedelta(hours=2), overlap=timedelta(hours=5)
        )
        assert await rotation.turn()
    (key,) = await published(places.gateway())
    assert (key.not_before, key.not_after) == (START, START + timedelta(hours=7))
    assert made_at(key.kid) == START
    assert key.signed_by == max(await places.reveal.public_keys("edge-sign"))


async def test_entries_are_the_rotations_and_the_log_stays_sound(
    places: Places, store: Store
) -> None:
    async with store.replica() as replica:
        rotation = places.rotation(replica.ledger)
        await rotation.turn()
        places.clock.at += 2 * DAY
        await rotation.turn()
    entries = [entry for entry in await store.entries() if entry.type in (CREATED, DESTROYED)]
    assert {(entry.actor.kind, entry.actor.id) for entry in entries} == {("system", "rotation")}
    (first, *_) = await recorded(store)
    assert entries[0].id == str(uuid_of(first[1]))
    assert (await store.report()).violations == ()


# --- again, and by others -------------------------------------------------------------------


async def test_a_turn_with_nothing_to_do_changes_nothing(
    places: Places, shared_store: Store
) -> None:
    async with shared_store.replica() as replica:
        assert await places.rotation(replica.ledger).turn()
        login = places.maker()
        other = places.rotation(replica.ledger, login)
        for _ in range(3):
            assert not await other.turn()
        assert login.calls == ["list"] * 3
    assert len(places.kids) == 1


async def test_two_that_race_make_two_good_keys_and_every_entry_once(
    places: Places, shared_store: Store
) -> None:
    async with shared_store.replica() as one, shared_store.replica() as two:
        rotations = [places.rotation(one.ledger), places.rotation(two.ledger)]
        for _ in range(4):
            await asyncio.gather(*(rotation.turn() for rotation in rotations))
            assert not any([await rotation.turn() for rotation in rotations])
            keys = await published(places.gateway())
            assert 1 <= len(keys) <= 4, "of this day and the day before, two each at the most"
            for key in keys:
                assert await opens(places.gateway(), key)
            places.clock.at += DAY
    entries = [entry for entry in await recorded(shared_store) if entry[1] in places.kids]
    assert len(entries) == len(set(entries))
    assert {kid for kind, kid in entries if kind == CREATED} == places.kids
    ended = {kid for kind, kid in entries if kind == DESTROYED}
    assert {kid for kid in places.kids if await places.tokenize.read_secret(f"edge/{kid}")} == (
        places.kids - ended
    )


async def opens(gateway: EdgeKeys, key: EdgeKey) -> bool:
    await gateway.refresh()
    return await gateway.open(key.kid, sealed_to(key)) == b"a card"


async def test_a_node_that_lags_makes_no_second_key(places: Places, shared_store: Store) -> None:
    login = places.maker()
    async with shared_store.replica() as replica:
        rotation = places.rotation(replica.ledger, login)
        assert await rotation.turn()
        login.hidden |= places.kids
        assert not await rotation.turn()
    assert len(places.kids) == 1


async def test_a_key_of_a_clock_far_ahead_counts_for_nothing(
    places: Places, shared_store: Store
) -> None:
    async with shared_store.replica() as replica:
        rotation = places.rotation(replica.ledger)
        places.clock.at = START + 300 * DAY
        await rotation.turn()
        (ahead,) = places.kids
        foreign = kid_of(new_uuid7(places.clock.at))
        await places.maker().write_secret(f"edge/{foreign}", {}, cas=0)
        places.clock.at = START
        assert await rotation.turn()
        assert not await rotation.turn()
    (key,) = await published(places.gateway())
    assert {key.kid, ahead, foreign} == places.kids
    assert await recorded_of(shared_store, foreign) == []
    assert await places.tokenize.read_secret(f"edge/{ahead}") is not None, "its time may come"


async def test_after_a_start_old_keys_are_destroyed_again_a_few_a_turn(
    places: Places, shared_store: Store
) -> None:
    old = [kid_of(new_uuid7(START - timedelta(days=100 + n))) for n in range(40)]
    for kid in old:
        await places.maker().write_secret(f"edge/{kid}", {"private_key": "x"}, cas=0)
    async with shared_store.replica() as replica:
        login = places.maker()
        rotation = places.rotation(replica.ledger, login)
        for left in (40 - DESTROYED_A_TURN_MAX, 0, 0):
            await rotation.turn()
            there = [kid for kid in old if await places.tokenize.read_secret(f"edge/{kid}")]
            assert there == old[40 - left :], "the youngest first"
        assert login.calls.count("destroy") == 40
        again = places.maker()
        other = places.rotation(replica.ledger, again)
        assert not await other.turn()
        assert again.calls.count("destroy") == DESTROYED_A_TURN_MAX
    assert {(DESTROYED, kid) for kid in old} <= set(await recorded(shared_store))


# --- crashes and faults ---------------------------------------------------------------------


@dataclass
class DeadAfter(Login):
    """The process ends after one step."""

    step: str = ""

    async def write_secret(self, path: str, data: Mapping[str, str], *, cas: int) -> int | None:
        version = await super().write_secret(path, data, cas=cas)
        self._end("write")
        return version

    def _end(self, step: str) -> None:
        if step == self.step:
            raise KeysUnavailable


async def test_a_key_whose_maker_died_before_the_entry_is_put_on_record(
    places: Places, shared_store: Store
) -> None:
    async with shared_store.replica() as replica:
        dying = DeadAfter(places.reveal, places.kids, step="write")
        with pytest.raises(KeysUnavailable):
            await places.rotation(replica.ledger, dying).turn()
        (kid,) = places.kids
        assert (CREATED, kid) not in await recorded(shared_store)
        assert await places.rotation(replica.ledger).turn(), "what was missing was changed"
    assert places.kids == {kid}, "it is used, and no second one made"
    assert (CREATED, kid) in await recorded(shared_store)


async def test_what_the_ledger_did_not_take_the_next_turn_puts_on_record(
    places: Places, shared_store: Store
) -> None:
    async with shared_store.replica() as gone:
        pass
    first, second = places.rotation(gone.ledger), places.rotation(gone.ledger)
    with pytest.raises(LedgerUnavailable):
        await first.turn()
    (kid,) = places.kids
    async with shared_store.replica() as replica:
        rotation = places.rotation(replica.ledger)
        assert await rotation.turn()
        assert await recorded_of(shared_store, kid) == [CREATED]
        places.clock.at += 2 * DAY
        with pytest.raises(LedgerUnavailable):
            await second.turn()
        assert await rotation.turn()
        assert await recorded_of(shared_store, kid) == [CREATED, DESTROYED]
    assert await places.tokenize.read_secret(f"edge/{kid}") is None


async def recorded_of(store: Store, kid: str) -> list[str]:
    return [kind for kind, one in await recorded(store) if one == kid]


async def test_an_entry_that_came_twice_at_once_is_there_once(
    places: Places, shared_store: Store
) -> None:
    async with shared_store.replica() as replica:
        await places.rotation(replica.ledger).turn()
        (kid,) = places.kids
        rotations = [places.rotation(replica.ledger) for _ in range(10)]
        filler = EdgeKeyCreated(actor=CONSOLE, id=new_uuid(), kid=kid)
        turns = [rotation.turn() for rotation in rotations]
        *changed, _ = await asyncio.gather(*turns, replica.ledger.append(Statement([Line(filler)])))
        assert not any(changed)
        places.clock.at += 2 * DAY
        await asyncio.gather(*(places.rotation(replica.ledger)._put_destroyed(kid) for _ in "123"))
    assert await recorded_of(shared_store, kid) == [CREATED, CREATED, DESTROYED]


@dataclass
class WrongSigner(Login):
    """Signs with another key than the one it shows."""

    async def sign(self, key: str, version: int, message: bytes) -> bytes:
        assert key == "edge-sign"
        return await self.transit.sign("ledger", 1, message)


async def test_a_key_that_is_not_signed_by_what_is_published_is_not_stored(
    places: Places, shared_store: Store
) -> None:
    async with shared_store.replica() as replica:
        rotation = places.rotation(replica.ledger, WrongSigner(places.reveal, places.kids))
        with pytest.raises(KeysMisconfigured):
            await rotation.turn()
    assert places.kids == set()


@dataclass
class Taken(Login):
    """Has something at every path already."""

    async def write_secret(self, path: str, data: Mapping[str, str], *, cas: int) -> int | None:
        await super().write_secret(path, {}, cas=cas)
        return await super().write_secret(path, data, cas=cas)


async def test_a_kid_that_is_taken_is_left_alone(places: Places, shared_store: Store) -> None:
    async with shared_store.replica() as replica:
        rotation = places.rotation(replica.ledger, Taken(places.reveal, places.kids))
        with pytest.raises(KeysMisconfigured):
            await rotation.turn()


@pytest.mark.parametrize(
    ("rotate", "overlap"), [(0 * DAY, DAY), (DAY, 0 * DAY), (-DAY, DAY), (10 * DAY, 5 * DAY)]
)
async def test_settings_that_no_key_can_keep_are_refused(
    places: Places, shared_store: Store, rotate: timedelta, overlap: timedelta
) -> None:
    async with shared_store.replica(start=False) as replica:
        with pytest.raises(StartRefused, match="up to 14 d"):
            places.rotation(replica.ledger, rotate=rotate, overlap=overlap)


# --- an emergency ---------------------------------------------------------------------------


def command(places: Places, ledger: Ledger) -> EdgeKeyRotation:
    return EdgeKeyRotation(
        places.maker(), ledger, origin=ORIGIN, now=places.clock,
        rotate=DAY, overlap=DAY, actor=CONSOLE,
    )  # fmt: skip


async def test_all_keys_are_replaced_at_once(places: Places, shared_store: Store) -> None:
    gateway = places.gateway()
    async with shared_store.replica() as replica:
        rotation = places.rotation(replica.ledger)
        await rotation.turn()
        places.clock.at += DAY
        await rotation.turn()
        before = await published(gateway)
        boxes = {key.kid: sealed_to(key) for key in before}
        assert len(before) == 2
        places.clock.at += timedelta(minutes=1)
        assert await command(places, replica.ledger).replace_all() == tuple(
            key.kid for key in before
        )
        (new,) = await published(gateway)
        assert new.kid not in boxes
        for kid, box in boxes.items():
            with pytest.raises(EdgeKeyUnknown):
                await gateway.open(kid, box)
        assert await gateway.open(new.kid, sealed_to(new)) == b"a card"
        assert not await rotation.turn(), "the gateway has nothing to add"
        places.clock.at += timedelta(hours=1)
        assert await command(places, replica.ledger).replace_all() == (new.kid,)
    entries = await shared_store.entries(DESTROYED)
    ended = {entry.kid: entry for entry in entries if isinstance(entry, EdgeKeyDestroyed)}
    assert {ended[kid].actor for kid in boxes} == {CONSOLE}


async def test_no_trouble_with_the_ledger_saves_a_key(places: Places, shared_store: Store) -> None:
    async with shared_store.replica() as replica:
        await places.rotation(replica.ledger).turn()
    (old,) = places.kids
    places.clock.at += timedelta(minutes=1)
    with pytest.raises(LedgerUnavailable):
        await places.rotation(replica.ledger).replace_all()
    assert await places.tokenize.read_secret(f"edge/{old}") is None
    async with shared_store.replica() as replica:
        rotation = places.rotation(replica.ledger)
        assert await rotation.turn(), "the new one is put on record"
        places.clock.at += 2 * DAY
        await rotation.turn()
    assert await recorded_of(shared_store, old) == [CREATED, DESTROYED]
