"""Opening what a browser sealed: for this tenant, from a listed page, in time, and nothing told."""

import base64
import json
import secrets
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime, timedelta

import pytest
from nacl.bindings import sodium_pad
from nacl.exceptions import CryptoError
from nacl.public import PrivateKey, SealedBox

from gateway.card_body import CardBody, SealedCard
from gateway.sealed import PADDED_BYTES, Sender, Unsealing
from tests.cards import VISA
from vault.errors import EdgeKeyUnknown, SealedRefused

AT = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)
KID = "ek_" + "0" * 26
TENANT = "t_shop1"
SHOP = "https://shop.example"
TOKEN = "pwt_test_" + "0" * 28
KEY = PrivateKey.generate()

Message = dict[str, object]


class Ring:
    """A key ring of one key; the real one's tests are custody's."""

    async def open(self, kid: str, sealed: bytes) -> bytes:
        if kid != KID:
            raise EdgeKeyUnknown
        try:
            return SealedBox(KEY).decrypt(sealed)
        except CryptoError:
            pass
        raise SealedRefused("box")


def message(**changes: object) -> Message:
    card = {"cvc": "123", "exp_month": 12, "exp_year": 2030, "number": VISA}
    return {
        "card": card,
        "expires_at": int((AT + timedelta(minutes=5)).timestamp()),
        "kid": KID,
        "nonce": base64.urlsafe_b64encode(secrets.token_bytes(16)).rstrip(b"=").decode(),
        "origin": SHOP,
        "tenant": TENANT,
        "v": 1,
    } | changes


def code_message(**changes: object) -> Message:
    sealed = message(cvc="123", token=TOKEN) | changes
    del sealed["card"]
    return sealed


def box(content: bytes) -> str:
    return base64.b64encode(SealedBox(KEY.public_key).encrypt(content)).decode("ascii")


def sealed(of: Message) -> str:
    text = json.dumps(of, sort_keys=True, separators=(",", ":")).encode()
    return box(sodium_pad(text, PADDED_BYTES))


def sender(page: str | None = None, origins: Collection[str] = (SHOP,)) -> Sender:
    async def listed() -> Collection[str]:
        return origins

    return Sender(TENANT, listed, page)


def unsealing(results: list[str] | None = None) -> Unsealing:
    heard = results if results is not None else []
    return Unsealing(Ring(), now=lambda: AT, observe=heard.append)


async def test_a_card_is_given_with_the_nonce_that_it_uses_up() -> None:
    results: list[str] = []
    sent = message()
    card, nonce = await unsealing(results).card(sealed(sent), KID, sender(SHOP))
    assert (card.number, card.exp_month, card.exp_year, card.cvc) == (VISA, 12, 2030, "123")
    assert base64.urlsafe_b64encode(nonce.value).decode() == f"{sent['nonce']}=="
    assert (nonce.tenant, nonce.ends) == (TENANT, AT + timedelta(minutes=5))
    assert results == ["opened"]


async def test_what_is_sealed_has_one_length_whatever_the_card() -> None:
    lengths = {
        len(sealed(message(card={"exp_month": 1, "exp_year": 2030, "number": "4" * digits})))
        for digits in range(12, 20)
    }
    assert len(lengths) == 1


@pytest.mark.guards("T-77")
@pytest.mark.parametrize(
    ("reason", "changes"),
    [
        ("kid", {"kid": "ek_" + "1" * 26}),
        ("tenant", {"tenant": "t_other"}),
        ("origin", {"origin": "https://shop.example.evil.example"}),
        ("origin", {"origin": "https://shop.example:8443"}),
        ("origin", {"origin": "null"}),
        ("expired", {"expires_at": int(AT.timestamp())}),
        ("expired", {"expires_at": 0}),
        ("expired", {"expires_at": int((AT + timedelta(minutes=16)).timestamp())}),
        ("form", {"v": 2}),
        ("form", {"nonce": "A" * 21}),
        ("form", {"nonce": "A" * 21 + "B"}),
        ("form", {"expires_at": "1800000000"}),
        ("form", {"more": 1}),
        ("form", {"card": {"number": VISA}}),
    ],
)
async def test_it_is_good_for_what_it_was_sealed_for_alone(reason: str, changes: Message) -> None:
    results: list[str] = []
    with pytest.raises(SealedRefused) as refused:
        await unsealing(results).card(sealed(message(**changes)), KID, sender())
    assert refused.value.reason == reason
    assert results == [reason]


@pytest.mark.guards("T-77")
async def test_a_listed_page_cannot_send_what_was_sealed_on_another() -> None:
    other = "https://other.example"
    listed = sender(other, origins=(SHOP, other))
    with pytest.raises(SealedRefused) as refused:
        await unsealing().card(sealed(message()), KID, listed)
    assert refused.value.reason == "origin"


@pytest.mark.guards("T-77")
async def test_a_card_is_no_code_and_a_code_no_card() -> None:
    with pytest.raises(SealedRefused):
        await unsealing().cvc(sealed(message()), KID, sender(), token=TOKEN)
    with pytest.raises(SealedRefused):
        await unsealing().card(sealed(code_message()), KID, sender())
    code, _ = await unsealing().cvc(sealed(code_message()), KID, sender(), token=TOKEN)
    assert code == "123"


@pytest.mark.guards("T-77")
async def test_a_code_is_for_one_stored_card() -> None:
    with pytest.raises(SealedRefused) as refused:
        await unsealing().cvc(sealed(code_message()), KID, sender(), token="pwt_test_" + "1" * 28)
    assert refused.value.reason == "token"


BAD: Mapping[str, Callable[[], str]] = {
    "short": lambda: "AAAA",
    "no_base64": lambda: "A" * 5,
    "empty": lambda: box(b""),
    "unpadded": lambda: box(b"{}"),
    "list": lambda: box(sodium_pad(b"[]", PADDED_BYTES)),
    "cut": lambda: box(sodium_pad(b"{", PADDED_BYTES)),
    "no_text": lambda: box(sodium_pad(b"\xff", PADDED_BYTES)),
    "zeros": lambda: box(bytes(PADDED_BYTES)),
    "padded_otherwise": lambda: box(sodium_pad(json.dumps(message()).encode(), 256)[:-1]),
}


@pytest.mark.parametrize("name", BAD)
async def test_anything_else_is_refused_with_the_one_error(name: str) -> None:
    with pytest.raises(SealedRefused) as refused:
        await unsealing().card(BAD[name](), KID, sender())
    assert refused.value.__context__ is None
    assert refused.value.__cause__ is None


async def test_a_key_that_is_gone_is_told_apart() -> None:
    results: list[str] = []
    with pytest.raises(EdgeKeyUnknown):
        await unsealing(results).card(sealed(message()), "ek_" + "1" * 26, sender())
    assert results == ["key_unknown"]


def test_nothing_that_holds_a_card_prints_it() -> None:
    card = CardBody(VISA, 12, 2030, "123")
    whole = SealedCard(
        expires_at=1, kid=KID, nonce="A" * 22, origin=SHOP, tenant=TENANT, v=1, card=card
    )
    assert VISA not in repr(card) + repr(whole)
