"""The sealing format as docs/checkout.md describes it, by PyNaCl's primitives alone, to a token.

An app's author has the document and a crypto library. So nothing of ours is imported that seals or
opens: what is written here is what the document says, step by step, and the test vectors.
"""

import base64
import hashlib
import json
import re
import secrets
from datetime import datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import pytest
from nacl.bindings import (
    crypto_box,
    crypto_box_keypair,
    crypto_box_open,
    crypto_scalarmult_base,
)
from nacl.encoding import RawEncoder
from nacl.exceptions import BadSignatureError
from nacl.hash import blake2b
from nacl.signing import VerifyKey

from tests.cards import AMEX, VISA
from tests.flows.deployment import Deployment, said_by_panward
from tests.flows.merchant import APP, JSON, Merchant
from tests.flows.wire import Reply

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "checkout.md").read_text()
VECTORS: list[dict[str, str]] = json.loads(
    (ROOT / "tests" / "vault" / "sealed_vectors.json").read_text()
)
BLOCK = 512

pytestmark = pytest.mark.embedded


# --- the document's steps -----------------------------------------------------------------


def signed_text(origin: str, key: dict[str, Any]) -> bytes:
    """Step 2."""
    lines = ["panward/edge-key/v1", origin]
    lines += [key[name] for name in ("kid", "public_key", "not_before", "not_after")]
    return "".join(f"{line}\n" for line in lines).encode()


def written(message: dict[str, Any]) -> bytes:
    """Step 3."""
    return json.dumps(message, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def padded(message: bytes) -> bytes:
    """Step 4."""
    return message + b"\x80" + bytes(-(len(message) + 1) % BLOCK)


def nonce_of(fresh: bytes, edge_key: bytes) -> bytes:
    return blake2b(fresh + edge_key, digest_size=24, encoder=RawEncoder)


def boxed(text: bytes, edge_key: bytes) -> bytes:
    """Step 5."""
    fresh, secret = crypto_box_keypair()
    return fresh + crypto_box(text, nonce_of(fresh, edge_key), edge_key, secret)


class App:
    """An app: it has a publishable key, and what the document says."""

    def __init__(self, shop: Merchant) -> None:
        self.shop = shop

    async def call(self, verb: str, path: str, body: object = None) -> Reply:
        headers = {"Authorization": f"Bearer {self.shop.account.publishable_key}"}
        content = None
        if body is not None:
            headers["Content-Type"] = JSON
            content = json.dumps(body).encode()
        return await self.shop.wire(verb, self.shop.urls.public + path, content, headers=headers)

    async def sealed(self, pinned: str, /, **what: object) -> dict[str, str]:
        reply = await self.call("GET", "/v1/edge-keys")  # 1
        now = parsedate_to_datetime(reply.headers["Date"])
        answer = reply.json()
        key = next(
            key for key in answer["keys"] if datetime.fromisoformat(key["not_before"]) <= now
        )
        signature = base64.b64decode(key["signature"])
        VerifyKey(base64.b64decode(pinned)).verify(signed_text(answer["origin"], key), signature)
        nonce = base64.urlsafe_b64encode(secrets.token_bytes(16)).decode().rstrip("=")
        message = what | {
            "expires_at": int(now.timestamp()) + 300,
            "kid": key["kid"],
            "nonce": nonce,
            "origin": APP,
            "tenant": answer["tenant"],
            "v": 1,
        }
        box = boxed(padded(written(message)), base64.b64decode(key["public_key"]))
        return {"sealed": base64.b64encode(box).decode(), "kid": key["kid"]}


@pytest.fixture(scope="module")
def pinned(deployment: Deployment) -> str:
    """Give the verifying key as an operator reads it: not as the gateway says of itself."""
    said = json.loads(said_by_panward(deployment, "edge-keys", "status", "--json"))
    return str(said["signing_keys"][0]["public_key"])


async def test_an_app_makes_a_token_by_the_document_alone(shop: Merchant, pinned: str) -> None:
    app = App(shop)
    card = {"number": AMEX, "exp_month": 12, "exp_year": 2034, "cvc": "1234"}
    body = await app.sealed(pinned, card=card)
    assert len(base64.b64decode(body["sealed"])) == 560
    reply = await app.call("POST", "/v1/tokens", body)
    assert reply.status == 201, reply.body
    assert (reply.json()["brand"], reply.json()["last4"]) == ("amex", AMEX[-4:])


async def test_an_app_gives_a_stored_card_a_code(shop: Merchant, pinned: str) -> None:
    app = App(shop)
    token = await shop.token(VISA, unusual={"cvc": None})
    body = await app.sealed(pinned, token=token, cvc="123")
    reply = await app.call("POST", f"/v1/tokens/{token}/cvc", body)
    assert reply.status == 204, reply.body


async def test_a_key_that_a_middlebox_swapped_is_noticed(shop: Merchant, pinned: str) -> None:
    answer = (await App(shop).call("GET", "/v1/edge-keys")).json()
    key = answer["keys"][0]
    theirs, _ = crypto_box_keypair()
    swapped = key | {"public_key": base64.b64encode(theirs).decode()}
    verify = VerifyKey(base64.b64decode(pinned))
    verify.verify(signed_text(answer["origin"], key), base64.b64decode(key["signature"]))
    with pytest.raises(BadSignatureError):
        verify.verify(signed_text(answer["origin"], swapped), base64.b64decode(key["signature"]))


# --- the vectors, and the document's own words ----------------------------------------------


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"].replace(" ", "_"))
def test_each_vector_is_what_the_document_describes(vector: dict[str, str]) -> None:
    private, public = (base64.b64decode(vector[name]) for name in ("private_key", "public_key"))
    assert crypto_scalarmult_base(private) == public
    message = vector["message"].encode()
    assert written(json.loads(message)) == message
    text = padded(message)
    assert hashlib.sha256(text).hexdigest() == vector["padded_sha256"]
    box = base64.b64decode(vector["sealed"], validate=True)
    assert len(box) == 32 + 16 + len(text)
    assert len(text) == (512 if len(message) < 512 else 1024)
    fresh, sealed = box[:32], box[32:]
    assert crypto_box_open(sealed, nonce_of(fresh, public), fresh, private) == text


def test_the_document_shows_the_message_as_it_is_written() -> None:
    (line,) = re.findall(r'^ *(\{"card":.*"v":1\})$', DOCUMENT, re.MULTILINE)
    shown = json.loads(line)
    assert written(shown).decode() == line
    names = {name for vector in VECTORS for name in json.loads(vector["message"])}
    assert names - {"cvc", "token"} == set(shown)
    assert "`tests/vault/sealed_vectors.json`" in DOCUMENT
