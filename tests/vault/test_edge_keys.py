"""Edge keys as a gateway uses them: what is published, what opens, and what is neither."""

import asyncio
import base64
import hashlib
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from nacl.bindings import (
    crypto_box_keypair,
    crypto_box_seal_open,
    crypto_scalarmult_base,
    sodium_pad,
    sodium_unpad,
)

from tests import cards
from tests.vault.edge_key_places import START, Places, edge_key_places, sealed_to
from tests.vault.embedded.bao_client import BaoClient
from tests.vault.ledger.samples import ORIGIN
from vault.edge_keys import (
    LIFE_MAX,
    EdgeKey,
    EdgeKeys,
    edge_key_text,
    kid_of,
    made_at,
    record_of,
    uuid_of,
)
from vault.embedded.bootstrap import EmbeddedParts
from vault.errors import EdgeKeyUnknown, KeysMisconfigured, KeysUnavailable, SealedRefused
from vault.ids import new_uuid7, uuid7

VECTORS = Path(__file__).parent / "sealed_vectors.json"
UUID_7 = UUID("019b7ca9-8f2e-7abc-8def-0123456789ab")
KID = "ek_01kdyak3sefay8vvr14d2pf2db"

Record = dict[str, str]


@pytest.fixture
async def places(embedded: EmbeddedParts) -> AsyncIterator[Places]:
    async with edge_key_places(embedded) as made:
        yield made


async def made(
    places: Places, *, life: timedelta = timedelta(days=2), origin: str = ORIGIN
) -> tuple[EdgeKey, bytes]:
    """Make a key without the rotation, well signed; its private half beside it."""
    at = places.clock()
    public, private = crypto_box_keypair()
    version = max(await places.reveal.public_keys("edge-sign"))
    key = EdgeKey(kid_of(new_uuid7(at)), public, at, at + life, b"", version)
    text = edge_key_text(origin, key.kid, public, at, at + life)
    return replace(key, signature=await places.reveal.sign("edge-sign", version, text)), private


async def stored(places: Places, *, origin: str = ORIGIN) -> EdgeKey:
    key, private = await made(places, origin=origin)
    assert await write(places, key.kid, record_of(key, private)) == 1
    return key


async def write(places: Places, kid: str, record: Record, cas: int = 0) -> int | None:
    return await places.maker().write_secret(f"edge/{kid}", record, cas=cas)


async def destroy(places: Places, kid: str) -> None:
    await places.reveal.destroy_secret(f"edge/{kid}", [1])


# --- kids, times, and what is signed --------------------------------------------------------


def test_a_kid_is_a_uuid_of_its_time() -> None:
    assert kid_of(UUID_7) == KID
    assert uuid_of(KID) == UUID_7
    assert made_at(KID) == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def test_kids_sort_by_time() -> None:
    times = [START + timedelta(hours=hours) for hours in (0, 1, 30, 9_000)]
    kids = [kid_of(new_uuid7(at)) for at in times]
    assert kids == sorted(kids)
    assert [made_at(kid) for kid in kids] == times


@pytest.mark.parametrize(
    "text",
    [
        "",
        KID.upper(),
        KID[:-1],
        KID + "0",
        KID.replace("ek_0", "ek_8"),
        KID.replace("y", "l", 1),
        KID + "\n",
        "k_" + KID,
        kid_of(UUID("019b7ca9-8f2e-4abc-8def-0123456789ab")),  # not of version 7
        "../ledger/head",
    ],
)
def test_what_is_no_kid_has_no_time(text: str) -> None:
    assert uuid_of(text) is None
    assert made_at(text) is None


def test_a_time_that_no_calendar_has_is_none() -> None:
    assert made_at(kid_of(uuid7(2**48 - 1, bytes(10)))) is None


def test_what_is_signed() -> None:
    at = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    text = edge_key_text(ORIGIN, KID, bytes(range(32)), at, at + timedelta(days=2))
    assert text == (
        b"panward/edge-key/v1\n"
        b"ledger.example/gateway-1\n"
        b"ek_01kdyak3sefay8vvr14d2pf2db\n"
        b"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n"
        b"2026-01-02T03:04:05Z\n"
        b"2026-01-04T03:04:05Z\n"
    )


# --- what is published ----------------------------------------------------------------------


@pytest.mark.embedded
async def test_keys_are_published_newest_first_with_a_signature_that_a_page_can_check(
    places: Places,
) -> None:
    old = await stored(places)
    places.clock.advance(days=1)
    new = await stored(places)
    gateway = places.gateway()
    assert gateway.published() == ()
    await gateway.refresh()
    assert gateway.published() == (new, old)
    for key in gateway.published():
        text = edge_key_text(ORIGIN, key.kid, key.public_key, key.not_before, key.not_after)
        verifying = gateway.signing_keys()[key.signed_by]
        Ed25519PublicKey.from_public_bytes(verifying).verify(key.signature, text)
    assert gateway.signing_keys() == await places.tokenize.public_keys("edge-sign")
    assert gateway.signing_keys() != await places.tokenize.public_keys("ledger")


@pytest.mark.embedded
async def test_a_key_is_published_and_opens_within_its_time(places: Places) -> None:
    key = await stored(places)
    gateway = places.gateway()
    await gateway.refresh()
    box = sealed_to(key)
    places.clock.advance(days=2, seconds=-1)
    assert gateway.published() == (key,)
    assert await gateway.open(key.kid, box) == b"a card"
    places.clock.advance(seconds=1)
    assert gateway.published() == ()
    with pytest.raises(EdgeKeyUnknown):
        await gateway.open(key.kid, box)
    await gateway.refresh()
    assert not gateway._known.pairs, "the private half is let go"


@pytest.mark.embedded
async def test_a_key_of_a_clock_that_is_ahead_is_not_published_before_its_time(
    places: Places,
) -> None:
    key = await stored(places)
    places.clock.advance(seconds=-3)
    gateway = places.gateway()
    await gateway.refresh()
    assert gateway.published() == ()
    assert await gateway.open(key.kid, sealed_to(key)) == b"a card", "others publish it"


@pytest.mark.embedded
async def test_nothing_prints_a_private_key(places: Places) -> None:
    key, private = await made(places)
    await write(places, key.kid, record_of(key, private))
    gateway = places.gateway()
    await gateway.refresh()
    shown = f"{gateway!r} {gateway._known!r} {gateway._known.pairs!r} {gateway.published()!r}"
    assert base64.b64encode(private).decode() not in shown
    assert repr(private)[2:-1] not in shown
    assert key.kid in shown


# --- what opens -----------------------------------------------------------------------------


@pytest.mark.embedded
async def test_what_is_no_box_to_the_key_is_refused(places: Places) -> None:
    key = await stored(places)
    other = await stored(places)
    gateway = places.gateway()
    await gateway.refresh()
    box = sealed_to(key)
    bent = bytes([*box[:-1], box[-1] ^ 1])
    for wrong in (b"", b"x" * 47, b"x" * 48, box[:-1], box + b"x", bent, sealed_to(other)):
        with pytest.raises(SealedRefused) as refused:
            await gateway.open(key.kid, wrong)
        assert refused.value.reason == "box"
        assert refused.value.__context__ is None
    assert await gateway.open(key.kid, sealed_to(key, b"")) == b""


@pytest.mark.embedded
async def test_a_kid_that_can_be_no_new_key_costs_nothing(places: Places) -> None:
    login = places.reader()
    gateway = places.gateway(login)
    at = places.clock()
    for kid in ("", "ek_", "../x", kid_of(new_uuid7(at - timedelta(minutes=6))),
                kid_of(new_uuid7(at + timedelta(minutes=1)))):  # fmt: skip
        with pytest.raises(EdgeKeyUnknown):
            await gateway.open(kid, b"x" * 100)
    assert login.calls == []


@pytest.mark.embedded
async def test_a_key_made_elsewhere_a_moment_ago_is_looked_for_once_for_all(
    places: Places,
) -> None:
    login = places.reader()
    gateway = places.gateway(login)
    await gateway.refresh()
    key = await stored(places)
    login.calls.clear()
    opened = await asyncio.gather(*(gateway.open(key.kid, sealed_to(key)) for _ in range(20)))
    assert set(opened) == {b"a card"}
    assert login.calls == ["keys", "list", "read"]


@pytest.mark.embedded
async def test_made_up_kids_cost_one_look_a_second(places: Places) -> None:
    login = places.reader()
    gateway = places.gateway(login)
    kids = [kid_of(new_uuid7(places.clock())) for _ in range(20)]
    found = await asyncio.gather(
        *(gateway.open(kid, b"x" * 100) for kid in kids), return_exceptions=True
    )
    assert {type(error) for error in found} == {EdgeKeyUnknown}
    assert login.calls.count("list") == 1
    gateway._looked_at = asyncio.get_running_loop().time() - 1.0
    with pytest.raises(EdgeKeyUnknown):
        await gateway.open(kids[0], b"x" * 100)
    assert login.calls.count("list") == 2


@pytest.mark.embedded
async def test_a_second_gateway_sees_a_new_key_at_its_next_refresh(places: Places) -> None:
    first, second = places.gateway(), places.gateway()
    key = await stored(places)
    await first.refresh()
    await second.refresh()
    assert first.published() == second.published() == (key,)


@pytest.mark.embedded
async def test_while_the_key_service_is_away_what_is_known_goes_on_to_its_end(
    places: Places,
) -> None:
    key = await stored(places)
    login = places.reader()
    gateway = places.gateway(login)
    await gateway.refresh()
    login.away = True
    with pytest.raises(KeysUnavailable):
        await gateway.refresh()
    assert await gateway.open(key.kid, sealed_to(key)) == b"a card"
    with pytest.raises(KeysUnavailable):  # not "unknown": the page would fetch the same key again
        await gateway.open(kid_of(new_uuid7(places.clock())), b"x" * 100)
    places.clock.advance(days=2)
    with pytest.raises(EdgeKeyUnknown):
        await gateway.open(key.kid, sealed_to(key))


# --- what is destroyed ----------------------------------------------------------------------


@pytest.mark.embedded
async def test_recorded_traffic_cannot_be_opened_once_the_key_is_destroyed(
    places: Places, embedded: EmbeddedParts
) -> None:
    key = await stored(places)
    recorded = sealed_to(key)
    gateway = places.gateway()
    await gateway.refresh()
    assert await gateway.open(key.kid, recorded) == b"a card"
    await destroy(places, key.kid)
    await gateway.refresh()
    assert gateway.published() == ()
    with pytest.raises(EdgeKeyUnknown):
        await gateway.open(key.kid, recorded)
    with BaoClient(embedded, embedded.logins["tokenize"]) as client:
        for query in ("", "?version=0", "?version=1", "?version=2"):
            status, answer = client.call("GET", f"kv/data/edge/{key.kid}{query}")
            assert status == 404
            assert "private_key" not in json.dumps(answer)
    with BaoClient(embedded, embedded.logins["reveal"]) as client:
        for path in (f"kv/undelete/edge/{key.kid}", f"kv/data/edge/{key.kid}"):
            assert client.call("POST", path, {"versions": [1]})[0] in (400, 403)
    await gateway.refresh()
    assert gateway.published() == ()


@pytest.mark.embedded
async def test_a_key_that_is_gone_is_read_no_more_once_no_node_can_lag(places: Places) -> None:
    key = await stored(places)
    await destroy(places, key.kid)
    login = places.reader()
    gateway = places.gateway(login)
    for seconds, reads in ((0, 1), (50, 2), (61, 3), (62, 3), (3600, 3)):
        places.clock.at = START + timedelta(seconds=seconds)
        await gateway.refresh()
        assert login.calls.count("read") == reads, seconds


@pytest.mark.embedded
async def test_keys_beyond_the_longest_life_are_not_even_read(places: Places) -> None:
    await stored(places)
    places.clock.at += LIFE_MAX + timedelta(seconds=1)
    login = places.reader()
    await places.gateway(login).refresh()
    assert login.calls == ["keys", "list"]


@pytest.mark.embedded
@pytest.mark.parametrize(
    ("login", "method", "path"),
    [
        ("tokenize", "POST", "kv/data/edge/{kid}"),
        ("tokenize", "PUT", "kv/destroy/edge/{kid}"),
        ("tokenize", "DELETE", "kv/data/edge/{kid}"),
        ("tokenize", "DELETE", "kv/metadata/edge/{kid}"),
        ("tokenize", "POST", "transit/sign/edge-sign"),
        ("tokenize", "POST", "transit/keys/edge-sign/rotate"),
        ("reveal", "GET", "kv/data/edge/{kid}"),
        ("credentials", "GET", "kv/data/edge/{kid}"),
        ("credentials", "POST", "kv/data/edge/{kid}"),
        ("break-glass", "GET", "kv/data/edge/{kid}"),
    ],
)
async def test_who_reads_keys_makes_none_and_who_makes_them_reads_none(
    places: Places, embedded: EmbeddedParts, login: str, method: str, path: str
) -> None:
    key = await stored(places)
    body = {"data": {}, "options": {"cas": 1}, "versions": [1], "input": ""}
    with BaoClient(embedded, embedded.logins[login]) as client:
        assert client.call(method, path.format(kid=key.kid), body)[0] == 403
    gateway = places.gateway()
    await gateway.refresh()
    assert gateway.published() == (key,)


@pytest.mark.embedded
async def test_destroying_is_repeatable_and_refused_as_any_other_call(places: Places) -> None:
    key = await stored(places)
    with pytest.raises(KeysMisconfigured):
        await places.tokenize.destroy_secret(f"edge/{key.kid}", [1])
    assert await places.tokenize.read_secret(f"edge/{key.kid}") is not None
    with pytest.raises(KeysMisconfigured):
        await places.reveal.destroy_secret("edge/../ledger/head", [1])
    for versions in ([1], [1], [1, 2]):
        await places.reveal.destroy_secret(f"edge/{key.kid}", versions)
        assert await places.tokenize.read_secret(f"edge/{key.kid}") is None
    await places.reveal.destroy_secret(f"edge/{kid_of(new_uuid7(START))}", [1])


# --- what is neither published nor used -----------------------------------------------------


def swap_public(record: Record) -> None:
    """Publish a key whose private half somebody else has, too."""
    public, private = crypto_box_keypair()
    record["public_key"] = base64.b64encode(public).decode()
    record["private_key"] = base64.b64encode(private).decode()


def swap_public_alone(record: Record) -> None:
    record["public_key"] = base64.b64encode(crypto_box_keypair()[0]).decode()


def bend_signature(record: Record) -> None:
    raw = bytearray(base64.b64decode(record["signature"]))
    raw[0] ^= 1
    record["signature"] = base64.b64encode(raw).decode()


def setting(field: str, value: str) -> Callable[[Record], None]:
    def change(record: Record) -> None:
        record[field] = value

    return change


def without(field: str) -> Callable[[Record], None]:
    def change(record: Record) -> None:
        del record[field]

    return change


TAMPERED: dict[str, tuple[Callable[[Record], None], str]] = {
    "another pair": (swap_public, "signature"),
    "another public half": (swap_public_alone, "pair"),
    "a bent signature": (bend_signature, "signature"),
    "a signature of zeros": (
        setting("signature", base64.b64encode(bytes(64)).decode()),
        "signature",
    ),
    "a version that is none": (setting("signed_by", "99"), "signature"),
    "a longer life": (setting("not_after", "2100-01-05T03:04:05Z"), "signature"),
    "a much longer life": (setting("not_after", "2100-02-05T03:04:05Z"), "times"),
    "no life": (setting("not_after", "2100-01-02T03:04:05Z"), "times"),
    "an earlier beginning": (setting("not_before", "2100-01-02T03:04:04Z"), "times"),
    "another zone": (setting("not_before", "2100-01-02T03:04:05+00:00"), "form"),
    "another spelling of a time": (setting("not_before", "2100-1-2T03:04:05Z"), "form"),
    "version 0": (setting("signed_by", "0"), "form"),
    "a version in words": (setting("signed_by", "one"), "form"),
    "a short signature": (setting("signature", "AAAA"), "form"),
    "no base64": (setting("public_key", "not base64"), "form"),
    "a public half of zeros": (setting("public_key", "A" * 43 + "="), "pair"),
    "stray bits": (setting("public_key", "A" * 42 + "B="), "form"),
    "no private half": (without("private_key"), "form"),
    "no signature": (without("signature"), "form"),
}


@pytest.mark.embedded
@pytest.mark.guards("T-77")
@pytest.mark.parametrize(("tamper", "reason"), TAMPERED.values(), ids=list(TAMPERED))
async def test_a_record_that_was_tampered_with_is_neither_published_nor_used(
    places: Places, tamper: Callable[[Record], None], reason: str
) -> None:
    good = await stored(places)
    key, private = await made(places)
    record = record_of(key, private)
    tamper(record)
    await write(places, key.kid, record)
    gateway = places.gateway()
    for _ in range(2):
        await gateway.refresh()
        assert gateway.published() == (good,), "its neighbor goes on"
    assert gateway.refused == {key.kid: reason}
    assert places.refused == [reason], "said once"
    with pytest.raises(EdgeKeyUnknown):
        await gateway.open(key.kid, sealed_to(key))
    assert await gateway.open(good.kid, sealed_to(good)) == b"a card"


@pytest.mark.embedded
async def test_the_untampered_record_would_have_been_good(places: Places) -> None:
    key = await stored(places)
    gateway = places.gateway()
    await gateway.refresh()
    assert gateway.published() == (key,)
    assert gateway.refused == {}


async def refused_by(places: Places, gateway: EdgeKeys) -> list[str]:
    await gateway.refresh()
    assert gateway.published() == ()
    return places.refused


@pytest.mark.embedded
async def test_a_key_of_another_deployment_is_refused(places: Places) -> None:
    await stored(places, origin="ledger.example/gateway-2")
    assert await refused_by(places, places.gateway()) == ["signature"]


@pytest.mark.embedded
async def test_a_record_that_is_no_text_is_refused_alone(
    places: Places, embedded: EmbeddedParts
) -> None:
    good = await stored(places)
    kid = kid_of(new_uuid7(START))
    body = {"data": {"private_key": 1}, "options": {"cas": 0}}
    with BaoClient(embedded, embedded.logins["reveal"]) as client:
        assert client.call("POST", f"kv/data/edge/{kid}", body)[0] == 200
    places.kids.add(kid)
    gateway = places.gateway()
    await gateway.refresh()
    assert gateway.published() == (good,)
    assert gateway.refused == {kid: "form"}


@pytest.mark.embedded
async def test_nobody_needs_to_listen(places: Places) -> None:
    key = await stored(places, origin="ledger.example/gateway-2")
    gateway = EdgeKeys(places.reader(), origin=ORIGIN, now=places.clock)
    await gateway.refresh()
    assert gateway.refused == {key.kid: "signature"}


@pytest.mark.embedded
async def test_a_record_under_another_kid_is_refused(places: Places) -> None:
    key, private = await made(places)
    await write(places, kid_of(new_uuid7(START)), record_of(key, private))
    assert await refused_by(places, places.gateway()) == ["signature"]


@pytest.mark.embedded
async def test_a_record_that_was_written_over_is_refused(places: Places) -> None:
    key, private = await made(places)
    await write(places, key.kid, record_of(key, private))
    gateway = places.gateway()
    await gateway.refresh()
    assert gateway.published() == (key,)
    await write(places, key.kid, record_of(key, private), cas=1)
    assert await refused_by(places, gateway) == ["version"]


@pytest.mark.embedded
async def test_names_that_are_no_kids_are_passed_over(places: Places) -> None:
    key, private = await made(places)
    await write(places, key.kid, record_of(key, private))
    for name in ("zz", f"{key.kid}x"):
        await places.reveal.write_secret(f"edge/{name}", record_of(key, private), cas=0)
        places.kids.add(name)
    gateway = places.gateway()
    await gateway.refresh()
    assert gateway.published() == (key,)
    assert places.refused == []


# --- vectors for every implementation -------------------------------------------------------

TENANT = "t_0123456789abcdefghjkmnpqrs"
TOKEN = "pwt_test_0123456789abcdefghjkmnpqrsda"
SHOP = "https://shop.example"


def card(number: str, cvc: str | None) -> dict[str, object]:
    fields: dict[str, object] = {"number": number, "exp_month": 12, "exp_year": 2030}
    return {"card": fields if cvc is None else {**fields, "cvc": cvc}}


def message_of(name: str, subject: dict[str, object], origin: str = SHOP) -> str:
    nonce = base64.urlsafe_b64encode(hashlib.sha256(name.encode()).digest()[:16]).decode()
    fields = {
        **subject,
        "expires_at": 1_767_225_600,
        "kid": KID,
        "nonce": nonce.rstrip("="),
        "origin": origin,
        "tenant": TENANT,
        "v": 1,
    }
    return json.dumps(fields, sort_keys=True, separators=(",", ":"))


def long_message(name: str, length: int) -> str:
    """Make one of so many bytes, by an origin that is long enough."""
    short = message_of(name, card(cards.VISA, "123"), "https://")
    missing = length - len(short) - len(".example")
    labels = ".".join(["s" * 49] * (missing // 50)) + "." + "p" * (missing % 50 - 1)
    origin = f"https://{labels.strip('.')}"
    origin += "x" * (missing - len(origin) + len("https://")) + ".example"
    return message_of(name, card(cards.VISA, "123"), origin)


CASES = {
    "card with cvc": message_of("card with cvc", card(cards.VISA, "123")),
    "card without cvc": message_of("card without cvc", card(cards.VISA_19, None)),
    "card of 15 digits, cvc of 4": message_of(
        "card of 15 digits, cvc of 4", card(cards.AMEX, "1234")
    ),
    "app": message_of("app", card(cards.MASTERCARD, "123"), "app:com.example.shop"),
    "port": message_of("port", card(cards.UNIONPAY, "123"), "http://localhost:8080"),
    "cvc of a stored card": message_of("cvc of a stored card", {"cvc": "123", "token": TOKEN}),
    "511 bytes": long_message("511 bytes", 511),
    "512 bytes": long_message("512 bytes", 512),
}
"""What is sealed in each vector, by its name; the private key is SHA-256 of a text with it."""


def private_key_of(name: str) -> bytes:
    return hashlib.sha256(f"panward sealed vector: {name}".encode()).digest()


def test_there_is_a_vector_for_each_case() -> None:
    assert [vector["name"] for vector in json.loads(VECTORS.read_text())] == list(CASES)


@pytest.mark.parametrize("name", CASES)
def test_a_vector_is_what_it_says_and_opens(name: str) -> None:
    (vector,) = [one for one in json.loads(VECTORS.read_text()) if one["name"] == name]
    private = private_key_of(name)
    public = crypto_scalarmult_base(private)
    padded = sodium_pad(CASES[name].encode(), 512)
    sealed = base64.b64decode(vector.pop("sealed"), validate=True)
    assert vector == {
        "name": name,
        "private_key": base64.b64encode(private).decode(),
        "public_key": base64.b64encode(public).decode(),
        "message": CASES[name],
        "padded_sha256": hashlib.sha256(padded).hexdigest(),
    }
    opened = crypto_box_seal_open(sealed, public, private)
    assert opened == padded
    assert sodium_unpad(opened, 512).decode() == CASES[name]
    assert len(padded) == (1024 if name == "512 bytes" else 512)
