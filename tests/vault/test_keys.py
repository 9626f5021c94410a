"""Our verbs over transit: what is sealed for one place opens there and nowhere else."""

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import cards
from tests.vault.fake_node import fake_cluster
from tests.vault.keyrings import INTENT, TOKEN, open_pan, reveal_keys, tokenize_keys
from tests.vault.places import Place, place_of_cluster, place_of_openbao
from vault.api_keys import new_alias, signing_secret_name
from vault.embedded.bootstrap import EmbeddedParts
from vault.errors import KeysError, RecordCorrupt
from vault.keys import Keyed, RevealKeys, TokenizeKeys
from vault.observer import Silent
from vault.pan import Cvc, Pan
from vault.records import fingerprint_input

PAN = Pan.parse(cards.VISA)
OTHER = Pan.parse(cards.MASTERCARD)
CVC = Cvc.parse("123")


@dataclass(frozen=True)
class Halves:
    """Both halves of the keys, at one key service."""

    tokenize: TokenizeKeys
    reveal: RevealKeys


@pytest.fixture(params=["fake", pytest.param("openbao", marks=pytest.mark.embedded)])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    if request.param == "openbao":
        yield place_of_openbao(request.getfixturevalue("embedded"))
    else:
        with fake_cluster() as cluster:
            yield place_of_cluster(cluster)


@pytest.fixture
async def halves(place: Place) -> AsyncIterator[Halves]:
    async with place.transit("tokenize") as tokenize, place.transit("reveal") as reveal:
        made = Halves(tokenize_keys(tokenize), reveal_keys(reveal))
        yield made
        await made.tokenize.close()
        await made.reveal.close()


# --- the contract, on the test Vault and on OpenBao -----------------------------------------


@pytest.mark.parametrize("number", [cards.VISA_13, cards.AMEX, cards.VISA, cards.UNIONPAY_19])
async def test_a_number_opens_as_the_same_number(halves: Halves, number: str) -> None:
    sealed = await halves.tokenize.seal_pan(Pan.parse(number), tenant="t_01", token=TOKEN)
    assert len(sealed.ciphertext) == len(f"vault:v{sealed.key_version}:") + 92
    assert (await open_pan(halves.reveal, sealed)).reveal() == number


@pytest.mark.parametrize("code", ["123", "0007"])
async def test_a_code_opens_as_the_same_code(halves: Halves, code: str) -> None:
    sealed = await halves.tokenize.seal_cvc(Cvc.parse(code), tenant="t_01", token=TOKEN)
    opened = await halves.reveal.open_cvc(
        sealed, tenant="t_01", token=TOKEN, reference=f"{INTENT}/1"
    )
    assert opened.reveal() == code


@pytest.mark.parametrize("cvc", [CVC, None], ids=["with code", "without"])
async def test_a_card_is_protected_as_its_parts_would_be(halves: Halves, cvc: Cvc | None) -> None:
    kept = await halves.tokenize.protect(PAN, cvc, tenant="t_01", token=TOKEN)
    assert kept.fingerprint == await halves.tokenize.fingerprint(PAN, tenant="t_01")
    assert await open_pan(halves.reveal, kept.pan) == PAN
    assert (kept.cvc is None) == (cvc is None)
    if kept.cvc is not None:
        opened = await halves.reveal.open_cvc(
            kept.cvc, tenant="t_01", token=TOKEN, reference=f"{INTENT}/1"
        )
        assert opened == CVC


async def test_cards_protected_together_are_not_mixed_up(halves: Halves) -> None:
    """Only some bring a code, and the codes travel in a call of their own."""
    codes = [Cvc.parse(f"{n:03}") if n % 3 else None for n in range(60)]
    kept = await asyncio.gather(
        *(
            halves.tokenize.protect(PAN, code, tenant="t_01", token=str(n))
            for n, code in enumerate(codes)
        )
    )
    for n, (one, code) in enumerate(zip(kept, codes, strict=True)):
        opened = None
        if one.cvc is not None:
            opened = await halves.reveal.open_cvc(
                one.cvc, tenant="t_01", token=str(n), reference=f"{INTENT}/{n}"
            )
        assert opened == code


async def test_digests_of_one_request_are_those_of_its_parts(halves: Halves) -> None:
    together = await halves.reveal.digests("t_01", [("idempotency", b"key"), ("request", b"body")])
    assert together == [
        await halves.tokenize.digest("idempotency", "t_01", b"key"),
        await halves.tokenize.digest("request", "t_01", b"body"),
    ]


@pytest.mark.guards("T-20")
@pytest.mark.parametrize("moved", [{"tenant": "t_02"}, {"token": TOKEN[:-1] + "b"}], ids=repr)
async def test_a_number_moved_to_another_row_does_not_open(
    halves: Halves, moved: dict[str, str]
) -> None:
    sealed = await halves.tokenize.seal_pan(PAN, tenant="t_01", token=TOKEN)
    neighbor = await halves.tokenize.seal_pan(OTHER, tenant="t_01", token=TOKEN)
    outcome, other = await asyncio.gather(
        open_pan(halves.reveal, sealed, **moved),
        open_pan(halves.reveal, neighbor, reference=f"{INTENT}/1"),
        return_exceptions=True,
    )
    assert isinstance(outcome, RecordCorrupt)
    assert isinstance(other, Pan)
    assert other == OTHER


@pytest.mark.guards("T-20")
async def test_a_number_is_no_code_and_a_code_is_no_number(halves: Halves) -> None:
    pan = await halves.tokenize.seal_pan(PAN, tenant="t_01", token=TOKEN)
    cvc = await halves.tokenize.seal_cvc(CVC, tenant="t_01", token=TOKEN)
    # Which error depends on how often each key was rotated.
    with pytest.raises(KeysError):
        await open_pan(halves.reveal, cvc)
    with pytest.raises(KeysError):
        await halves.reveal.open_cvc(pan, tenant="t_01", token=TOKEN, reference=f"{INTENT}/1")


@pytest.mark.guards("T-20")
async def test_another_environment_is_another_place(place: Place, halves: Halves) -> None:
    async with place.transit("tokenize") as transit:
        live = TokenizeKeys(
            transit, "live", fingerprint_version=1, digest_version=1, observer=Silent()
        )
        sealed = await live.seal_pan(PAN, tenant="t_01", token=TOKEN)
        await live.close()
    with pytest.raises(RecordCorrupt):
        await open_pan(halves.reveal, sealed)


async def test_many_at_once_each_get_their_own(halves: Halves) -> None:
    numbers = [cards.VISA, cards.MASTERCARD, cards.AMEX, cards.DISCOVER] * 50
    tokens = [f"pwt_test_{n}" for n in range(200)]
    sealed = await asyncio.gather(
        *(
            halves.tokenize.seal_pan(Pan.parse(number), tenant="t_01", token=token)
            for number, token in zip(numbers, tokens, strict=True)
        )
    )
    opened = await asyncio.gather(
        *(
            open_pan(halves.reveal, row, token=token, reference=f"{INTENT}/{n}")
            for n, (row, token) in enumerate(zip(sealed, tokens, strict=True))
        )
    )
    assert [pan.reveal() for pan in opened] == numbers


@pytest.mark.guards("T-22")
async def test_a_fingerprint_tells_numbers_and_tenants_apart_and_is_keyed(halves: Halves) -> None:
    keys = halves.tokenize
    one = await keys.fingerprint(PAN, tenant="t_01")
    assert one == await keys.fingerprint(Pan.parse(cards.VISA), tenant="t_01")
    assert one != await keys.fingerprint(OTHER, tenant="t_01")
    assert one != await keys.fingerprint(PAN, tenant="t_02")
    assert (one.version, len(one.value)) == (1, 32)
    assert one.value != hashlib.sha256(fingerprint_input("t_01", PAN.reveal())).digest()


@pytest.mark.guards("T-26")
async def test_both_halves_make_the_same_digest_which_tells_purposes_apart(
    halves: Halves,
) -> None:
    one = await halves.tokenize.digest("request", "t_01", b"body")
    assert one == await halves.reveal.digest("request", "t_01", b"body")
    others = [
        await halves.reveal.digest("response", "t_01", b"body"),
        await halves.reveal.digest("request", "t_02", b"body"),
        await halves.reveal.digest("request", "t_01", b""),
    ]
    assert len({one.value, *(other.value for other in others)}) == 4


@pytest.mark.parametrize("size", [1, 65_536])
async def test_an_answer_opens_for_its_own_intent_only(halves: Halves, size: int) -> None:
    body = bytes(range(256)) * 256
    sealed = await halves.reveal.seal_reply(body[:size], tenant="t_01", intent=INTENT)
    assert await halves.reveal.open_reply(sealed, tenant="t_01", intent=INTENT) == body[:size]
    with pytest.raises(RecordCorrupt):
        await halves.reveal.open_reply(sealed, tenant="t_01", intent="another")


async def test_a_healthy_vault_passes_both_probes(halves: Halves) -> None:
    first = await halves.tokenize.probe()
    assert await halves.tokenize.probe() == first
    await halves.reveal.probe()


async def test_credentials_reach_the_half_that_sends(place: Place, halves: Halves) -> None:
    route = f"stripe_{id(halves)}"
    assert await halves.reveal.processor_secret("t_01", route) is None
    async with place.transit("credentials") as transit:
        await transit.write_secret(f"processor/t_01/{route}", {"api_key": "sk"}, cas=0)
    assert await halves.reveal.processor_secret("t_01", route) == {"api_key": "sk"}


async def test_the_secret_of_a_signing_key_reaches_the_half_that_sends(
    place: Place, halves: Halves
) -> None:
    alias = new_alias("signing_key", "test", "k_one").parts
    key_id, secret = alias["key_id"], alias["secret"]
    assert await halves.reveal.signing_secret("t_01", key_id) is None
    async with place.transit("credentials") as transit:
        path = f"processor/t_01/{signing_secret_name(key_id)}"
        await transit.write_secret(path, {"secret": secret}, cas=0)
    assert await halves.reveal.signing_secret("t_01", key_id) == secret
    assert await halves.reveal.signing_secret("t_02", key_id) is None


async def test_what_proves_callbacks_reaches_the_public_half(place: Place, halves: Halves) -> None:
    route = f"stripe_{id(halves)}"
    assert await halves.tokenize.callback_secrets("t_01", route) is None
    async with place.transit("credentials") as transit:
        await transit.patch_secret(f"callback/t_01/{route}", {"key.1": "whsec"})
    assert await halves.tokenize.callback_secrets("t_01", route) == {"key.1": "whsec"}
    assert await halves.tokenize.callback_secrets("t_02", route) is None


async def test_webhook_secrets_are_rotated_and_never_lost(place: Place, halves: Halves) -> None:
    endpoint = f"we_{id(halves)}"
    keys = halves.reveal
    assert await keys.webhook_secrets("t_01", endpoint) is None
    async with place.transit("reveal") as transit:
        replica = reveal_keys(transit)
        assert await replica.put_webhook_secrets("t_01", endpoint, {"standard.1": "one"})
        assert await keys.webhook_secrets("t_01", endpoint) == {"standard.1": "one"}
        assert all(
            await asyncio.gather(
                keys.put_webhook_secrets("t_01", endpoint, {"standard.2": "two"}),
                replica.put_webhook_secrets("t_01", endpoint, {"callback.k": "own"}),
            )
        )
        await replica.close()
    changes = {"standard.1": None, "standard.3": "three"}
    assert await keys.put_webhook_secrets("t_01", endpoint, changes)
    now = {"standard.2": "two", "callback.k": "own", "standard.3": "three"}
    assert await keys.webhook_secrets("t_01", endpoint) == now
    assert await keys.webhook_secrets("t_02", endpoint) is None


@pytest.mark.embedded
@pytest.mark.guards("T-68")
async def test_the_audit_log_confirms_no_guess(embedded: EmbeddedParts) -> None:
    """Equal numbers leave unequal traces, and none of the number itself."""
    place = place_of_openbao(embedded)
    log = embedded.vault_audit_log_file
    begin = log.stat().st_size
    async with place.transit("tokenize") as tokenize, place.transit("reveal") as reveal:
        halves = Halves(tokenize_keys(tokenize), reveal_keys(reveal))
        rows = [await halves.tokenize.seal_pan(PAN, tenant="t_01", token=TOKEN) for _ in range(2)]
        for n, row in enumerate(rows):
            await open_pan(halves.reveal, row, reference=f"{INTENT}/{n}")
        await halves.tokenize.fingerprint(PAN, tenant="t_01")
    lines = log.read_bytes()[begin:].splitlines()
    traces = [line.split(b'"plaintext":"')[1][:80] for line in lines if b'"plaintext":"' in line]
    assert len(traces) > len(set(traces)) == 2  # sealed and opened: one hash a record
    everything = b"\n".join(lines)
    for form in (cards.VISA.encode(), base64.b64encode(cards.VISA.encode())):
        assert form not in everything
    for n in range(2):
        assert f'"reference":"{INTENT}/{n}"'.encode() in everything


# --- shape ----------------------------------------------------------------------------------


@pytest.mark.guards("T-63")
def test_the_public_half_has_no_verb_that_opens() -> None:
    public = {name for name in dir(TokenizeKeys) if not name.startswith("_")}
    verbs = {"protect", "protect_all", "seal_pan", "seal_cvc", "fingerprint", "digest", "probe"}
    assert public == verbs | {"callback_secrets", "close"}


@given(st.binary(min_size=32, max_size=32))
def test_a_keyed_hash_is_not_printed(value: bytes) -> None:
    assert repr(Keyed(1, value)) == "Keyed(version=1)"
