"""`panward edge-keys`: how the keys stand, and their replacement on an operator's word."""

import base64
import json
from dataclasses import replace
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from nacl.bindings import crypto_box_keypair
from nacl.public import PublicKey, SealedBox
from typer.testing import CliRunner

from gateway.commands.edge_keys import edge_keys as command_group
from gateway.custody import utc_now
from tests.gateway.commands.conftest import Command
from tests.vault.places import place_of_openbao
from tests.vault.stores import Store
from vault.edge_keys import EdgeKey, EdgeKeys, edge_key_text, kid_of, made_at, record_of
from vault.embedded.bootstrap import EmbeddedParts
from vault.errors import EdgeKeyUnknown
from vault.ids import new_uuid7

pytestmark = pytest.mark.embedded

ORIGIN = "panward.test/embedded"  # of an embedded deployment


async def test_all_keys_are_replaced_on_an_operators_word(
    command: Command, embedded: EmbeddedParts, store: Store
) -> None:
    assert (await command("edge-keys", "replace", "--yes")).status == 0
    first = json.loads((await command("edge-keys", "status", "--json")).out)
    (old,) = first["keys"]
    box = SealedBox(PublicKey(base64.b64decode(old["public_key"]))).encrypt(b"a card")
    async with place_of_openbao(embedded).transit("tokenize") as transit:
        gateway = EdgeKeys(transit, origin=ORIGIN, now=utc_now)
        await gateway.refresh()
        assert await gateway.open(old["kid"], box) == b"a card"

        refused = await command("edge-keys", "replace", stdin=b"n\n")
        assert refused.status == 1
        await gateway.refresh()
        assert await gateway.open(old["kid"], box) == b"a card", "it was only asked"

        done = await command("edge-keys", "replace", stdin=b"y\n")
        assert done.status == 0, done.err
        assert done.out.splitlines()[-1].endswith(old["kid"])
        assert "destroyed: 1" in done.err
        await gateway.refresh()
        with pytest.raises(EdgeKeyUnknown):
            await gateway.open(old["kid"], box)
        (new,) = gateway.published()
    second = json.loads((await command("edge-keys", "status", "--json")).out)
    assert [key["kid"] for key in second["keys"]] == [new.kid] != [old["kid"]]
    entries = await store.entries("edge_key.destroyed")
    assert {entry.actor.id for entry in entries} == {"op_console"}
    types = [entry.type for entry in await store.entries()]
    assert types[-4:] == [
        "gateway.started", "edge_key.created", "edge_key.destroyed", "gateway.stopped"
    ]  # fmt: skip
    assert (await store.report()).violations == ()


async def test_status_shows_what_pages_may_pin(command: Command) -> None:
    assert (await command("edge-keys", "replace", "--yes")).status == 0
    shown = json.loads((await command("edge-keys", "status", "--json")).out)
    assert shown["good"] is True
    assert shown["origin"] == ORIGIN
    assert shown["refused"] == []
    (key,) = shown["keys"]
    assert 0 <= key["age_seconds"] < 300
    assert key["kid"].startswith("ek_")
    assert "private" not in json.dumps(shown)
    pins = {one["version"]: base64.b64decode(one["public_key"]) for one in shown["signing_keys"]}
    Ed25519PublicKey.from_public_bytes(pins[key["signed_by"]])
    told = await command("edge-keys", "status")
    assert told.status == 0
    assert key["kid"] in told.out
    assert key["not_after"] in told.out
    for pin in shown["signing_keys"]:
        assert pin["public_key"] in told.out


async def test_status_names_a_key_whose_signature_does_not_hold(
    command: Command, embedded: EmbeddedParts
) -> None:
    assert (await command("edge-keys", "replace", "--yes")).status == 0
    public, private = crypto_box_keypair()
    kid = kid_of(new_uuid7(utc_now()))
    at = made_at(kid)
    assert at is not None
    async with place_of_openbao(embedded).transit("reveal") as transit:
        key = EdgeKey(kid, public, at, at + timedelta(days=2), b"", 1)
        text = edge_key_text("ledger.example/other", kid, public, at, key.not_after)
        key = replace(key, signature=await transit.sign("edge-sign", 1, text))
        await transit.write_secret(f"edge/{kid}", record_of(key, private), cas=0)
    ended = await command("edge-keys", "status", "--json")
    assert ended.status == 1
    shown = json.loads(ended.out)
    assert [(one["kid"], one["reason"]) for one in shown["refused"]] == [(kid, "signature")]
    assert kid not in {one["kid"] for one in shown["keys"]}
    ended = await command("edge-keys", "status")
    assert ended.status == 1
    assert "REFUSED (signature)" in ended.out
    assert (await command("edge-keys", "replace", "--yes")).status == 0
    assert (await command("edge-keys", "status")).status == 0, "replaced, it is gone"


@pytest.mark.parametrize("word", ["status", "replace"])
def test_exactly_one_deployment_is_named(word: str) -> None:
    assert CliRunner().invoke(command_group, [word]).exit_code == 2
