"""The daily re-reading: what was changed after it was signed seals, and nothing else does."""

from dataclasses import dataclass, field
from datetime import timedelta

import pytest

from tests.vault.ledger.signed_story import published, purchases, put, remember, restore
from tests.vault.ledger.written_log import Log
from tests.vault.stores import Clock, Store
from vault import scrub as scrubbing
from vault.errors import StoreUnavailable
from vault.ledger.forms import SealCause
from vault.ledger.tree import leaf_hash
from vault.scrub import PAUSE_MAX, STEP_ENTRIES, TURN_STEPS_MAX, Scrub

pytestmark = pytest.mark.embedded

SIZE = 700


@dataclass
class Sealed:
    """Remembers what was sealed."""

    causes: list[SealCause] = field(default_factory=list)

    async def seal(self, cause: SealCause) -> None:
        self.causes.append(cause)


@dataclass
class Scrubbed:
    """A log, and who reads it again."""

    store: Store
    log: Log
    sealed: Sealed
    scrub: Scrub
    clock: Clock

    async def whole_pass(self, passes: int = 1) -> list[SealCause]:
        until = self.scrub.passes + passes
        for _ in range(100):
            await self.scrub.turn()
            self.clock.advance(seconds=5)
            if self.scrub.passes == until:
                return self.sealed.causes
        raise AssertionError

    async def after(self, statement: str, *values: object) -> list[SealCause]:
        """Say what a pass seals for, with the log changed so; then have it as it was."""
        self.sealed.causes.clear()
        await self.store.do(statement, *values)
        found = list(await self.whole_pass())
        await restore(self.store)
        return found


@pytest.fixture
async def scrubbed(store: Store) -> Scrubbed:
    log = purchases(SIZE)
    await put(store, log, 0, 3, 256, 257, 600, SIZE)
    await remember(store)
    sealed, clock = Sealed(), Clock()
    return Scrubbed(store, log, sealed, Scrub(store.database, sealed, now=clock), clock)


async def test_a_log_as_it_was_signed(scrubbed: Scrubbed) -> None:
    assert await scrubbed.whole_pass(3) == []


async def test_without_anything_signed_there_is_nothing_to_do(store: Store) -> None:
    sealed = Sealed()
    scrub = Scrub(store.database, sealed, now=Clock())
    await scrub.turn()
    await scrub.turn()
    assert (scrub.passes, sealed.causes) == (0, [])


PLACES = (0, 5, 255, 256, 599, SIZE - 1)


@pytest.mark.guards("T-31")
async def test_an_entry_that_was_changed(scrubbed: Scrubbed) -> None:
    for index in PLACES:
        body = scrubbed.log.rows[index].body
        changed = body[:30] + bytes([body[30] ^ 1]) + body[31:]
        causes = await scrubbed.after("UPDATE entry SET body = $1 WHERE idx = $2", changed, index)
        assert set(causes) == {"corrupt", "root_mismatch"}


@pytest.mark.guards("T-31")
async def test_an_entry_that_was_changed_with_its_hash(scrubbed: Scrubbed) -> None:
    for index in PLACES:
        changed = scrubbed.log.rows[index].body.replace(b'"ts":"2026', b'"ts":"2025')
        causes = await scrubbed.after(
            "UPDATE entry SET body = $1, leaf_hash = $2 WHERE idx = $3",
            changed, leaf_hash(changed), index,
        )  # fmt: skip
        assert causes == ["root_mismatch"]


@pytest.mark.guards("T-31")
async def test_a_column_that_was_changed(scrubbed: Scrubbed) -> None:
    for change in (
        "leaf_hash = sha256(leaf_hash)",
        "type = 'access.denied'",
        "intent = gen_random_uuid()",
        "tenant = 't_99'",
        "id = gen_random_uuid()",
        "tenant = NULL",
    ):
        causes = await scrubbed.after(f"UPDATE entry SET {change} WHERE idx = 303")  # noqa: S608
        assert causes == ["corrupt"], change


@pytest.mark.guards("T-60")
async def test_an_entry_that_was_deleted(scrubbed: Scrubbed) -> None:
    for index in PLACES:
        causes = await scrubbed.after("DELETE FROM entry WHERE idx = $1", index)
        assert causes[0] == "corrupt"
        assert set(causes) <= {"corrupt", "root_mismatch"}


@pytest.mark.guards("T-60")
async def test_a_checkpoint_that_was_changed(scrubbed: Scrubbed) -> None:
    for change, cause in (
        ("root = sha256(root)", "root_mismatch"),
        ("size = 599", "root_mismatch"),
        ("note = replace(note, E'\\n600\\n', E'\\n601\\n')", "root_mismatch"),
        ("note = left(note, 30)", "corrupt"),
    ):
        causes = await scrubbed.after(
            f"UPDATE checkpoint SET {change} WHERE size = 600"  # noqa: S608
        )
        assert causes == [cause], change


async def test_what_is_not_signed_yet_is_not_read(scrubbed: Scrubbed) -> None:
    await scrubbed.store.do("DELETE FROM checkpoint WHERE size = $1", SIZE)
    assert await scrubbed.after("UPDATE entry SET tenant = 't_99' WHERE idx >= 600") == []


async def test_what_a_later_release_wrote_is_not_judged(scrubbed: Scrubbed) -> None:
    """Replicas of two releases work side by side while one is replaced by the other."""
    body = scrubbed.log.rows[5].body.replace(b'"v":1', b'"v":2')
    log = Log()
    log.add_bytes(body, "token.renamed")
    await scrubbed.store.do("TRUNCATE checkpoint, entry CASCADE")
    await scrubbed.store.do(
        "INSERT INTO entry (idx, id, type, leaf_hash, body)"
        " VALUES (0, gen_random_uuid(), 'token.renamed', $1, $2)",
        leaf_hash(body), body,
    )  # fmt: skip
    await scrubbed.store.do(
        "INSERT INTO checkpoint (size, root, note) VALUES (1, $1, $2)",
        leaf_hash(body), published(log, 1).checkpoints[1].raw.decode(),
    )  # fmt: skip
    assert await scrubbed.whole_pass() == []


# --- how much at a time -------------------------------------------------------------------


async def test_a_pass_takes_a_day_and_not_more(
    scrubbed: Scrubbed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a log that takes a day each turn reads its share; here a day is some minutes."""
    monkeypatch.setattr(scrubbing, "PASS", timedelta(seconds=SIZE / STEP_ENTRIES * 60))
    await scrubbed.scrub.turn()
    read = [scrubbed.scrub._next]
    for seconds in (30, 60, 0):
        scrubbed.clock.advance(seconds=seconds)
        await scrubbed.scrub.turn()
        read.append(scrubbed.scrub._next)
    assert read == [SIZE, STEP_ENTRIES, 2 * STEP_ENTRIES, 2 * STEP_ENTRIES]
    assert scrubbed.scrub.passes == 1


async def test_after_a_pause_it_does_not_catch_up(
    scrubbed: Scrubbed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scrubbing, "PASS", PAUSE_MAX * 10)
    await scrubbed.scrub.turn()
    first = scrubbed.scrub._next
    scrubbed.clock.advance(hours=10)
    await scrubbed.scrub.turn()
    assert scrubbed.scrub._next == 2 * first == 2 * STEP_ENTRIES
    scrubbed.clock.advance(hours=-10)
    await scrubbed.scrub.turn()
    assert scrubbed.scrub._next == 2 * STEP_ENTRIES
    assert TURN_STEPS_MAX * STEP_ENTRIES < 20_000, "milliseconds of a turn"


async def test_a_difference_is_told_once_in_a_pass(scrubbed: Scrubbed) -> None:
    await scrubbed.store.do("UPDATE entry SET tenant = 't_99'")
    assert await scrubbed.whole_pass() == ["corrupt"]
    assert await scrubbed.whole_pass() == ["corrupt", "corrupt"]


async def test_when_the_database_is_away_it_goes_on_later(scrubbed: Scrubbed) -> None:
    await scrubbed.store.database.close()
    with pytest.raises(StoreUnavailable):
        await scrubbed.scrub.turn()
    assert scrubbed.sealed.causes == []
