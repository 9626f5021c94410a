"""The published log over HTTP, on a database that the real writer filled.

Two tenants and the gateway itself have entries. Checkpoints are signed here, and all that is served
is checked by `second_reading.py`, which shares nothing with what serves it.
"""

import asyncio
import json
import secrets
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from io import BytesIO
from typing import Any, Final, TypeVar

import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.api.authorizations import AuthorizationHandlers
from gateway.api.health import Health
from gateway.api.ledger import READS_OF_ONE_MAX, LedgerHandlers, TileHandlers, Turns
from gateway.api.tokens import Tokens
from gateway.applications import ops_application, private_application
from gateway.auditors import Auditors
from gateway.caching import FOREVER, kept
from gateway.connections import Limits
from gateway.listeners import start_listener
from gateway.merchants import Merchants
from gateway.metrics import Metrics
from gateway.middleware import Gate, Net
from gateway.outbound import Outbound
from gateway.request_event import EventLog
from tests.databases import Database as Dsns
from tests.gateway.api.second_reading import (
    checked_checkpoint,
    leaf_of,
    path_of,
    proves,
    tree_of,
)
from tests.gateway.raw_client import hang_up, rest, status
from tests.gateway.raw_client import headers as head_of
from tests.vault.ledger.samples import ORIGIN
from tests.vault.rows import Sender, create, deleted_entry, new_row, new_tenant, now
from tests.vault.stores import Store, migrated, opened
from vault.api_keys import KeyKind, new_api_key
from vault.auditor_table import AuditorKeyRow, AuditorTable
from vault.authorization import State
from vault.db import Connection, Database
from vault.errors import Overloaded
from vault.ids import authorization_id
from vault.ledger.store import Ledger
from vault.ledger.unit import Line, Statement
from vault.own_events import OwnEvents
from vault.published import PublishedLog
from vault.tenant_table import ApiKeyRow, Tenant, TenantTable

T = TypeVar("T")

SEED: Final = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC: Final = SEED.public_key().public_bytes_raw()
KEY_ID: Final = sha256(ORIGIN.encode() + b"\n\x01" + PUBLIC).digest()[:4]
VKEY: Final = f"{ORIGIN}+{KEY_ID.hex()}+" + b64encode(b"\x01" + PUBLIC).decode()
WITNESS_LINE: Final = "\u2014 witness.example/w1 " + b64encode(bytes(76)).decode() + "\n"
ENTRIES: Final = 300  # a full tile and a partial one


# --- what is served -----------------------------------------------------------------------


@dataclass(frozen=True)
class Reply:
    """An answer, as it came."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.body)
        return document

    @property
    def code(self) -> str:
        assert self.headers["content-type"] == "application/problem+json"
        return str(self.json()["code"])

    @property
    def apart_from_its_id(self) -> tuple[int, bytes, tuple[tuple[str, str], ...]]:
        """All of it that a client could tell from another."""
        name = "panward-request-id"
        left_out = (name, "date")
        headers = tuple(each for each in self.headers.items() if each[0] not in left_out)
        return self.status, self.body.replace(self.headers[name].encode(), b""), headers


class Counting(Database):
    """Counts what is asked of the database."""

    asked = 0

    async def read(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        self.asked += 1
        return await super().read(work)


@dataclass
class Served:
    """Both listeners, over one database; and who may ask."""

    store: Store
    ledger: Ledger
    counting: Counting
    private_port: int = 0
    ops_port: int = 0
    auditor: str = ""
    keys: dict[str, str] = field(default_factory=dict)

    async def raw(self, port: int, target: bytes, *lines: str) -> Reply:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            head = "".join(f"{line}\r\n" for line in ("Host: 127.0.0.1", *lines))
            writer.write(b"GET " + target + b" HTTP/1.1\r\n" + head.encode())
            writer.write(b"Connection: close\r\n\r\n")
            received = await rest(reader)
        finally:
            await hang_up(writer)
        return Reply(status(received), head_of(received), received.partition(b"\r\n\r\n")[2])

    async def audit(self, path: str, *lines: str) -> Reply:
        """Ask as the auditor."""
        login = f"Authorization: Bearer {self.auditor}"
        return await self.raw(self.ops_port, path.encode(), login, *lines)

    async def ask(self, tenant: str, path: str) -> Reply:
        """Ask as a tenant."""
        login = f"Authorization: Bearer {self.keys[tenant]}"
        return await self.raw(self.private_port, path.encode(), login)

    async def entries(self) -> list[bytes]:
        return [row["body"] for row in await self.store.rows("SELECT body FROM entry ORDER BY idx")]

    async def own(self, tenant: str) -> list[tuple[int, str, bytes]]:
        rows = await self.store.rows(
            "SELECT idx, id, body FROM entry WHERE tenant = $1 ORDER BY idx", tenant
        )
        return [(row["idx"], str(row["id"]), row["body"]) for row in rows]

    async def publish(self) -> int:
        """Sign a checkpoint of all there is, and return its size."""
        leaves = [leaf_of(entry) for entry in await self.entries()]
        root = tree_of(leaves)
        text = f"{ORIGIN}\n{len(leaves)}\n{b64encode(root).decode()}\n"
        line = b64encode(KEY_ID + SEED.sign(text.encode())).decode()
        note = f"{text}\n\u2014 {ORIGIN} {line}\n"
        await self.store.do(
            "INSERT INTO checkpoint (size, root, note) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
            *(len(leaves), root, note),
        )
        for tile in range(len(leaves) // 256):
            await self.store.do(
                "INSERT INTO node (level, idx, hash) VALUES (1, $1, $2) ON CONFLICT DO NOTHING",
                *(tile, tree_of(leaves[tile * 256 : tile * 256 + 256])),
            )
        return len(leaves)

    async def auditors_key(
        self, *, expires_at: datetime | None = None, revoked: bool = False
    ) -> str:
        made = new_api_key("auditor_key", "test")
        name = f"auditor-{secrets.token_hex(4)}"
        table = AuditorTable(self.store.database)
        row = AuditorKeyRow(made.id, name, made.digest, now(), expires_at, None)
        assert await table.add(row)
        if revoked:
            assert await table.revoke(name, at=now())
        return made.text

    async def tenants_key(self, tenant: str, *scopes: str, kind: KeyKind = "secret_key") -> str:
        made = new_api_key(kind, "test")
        row = ApiKeyRow(made.id, tenant, kind, made.digest, frozenset(scopes), now(), None, None)
        await TenantTable(self.store.database).add_key(row)
        return made.text

    async def tenant(self) -> str:
        """Make a tenant, with a key that may do all that is asked here."""
        tenant = Tenant(new_tenant(), f"shop-{secrets.token_hex(4)}", now())
        assert await TenantTable(self.store.database).add(tenant)
        self.keys[tenant.id] = await self.tenants_key(tenant.id, "ledger", "read")
        return tenant.id


def unused(kind: type[T]) -> T:
    """Give the handlers of something that is not asked for here."""
    return kind.__new__(kind)


@asynccontextmanager
async def listening(
    name: str, app: web.Application, proxied: tuple[str, ...] = ()
) -> AsyncIterator[int]:
    metrics = Metrics()
    log = EventLog(BytesIO(), now=now, watch=metrics)
    gate = Gate(frozenset({"127.0.0.1"}), proxied)
    net = Net(name, gate, log=log, metrics=metrics, chance=lambda: 0.5)
    limits = Limits(keepalive_seconds=2.0, shutdown_seconds=1.0)
    listener = await start_listener(app, None, ("127.0.0.1", 0), net=net, limits=limits)
    try:
        yield listener.port
    finally:
        await listener.close()


@asynccontextmanager
async def serving(store: Store) -> AsyncIterator[Served]:
    async with AsyncExitStack() as stack:
        replica = await stack.enter_async_context(store.replica())
        counting = Counting(store.database._pool, store.database.dsn)
        served = Served(store, replica.ledger, counting)
        log = PublishedLog(counting)
        auditors = Auditors(
            AuditorTable(store.database), env="test", now=now, monotonic=lambda: 0.0
        )
        merchants = Merchants(
            TenantTable(store.database), env="test", now=now, monotonic=lambda: 0.0
        )

        async def public_keys() -> Mapping[int, bytes]:
            return {1: PUBLIC, 2: bytes(32)}

        ops = ops_application(
            Health({}, metrics=Metrics(), monotonic=lambda: 0.0),
            TileHandlers(log, auditors, public_keys=public_keys),
        )
        private = private_application(
            unused(Tokens),
            unused(AuthorizationHandlers),
            unused(Outbound),
            LedgerHandlers(log, OwnEvents(counting), merchants),
        )
        served.ops_port = await stack.enter_async_context(listening("ops", ops))
        served.private_port = await stack.enter_async_context(
            listening("private", private, ("/out/",))
        )
        served.auditor = await served.auditors_key()
        yield served


@pytest.fixture
async def served(database: Dsns) -> AsyncIterator[Served]:
    async with opened(await migrated(database)) as store, serving(store) as made:
        yield made


def mentions(tenant: str, count: int) -> Statement:
    return Statement(tuple(Line(deleted_entry(new_row(tenant))) for _ in range(count)))


# --- for auditors: checkpoints and tiles --------------------------------------------------

embedded = pytest.mark.embedded


@embedded
async def test_before_the_first_checkpoint_nothing_is_there(served: Served) -> None:
    await served.ledger.append(mentions("t_01", 3))
    for path in ("checkpoint", "checkpoints/3", "tile/entries/000.p/1", "tile/0/000.p/1"):
        assert (await served.audit(f"/ledger/{path}")).code == "not_found"


@embedded
async def test_a_checkpoint_comes_with_its_cosignatures_and_a_tag(served: Served) -> None:
    await served.ledger.append(mentions("t_01", 3))
    size = await served.publish()
    reply = await served.audit("/ledger/checkpoint")
    assert reply.status == 200
    assert reply.headers["content-type"] == "text/plain; charset=utf-8"
    assert reply.headers["cache-control"] == "private, max-age=1"
    leaves = [leaf_of(entry) for entry in await served.entries()]
    assert checked_checkpoint(reply.body, VKEY) == (size, tree_of(leaves))

    tag = reply.headers["etag"]
    for asked in (tag, f"W/{tag}", f'"x", {tag}'):
        again = await served.audit("/ledger/checkpoint", f"If-None-Match: {asked}")
        assert (again.status, again.body, again.headers["etag"]) == (304, b"", tag)
        assert again.headers["cache-control"] == "private, max-age=1"
    await served.store.do(
        "INSERT INTO cosignature (size, witness, line, at) VALUES ($1, $2, $3, now())",
        *(size, "witness.example/w1", WITNESS_LINE),
    )
    more = await served.audit("/ledger/checkpoint", f"If-None-Match: {tag}")
    assert (more.status, more.body) == (200, reply.body + WITNESS_LINE.encode())

    await served.ledger.append(mentions("t_01", 1))
    await served.publish()
    later = await served.audit("/ledger/checkpoint")
    assert checked_checkpoint(later.body, VKEY)[0] == size + 1
    assert (await served.audit(f"/ledger/checkpoints/{size}")).body == more.body
    for missing in (f"{size + 2}", f"0{size}", "-1", "1e3", "9" * 40):
        target = f"/ledger/checkpoints/{missing}"
        assert (await served.audit(target)).status == 404, missing


@embedded
async def test_every_tile_of_a_log_is_what_its_entries_make_it(served: Served) -> None:
    for _ in range(3):
        await served.ledger.append(mentions("t_01", ENTRIES // 3))
    size = await served.publish()
    entries = await served.entries()
    leaves = [leaf_of(entry) for entry in entries]
    assert size == len(entries) > 256
    bundled = [len(entry).to_bytes(2, "big") + entry for entry in entries]
    tiles = {
        "tile/0/000": leaves[:256],
        "tile/entries/000": bundled[:256],
        "tile/1/000.p/1": [tree_of(leaves[:256])],
    }
    for width in range(1, size - 256 + 1):
        tiles[f"tile/0/001.p/{width}"] = leaves[256 : 256 + width]
        tiles[f"tile/entries/001.p/{width}"] = bundled[256 : 256 + width]
    tiles |= {"tile/0/000.p/7": leaves[:7], "tile/entries/000.p/255": bundled[:255]}
    for path, parts in tiles.items():
        reply = await served.audit(f"/ledger/{path}")
        assert (reply.status, reply.body) == (200, b"".join(parts)), path
        assert reply.headers["content-type"] == "application/octet-stream"
        assert reply.headers["cache-control"] == FOREVER
    await served.ledger.append(mentions("t_01", 1))  # which no checkpoint covers
    width = size - 256 + 1
    for path in (
        f"tile/0/001.p/{width}",
        f"tile/entries/001.p/{width}",
        *("tile/0/001", "tile/entries/001", "tile/0/002.p/1", "tile/1/000", "tile/1/000.p/2"),
        *("tile/2/000.p/1", "tile/63/000.p/1", "tile/1/001.p/1"),
    ):
        assert (await served.audit(f"/ledger/{path}")).code == "not_found", path


HOSTILE: Final = [
    *("tile", "tile/", "tile/0", "tile/0/", "tile/0/0", "tile/0/00", "tile/0/0000"),
    *("tile/0/000/", "tile/0//000", "tile//0/000", "/tile/0/000.p/1", "tile/00/000.p/1"),
    *("tile/64/000.p/1", "tile/-1/000.p/1", "tile/+0/000.p/1", "tile/0x0/000.p/1"),
    *("tile/0/000.p/0", "tile/0/000.p/01", "tile/0/000.p/256", "tile/0/000.p/257"),
    *("tile/0/000.p/-1", "tile/0/000.p/1.5", "tile/0/000.p/1e1", "tile/0/000.p/", "tile/0/000.p"),
    *("tile/0/000.P/1", "tile/0/000.p/1/", "tile/0/000.p/1.p/1", "tile/0/000.p//1"),
    *("tile/0/x000/000.p/1", "tile/0/000/000.p/1", "tile/0/x000/x000/000.p/1"),
    *("tile/0/X001/000.p/1", "tile/0/x1/000.p/1", "tile/0/x0001/000.p/1"),
    "tile/0/" + "x999/" * 6 + "999",
    "tile/0/" + "x999/" * 60 + "999.p/1",
    "tile/entries/" + "9" * 400,
    "tile/0/000.p/" + "9" * 400,
    *("tile/Entries/000.p/1", "tile/entries//000.p/1", "tile/entries/../0/000.p/1"),
    *("tile/0/../0/000.p/1", "tile/../tile/0/000.p/1", "tile/../checkpoint", "tile/./0/000.p/1"),
    *("../healthz/..", "tile/../../v1/ledger/checkpoint", "tile/0/..", "tile/.."),
    *("tile%2F0%2F000.p%2F1", "tile/0%2f000.p/1", "tile/%30/000.p/1", "tile/0/000%2ep/1"),
    *("tile/0/000.p/1%00", "tile/0/000.p/1%0a", "tile/0/000.p/%31", "tile/0/000.p/1;a=b"),
    *("tile\\0\\000.p\\1", "tile/0/000.p/1#x", "TILE/0/000.p/1", "checkpoint/", "checkpoints/"),
    *("checkpoint%00", "checkpoint.txt", "checkpoints", "checkpoints/3/", "checkpoints/%33"),
    *("", "/", "..", "index.html", "vkey/", "witness", "tile/0/\u0661.p/1"),
]


@embedded
@pytest.mark.guards("T-29")
async def test_what_is_no_tiles_one_spelling_is_not_there(served: Served) -> None:
    await served.ledger.append(mentions("t_01", 20))
    await served.publish()
    assert (await served.audit("/ledger/tile/0/000.p/1")).status == 200
    before = served.counting.asked
    told = set()
    for path in HOSTILE:
        target = f"/ledger/{path}".encode()
        login = f"Authorization: Bearer {served.auditor}"
        reply = await served.raw(served.ops_port, target, login)
        assert reply.status in (400, 404), path
        told.add((reply.status, reply.code, reply.json().get("reason")))
    assert told == {(404, "not_found", None), (400, "malformed_request", "framing")}
    assert served.counting.asked - before <= 2  # a full index far away is well spelled


@embedded
async def test_queries_and_other_methods_are_refused(served: Served) -> None:
    await served.publish()
    for path in ("checkpoint?x=1", "tile/0/000.p/1?", "tile/0/000.p/1?width=2", "vkey?a"):
        reply = await served.audit(f"/ledger/{path}")
        assert reply.status == (200 if path.endswith("?") else 422), path
    reader, writer = await asyncio.open_connection("127.0.0.1", served.ops_port)
    login = f"Authorization: Bearer {served.auditor}\r\n"
    writer.write(f"HEAD /ledger/checkpoint HTTP/1.1\r\nHost: 127.0.0.1\r\n{login}".encode())
    writer.write(b"Connection: close\r\n\r\n")
    assert status(await rest(reader)) == 405
    await hang_up(writer)


@embedded
async def test_the_keys_that_signed_are_told_a_line_each(served: Served) -> None:
    assert (await served.audit("/ledger/vkey")).code == "not_found"
    await served.publish()
    reply = await served.audit("/ledger/vkey")
    assert (reply.status, reply.body.decode()) == (200, f"{VKEY}\n")
    assert reply.headers["content-type"] == "text/plain; charset=utf-8"
    assert reply.headers["cache-control"] == "no-store"


@embedded
@pytest.mark.guards("T-29")
async def test_only_an_auditors_key_in_force_opens_the_whole_log(served: Served) -> None:
    await served.ledger.append(mentions("t_01", 3))
    size = await served.publish()
    tenant = await served.tenant()
    publishable = await served.tenants_key(tenant, kind="publishable_key")
    basic = b64encode(f"auditor:{served.auditor}".encode()).decode()
    as_user = b64encode(f"{served.auditor}:".encode()).decode()
    paths = ("checkpoint", f"checkpoints/{size}", "tile/entries/000.p/1", "vkey", "tile/x")
    for path in paths:
        refused = [
            await served.raw(served.ops_port, f"/ledger/{path}".encode(), *lines)
            for lines in (
                (),
                (f"Authorization: Bearer {served.keys[tenant]}",),
                (f"Authorization: Bearer {publishable}",),
                (f"Authorization: Bearer {new_api_key('auditor_key', 'test').text}",),
                (f"Authorization: Bearer {await served.auditors_key(revoked=True)}",),
                (f"Authorization: Bearer {await served.auditors_key(expires_at=now())}",),
                (f"Authorization: Basic {as_user}",),
                (f"Panward-Key: {served.auditor}",),
            )
        ]
        assert {reply.status for reply in refused} == {401}
        assert len({reply.apart_from_its_id for reply in refused}) == 1
        assert refused[0].headers["www-authenticate"].startswith("Bearer ")
        by_basic = await served.raw(
            served.ops_port, f"/ledger/{path}".encode(), f"Authorization: Basic {basic}"
        )
        assert by_basic.status == (404 if path == "tile/x" else 200), path


@embedded
@pytest.mark.guards("T-29")
async def test_an_auditors_key_is_no_tenants(served: Served) -> None:
    await served.publish()
    for path in (b"/v1/ledger/checkpoint", b"/v1/ledger/events", b"/v1/ledger/proof/x"):
        for login in (f"Bearer {served.auditor}", f"Basic {served.auditor}"):
            reply = await served.raw(served.private_port, path, f"Authorization: {login}")
            assert (reply.status, reply.code) == (401, "not_authenticated")
    assert (await served.raw(served.private_port, b"/ledger/checkpoint")).status == 404
    assert (await served.audit("/v1/ledger/checkpoint")).status == 404


async def test_so_many_read_so_many_wait_and_the_rest_come_back_later() -> None:
    turns = Turns(at_once=1, waiting_max=1)
    inside, go_on = asyncio.Event(), asyncio.Event()

    async def reader() -> None:
        async with turns.taken("t_one"):
            inside.set()
            await go_on.wait()

    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        group.create_task(reader())
        await inside.wait()
        waiting = group.create_task(reader())
        await asyncio.sleep(0)
        with pytest.raises(Overloaded):
            async with turns.taken("t_one"):
                pass
        waiting.cancel()
        await asyncio.wait([waiting])
        group.create_task(reader())  # who left makes room
        await asyncio.sleep(0)
        go_on.set()
    async with turns.taken("t_one"):
        pass


async def test_one_reader_s_storm_leaves_room_for_others() -> None:
    turns = Turns(at_once=1)
    go_on = asyncio.Event()

    async def reader(whose: str) -> None:
        async with turns.taken(whose):
            await go_on.wait()

    async with asyncio.timeout(5):
        storm = [asyncio.ensure_future(reader("t_one")) for _ in range(200)]
        await asyncio.sleep(0)
        other = asyncio.ensure_future(reader("t_two"))
        await asyncio.sleep(0)
        go_on.set()
        await other
        ended = await asyncio.gather(*storm, return_exceptions=True)
    assert sum(isinstance(each, Overloaded) for each in ended) == 200 - READS_OF_ONE_MAX


async def test_only_what_is_said_to_be_kept_is_kept() -> None:
    """A header that a handler copied from elsewhere says nothing."""

    async def copied(_request: web.Request) -> web.Response:
        return web.Response(headers={"Cache-Control": FOREVER})

    async def said(request: web.Request) -> web.Response:
        return kept(request, b"x", "text/plain", FOREVER)

    app = web.Application()
    app.router.add_get("/copied", copied, allow_head=False)
    app.router.add_get("/said", said, allow_head=False)
    async with listening("ops", app) as port:
        served = Served(unused(Store), unused(Ledger), unused(Counting))
        for path, word in ((b"/copied", "no-store"), (b"/said", FOREVER)):
            assert (await served.raw(port, path)).headers["cache-control"] == word


# --- for tenants: their own events --------------------------------------------------------


@dataclass
class Shop:
    """A tenant with a token, an authorization and what became of it; and its key."""

    tenant: str
    served: Served
    authorization: str = ""
    created: str = ""
    intent: str = ""

    async def ask(self, path: str) -> Reply:
        return await self.served.ask(self.tenant, path)

    async def ids(self) -> list[str]:
        return [identity for _, identity, _ in await self.served.own(self.tenant)]


async def new_shop(served: Served) -> Shop:
    sender = Sender(await served.tenant())
    made = create(new_row(sender.tenant, customer_reference="person-7"))
    await served.ledger.append(made)
    opens = sender.opens(made.row)
    await served.ledger.append(opens)
    await served.ledger.append(sender.settles(opens, State.NOT_SENT))
    intent = opens.facts.intent
    identity = made.lines[0].entry.id
    return Shop(sender.tenant, served, authorization_id(intent), identity, intent)


@pytest.fixture
async def shop(served: Served) -> Shop:
    return await new_shop(served)


@pytest.fixture
async def other(served: Served, shop: Shop) -> Shop:
    return await new_shop(served)


@embedded
async def test_a_proof_once_a_checkpoint_covers_the_event(served: Served, shop: Shop) -> None:
    waiting = await shop.ask(f"/v1/ledger/proof/{shop.intent}")
    assert (waiting.status, waiting.code) == (409, "ledger_not_published")
    assert waiting.headers["retry-after"] == "1"
    assert waiting.json()["retryable"] is True
    size = await served.publish()
    leaves = [leaf_of(entry) for entry in await served.entries()]
    for index, identity, body in await served.own(shop.tenant):
        reply = await shop.ask(f"/v1/ledger/proof/{identity}")
        assert reply.status == 200
        assert proves(reply.body, body, VKEY) == index
        hashes = [b64encode(each).decode() for each in path_of(index, leaves)]
        assert reply.body.decode().partition("\n\n")[0].split("\n")[2:] == hashes
        assert reply.headers["content-type"] == "text/plain; charset=utf-8"
        disposition = f'attachment; filename="{identity}.tlog-proof"'
        assert reply.headers["content-disposition"] == disposition
        assert reply.headers["cache-control"] == "no-store"
    by_intent = await shop.ask(f"/v1/ledger/proof/{shop.intent}")
    by_name = await shop.ask(f"/v1/ledger/proof/{shop.authorization}")
    assert by_name.body == by_intent.body
    newer = await new_shop(served)
    late = await newer.ask(f"/v1/ledger/proof/{newer.created}")
    assert (late.status, late.code) == (409, "ledger_not_published")
    assert await served.publish() == size + 3
    assert (await newer.ask(f"/v1/ledger/proof/{newer.created}")).status == 200


@embedded
async def test_proofs_where_a_tile_is_full(served: Served) -> None:
    shops = [await new_shop(served)]
    for _ in range(3):
        await served.ledger.append(mentions("t_01", 100))
    shops.append(await new_shop(served))
    assert await served.publish() > 256
    for each in shops:
        for index, identity, body in await served.own(each.tenant):
            reply = await each.ask(f"/v1/ledger/proof/{identity}")
            assert proves(reply.body, body, VKEY) == index


@embedded
async def test_the_list_is_the_tenants_own_in_the_logs_order(
    served: Served, shop: Shop, other: Shop
) -> None:
    assert (await shop.ask("/v1/ledger/events")).json() == {"data": [], "next": None}
    await served.publish()
    own = await served.own(shop.tenant)
    await served.ledger.append(mentions(shop.tenant, 1))  # which no checkpoint covers
    listed = (await shop.ask("/v1/ledger/events")).json()
    assert listed["next"] is None
    assert [(each["index"], each["id"]) for each in listed["data"]] == [row[:2] for row in own]
    for (index, identity, body), each in zip(own, listed["data"], strict=True):
        entry = json.loads(body)
        assert each == {
            "index": index,
            "id": identity,
            "type": entry["type"],
            "leaf": leaf_of(body).hex(),
            "raw": b64encode(body).decode(),
            "entry": entry,
        }
        assert entry["tenant"] == shop.tenant
    await served.publish()
    every = (await shop.ask("/v1/ledger/events?limit=100")).json()["data"]
    assert len(every) == len(own) + 1
    for limit in (1, 2, len(every)):
        found, query = [], f"limit={limit}"
        while True:
            page = (await shop.ask(f"/v1/ledger/events?{query}")).json()
            assert len(page["data"]) <= limit
            found += page["data"]
            if page["next"] is None:
                break
            query = f"limit={limit}&cursor={page['next']}"
        assert found == every
    for since in (0, own[1][0], own[1][0] + 1, every[-1]["index"], every[-1]["index"] + 1):
        found = (await shop.ask(f"/v1/ledger/events?since_index={since}")).json()["data"]
        assert found == [each for each in every if each["index"] >= since]
    first = (await shop.ask("/v1/ledger/events?limit=1")).json()["next"]
    last = every[-1]["index"]
    page = (await shop.ask(f"/v1/ledger/events?cursor={first}&since_index={last}")).json()
    assert page["data"] == every[-1:]


ASKED_WRONGLY: Final = [
    *((f"limit={text}", "limit") for text in ("0", "101", "x", "")),
    *((f"since_index={text}", "since_index") for text in ("-1", "01", "x", "", "1e3", "%D9%A3")),
    ("since_index=" + "9" * 17, "since_index"),
    *((f"cursor={text}", "cursor") for text in ("x", "MCB4", "MCAwMQ==")),
    *((text, "query") for text in ("tenant=t_02", "limit=1&limit=2", "index=3")),
]


@embedded
async def test_a_list_that_is_asked_for_wrongly_is_refused(served: Served) -> None:
    tenant = await served.tenant()
    for query, field_name in ASKED_WRONGLY:
        reply = await served.ask(tenant, f"/v1/ledger/events?{query}")
        assert (reply.status, reply.code) == (422, "invalid_field"), query
        assert reply.json()["field"] == field_name


@embedded
async def test_the_exact_bytes_of_an_entry(served: Served, shop: Shop) -> None:
    for _, identity, body in await served.own(shop.tenant):
        reply = await shop.ask(f"/v1/ledger/events/{identity}")
        assert (reply.status, reply.body) == (200, body)
        assert reply.headers["content-type"] == "application/json"
    by_name = await shop.ask(f"/v1/ledger/events/{shop.authorization}")
    assert json.loads(by_name.body)["id"] == shop.intent
    listed = await shop.ask("/v1/ledger/events?since_index=0")
    assert listed.json()["data"] == []  # not published: but the tenant has its receipt


@embedded
async def test_a_tenant_checks_what_its_entry_commits_to(served: Served, shop: Shop) -> None:
    reply = await shop.ask(f"/v1/ledger/events/{shop.created}/detail")
    said = reply.json()
    assert said["detail"] == {"customer_reference": "person-7"}
    salt, body = b64decode(said["salt"]), b64decode(said["body"])
    assert json.loads(body) == said["detail"]
    entry = json.loads((await shop.ask(f"/v1/ledger/events/{shop.created}")).body)
    digest = sha256(b"\x02" + salt + body).digest()
    told = b64encode(digest, altchars=b"-_").rstrip(b"=").decode()
    assert entry["detail"] == said["commitment"] == told
    assert (said["id"], said["type"]) == (shop.created, "token.created")
    without = await shop.ask(f"/v1/ledger/events/{shop.intent}/detail")
    assert without.code == "not_found"
    await served.store.do("DELETE FROM detail")
    assert (await shop.ask(f"/v1/ledger/events/{shop.created}/detail")).code == "not_found"
    assert (await shop.ask(f"/v1/ledger/events/{shop.created}")).status == 200


@embedded
async def test_the_checkpoint_of_the_whole_log(served: Served, shop: Shop) -> None:
    assert (await shop.ask("/v1/ledger/checkpoint")).code == "not_found"
    size = await served.publish()
    reply = await shop.ask("/v1/ledger/checkpoint")
    assert checked_checkpoint(reply.body, VKEY)[0] == size
    assert reply.body == (await served.audit("/ledger/checkpoint")).body
    assert reply.headers["content-type"] == "text/plain; charset=utf-8"


@embedded
@pytest.mark.guards("T-20")
async def test_details_are_asked_for_by_tenant_too(served: Served, shop: Shop, other: Shop) -> None:
    """The statement itself says whose they are: no handler can forget to."""
    own = OwnEvents(served.store.database)
    found = await own.detail(shop.tenant, shop.created)
    assert found is not None
    assert found.body.decode() not in repr(found)
    assert await own.detail(other.tenant, shop.created) is None


def calls_about(event: str) -> list[str]:
    return [
        f"/v1/ledger/proof/{event}",
        f"/v1/ledger/events/{event}",
        f"/v1/ledger/events/{event}/detail",
    ]


@embedded
@pytest.mark.guards("T-20")
async def test_a_tenant_finds_nothing_of_another_nor_of_nobody(
    served: Served, shop: Shop, other: Shop
) -> None:
    """Not by id, name, list, index, the words of a refusal, or how long it takes to make one."""
    rows = await served.store.rows("SELECT id FROM entry WHERE tenant IS NULL")
    nobodys = [str(row["id"]) for row in rows]
    assert nobodys
    foreign = [*await other.ids(), other.authorization, *nobodys]
    absent = ["0196b2e0-0000-7000-8000-000000000000", authorization_id(other.created)]
    for published in (False, True):  # another's is never "not yet"
        if published:
            await served.publish()
        told = set()
        asked = set()
        for event in foreign + absent:
            for path in calls_about(event):
                before = served.counting.asked
                told.add((await shop.ask(path)).apart_from_its_id)
                asked.add(served.counting.asked - before)
        assert len(told) == 1
        assert next(iter(told))[0] == 404
        assert asked == {1}
    listed = (await shop.ask("/v1/ledger/events?limit=100")).json()["data"]
    assert [each["id"] for each in listed] == await shop.ids()
    text = json.dumps(listed)
    assert other.tenant not in text
    for index, identity, body in await served.own(other.tenant):
        assert identity not in text
        assert leaf_of(body).hex() not in text
        there = (await shop.ask(f"/v1/ledger/events?since_index={index}&limit=1")).json()["data"]
        assert identity not in json.dumps(there)


NO_NAMES: Final = [
    *("x", "aut_", "aut_x", "pwt_test_x", "0", "-1", ".", "..", "00000000-0000-0000-0000"),
    *("0196B2E0-0000-7000-8000-000000000000", "0196b2e000007000800000000000000"),
    *("0196b2e0-0000-7000-8000-000000000000.tlog-proof", "x" * 500, "%30", "a%2Fb", "a'b"),
    *("{0196b2e0-0000-7000-8000-000000000000}", "aut_" + "8" * 26, "aut_" + "i" * 26),
]


@embedded
async def test_what_is_no_events_name_is_not_there(served: Served) -> None:
    tenant = await served.tenant()
    before = served.counting.asked
    for event in NO_NAMES:
        for path in calls_about(event):
            reply = await served.ask(tenant, path)
            assert (reply.status, reply.code) == (404, "not_found"), path
    assert served.counting.asked == before


@embedded
@pytest.mark.guards("T-29")
async def test_it_takes_the_scope(served: Served, shop: Shop) -> None:
    await served.publish()
    paths = ["/v1/ledger/checkpoint", "/v1/ledger/events", *calls_about(shop.created)]
    narrow = await served.tenants_key(shop.tenant, "read", "tokenize")
    publishable = await served.tenants_key(shop.tenant, kind="publishable_key")
    only = await served.tenants_key(shop.tenant, "ledger")
    for path in paths:
        for key in (narrow, publishable):
            login = f"Authorization: Bearer {key}"
            reply = await served.raw(served.private_port, path.encode(), login)
            assert (reply.status, reply.code) == (403, "not_permitted")
        reply = await served.raw(
            served.private_port, path.encode(), f"Authorization: Bearer {only}"
        )
        assert reply.status == (403 if path.endswith("/detail") else 200)
        assert (await served.raw(served.private_port, path.encode())).status == 401
