"""The publisher among tables and memories that somebody has changed: nothing false is published.

Whatever is found must seal, and end no process: it is a duty of the gateway.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.vault.ledger.samples import ORIGIN
from tests.vault.publishing import Stand, standing
from tests.vault.signing import Head
from tests.vault.stores import Store
from tests.vault.test_publisher import announce, grown
from tests.vault.test_witnessing import Ears, Liar
from vault.cosignature_table import CosignatureTable
from vault.errors import LogDamaged, StartRefused
from vault.export import export
from vault.ledger.note import Note, NoteRefused, Signature, VerifierKey, signed
from vault.ledger.tree import CompactRange, leaf_hash, verify_consistency
from vault.proven_log import LogBroken
from vault.signed_history import HistoryBroken, check_history, relearned
from vault.signer_memory import MemoryOutrun, Remembered, SignerMemory
from vault.transit import Secret
from vault.witnessing import Result, Unusable, Witnesses

pytestmark = pytest.mark.embedded


@pytest.fixture
async def stand(store: Store, tmp_path: Path) -> AsyncIterator[Stand]:
    async with standing(store, tmp_path) as made:
        yield made


async def sealed_by_the_next_turn(stand: Stand) -> list[str]:
    """Give what a fresh publisher's turn seals, in which nothing may be published."""
    published = await stand.store.value("SELECT size FROM publication")
    async with stand.publishing() as publisher:
        await publisher.publish()
    assert await stand.store.value("SELECT size FROM publication") == published
    return await stand.seals()


async def latest_note(stand: Stand) -> Note:
    note = await stand.log.checkpoint()
    assert note is not None
    return note


# --- the tables -----------------------------------------------------------------------------


@pytest.mark.guards("T-31")
@pytest.mark.parametrize(
    "change",
    [
        "DELETE FROM entry WHERE idx = 100",
        "UPDATE entry SET leaf_hash = sha256('x') WHERE idx = 100",
    ],
)
async def test_a_change_of_a_signed_entry_gets_into_no_tile(stand: Stand, change: str) -> None:
    """It is not read again for the root, but for the tile that is full now."""
    await stand.append(200)
    async with stand.publishing() as publisher:
        await publisher.publish()
    await stand.tamper(change)
    await stand.append(100)
    assert await sealed_by_the_next_turn(stand) == ["corrupt"]
    assert await stand.store.count("node") == 0


async def test_nodes_that_are_gone_are_made_again(stand: Stand) -> None:
    await stand.append(300)
    async with stand.publishing() as publisher:
        await publisher.publish()
        await stand.store.do("DELETE FROM node")
        await stand.append(1)
        await publisher.publish()
    old, new = stand.signed()
    verify_consistency(
        await stand.log.consistency(302, 303),
        old_size=302, old_root=old.root, size=303, root=new.root,
    )  # fmt: skip
    assert await stand.seals() == []


@pytest.fixture
async def with_a_hole(stand: Stand) -> Stand:
    """Publish 302 and 902 entries; then the node of the first 256 is gone."""
    async with stand.publishing() as publisher:
        for number in (300, 600):
            await stand.append(number)
            await publisher.publish()
    await stand.store.do("DELETE FROM node WHERE idx = 0")
    return stand


async def test_a_hole_among_the_nodes_seals(with_a_hole: Stand) -> None:
    await with_a_hole.append(1)
    assert await sealed_by_the_next_turn(with_a_hole) == ["corrupt"]


async def test_a_hole_among_the_nodes_is_told_to_who_asks(
    with_a_hole: Stand, tmp_path: Path
) -> None:
    with pytest.raises(LogDamaged):
        await with_a_hole.log.consistency(302, 902)
    with pytest.raises((LogBroken, LogDamaged)):
        await export(with_a_hole.log, tmp_path / "files")


async def test_a_hole_among_the_nodes_ends_no_showing(with_a_hole: Stand) -> None:
    stand, witness, ears = with_a_hole, Liar(Unusable(Result.UNREACHABLE)), Ears()
    table = CosignatureTable(stand.store.database)
    await table.keep(302, witness.name, "a line", stand.store.clock())

    async def log_keys() -> Sequence[VerifierKey]:
        return stand.vkeys

    witnesses = Witnesses(
        [witness], stand.log, table, ears,
        quorum=1, now=stand.store.clock, watch=ears, log_keys=log_keys,
    )  # fmt: skip
    await witnesses.recall()
    note = await latest_note(stand)
    await witnesses.show(note)
    assert witness.calls == [], "there is no proof to show it"


@pytest.mark.guards("T-60")
async def test_a_garbled_note_of_the_right_root_is_told(stand: Stand) -> None:
    await grown(stand)
    await stand.append(1)
    root = await stand.store.value("SELECT root FROM head")
    await stand.intrude("INSERT INTO checkpoint (size, root, note) VALUES (13, $1, 'x')", root)
    assert await sealed_by_the_next_turn(stand) == ["fork"]


@pytest.mark.guards("T-60")
async def test_a_checkpoint_beyond_the_head_is_told(stand: Stand, tmp_path: Path) -> None:
    await grown(stand)
    await stand.intrude(
        "INSERT INTO checkpoint (size, root, note) VALUES (1000000, sha256('x'), 'x')"
    )
    with pytest.raises((LogBroken, LogDamaged)):
        await export(stand.log, tmp_path / "files")
    await stand.append(1)
    assert await sealed_by_the_next_turn(stand) == ["fork"]


# --- the memories ---------------------------------------------------------------------------


def garble_a_key(head: Head) -> None:
    head["keys"][0]["vkey"] = "x"


def drop_the_keys(head: Head) -> None:
    head["keys"] = []


def forget_a_time_zone(head: Head) -> None:
    head["keys"].append(head["keys"][0] | {"at": "2026-01-01T00:00:00"})


def change_the_root(head: Head) -> None:
    head["root"] = "AAAA" * 10 + "AAA="


@pytest.mark.guards("T-60")
@pytest.mark.parametrize(
    "change", [garble_a_key, drop_the_keys, forget_a_time_zone, change_the_root]
)
async def test_a_damaged_memory_is_refused(stand: Stand, change: Callable[[Head], None]) -> None:
    await grown(stand)
    stand.service.rewrite(change)
    (stand.folder / "signed-head").unlink()
    await stand.append(1)
    with pytest.raises(StartRefused, match="kv/ledger/head holds no signed head"):
        await check_history(stand.store.database, stand.memory(), stand.service, origin=ORIGIN)
    assert await sealed_by_the_next_turn(stand) == ["signer"]


@pytest.mark.guards("T-60")
async def test_another_root_in_the_file_refuses_a_start(stand: Stand) -> None:
    await grown(stand)
    path = stand.folder / "signed-head"
    head = msgspec.json.decode(path.read_bytes())
    change_the_root(head)
    path.write_bytes(msgspec.json.encode(head))
    with pytest.raises(StartRefused, match="signed-head holds no signed head"):
        await check_history(stand.store.database, stand.memory(), stand.service, origin=ORIGIN)


@pytest.mark.guards("T-75")
async def test_a_smaller_memory_of_another_history_seals(stand: Stand) -> None:
    await grown(stand)
    tree = CompactRange()
    tree.extend([leaf_hash(b"another's %d" % number) for number in range(5)])
    kept = (await stand.memory().recall()).kv
    assert kept is not None
    other = Remembered(ORIGIN, 5, tree.root(), tree.peaks_bytes(), kept.keys)
    (stand.folder / "signed-head").write_bytes(msgspec.json.encode(other))
    assert await sealed_by_the_next_turn(stand) == ["root_mismatch"]


async def test_the_memory_of_another_log_refuses_a_start(stand: Stand) -> None:
    name = "other.example/log"
    other = SignerMemory(stand.folder, stand.service, origin=name)
    with pytest.raises(StartRefused, match="does not open this log"):
        await check_history(stand.store.database, other, stand.service, origin=name)
    await grown(stand)
    with pytest.raises(StartRefused, match="is of the ledger"):
        await check_history(stand.store.database, other, stand.service, origin=name)


async def test_a_first_write_that_fails_is_no_rollback(stand: Stand) -> None:
    """Else a moment of HashiCorp Vault's absence would refuse every start for good."""
    stand.service.fails["write_secret"] = "before"
    async with stand.publishing() as publisher:
        await publisher.publish()
        assert await stand.latest() is None
        await publisher.publish()
    assert await stand.seals() == []
    await check_history(stand.store.database, stand.memory(), stand.service, origin=ORIGIN)


@pytest.mark.parametrize(("when", "signatures"), [("before", 1), ("after", 2)])
async def test_only_what_is_remembered_is_signed(stand: Stand, when: str, signatures: int) -> None:
    async with stand.publishing() as publisher:
        await publisher.publish()
        await stand.append(1)
        stand.service.fails["write_secret"] = when
        await publisher.publish()
    assert len(stand.service.signatures) == signatures


async def test_nothing_is_signed_that_the_file_does_not_cover(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    await grown(stand)
    await stand.append(1)
    path = stand.folder / "signed-head"
    async with stand.publishing() as publisher:
        memory = publisher._memory
        recall = memory.recall

        async def then_unwritable() -> object:
            found = await recall()
            path.unlink()
            path.mkdir()  # no file can take its place
            return found

        monkeypatch.setattr(memory, "recall", then_unwritable)
        await publisher.publish()
    assert len(stand.service.signatures) == 1
    latest = await stand.latest()
    assert latest is not None
    assert latest.size == 12


@pytest.mark.guards("T-60")
async def test_who_is_fenced_leaves_the_file_alone(stand: Stand) -> None:
    await grown(stand)
    memory = stand.memory()
    kept = (await memory.recall()).kv
    assert kept is not None
    assert stand.service.secret is not None
    stand.service.secret = Secret(stand.service.secret.data, stand.service.secret.version + 1)
    before = (stand.folder / "signed-head").read_bytes()
    tree = kept.tree()
    tree.append(bytes(32))
    grown_by_one = Remembered(ORIGIN, tree.size, tree.root(), tree.peaks_bytes(), kept.keys)
    with pytest.raises(MemoryOutrun):
        await memory.save(grown_by_one)
    assert (stand.folder / "signed-head").read_bytes() == before


# --- heads that were kept elsewhere ---------------------------------------------------------


async def test_a_softly_deleted_memory_can_be_learned_again(stand: Stand) -> None:
    await grown(stand)
    note = await latest_note(stand)
    stand.service.lose_secret()
    (stand.folder / "signed-head").unlink()
    learned = await relearned(
        stand.store.database, stand.memory(), note, stand.service, origin=ORIGIN
    )
    assert learned.size == 12
    await check_history(stand.store.database, stand.memory(), stand.service, origin=ORIGIN)


async def test_a_note_that_the_log_did_not_sign_teaches_nothing(stand: Stand) -> None:
    await grown(stand)
    text = (await latest_note(stand)).text
    stand.service.secret = None
    (stand.folder / "signed-head").unlink()
    forged = Note(text, (signature_of(Ed25519PrivateKey.generate(), text),))
    with pytest.raises(NoteRefused):
        await relearned(stand.store.database, stand.memory(), forged, stand.service, origin=ORIGIN)
    assert stand.service.secret is None


async def test_a_smaller_checkpoint_takes_nothing_back(stand: Stand) -> None:
    await grown(stand)
    note = await latest_note(stand)
    await stand.append(3)
    async with stand.publishing() as publisher:
        await publisher.publish()
    with pytest.raises(HistoryBroken, match="larger"):
        await relearned(stand.store.database, stand.memory(), note, stand.service, origin=ORIGIN)


def signature_of(key: Ed25519PrivateKey, text: str) -> Signature:
    public_key = key.public_key().public_bytes_raw()
    return signed(text, ORIGIN, public_key, key.sign(text.encode()))


# --- the keys -------------------------------------------------------------------------------


@pytest.mark.guards("T-60")
async def test_a_log_whose_key_is_gone_refuses_a_start(stand: Stand) -> None:
    stand.service.keys[1] = Ed25519PrivateKey.generate()
    with pytest.raises(StartRefused, match="signer"):
        await check_history(stand.store.database, stand.memory(), stand.service, origin=ORIGIN)


@pytest.mark.guards("T-60")
async def test_a_key_of_another_is_not_even_asked_to_sign(stand: Stand) -> None:
    """The keys are looked at after each election, however short the time since the last one."""
    publisher = stand.publisher()
    for _ in range(2):
        await publisher.publish()
        await publisher.close()
        stand.service.keys[1] = Ed25519PrivateKey.generate()
        await stand.append(1)
    assert len(stand.service.signatures) == 1
    assert await stand.seals() == ["signer"]


@pytest.mark.guards("T-60")
async def test_a_version_that_was_skipped_is_nobodys_too(stand: Stand) -> None:
    async with stand.publishing() as publisher:
        await publisher.publish()
        stand.service.rotate()
        await announce(stand, stand.service.rotate(), 3)
        for _ in range(4):
            await publisher.publish()
            stand.store.clock.advance(seconds=61)
        await publisher.publish()
    assert await stand.seals() == ["signer"]


async def test_an_announced_key_is_no_strangers_while_nothing_can_be_remembered(
    stand: Stand,
) -> None:
    async with stand.publishing() as publisher:
        await publisher.publish()
        await announce(stand, stand.service.rotate(), 2)
        stand.store.clock.advance(seconds=31)
        for _ in range(8):  # longer than an announcement may take
            stand.service.fails["write_secret"] = "before"
            await publisher.publish()
            stand.store.clock.advance(seconds=10)
        stand.service.fails.clear()
        await publisher.publish()
    assert await stand.seals() == []


async def test_a_late_announcement_ends_the_refusal(stand: Stand) -> None:
    async with stand.publishing() as publisher:
        await publisher.publish()
        public_key = stand.service.rotate()
        for seconds in (31, 61):
            stand.store.clock.advance(seconds=seconds)
            await publisher.publish()
        assert await stand.seals() == ["signer"]
        await announce(stand, public_key, 2)
        await stand.lift("announced")
        for _ in range(5):
            stand.store.clock.advance(seconds=11)
            await publisher.publish()
    assert await stand.seals() == []
    latest = await stand.latest()
    assert latest is not None
    assert latest.size > 2
