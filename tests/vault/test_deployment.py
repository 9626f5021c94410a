"""What a start refuses, and what it puts on record."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from uuid import UUID

import msgspec
import pytest

from tests.vault.fake_node import FakeCluster, fake_cluster
from tests.vault.ledger.samples import ORIGIN, VKEY, new_hash, new_uuid
from tests.vault.places import place_of_cluster, place_of_openbao
from tests.vault.rows import statement
from tests.vault.stores import Replica, Store
from vault.deployment import (
    BOOTSTRAP,
    CARD_KEYS,
    HASH_KEYS,
    WRITER,
    Boot,
    Pins,
    check_keys,
    check_log,
    check_login,
    key_problems,
    probe_store,
    put_start_on_record,
    put_stop_on_record,
    recognize,
    replica_name,
    state_folder_of_one,
)
from vault.embedded.bootstrap import EmbeddedParts
from vault.errors import KeysSealed, StartRefused, StoreUnavailable
from vault.ledger.entry import GatewayStarted, LogOpened
from vault.tokens import Env
from vault.transit import KeyDescription, Transit

PUBLIC_KEY = bytes.fromhex("03a107bff3ce10be1d70dd18e74bc09967e4d6309ba50d5f1ddc8664125531b8")
EVERY_KEY = (*CARD_KEYS, *HASH_KEYS, "ledger")


@pytest.fixture
def cluster() -> Iterator[FakeCluster]:
    with fake_cluster() as made:
        yield made


@pytest.fixture
async def transit(cluster: FakeCluster) -> AsyncIterator[Transit]:
    async with place_of_cluster(cluster).transit("tokenize") as made:
        yield made


# --- whether things belong together ---------------------------------------------------------


async def recognized(
    store: Store, transit: Transit, *, env: Env = "test", origin: str = ORIGIN
) -> Pins:
    keys = await check_keys(transit)
    return await recognize(store.database, transit, keys, env=env, origin=origin, at=store.clock.at)


@pytest.mark.embedded
async def test_the_first_start_writes_down_what_later_ones_compare(
    store: Store, cluster: FakeCluster, transit: Transit
) -> None:
    cluster.vault.keys["fingerprint"].rotate()
    pins = await recognized(store, transit)
    assert pins == Pins(fingerprint_version=2, digest_version=1)
    (row,) = await store.rows("SELECT * FROM deployment")
    assert (row["env"], row["origin"], row["created_at"]) == ("test", ORIGIN, store.clock.at)

    cluster.vault.keys["fingerprint"].rotate()  # what is stored was hashed with the pinned one
    cluster.vault.keys["digest"].rotate()
    assert await recognized(store, transit) == pins
    assert await store.rows("SELECT * FROM deployment") == [row]


@pytest.mark.embedded
async def test_another_environment_or_ledger_is_refused(store: Store, transit: Transit) -> None:
    await recognized(store, transit)
    with pytest.raises(StartRefused, match='of env = "test", not "live"'):
        await recognized(store, transit, env="live")
    with pytest.raises(StartRefused, match=f'is "{ORIGIN}", not "ledger.example/other"'):
        await recognized(store, transit, origin="ledger.example/other")


@pytest.mark.embedded
async def test_another_vault_s_key_of_the_same_name_is_refused(
    store: Store, cluster: FakeCluster, transit: Transit
) -> None:
    await recognized(store, transit)
    cluster.vault.keys["fingerprint"].versions[0] = bytes(32)
    with pytest.raises(StartRefused, match="another fingerprint key"):
        await recognized(store, transit)


@pytest.mark.embedded
async def test_a_vault_that_cannot_answer_is_not_taken_for_another(
    store: Store, cluster: FakeCluster, transit: Transit
) -> None:
    pins = await recognized(store, transit)
    keys = await check_keys(transit)
    cluster.vault.sealed = True
    with pytest.raises(KeysSealed):
        await recognize(store.database, transit, keys, env="test", origin=ORIGIN, at=store.clock.at)
    cluster.vault.sealed = False
    assert await recognized(store, transit) == pins


@pytest.mark.embedded
async def test_the_embedded_deployment_passes(store: Store, embedded: EmbeddedParts) -> None:
    async with place_of_openbao(embedded).transit("tokenize") as transit:
        assert set(await check_keys(transit)) == set(EVERY_KEY)
        await check_login(transit)
        assert await recognized(store, transit) == await recognized(store, transit)


@pytest.mark.guards("T-76")
async def test_a_login_that_can_open_cards_is_refused_on_the_public_side(
    cluster: FakeCluster, transit: Transit
) -> None:
    """PCI DSS 7.2.5."""
    await check_login(transit)
    async with place_of_cluster(cluster).transit("reveal") as reveal:
        with pytest.raises(StartRefused, match="transit/decrypt/pan"):
            await check_login(reveal)


@pytest.mark.guards("T-76")
@pytest.mark.parametrize("secrets", ["processor", "webhook"])
async def test_a_login_that_could_act_for_others_is_refused_on_the_public_side(
    cluster: FakeCluster, secrets: str
) -> None:
    role = cluster.vault.roles["tokenize"]
    role.allowed = (*role.allowed, f"GET kv/data/{secrets}/.*")
    async with place_of_cluster(cluster).transit("tokenize") as tokenize:
        with pytest.raises(StartRefused, match=f"may use kv/data/{secrets}/"):
            await check_login(tokenize)


# --- keys -----------------------------------------------------------------------------------


def good(name: str) -> KeyDescription:
    kinds = {**dict.fromkeys(CARD_KEYS, "aes256-gcm96"), **dict.fromkeys(HASH_KEYS, "hmac")}
    return KeyDescription(
        type=kinds.get(name, "ed25519"),
        latest_version=1,
        min_decryption_version=1,
        min_encryption_version=0,
        derived=name in CARD_KEYS,
        exportable=False,
        allow_plaintext_backup=False,
        deletion_allowed=False,
        auto_rotate_period=0,
    )


@pytest.mark.guards("T-72")
@pytest.mark.parametrize("name", EVERY_KEY)
@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"type": "aes128-gcm96"}, "type"),
        ({"exportable": True}, "exportable"),
        ({"allow_plaintext_backup": True}, "backup"),
        ({"deletion_allowed": True}, "deletion"),
    ],
)
def test_each_wrong_setting_of_a_key_is_named(
    name: str, change: Mapping[str, object], word: str
) -> None:
    assert key_problems(name, good(name)) == []
    (problem,) = key_problems(name, msgspec.structs.replace(good(name), **change))
    assert word in problem


@pytest.mark.parametrize("name", EVERY_KEY)
def test_a_key_is_derived_exactly_if_it_seals(name: str) -> None:
    key = good(name)
    (problem,) = key_problems(name, msgspec.structs.replace(key, derived=not key.derived))
    assert "derived" in problem


async def test_a_wrong_key_is_refused_by_name(cluster: FakeCluster, transit: Transit) -> None:
    cluster.vault.keys["digest"].kind = "ed25519"
    with pytest.raises(StartRefused, match="the transit key digest must be of type hmac"):
        await check_keys(transit)


# --- the log --------------------------------------------------------------------------------


@pytest.mark.embedded
@pytest.mark.guards("T-60")
@pytest.mark.parametrize("by", [-1, 1])
async def test_a_log_with_a_gap_at_its_end_is_refused(store: Store, by: int) -> None:
    await check_log(store.database)
    async with store.replica() as replica:
        await replica.ledger.append(statement(lines=3))
    await check_log(store.database)
    await store.do("UPDATE head SET size = size + $1", by)
    with pytest.raises(StartRefused, match=f"says {5 + by} entries, the table has 5"):
        await check_log(store.database)


@pytest.mark.embedded
@pytest.mark.guards("T-60")
@pytest.mark.parametrize(
    ("change", "word"),
    [
        ("UPDATE head SET root = sha256('another')", "another root"),
        ("UPDATE head SET peaks = sha256('another')", "another root"),
        ("UPDATE head SET peaks = ''", "another root"),
        ("ALTER TABLE head DISABLE TRIGGER no_drop; DELETE FROM head", "no head"),
    ],
)
async def test_a_head_that_contradicts_itself_is_refused(
    store: Store, change: str, word: str
) -> None:
    async with store.replica():
        await check_log(store.database)
    await store.do(change)
    with pytest.raises(StartRefused, match=word):
        await check_log(store.database)


@pytest.mark.embedded
async def test_a_start_is_on_record_with_the_log_s_key_and_the_last_boot(store: Store) -> None:
    async def start(boot: Boot) -> None:
        async with store.replica(name=boot.replica, start=False) as replica:
            await put_start_on_record(
                store.database, replica.ledger, boot, env="test", origin=ORIGIN,
                public_key=PUBLIC_KEY, now=store.clock,
            )  # fmt: skip
            await replica.ledger.append(statement())
            await put_stop_on_record(replica.ledger, now=store.clock)

    boot = Boot(UUID(new_uuid()), "r_7k2m9x4d-0", "0.1.0", new_hash(), "edge")
    await start(boot)
    opened, started, said, stopped, *rest = await store.entries()
    assert isinstance(opened, LogOpened)
    assert (opened.vkey, opened.origin, opened.env) == (VKEY, ORIGIN, "test")
    assert opened.actor == BOOTSTRAP
    assert isinstance(started, GatewayStarted)
    assert (started.config, started.role, started.version) == (boot.config_hash, "edge", "0.1.0")
    assert (started.actor, started.previous) == (WRITER, msgspec.UNSET)
    assert [one.type for one in (said, stopped)] == ["token.deleted", "gateway.stopped"]
    assert rest == []

    await start(boot)
    again = (await store.entries())[4]
    assert isinstance(again, GatewayStarted)
    assert again.previous != msgspec.UNSET
    assert (again.previous.boot, again.previous.n) == (stopped.boot, stopped.n) == (stopped.boot, 3)
    assert len(await store.entries("log.opened")) == 1
    assert (await store.report()).violations == ()


@pytest.mark.embedded
async def test_two_first_starts_at_once_open_one_log(store: Store) -> None:
    async def start(replica: Replica) -> None:
        boot = Boot(replica.boot, replica.name, "0.1.0", new_hash())
        await put_start_on_record(
            store.database, replica.ledger, boot, env="test", origin=ORIGIN,
            public_key=PUBLIC_KEY, now=store.clock,
        )  # fmt: skip

    async with store.replica(start=False) as one, store.replica(start=False) as other:
        async with store.head_locked():  # both find it empty, and neither can write yet
            starts = [asyncio.create_task(start(each)) for each in (one, other)]
            await store.until_blocked()
        await asyncio.gather(*starts)
        assert len(await store.entries("log.opened")) == 1
        assert len(await store.entries("gateway.started")) == 2
        assert (await store.report()).violations == ()


@pytest.mark.embedded
async def test_readiness_writes(store: Store) -> None:
    async with store.replica() as replica:
        before = await store.value("SELECT xmin::text FROM replica")
        await probe_store(store.database, replica.name)
        assert await store.value("SELECT xmin::text FROM replica") != before
    await store.do("ALTER TABLE replica RENAME TO away")
    with pytest.raises(StoreUnavailable):
        await probe_store(store.database, replica.name)


@pytest.mark.embedded
async def test_a_start_that_cannot_be_put_on_record_fails(store: Store) -> None:
    boot = Boot(UUID(new_uuid()), "r_7k2m9x4d-0", "0.1.0", new_hash())
    async with store.replica(name=boot.replica, start=False) as replica:
        await store.do("ALTER TABLE detail RENAME TO away")
        with pytest.raises(StoreUnavailable):
            await put_start_on_record(
                store.database, replica.ledger, boot, env="test", origin=ORIGIN,
                public_key=PUBLIC_KEY, now=store.clock,
            )  # fmt: skip
    assert await store.entries() == []


# --- the state folder -----------------------------------------------------------------------


def test_a_replica_keeps_its_name(tmp_path: Path) -> None:
    name = replica_name(tmp_path)
    assert name.endswith("-0")
    assert replica_name(tmp_path) == name
    assert replica_name(tmp_path, worker=3) == name.removesuffix("-0") + "-3"
    assert (tmp_path / "replica").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["replica"]
    (tmp_path / "other").mkdir()
    assert replica_name(tmp_path / "other") != name


def test_a_start_that_died_while_it_drew_a_name_is_in_nobody_s_way(tmp_path: Path) -> None:
    (tmp_path / "replica.new").write_text("r_")
    name = replica_name(tmp_path)
    assert replica_name(tmp_path) == name


@pytest.mark.parametrize("content", ["", "r_short", "r_7k2m9x4d-and-more"])
def test_a_damaged_name_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "replica").write_text(content)
    with pytest.raises(StartRefused, match="does not hold"):
        replica_name(tmp_path)


def test_a_state_folder_is_one_gateway_s(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    with state_folder_of_one(folder):
        assert folder.stat().st_mode & 0o777 == 0o700
        with pytest.raises(StartRefused, match="in use"), state_folder_of_one(folder):
            pass
    with state_folder_of_one(folder):
        assert (folder / "lock").exists()
