"""Items are checked when made, travel as base64, and print nothing."""

import base64
import json
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.pretty import pretty_repr

from vault.errors import KeysMisconfigured, RecordCorrupt
from vault.transit_items import (
    Decrypt,
    DecryptItem,
    Encrypt,
    Encrypted,
    EncryptItem,
    Hmac,
    HmacItem,
    ItemResult,
    Request,
    is_name,
    path_of,
)

CANARY = b"canary-plaintext"
CIPHERTEXT = "vault:v1:" + base64.b64encode(bytes(40)).decode()
MAC = base64.b64encode(bytes(range(32))).decode()


@pytest.mark.guards("T-69")
@pytest.mark.parametrize(
    "make",
    [
        lambda: EncryptItem(b"", b"context"),
        lambda: EncryptItem(bytes(65_537), b"context"),
        lambda: EncryptItem(b"plaintext", b""),
        lambda: DecryptItem(CIPHERTEXT, b"", "intent/0"),
        lambda: DecryptItem(CIPHERTEXT, b"context", ""),
        lambda: DecryptItem(CIPHERTEXT, b"context", "a" * 129),
        lambda: DecryptItem(CIPHERTEXT, b"context", "a b"),
        lambda: HmacItem(b""),
        lambda: HmacItem(bytes(65_537)),
    ],
    ids=range(9),
)
def test_an_item_that_would_spoil_its_batch_cannot_be_made(make: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match="needed"):
        make()


@pytest.mark.guards("T-69")
@pytest.mark.parametrize(
    "text",
    [
        "",
        "plain",
        "vault:v0:AAAA",
        "vault:vx:AAAA",
        "vault:v1:",
        "vault:v1:!!!!",
        CIPHERTEXT + "\n",
        "vault:v1:" + "A" * 90_000,
    ],
)
def test_a_row_that_holds_no_ciphertext_is_corrupt(text: str) -> None:
    with pytest.raises(RecordCorrupt):
        DecryptItem(text, b"context", "intent/0")


def test_the_longest_plaintext_can_be_opened_again() -> None:
    longest = base64.b64encode(bytes(12 + 65_536 + 16)).decode()
    DecryptItem("vault:v999999999:" + longest, b"context", "intent/0")


def test_encrypt_says_what_the_api_wants() -> None:
    body = Encrypt("pan").body([EncryptItem(b"p", b"c"), EncryptItem(b"q", b"d")], ["7", "8"])
    assert json.loads(body) == {
        "batch_input": [
            {"plaintext": "cA==", "context": "Yw==", "reference": "7"},
            {"plaintext": "cQ==", "context": "ZA==", "reference": "8"},
        ],
        "partial_failure_response_code": 200,
    }
    assert Encrypt("pan").path("transit") == "/v1/transit/encrypt/pan"
    assert Encrypt("pan").reference(EncryptItem(b"p", b"c"), 7) == "7"


def test_decrypt_says_what_the_api_wants_under_the_items_own_reference() -> None:
    item = DecryptItem(CIPHERTEXT, b"c", "intent/3")
    assert Decrypt("cvc").reference(item, 7) == "intent/3"
    assert json.loads(Decrypt("cvc").body([item], ["intent/3"])) == {
        "batch_input": [{"ciphertext": CIPHERTEXT, "context": "Yw==", "reference": "intent/3"}],
        "partial_failure_response_code": 200,
    }
    assert Decrypt("cvc").path("transit") == "/v1/transit/decrypt/cvc"


def test_hmac_pins_one_version_for_the_whole_batch() -> None:
    assert json.loads(Hmac("digest", 4).body([HmacItem(b"i")], ["0"])) == {
        "batch_input": [{"input": "aQ==", "reference": "0"}],
        "key_version": 4,
    }
    assert Hmac("digest", 4).path("mount") == "/v1/mount/hmac/digest/sha2-256"
    assert Hmac("digest", 4).reference(HmacItem(b"i"), 7) == "7"


@pytest.mark.guards("T-69")
def test_128_items_of_three_fields_stay_below_the_limit_of_strings() -> None:
    items = [EncryptItem(b"p", b"c")] * 128
    body = json.loads(Encrypt("pan").body(items, [str(n) for n in range(128)]))
    assert sum(2 * len(item) for item in body["batch_input"]) + 4 <= 1000


def test_a_ciphertext_is_believed_only_with_its_version() -> None:
    encrypt = Encrypt("pan")
    assert encrypt.value(ItemResult(ciphertext=CIPHERTEXT, key_version=1)) == Encrypted(
        CIPHERTEXT, 1
    )
    assert encrypt.value(ItemResult(ciphertext=CIPHERTEXT, key_version=2)) is None
    assert encrypt.value(ItemResult(ciphertext="vault:v1:!", key_version=1)) is None
    assert encrypt.value(ItemResult()) is None


def test_an_empty_plaintext_is_none() -> None:
    assert Decrypt("pan").value(ItemResult(plaintext=b"p")) == b"p"
    assert Decrypt("pan").value(ItemResult()) is None


def test_a_mac_is_believed_only_under_the_pinned_version_and_at_full_length() -> None:
    hmac = Hmac("digest", 2)
    assert hmac.value(ItemResult(hmac="vault:v2:" + MAC)) == bytes(range(32))
    assert hmac.value(ItemResult(hmac="vault:v1:" + MAC)) is None
    assert hmac.value(ItemResult(hmac="vault:v2:" + MAC[:40])) is None
    assert hmac.value(ItemResult(hmac="vault:v2:!!!")) is None
    assert hmac.value(ItemResult()) is None


@pytest.mark.guards("T-64")
@given(st.text(max_size=20))
def test_no_path_leaves_its_place(name: str) -> None:
    if is_name(name):
        assert path_of("transit", name) == f"/v1/transit/{name}"
        assert not set(name) & set("./%?#\\ \n")
    else:
        with pytest.raises(KeysMisconfigured):
            path_of("transit", name)


@pytest.mark.guards("T-64")
@pytest.mark.parametrize("name", ["..", "a/b", "a%2fb", "", "pan\n", "PAN", "a?b"])
def test_a_name_that_could_climb_is_refused(name: str) -> None:
    assert not is_name(name)


@pytest.mark.guards("T-67")
@pytest.mark.parametrize(
    "shape",
    [
        EncryptItem(CANARY, CANARY),
        DecryptItem("vault:v1:" + base64.b64encode(CANARY).decode(), CANARY, "canary/0"),
        HmacItem(CANARY),
        ItemResult(plaintext=CANARY, hmac="canary", ciphertext="canary", error="canary"),
        Request("encrypt", "POST", "/v1/x", CANARY),
    ],
)
def test_nothing_that_carries_card_data_prints_it(shape: object) -> None:
    encoded = base64.b64encode(CANARY).decode()
    for printed in (repr(shape), str(shape), f"{shape}", pretty_repr(shape), repr([shape])):
        assert "canary" not in printed
        assert encoded not in printed


def test_a_result_needs_nothing_but_what_its_operation_gives() -> None:
    result = msgspec.json.decode(b'{"reference":"1","error":"no","more":[1]}', type=ItemResult)
    assert (result.reference, result.error, result.plaintext) == ("1", "no", b"")
