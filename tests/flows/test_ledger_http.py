"""The log of a real gateway, read over HTTP: by an auditor from outside, by tenants their own.

What is served is checked by a second reading of the specifications, not by ours.
"""

import asyncio
import json
from base64 import b64decode, b64encode
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.flows.deployment import Deployment, Store, eventually, said_by_panward
from tests.flows.merchant import Merchant, new_key, payment
from tests.flows.test_isolation import same
from tests.flows.wire import Reply, Wire
from tests.gateway.api.second_reading import (
    checked_checkpoint,
    leaf_of,
    path_of,
    proves,
    tree_of,
)
from vault.ids import authorization_id, intent_of, new_uuid7

pytestmark = pytest.mark.embedded


@dataclass
class Auditor:
    """Somebody with an address and a login, and no code of ours."""

    deployment: Deployment
    wire: Wire
    key: str
    vkey: str = ""

    async def get(self, path: str, **headers: str) -> Reply:
        login = b64encode(f"auditor:{self.key}".encode()).decode()
        headers = {"Authorization": f"Basic {login}", **headers}
        return await self.wire("GET", f"{self.deployment.urls.ops}/ledger/{path}", headers=headers)

    async def checkpoint(self) -> tuple[int, bytes]:
        return checked_checkpoint((await self.get("checkpoint")).body, self.vkey)

    async def entries(self, size: int) -> list[bytes]:
        """Fetch all bundles that a log of this size has."""
        entries: list[bytes] = []
        while len(entries) < size:
            raw = (await self._tile("entries", len(entries) // 256, size)).body
            while raw:
                length = int.from_bytes(raw[:2], "big")
                entries.append(raw[2 : 2 + length])
                raw = raw[2 + length :]
        return entries

    async def leaves(self, size: int) -> list[bytes]:
        """Fetch all tiles of leaf hashes."""
        leaves: list[bytes] = []
        while len(leaves) < size:
            raw = (await self._tile("0", len(leaves) // 256, size)).body
            leaves += [raw[at : at + 32] for at in range(0, len(raw), 32)]
        return leaves

    async def _tile(self, level: str, number: int, size: int) -> Reply:
        assert number < 1000
        partial = f".p/{size % 256}" if number == size // 256 else ""
        reply = await self.get(f"tile/{level}/{number:03}{partial}")
        assert reply.status == 200, reply.body
        return reply


@pytest.fixture
async def auditor(deployment: Deployment, wire: Wire) -> Auditor:
    """Give the auditor of `credentials.json`, who was given the log's key by its operator."""
    said = json.loads((deployment.parts.folder / "credentials.json").read_text())
    made = Auditor(deployment, wire, said["auditor_key"])

    async def published() -> Reply | None:
        reply = await made.get("vkey")
        return reply if reply.status == 200 else None

    made.vkey = (await eventually(published, "no checkpoint")).body.decode().strip()
    return made


async def proof_of(shop: Merchant, event: str) -> Reply:
    """Ask until a checkpoint covers it, as a client does that is told when to come back."""

    async def proof() -> Reply | None:
        reply = await shop.api("GET", f"/v1/ledger/proof/{event}")
        if reply.status == 409:
            assert reply.told()[:2] == (409, "ledger_not_published")
            assert reply.headers["Retry-After"] == "1"
            return None
        return reply

    return await eventually(proof, "no checkpoint covers it", seconds=20)


async def listed(shop: Merchant, query: str = "limit=100") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    cursor = ""
    while True:
        reply = await shop.api("GET", f"/v1/ledger/events?{query}{cursor}")
        assert reply.status == 200, reply.body
        found += reply.json()["data"]
        if reply.json()["next"] is None:
            return found
        cursor = f"&cursor={reply.json()['next']}"


async def test_an_auditor_reads_the_log_and_finds_its_root(
    auditor: Auditor, shop: Merchant, store: Store
) -> None:
    paid = await shop.pay(payment(await shop.token()))
    await proof_of(shop, paid.headers["Panward-Authorization"])
    size, root = await auditor.checkpoint()
    entries = await auditor.entries(size)
    leaves = await auditor.leaves(size)
    assert len(entries) == size
    assert leaves == [leaf_of(entry) for entry in entries]
    assert tree_of(leaves) == root
    assert json.loads(entries[0])["vkey"] == auditor.vkey
    if size >= 256:
        (first, *_) = [(await auditor.get(f"tile/1/000.p/{size // 256}")).body]
        assert first[:32] == tree_of(leaves[:256])
    rows = await store.fetch("SELECT body FROM entry WHERE idx < $1 ORDER BY idx", size)
    assert entries == [row["body"] for row in rows]
    again = await auditor.get("checkpoint", **{"If-None-Match": '"nothing"'})
    assert again.headers["Cache-Control"] == "private, max-age=1"
    tile = await auditor.get("tile/0/000.p/2")
    assert (tile.body, tile.headers["Content-Type"]) == (
        b"".join(leaves[:2]),
        "application/octet-stream",
    )
    assert tile.headers["Cache-Control"] == "private, max-age=31536000, immutable"
    old = await auditor.get(f"checkpoints/{size}")
    assert checked_checkpoint(old.body, auditor.vkey) == (size, root)


async def test_a_receipt_is_proved_without_trusting_the_gateway(
    auditor: Auditor, shop: Merchant
) -> None:
    """From the receipt of the authorization to the root that the auditor sees too."""
    paid = await shop.pay(payment(await shop.token()))
    receipt = (await shop.authorization(paid))["ledger"]
    identity = paid.headers["Panward-Authorization"]
    intent = intent_of(identity)
    assert intent is not None
    proof = await proof_of(shop, identity)
    body = (await shop.api("GET", f"/v1/ledger/events/{intent}")).body
    entry = json.loads(body)
    assert (entry["type"], entry["id"]) == ("authorization.attempted", intent)
    index = proves(proof.body, body, auditor.vkey)

    async def outcome() -> list[dict[str, Any]] | None:
        return await listed(shop, f"since_index={receipt['index']}") or None

    (told, *_) = await eventually(outcome, "the outcome is not published")
    raw = b64decode(told["raw"])
    assert (told["index"], told["leaf"]) == (receipt["index"], receipt["leaf"])
    assert told["leaf"] == leaf_of(raw).hex()
    assert json.loads(raw) == told["entry"]
    assert told["entry"]["intent"] == intent
    assert told["index"] > index, "the record came before the act"
    proof = await proof_of(shop, told["id"])
    assert proves(proof.body, raw, auditor.vkey) == receipt["index"]

    size, _ = await auditor.checkpoint()
    leaves = await auditor.leaves(size)
    assert leaves[receipt["index"]].hex() == receipt["leaf"]
    hashes = proof.body.decode().partition("\n\n")[0].split("\n")[2:]
    covered, _ = checked_checkpoint(proof.body.partition(b"\n\n")[2], auditor.vkey)
    path = path_of(receipt["index"], leaves[:covered])
    assert hashes == [b64encode(each).decode() for each in path]


async def test_every_leaf_that_the_api_names_is_in_the_log(
    shop: Merchant, auditor: Auditor
) -> None:
    for _ in range(3):
        await shop.pay(payment(await shop.token()))
    shown = (await shop.api("GET", "/v1/authorizations?limit=100")).json()["data"]
    for each in shown:
        await proof_of(shop, each["id"])
    size, _ = await auditor.checkpoint()
    leaves = await auditor.leaves(size)
    for each in shown:
        if each["ledger"]["index"] < size:
            assert leaves[each["ledger"]["index"]].hex() == each["ledger"]["leaf"]


@pytest.mark.guards("T-20")
async def test_a_tenant_finds_nothing_of_anothers(
    shop: Merchant, other_shop: Merchant, auditor: Auditor, store: Store
) -> None:
    made = {}
    for each in (shop, other_shop):
        paid = await each.pay(payment(await each.token()))
        made[each.tenant] = paid.headers["Panward-Authorization"]
    for each in (shop, other_shop):
        await proof_of(each, made[each.tenant])
    own = {each.tenant: await listed(each) for each in (shop, other_shop)}
    for tenant, events in own.items():
        assert events
        assert {event["entry"]["tenant"] for event in events} == {tenant}
        indices = [event["index"] for event in events]
        assert indices == sorted(set(indices))
        size, _ = await auditor.checkpoint()
        count = "SELECT count(*) FROM entry WHERE tenant = $1 AND idx <= $2"
        assert await store.fetchval(count, tenant, indices[-1]) == len(indices)
        assert indices[-1] < size
    nobodys = str(await store.fetchval("SELECT id FROM entry WHERE tenant IS NULL LIMIT 1"))
    absent = str(new_uuid7(datetime.now(UTC)))
    for one, two in ((shop, other_shop), (other_shop, shop)):
        theirs = [event["id"] for event in own[two.tenant]]
        foreign = [*theirs[:3], made[two.tenant], nobodys, authorization_id(absent), absent]
        for path in ("proof/{}", "events/{}", "events/{}/detail"):
            replies = [
                await one.api("GET", "/v1/ledger/" + path.format(event)) for event in foreign
            ]
            assert replies[0].told() == (404, "not_found", None, None)
            assert same(replies)
        after = own[two.tenant][-1]["index"]
        there = await listed(one, f"since_index={after}&limit=1")
        assert not {event["id"] for event in there} & set(theirs)


@pytest.mark.guards("T-29")
async def test_no_key_opens_anothers_door(
    deployment: Deployment, shop: Merchant, auditor: Auditor, wire: Wire
) -> None:
    ops, private, public = (
        deployment.urls.ops,
        deployment.urls.private,
        deployment.urls.public,
    )
    keys = [shop.account.secret_key, shop.account.publishable_key]
    for key in keys:
        bearer = {"Authorization": f"Bearer {key}"}
        for path in ("checkpoint", "tile/entries/000.p/1", "vkey"):
            reply = await wire("GET", f"{ops}/ledger/{path}", headers=bearer)
            assert reply.told() == (401, "not_authenticated", None, None)
            assert reply.headers["WWW-Authenticate"] == 'Bearer realm="panward"'
    bearer = {"Authorization": f"Bearer {auditor.key}", "Content-Type": "application/json"}
    for url in (
        *(f"{private}/v1/{path}" for path in ("ledger/checkpoint", "ledger/events", "tokens")),
        f"{private}/v1/authorizations",
    ):
        assert (await wire("GET", url, headers=bearer)).told()[:2] == (401, "not_authenticated")
    out = await wire("POST", f"{private}/out/stripe/v1/payment_intents", b"{}", headers=bearer)
    assert out.status == 401
    for url in (public, private):
        made = await wire("POST", f"{url}/v1/tokens", b"{}", headers=bearer)
        assert made.told()[:2] == (401, "not_authenticated")
        elsewhere = await wire("GET", f"{url}/ledger/checkpoint", headers=bearer)
        assert elsewhere.told()[:2] == (404, "not_found")
    narrow = shop.with_key(await new_key(deployment, shop.tenant, "read", "tokenize"))
    for path in ("checkpoint", "events", "proof/x", "events/x", "events/x/detail"):
        reply = await narrow.api("GET", f"/v1/ledger/{path}")
        assert reply.told()[:2] == (403, "not_permitted")


async def test_what_an_entry_commits_to_is_its_tenants(
    shop: Merchant, other_shop: Merchant
) -> None:
    token = await shop.tokenize(customer_reference="person-9")
    paid = await shop.pay(payment(token["id"]))
    await proof_of(shop, paid.headers["Panward-Authorization"])
    seen = 0
    for event in await listed(shop):
        path = f"/v1/ledger/events/{event['id']}/detail"
        reply = await shop.api("GET", path)
        assert (reply.status == 200) == ("detail" in event["entry"])
        assert (await other_shop.api("GET", path)).status == 404
        seen += reply.status == 200
    assert seen >= 2


async def test_an_auditor_that_is_revoked_is_out_within_seconds(
    deployment: Deployment, auditor: Auditor
) -> None:
    name = f"auditor-{datetime.now(UTC):%H%M%S%f}"
    said = await asyncio.to_thread(said_by_panward, deployment, "auditors", "add", name)
    second = replace(auditor, key=said.strip())
    assert (await second.get("checkpoint")).status == 200
    await asyncio.to_thread(said_by_panward, deployment, "auditors", "revoke", name)

    async def refused() -> bool:
        return (await second.get("checkpoint")).status == 401

    await eventually(refused, "still let in", seconds=8)
    assert (await auditor.get("checkpoint")).status == 200
