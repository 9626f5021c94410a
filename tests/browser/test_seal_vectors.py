"""Sealing in JavaScript and opening in Python, and the other way: libsodium on both sides."""

import base64
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from nacl.bindings import sodium_unpad
from nacl.exceptions import CryptoError
from nacl.public import PrivateKey, SealedBox
from nacl.signing import SigningKey

from tests.browser.in_node import Program, bundled
from vault.edge_keys import edge_key_text

VECTORS = json.loads((Path(__file__).parent.parent / "vault" / "sealed_vectors.json").read_text())
BLOCK_BYTES = 512

PROGRAM = """
import sodium from "libsodium-wrappers";
import { readEdgeKeys, usableKey } from "@/edge_keys.js";
import { seal, sealCvc, verifyEdgeKey } from "@/seal.js";

const base64 = (text) => sodium.from_base64(text, sodium.base64_variants.ORIGINAL);
const ASKED = {
  seal: ([card, terms]) => seal(card, terms),
  sealCvc: ([code, terms]) => sealCvc(code, terms),
  open: ({ sealed, public_key, private_key }) => {
    const padded = sodium.crypto_box_seal_open(
      base64(sealed), base64(public_key), base64(private_key));
    return sodium.to_string(sodium.unpad(padded, 512));
  },
  verify: ([key, origin, pinned]) => verifyEdgeKey(key, origin, pinned),
  usable: ([answer, date]) => {
    try {
      return usableKey(readEdgeKeys(answer, date, Date.parse("2020-01-01T00:00:00Z")))?.kid ?? null;
    } catch (error) {
      if (error instanceof TypeError) return "refused";
      throw error;
    }
  },
};

async function main([what, cases]) {
  await sodium.ready;
  return Promise.all(cases.map((each) => ASKED[what](each)));
}
"""

KID = "ek_01kdyak3sefay8vvr14d2pf2db"
LEDGER = "log.example/panward"


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Program:
    return bundled(PROGRAM, tmp_path_factory.mktemp("seal"))


def _opened(sealed: str, private_key: str) -> str:
    padded = SealedBox(PrivateKey(base64.b64decode(private_key))).decrypt(
        base64.b64decode(sealed, validate=True)
    )
    assert len(padded) % BLOCK_BYTES == 0
    return sodium_unpad(padded, BLOCK_BYTES).decode()


def _asked(vector: dict[str, str]) -> tuple[str, list[object]]:
    """Make of a vector's message the call that should make the same message again."""
    message = json.loads(vector["message"])
    terms = {
        "kid": message["kid"],
        "publicKey": vector["public_key"],
        "tenant": message["tenant"],
        "origin": message["origin"],
        "expiresAt": message["expires_at"],
        "nonce": message["nonce"],
    }
    if "card" in message:
        backwards = dict(reversed(message["card"].items()))  # order must not matter
        return "seal", [backwards, terms]
    return "sealCvc", [{"token": message["token"], "cvc": message["cvc"]}, terms]


def test_javascript_opens_what_was_sealed_elsewhere(program: Program) -> None:
    assert program.run(["open", VECTORS]) == [vector["message"] for vector in VECTORS]


def test_what_javascript_seals_opens_to_the_same_bytes(program: Program) -> None:
    assert {_asked(vector)[0] for vector in VECTORS} >= {"seal"}
    for vector in VECTORS:
        what, asked = _asked(vector)
        (made,) = program.run([what, [asked]])
        assert made["kid"] == json.loads(vector["message"])["kid"]
        assert _opened(made["sealed"], vector["private_key"]) == vector["message"]


def test_a_code_for_a_stored_card_is_sealed_with_its_token(program: Program) -> None:
    private = PrivateKey.generate()
    terms = {
        "kid": KID,
        "publicKey": base64.b64encode(bytes(private.public_key)).decode(),
        "tenant": "t_0",
        "origin": "app:com.example.shop",
        "expiresAt": 1767225600,
    }
    token = f"pwt_test_{'0' * 28}"
    first, second = program.run(["sealCvc", [[{"token": token, "cvc": "012"}, terms]] * 2])
    opened = _opened(first["sealed"], base64.b64encode(bytes(private)).decode())
    message = json.loads(opened)
    assert (message["token"], message["cvc"], message["v"]) == (token, "012", 1)
    assert opened == json.dumps(message, sort_keys=True, separators=(",", ":"))
    other = json.loads(_opened(second["sealed"], base64.b64encode(bytes(private)).decode()))
    assert other["nonce"] != message["nonce"]
    assert len(base64.urlsafe_b64decode(message["nonce"] + "==")) == 16


def test_a_sealed_card_opens_for_no_other_key(program: Program) -> None:
    what, asked = _asked(VECTORS[0])
    (made,) = program.run([what, [asked]])
    with pytest.raises(CryptoError):
        _opened(made["sealed"], base64.b64encode(bytes(PrivateKey.generate())).decode())


# --- the gateway's keys ---------------------------------------------------------------------


def _instant(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


def _signed(signer: SigningKey) -> dict[str, Any]:
    public = bytes(PrivateKey.generate().public_key)
    start = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    text = edge_key_text(LEDGER, KID, public, start, start + timedelta(days=2))
    return {
        "kid": KID,
        "publicKey": base64.b64encode(public).decode(),
        "notBefore": _instant(start),
        "notAfter": _instant(start + timedelta(days=2)),
        "signature": base64.b64encode(signer.sign(text).signature).decode(),
    }


def test_a_pinned_key_is_held_to_every_byte_that_is_signed(program: Program) -> None:
    signer = SigningKey.generate()
    pinned = base64.b64encode(bytes(signer.verify_key)).decode()
    other = base64.b64encode(bytes(SigningKey.generate().verify_key)).decode()
    key = _signed(signer)
    stranger = {**key, "publicKey": base64.b64encode(bytes(32)).decode()}
    good = [[key, LEDGER, pinned], [key, LEDGER, f"{other} {pinned}"]]
    bad = [
        [key, LEDGER, other],
        [key, "log.example/other", pinned],
        [stranger, LEDGER, pinned],
        [{**key, "kid": KID[:-1] + "c"}, LEDGER, pinned],
        [{**key, "notAfter": "2027-01-04T03:04:05Z"}, LEDGER, pinned],
        [{**key, "notBefore": "2025-01-04T03:04:05Z"}, LEDGER, pinned],
        [{**key, "signature": base64.b64encode(bytes(64)).decode()}, LEDGER, pinned],
        [key, LEDGER, ""],
        [key, LEDGER, "not base64!"],
        [key, LEDGER, pinned[:-4]],
    ]
    assert program.run(["verify", good + bad]) == [True] * len(good) + [False] * len(bad)


def _published(*windows: tuple[str, str]) -> dict[str, object]:
    keys = [
        {
            "kid": KID[:-1] + str(place),
            "public_key": base64.b64encode(bytes(32)).decode(),
            "not_before": start,
            "not_after": end,
            "signature": base64.b64encode(bytes(64)).decode(),
            "signed_by": 1,
        }
        for place, (start, end) in enumerate(windows)
    ]
    return {"tenant": "t_0", "origin": LEDGER, "keys": keys, "signing_keys": []}


def test_the_newest_key_whose_time_it_is_by_the_gateways_clock(program: Program) -> None:
    date = "Fri, 02 Jan 2026 12:00:00 GMT"
    ahead = ("2026-01-02T12:00:01Z", "2026-01-04T00:00:00Z")
    now = ("2026-01-02T12:00:00Z", "2026-01-03T00:00:00Z")
    over = ("2026-01-01T00:00:00Z", "2026-01-02T12:00:00Z")
    cases = [
        [_published(now, over), date],
        [_published(ahead, now), date],
        [_published(ahead, over), date],
        [_published(), date],
        [{**_published(now), "keys": [{"kid": "x"}]}, date],
        ["no", date],
    ]
    expected = [f"{KID[:-1]}0", f"{KID[:-1]}1", None, None, "refused", "refused"]
    assert program.run(["usable", cases]) == expected
