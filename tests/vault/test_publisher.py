"""The publisher: what it signs, what it never signs, and what a crash at each step leaves."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.vault.ledger.samples import ORIGIN, new_uuid
from tests.vault.publishing import OVERLAP, KillAt, Killed, Stand, sizes, standing
from tests.vault.stores import Store
from vault.errors import StartRefused
from vault.ledger.entry import Actor, KeyRotated, LogSealed
from vault.ledger.note import VerifierKey, verified, verifier_key
from vault.ledger.tiles import TileName
from vault.ledger.tree import (
    leaf_hash,
    root_of,
    verify_consistency,
    verify_inclusion,
)
from vault.milestones import Milestone
from vault.seals import lift
from vault.signed_history import HistoryBroken, check_history, relearned
from vault.signer_memory import Remembered

pytestmark = pytest.mark.embedded

CONSOLE = Actor(id="op_console", kind="operator")
OTHER_ROOT = b"\1" * 32


@pytest.fixture
async def stand(store: Store, tmp_path: Path) -> AsyncIterator[Stand]:
    async with standing(store, tmp_path) as made:
        yield made


async def bodies(stand: Stand) -> list[bytes]:
    return [row["body"] for row in await stand.store.rows("SELECT body FROM entry ORDER BY idx")]


async def test_the_head_is_signed_stored_and_remembered_in_both_places(stand: Stand) -> None:
    await stand.append(3)
    async with stand.publishing() as publisher:
        await publisher.publish()
    latest = await stand.latest()
    assert latest is not None
    assert latest.origin == ORIGIN
    assert latest.size == 5
    assert latest.root == root_of(map(leaf_hash, await bodies(stand)))
    recalled = await stand.memory().recall()
    assert recalled.file == recalled.kv
    assert recalled.kv is not None
    assert (recalled.kv.size, recalled.kv.root) == (latest.size, latest.root)
    assert (stand.folder / "signed-head").stat().st_mode & 0o777 == 0o600


async def test_growth_is_published_with_proofs_that_verify(stand: Stand) -> None:
    async with stand.publishing() as publisher:
        await publisher.publish()
        old = await stand.latest()
        for number in (1, 254, 300, 7):
            await stand.append(number)
            await publisher.publish()
    new = await stand.latest()
    assert old is not None
    assert new is not None
    assert sizes(stand.signed()) == [2, 3, 257, 557, 564]
    for before in stand.signed():
        verify_consistency(
            await stand.log.consistency(before.size, new.size),
            old_size=before.size, old_root=before.root, size=new.size, root=new.root,
        )  # fmt: skip
    leaves = [leaf_hash(body) for body in await bodies(stand)]
    for index in (0, 1, 255, 256, 511, 512, 563):
        verify_inclusion(
            await stand.log.inclusion(index, new.size),
            index=index, size=new.size, leaf=leaves[index], root=new.root,
        )  # fmt: skip
    level_1 = await stand.log.tile(TileName(1, 0, 2))
    assert level_1 == root_of(leaves[:256]) + root_of(leaves[256:512])
    assert await stand.log.tile(TileName(0, 2, 52)) == b"".join(leaves[512:])
    assert await stand.log.tile(TileName(0, 2, 53)) is None, "no checkpoint has it"


async def test_what_no_checkpoint_covers_is_not_told(stand: Stand) -> None:
    async with stand.publishing() as publisher:
        await publisher.publish()
    await stand.append()
    assert await stand.log.tile(TileName(0, 0, 2)) is not None
    assert await stand.log.tile(TileName(0, 0, 3)) is None
    assert await stand.log.tile(TileName(None, 0, 3)) is None


async def test_a_head_that_has_not_grown_is_signed_again_only_after_a_while(stand: Stand) -> None:
    async with stand.publishing() as publisher:
        for _ in range(3):
            await publisher.publish()
        assert len(stand.service.signatures) == 1
        stand.store.clock.advance(seconds=31)
        await publisher.publish()
    assert len(stand.service.signatures) == 2, "so that silence shows"
    assert len({message for _, message in stand.service.signatures}) == 1
    assert stand.service.writes == 1


# --- crashes --------------------------------------------------------------------------------

CRASHES = {  # milestone: (is it remembered, is it signed, is it published)
    Milestone.HEAD_READ: (False, False, False),
    Milestone.EXTENDED: (False, False, False),
    Milestone.REMEMBERED: (True, False, False),
    Milestone.SIGNED: (True, True, False),
    Milestone.PUBLISHED: (True, True, True),
}


@pytest.mark.guards("T-60")
@pytest.mark.parametrize("milestone", CRASHES)
async def test_a_crash_at_each_step_leaves_one_history(stand: Stand, milestone: Milestone) -> None:
    async with stand.publishing() as publisher:
        await publisher.publish()
    await stand.append(10)
    async with stand.publishing(milestones=KillAt(milestone)) as doomed:
        with pytest.raises(Killed):
            await doomed.publish()
    recalled = await stand.memory().recall()
    latest = await stand.latest()
    assert recalled.largest is not None
    assert latest is not None
    found = (
        recalled.largest.size == 12,
        12 in sizes(stand.signed()),
        latest.size == 12,
    )
    assert found == CRASHES[milestone]
    await stand.append(5)  # while nobody publishes
    async with stand.publishing() as successor:
        await successor.publish()
    latest = await stand.latest()
    assert latest is not None
    assert latest.size == 17
    assert len({one.size for one in stand.signed()}) == len(set(stand.signed()))
    for before in stand.signed():
        verify_consistency(
            await stand.log.consistency(before.size, 17),
            old_size=before.size, old_root=before.root, size=17, root=latest.root,
        )  # fmt: skip
    assert await stand.seals() == []


@pytest.mark.parametrize("milestone", [Milestone.WITNESSED, Milestone.EXPORTED])
async def test_what_follows_the_publishing_is_done_again_by_the_successor(
    stand: Stand, milestone: Milestone
) -> None:
    async with stand.publishing(milestones=KillAt(milestone)) as doomed:
        await doomed.publish()
        duty = doomed.show if milestone is Milestone.WITNESSED else doomed.export
        with pytest.raises(Killed):
            await duty()
    async with stand.publishing() as successor:
        await successor.publish()
        await successor.show()
        await successor.export()
    assert len(set(stand.signed())) == 1


@pytest.mark.parametrize("operation", ["public_keys", "read_secret", "write_secret", "sign"])
@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_key_service_that_breaks_off_costs_a_turn_and_no_more(
    stand: Stand, operation: str, when: str
) -> None:
    if operation in {"public_keys", "read_secret"} and when == "after":
        when = "before"  # a read that took effect is a read that failed
    async with stand.publishing() as publisher:
        await publisher.publish()
        await stand.append(4)
        stand.store.clock.advance(seconds=40)  # the keys are looked at again, too
        stand.service.fails[operation] = when
        for _ in range(3):
            await publisher.publish()
        stand.service.fails.clear()
        await publisher.publish()
    latest = await stand.latest()
    assert latest is not None
    assert latest.size == 6
    assert len({one.size for one in stand.signed()}) == len(set(stand.signed()))
    assert await stand.seals() == []


# --- histories that are never signed --------------------------------------------------------


async def grown(stand: Stand) -> None:
    """Publish a log of 12 entries."""
    await stand.append(10)
    async with stand.publishing() as publisher:
        await publisher.publish()


async def refused(stand: Stand, cause: str) -> None:
    """Nothing is signed, everything is sealed, and no gateway starts."""
    before = len(stand.service.signatures)
    async with stand.publishing() as publisher:
        await publisher.publish()
    assert len(stand.service.signatures) == before
    assert await stand.seals() == [cause]
    assert stand.replica.ledger.sealed_because == cause
    with pytest.raises(StartRefused, match=cause):
        await check_history(stand.store.database, stand.memory(), stand.service, origin=ORIGIN)


async def cut_back(stand: Stand, size: int) -> None:
    """Make the log what it was when it had that many entries, head and all."""
    await stand.tamper("DELETE FROM entry WHERE idx >= $1", size)
    await stand.set_head(await bodies(stand))


@pytest.mark.guards("T-75")
async def test_an_older_copy_of_the_database_is_not_signed(stand: Stand) -> None:
    await grown(stand)
    await cut_back(stand, 8)
    await refused(stand, "rollback")


@pytest.mark.guards("T-75")
async def test_an_older_copy_that_has_grown_again_is_not_signed(stand: Stand) -> None:
    await grown(stand)
    await cut_back(stand, 8)
    async with stand.store.replica(name=stand.replica.name) as other:
        stand.replica = other
        await stand.append(20)
    await refused_from_apart(stand, "root_mismatch")


async def refused_from_apart(stand: Stand, cause: str) -> None:
    before = len(stand.service.signatures)
    async with stand.publishing() as publisher:
        await publisher.publish()
    assert len(stand.service.signatures) == before
    assert await stand.seals() == [cause]


@pytest.mark.guards("T-31")
async def test_a_signed_entry_that_was_rewritten_with_its_head_is_not_signed_over(
    stand: Stand,
) -> None:
    await grown(stand)
    await stand.tamper(
        "UPDATE entry e SET body = o.body, leaf_hash = o.leaf_hash FROM entry o"
        " WHERE e.idx = 7 AND o.idx = 8"
    )
    await stand.set_head(await bodies(stand))
    await refused(stand, "root_mismatch")


@pytest.mark.guards("T-31")
@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ("UPDATE entry SET body = body || ' ' WHERE idx = 13", "corrupt"),
        ("UPDATE entry SET leaf_hash = sha256('') WHERE idx = 13", "corrupt"),
        ("DELETE FROM entry WHERE idx = 13", "corrupt"),
        ("UPDATE head SET root = sha256('')", "root_mismatch"),
        ("DELETE FROM head", "root_mismatch"),
    ],
)
async def test_an_unsigned_tail_that_was_changed_is_not_signed(
    stand: Stand, change: str, cause: str
) -> None:
    await grown(stand)
    await stand.append(3)
    await stand.tamper(change)
    await refused(stand, cause)


async def test_a_fork_in_the_stored_checkpoints_is_told(stand: Stand) -> None:
    await grown(stand)
    await stand.append(1)
    await stand.store.do(
        "INSERT INTO checkpoint (size, root, note) VALUES (13, $1, 'x')", OTHER_ROOT
    )
    async with stand.publishing() as publisher:
        await publisher.publish()
    assert await stand.seals() == ["fork"]


async def test_tokenizing_goes_on_and_an_operator_ends_it_with_a_word(stand: Stand) -> None:
    await grown(stand)
    async with stand.publishing() as publisher:
        await stand.append(1)
        good = await stand.store.value("SELECT root FROM head")
        await stand.tamper("UPDATE head SET root = sha256('')")
        await publisher.publish()
        assert await stand.seals() == ["root_mismatch"]
        await stand.tamper("UPDATE head SET root = $1", good)
        stand.store.clock.advance(seconds=11)
        await publisher.publish()
        assert await stand.seals() == ["root_mismatch"], "only an operator's word ends it"
    await stand.append(1)  # entries that open no card are still taken
    lifted = await lift(
        stand.store.database, stand.replica.ledger, CONSOLE, statement="put back",
        now=stand.store.clock,
    )  # fmt: skip
    assert lifted == ["root_mismatch"]
    assert (await stand.store.types())[-1] == "ledger.unsealed"
    assert await stand.store.count("detail") == 1


async def test_a_seal_is_an_entry_where_the_ledger_still_takes_one(stand: Stand) -> None:
    await grown(stand)
    stand.service.secret = None
    async with stand.publishing() as publisher:
        await publisher.publish()
    sealed = (await stand.store.entries())[-1]
    assert isinstance(sealed, LogSealed)
    assert sealed.cause == "rollback"


# --- memories -------------------------------------------------------------------------------


async def test_the_file_may_be_missing_where_the_key_service_remembers(stand: Stand) -> None:
    await grown(stand)
    (stand.folder / "signed-head").unlink()  # a gateway on another machine has none
    await stand.append(1)
    async with stand.publishing() as publisher:
        await publisher.publish()
    latest = await stand.latest()
    assert latest is not None
    assert latest.size == 13
    assert (stand.folder / "signed-head").exists()


async def test_a_file_that_is_behind_or_ahead_lies_on_the_same_history(
    stand: Stand, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    await grown(stand)
    await stand.append(2)
    publisher = stand.publisher(folder=elsewhere)
    await publisher.publish()
    await publisher.close()
    await stand.append(2)
    async with stand.publishing() as first_again:
        await first_again.publish()
    latest = await stand.latest()
    assert latest is not None
    assert latest.size == 16
    stand.service.fails["write_secret"] = "before"  # so that the file is ahead
    await stand.append(1)
    async with stand.publishing() as publisher:
        await publisher.publish()
        await publisher.publish()
    assert await stand.seals() == []


@pytest.mark.guards("T-75")
async def test_lost_memories_are_no_new_beginning(stand: Stand) -> None:
    await grown(stand)
    stand.service.secret = None
    (stand.folder / "signed-head").unlink()
    await refused(stand, "rollback")


async def test_a_file_of_another_history_is_refused(stand: Stand) -> None:
    await grown(stand)
    path = stand.folder / "signed-head"
    other = path.read_text().replace('"size":12', '"size":13')
    path.write_text(other)
    with pytest.raises(StartRefused, match="signed-head"):
        await check_history(stand.store.database, stand.memory(), stand.service, origin=ORIGIN)
    async with stand.publishing() as publisher:
        await publisher.publish()
    assert await stand.seals() == ["signer"]


async def test_a_checkpoint_kept_elsewhere_teaches_lost_memories(stand: Stand) -> None:
    await grown(stand)
    note = await stand.log.checkpoint()
    assert note is not None
    stand.service.secret = None
    (stand.folder / "signed-head").unlink()
    learned = await relearned(
        stand.store.database, stand.memory(), note, stand.service, origin=ORIGIN
    )
    assert learned.size == 12
    await check_history(stand.store.database, stand.memory(), stand.service, origin=ORIGIN)


async def test_a_checkpoint_of_another_history_teaches_nothing(stand: Stand) -> None:
    await grown(stand)
    note = await stand.log.checkpoint()
    assert note is not None
    stand.service.secret = None
    (stand.folder / "signed-head").unlink()
    await cut_back(stand, 8)
    with pytest.raises(HistoryBroken):
        await relearned(stand.store.database, stand.memory(), note, stand.service, origin=ORIGIN)
    assert stand.service.secret is None


# --- several gateways -----------------------------------------------------------------------


async def test_one_publishes_and_the_other_takes_over(stand: Stand, tmp_path: Path) -> None:
    other_folder = tmp_path / "other"
    other_folder.mkdir()
    first, second = stand.publisher(), stand.publisher(folder=other_folder)
    for publisher in (first, second):
        await publisher.publish()
    assert (first.is_elected, second.is_elected) == (True, False)
    await first.close()  # the lock ends with the connection
    await stand.append(3)
    await second.publish()
    assert second.is_elected
    await first.publish()
    assert not first.is_elected
    await second.close()
    latest = await stand.latest()
    assert latest is not None
    assert latest.size == 5


@pytest.mark.guards("T-60")
async def test_one_that_lost_its_lock_unknowing_is_fenced(stand: Stand, tmp_path: Path) -> None:
    other_folder = tmp_path / "other"
    other_folder.mkdir()
    second = stand.publisher(folder=other_folder)

    first = stand.publisher()
    await first.publish()
    await stand.append(3)
    save = first._memory.save

    async def save_late(remembered: Remembered) -> None:
        """Save after another gateway has published: the lock went with its connection."""
        async with stand.store.session() as session:
            await session.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_locks JOIN pg_stat_activity"
                " USING (pid) WHERE locktype = 'advisory' AND datname = current_database()"
            )
        await stand.append(2)
        while not second.is_elected:
            await second.publish()
        await save(remembered)

    first._memory.save = save_late  # type: ignore[method-assign]
    await first.publish()
    assert stand.reasons.seen == ["outrun"]
    assert not first.is_elected
    assert second.is_elected
    assert sizes(stand.signed()) == [2, 7]
    await second.close()


# --- keys -----------------------------------------------------------------------------------


async def announce(stand: Stand, public_key: bytes, version: int) -> VerifierKey:
    vkey = verifier_key(ORIGIN, public_key)
    await stand.say(
        KeyRotated(
            id=new_uuid(),
            actor=CONSOLE,
            key="ledger",
            from_version=version - 1,
            to_version=version,
            vkey=vkey,
        )
    )
    return VerifierKey.parse(vkey)


async def test_an_announced_key_signs_beside_the_old_one_and_then_alone(stand: Stand) -> None:
    async with stand.publishing() as publisher:
        await publisher.publish()
        old = stand.vkeys[0]
        new = await announce(stand, stand.service.rotate(), 2)
        await publisher.publish()
        note = await stand.log.checkpoint()
        assert note is not None
        assert {one.key for one in verified(note, [old, new])} == {old, new}
        stand.store.clock.at += OVERLAP
        await stand.append(1)
        await publisher.publish()
        note = await stand.log.checkpoint()
    assert note is not None
    assert [one.key for one in verified(note, [old, new])] == [new]
    assert await stand.seals() == []


@pytest.mark.guards("T-60")
async def test_a_version_that_nobody_announces_seals(stand: Stand) -> None:
    async with stand.publishing() as publisher:
        await publisher.publish()
        stand.service.rotate()
        stand.store.clock.advance(seconds=31)
        await publisher.publish()
        assert await stand.seals() == [], "the announcement may be on its way"
        stand.store.clock.advance(seconds=61)
        await publisher.publish()
    assert await stand.seals() == ["signer"]


async def test_another_key_under_the_announced_version_signs_nothing(stand: Stand) -> None:
    async with stand.publishing() as publisher:
        await publisher.publish()
        stand.service.rotate()
        stand.service.keys[1] = stand.service.keys.pop(2)
        await stand.append(1)
        stand.store.clock.advance(seconds=31)
        await publisher.publish()
    assert await stand.seals() == ["signer"]


async def test_a_signature_is_verified_before_it_is_published(stand: Stand) -> None:
    async with stand.publishing() as publisher:
        await publisher.publish()
        real = stand.service.keys[1]
        stand.service.keys[1] = Ed25519PrivateKey.generate()  # between two looks at the keys
        await stand.append(1)
        await publisher.publish()
        stand.service.keys[1] = real
    assert await stand.seals() == ["signer"]
    latest = await stand.latest()
    assert latest is not None
    assert latest.size == 2
