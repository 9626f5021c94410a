"""Our verbs over transit when the Vault does what it rarely does."""

import asyncio
import base64
import hmac
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace

import pytest

from tests import cards
from tests.vault.fake_node import FakeCluster, fake_cluster
from tests.vault.keyrings import INTENT, TOKEN, open_pan, reveal_keys, tokenize_keys
from tests.vault.places import place_of_cluster
from tests.vault.recording import Recorder, assert_nowhere, listen_to_everything
from vault import keys as keys_module
from vault import secret_shelves
from vault.errors import (
    KeysError,
    KeysMisconfigured,
    KeysSealed,
    KeysUnavailable,
    KeyVersionRetired,
    Overloaded,
    RecordCorrupt,
)
from vault.keys import Sealed, TokenizeKeys
from vault.observer import Silent
from vault.pan import Cvc, Pan
from vault.records import context_of, fingerprint_input
from vault.transit import Transit
from vault.transit_answers import Answer
from vault.transit_items import Encrypted, EncryptItem, Request

PAN = Pan.parse(cards.VISA)
OTHER = Pan.parse(cards.MASTERCARD)
CVC = Cvc.parse("123")


@pytest.fixture
def cluster() -> Iterator[FakeCluster]:
    with fake_cluster() as made:
        yield made


@pytest.fixture
async def transit(cluster: FakeCluster) -> AsyncIterator[Transit]:
    async with place_of_cluster(cluster).transit("test") as made:
        yield made


# --- what only a Vault for tests does on demand ---------------------------------------------


async def test_the_bytes_that_are_stored_are_the_bytes_of_the_documents(
    cluster: FakeCluster, transit: Transit
) -> None:
    sealed = await tokenize_keys(transit).seal_pan(PAN, tenant="t_01", token=TOKEN)
    raw = base64.b64decode(sealed.ciphertext.removeprefix("vault:v1:"))
    box = cluster.vault.keys["pan"].derived(1, context_of("pan", "test", "t_01", TOKEN))
    record = box.decrypt(raw[:12], raw[12:], None)
    assert record[:18] == b"\x01\x10" + cards.VISA.encode()
    keyed = await tokenize_keys(transit).fingerprint(PAN, tenant="t_01")
    key = cluster.vault.keys["fingerprint"].versions[0]
    assert keyed.value == hmac.digest(key, fingerprint_input("t_01", PAN.reveal()), "sha256")


@pytest.mark.guards("T-68")
async def test_no_two_records_are_equal(cluster: FakeCluster, transit: Transit) -> None:
    keys = tokenize_keys(transit)
    records = set()
    for purpose, size in (("pan", 40), ("cvc", 24)):
        for _ in range(2):
            if purpose == "pan":
                sealed = await keys.seal_pan(PAN, tenant="t_01", token=TOKEN)
            else:
                sealed = await keys.seal_cvc(CVC, tenant="t_01", token=TOKEN)
            raw = base64.b64decode(sealed.ciphertext.removeprefix("vault:v1:"))
            context = context_of("pan" if purpose == "pan" else "cvc", "test", "t_01", TOKEN)
            box = cluster.vault.keys[purpose].derived(1, context)
            record = box.decrypt(raw[:12], raw[12:], None)
            assert len(record) == size
            records.add(record[-16:])
    assert len(records) == 4


async def test_items_that_come_together_share_a_call(transit: Transit) -> None:
    recorder = Recorder()
    keys = tokenize_keys(transit, observer=recorder)
    await asyncio.gather(
        *(keys.seal_pan(PAN, tenant="t_01", token=str(n)) for n in range(50)),
        *(keys.fingerprint(PAN, tenant="t_01") for _ in range(50)),
        *(keys.digest("request", "t_01", b"") for _ in range(50)),
        *(keys.seal_cvc(CVC, tenant="t_01", token=str(n)) for n in range(50)),
    )
    assert sorted(recorder.waited) == ["encrypt", "encrypt", "hmac", "hmac"]


async def test_hashes_stay_with_their_pinned_version(
    cluster: FakeCluster, transit: Transit
) -> None:
    keys = tokenize_keys(transit)
    before = await keys.fingerprint(PAN, tenant="t_01")
    cluster.vault.keys["fingerprint"].rotate()
    assert await keys.fingerprint(PAN, tenant="t_01") == before
    newer = TokenizeKeys(
        transit, "test", fingerprint_version=2, digest_version=1, observer=Silent()
    )
    after = await newer.fingerprint(PAN, tenant="t_01")
    assert (after.version, after.value != before.value) == (2, True)


async def test_a_row_whose_column_disagrees_with_its_ciphertext_is_corrupt(
    cluster: FakeCluster, transit: Transit
) -> None:
    sealed = await tokenize_keys(transit).seal_pan(PAN, tenant="t_01", token=TOKEN)
    keys = reveal_keys(transit)
    with pytest.raises(RecordCorrupt):
        await open_pan(keys, replace(sealed, key_version=2))
    with pytest.raises(RecordCorrupt):
        await open_pan(keys, Sealed("vault:v1:nothing else", 1))
    assert cluster.vault.count("transit/decrypt/pan") == 0


@pytest.mark.guards("T-67")
@pytest.mark.parametrize("purpose", ["pan", "cvc"])
@pytest.mark.parametrize(
    "record",
    [
        b"\x01\x10" + cards.VISA.encode(),
        b"\x01\x10" + cards.VISA[:-1].encode() + b"x" + bytes(22),
        b"\x01\x0b" + cards.VISA[:11].encode() + bytes(27),
        b"\x01\x0b" + cards.VISA[:11].encode() + bytes(11),
    ],
    ids=["length", "letter", "short number", "long code"],
)
async def test_what_opens_but_is_no_card_is_corrupt_and_stays_unseen(
    transit: Transit, caplog: pytest.LogCaptureFixture, record: bytes, purpose: str
) -> None:
    listen_to_everything(caplog)
    context = context_of("pan" if purpose == "pan" else "cvc", "test", "t_01", TOKEN)
    (made,) = await transit.encrypt(purpose, [EncryptItem(record, context)])
    assert isinstance(made, Encrypted)
    del record
    keys = reveal_keys(transit)
    opening = keys.open_pan if purpose == "pan" else keys.open_cvc
    with pytest.raises(RecordCorrupt) as caught:
        await opening(
            Sealed(made.ciphertext, 1), tenant="t_01", token=TOKEN, reference=f"{INTENT}/0"
        )
    assert_nowhere(cards.VISA[:11].encode(), caught.value, caplog)


@pytest.mark.parametrize(
    "path", ["hmac/fingerprint/sha2-256", "encrypt/pan", "encrypt/cvc"], ids=["hash", "pan", "cvc"]
)
async def test_a_card_is_protected_whole_or_not_at_all(
    cluster: FakeCluster, transit: Transit, path: str
) -> None:
    cluster.vault.forbidden.add(f"transit/{path}")
    keys = tokenize_keys(transit)
    with pytest.raises(KeysMisconfigured):
        await keys.protect(PAN, CVC, tenant="t_01", token=TOKEN)


async def test_a_card_costs_one_call_an_operation_however_many_come_at_once(
    cluster: FakeCluster, transit: Transit
) -> None:
    keys = tokenize_keys(transit)
    await asyncio.gather(*(keys.protect(PAN, CVC, tenant="t_01", token=str(n)) for n in range(100)))
    for path in ("hmac/fingerprint/sha2-256", "encrypt/pan", "encrypt/cvc"):
        assert cluster.vault.count(f"transit/{path}") == 1


@pytest.mark.guards("T-67")
@pytest.mark.parametrize("verb", ["seal", "hash", "protect"])
async def test_a_number_that_could_not_be_sealed_is_in_no_traceback(
    cluster: FakeCluster, transit: Transit, caplog: pytest.LogCaptureFixture, verb: str
) -> None:
    """Not even in one that shows the locals of its frames."""
    listen_to_everything(caplog)
    cluster.vault.sealed = True
    keys = tokenize_keys(transit)
    doing: dict[str, Callable[[], Awaitable[object]]] = {
        "seal": lambda: keys.seal_pan(PAN, tenant="t_01", token=TOKEN),
        "hash": lambda: keys.fingerprint(PAN, tenant="t_01"),
        "protect": lambda: keys.protect(PAN, CVC, tenant="t_01", token=TOKEN),
    }
    with pytest.raises(KeysSealed) as caught:
        await doing[verb]()
    assert_nowhere(cards.VISA.encode(), caught.value, caplog)


@pytest.mark.guards("F-08")
async def test_a_version_too_new_is_tried_again_until_it_is_known(
    cluster: FakeCluster, transit: Transit
) -> None:
    cluster.vault.keys["pan"].rotate()
    keys = tokenize_keys(transit)
    sealed = await keys.seal_pan(PAN, tenant="t_01", token=TOKEN)
    cluster.node.faults.lag = 1
    old = await keys.seal_pan(OTHER, tenant="t_01", token=TOKEN)
    reveal = reveal_keys(transit)
    waiting = asyncio.create_task(open_pan(reveal, sealed))
    # The neighbor does not wait for the item that is tried again.
    assert await open_pan(reveal, old, reference=f"{INTENT}/1") == OTHER
    assert not waiting.done()
    cluster.node.faults.lag = 0
    assert await waiting == PAN
    assert cluster.vault.count("transit/decrypt/pan") >= 2


@pytest.mark.guards("F-08")
async def test_a_version_that_stays_too_new_ends_as_unavailable(
    cluster: FakeCluster, transit: Transit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys_module, "TOO_NEW_SECONDS_MAX", 0.1)
    cluster.vault.keys["pan"].rotate()
    sealed = await tokenize_keys(transit).seal_pan(PAN, tenant="t_01", token=TOKEN)
    cluster.node.faults.lag = 1
    with pytest.raises(KeysUnavailable) as caught:
        await open_pan(reveal_keys(transit), sealed)
    assert type(caught.value) is KeysUnavailable
    assert caught.value.__context__ is None


@pytest.mark.guards("F-08")
async def test_a_retired_version_is_told_apart(cluster: FakeCluster, transit: Transit) -> None:
    sealed = await tokenize_keys(transit).seal_cvc(CVC, tenant="t_01", token=TOKEN)
    cluster.vault.keys["cvc"].rotate()
    cluster.vault.keys["cvc"].min_decryption = 2
    with pytest.raises(KeyVersionRetired):
        await reveal_keys(transit).open_cvc(
            sealed, tenant="t_01", token=TOKEN, reference=f"{INTENT}/0"
        )


@pytest.mark.guards("F-09")
async def test_a_probe_notices_another_vault(cluster: FakeCluster, transit: Transit) -> None:
    keys = tokenize_keys(transit)
    await keys.probe()
    cluster.vault.keys["fingerprint"].versions[0] = bytes(32)
    with pytest.raises(KeysMisconfigured):
        await keys.probe()


async def test_a_probe_opens_no_card_and_seals_in_no_cards_place(
    cluster: FakeCluster, transit: Transit
) -> None:
    await tokenize_keys(transit).probe()
    await reveal_keys(transit).probe()
    touched = {audited.path for audited in cluster.vault.audit}
    assert touched == {
        "transit/encrypt/pan",
        "transit/hmac/fingerprint",
        "transit/encrypt/reply",
        "transit/decrypt/reply",
    }


@pytest.mark.guards("F-06")
async def test_probes_fail_when_no_call_can_be_recorded(
    cluster: FakeCluster, transit: Transit
) -> None:
    cluster.vault.audit_disk_full = True
    for probe in (tokenize_keys(transit).probe, reveal_keys(transit).probe):
        with pytest.raises(KeysError):
            await probe()


async def test_a_probe_whose_answer_is_another_is_no_success(transit: Transit) -> None:
    class Swapping(Transit):
        async def decrypt(self, key: str, items: object) -> list[object]:  # type: ignore[override]
            return [bytes(32)]

    transit.__class__ = Swapping
    with pytest.raises(RecordCorrupt):
        await reveal_keys(transit).probe()


# --- a processor's credentials --------------------------------------------------------------

PATH = "kv/data/processor/t_01/stripe"


async def test_credentials_are_kept_for_a_minute(cluster: FakeCluster, transit: Transit) -> None:
    clock = [100.0]
    keys = reveal_keys(transit, now=lambda: clock[0])
    stored = cluster.vault.secrets
    stored["processor/t_01/stripe"] = [{"api_key": "one"}]
    assert await keys.processor_secret("t_01", "stripe") == {"api_key": "one"}
    stored["processor/t_01/stripe"].append({"api_key": "two"})
    clock[0] = 159.9
    assert await keys.processor_secret("t_01", "stripe") == {"api_key": "one"}
    assert cluster.vault.count(PATH) == 1
    clock[0] = 160.0
    assert await keys.processor_secret("t_01", "stripe") == {"api_key": "two"}


async def test_one_read_serves_all_who_ask_at_once(cluster: FakeCluster, transit: Transit) -> None:
    keys = reveal_keys(transit)
    cluster.vault.secrets["processor/t_01/stripe"] = [{"api_key": "one"}]
    found = await asyncio.gather(*(keys.processor_secret("t_01", "stripe") for _ in range(20)))
    assert found == [{"api_key": "one"}] * 20
    assert cluster.vault.count(PATH) == 1


async def test_who_gives_up_reading_leaves_it_to_the_next(
    cluster: FakeCluster, transit: Transit
) -> None:
    keys = reveal_keys(transit)
    cluster.vault.secrets["processor/t_01/stripe"] = [{"api_key": "one"}]
    first, second = (asyncio.create_task(keys.processor_secret("t_01", "stripe")) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    assert await second == {"api_key": "one"}


async def test_credentials_that_were_just_set_are_seen_at_once(
    cluster: FakeCluster, transit: Transit
) -> None:
    keys = reveal_keys(transit)
    assert await keys.processor_secret("t_01", "stripe") is None
    cluster.vault.secrets["processor/t_01/stripe"] = [{"api_key": "one"}]
    assert await keys.processor_secret("t_01", "stripe") == {"api_key": "one"}


async def test_credentials_that_were_taken_away_are_gone_after_the_minute(
    cluster: FakeCluster, transit: Transit
) -> None:
    clock = [0.0]
    keys = reveal_keys(transit, now=lambda: clock[0])
    cluster.vault.secrets["processor/t_01/stripe"] = [{"api_key": "one"}]
    await keys.processor_secret("t_01", "stripe")
    cluster.vault.secrets["processor/t_01/stripe"].append(None)
    clock[0] = 60.0
    assert await keys.processor_secret("t_01", "stripe") is None


async def test_old_credentials_do_not_outlive_their_minute_when_the_vault_is_away(
    cluster: FakeCluster, transit: Transit
) -> None:
    clock = [0.0]
    keys = reveal_keys(transit, now=lambda: clock[0])
    cluster.vault.secrets["processor/t_01/stripe"] = [{"api_key": "one"}]
    await keys.processor_secret("t_01", "stripe")
    cluster.vault.sealed = True
    clock[0] = 60.0
    for _ in range(2):
        with pytest.raises(KeysSealed):
            await keys.processor_secret("t_01", "stripe")


async def test_credentials_cannot_be_changed_and_are_not_printed(
    cluster: FakeCluster, transit: Transit
) -> None:
    keys = reveal_keys(transit)
    cluster.vault.secrets["processor/t_01/stripe"] = [{"api_key": "sk-canary"}]
    found = await keys.processor_secret("t_01", "stripe")
    assert found is not None
    with pytest.raises(TypeError):
        found["api_key"] = "another"  # type: ignore[index]
    assert "sk-canary" not in repr(vars(keys._secrets))


async def test_only_so_many_credentials_are_kept(
    cluster: FakeCluster, transit: Transit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(secret_shelves, "SECRETS_MAX", 2)
    keys = reveal_keys(transit)
    for tenant in ("t_01", "t_02", "t_03"):
        cluster.vault.secrets[f"processor/{tenant}/stripe"] = [{"api_key": tenant}]
        assert await keys.processor_secret(tenant, "stripe") == {"api_key": tenant}
    assert len(keys._secrets._shelves) == 2


async def test_closing_refuses_what_comes_later(transit: Transit) -> None:
    tokenize, reveal = tokenize_keys(transit), reveal_keys(transit)
    sealed = await tokenize.seal_pan(PAN, tenant="t_01", token=TOKEN)
    await tokenize.close()
    await reveal.close()
    with pytest.raises(Overloaded):
        await tokenize.fingerprint(PAN, tenant="t_01")
    with pytest.raises(Overloaded):
        await open_pan(reveal, sealed)


async def test_what_proves_callbacks_is_kept_like_credentials(
    cluster: FakeCluster, transit: Transit
) -> None:
    """Not longer after it was taken away, and not apart for each of those who ask at once."""
    clock = [0.0]
    keys = tokenize_keys(transit, now=lambda: clock[0])
    stored = cluster.vault.secrets
    stored["callback/t_01/stripe"] = [{"key.1": "one"}]
    found = await asyncio.gather(*(keys.callback_secrets("t_01", "stripe") for _ in range(20)))
    assert found == [{"key.1": "one"}] * 20
    assert cluster.vault.count("kv/data/callback/t_01/stripe") == 1
    stored["callback/t_01/stripe"].append({})
    clock[0] = 59.9
    assert await keys.callback_secrets("t_01", "stripe") == {"key.1": "one"}
    clock[0] = 60.0
    assert await keys.callback_secrets("t_01", "stripe") == {}


async def test_what_cannot_be_read_is_an_error_and_not_an_absence(
    cluster: FakeCluster, transit: Transit
) -> None:
    keys = tokenize_keys(transit)
    cluster.vault.secrets["callback/t_01/stripe"] = [{"key.1": "one"}]
    cluster.vault.sealed = True
    with pytest.raises(KeysSealed):
        await keys.callback_secrets("t_01", "stripe")
    cluster.vault.sealed = False
    assert await keys.callback_secrets("t_01", "stripe") == {"key.1": "one"}


async def test_who_is_always_outrun_puts_nothing_and_says_so(
    cluster: FakeCluster, transit: Transit
) -> None:
    keys = reveal_keys(transit)
    outrun = b'{"errors": ["check-and-set parameter did not match the current version"]}'
    ask = transit.ask

    async def outran(request: Request) -> Answer:
        if request.operation == "write_secret":
            cluster.node.faults.replies = [(400, outrun)]
        return await ask(request)

    transit.ask = outran  # type: ignore[method-assign]
    assert not await keys.put_webhook_secrets("t_01", "we_1", {"standard.1": "one"})
    assert "webhook/t_01/we_1" not in cluster.vault.secrets


async def test_who_is_outrun_begins_anew_and_loses_nothing(
    cluster: FakeCluster, transit: Transit
) -> None:
    keys = reveal_keys(transit)
    stored = cluster.vault.secrets["webhook/t_01/we_1"] = [{"standard.1": "one"}]
    ask = transit.ask

    async def outran(request: Request) -> Answer:
        answer = await ask(request)
        if request.operation == "read_secret" and len(stored) == 1:
            stored.append({"standard.1": "one", "callback.k": "own"})
        return answer

    transit.ask = outran  # type: ignore[method-assign]
    assert await keys.put_webhook_secrets("t_01", "we_1", {"standard.1": None, "standard.2": "two"})
    assert stored[2:] == [{"callback.k": "own", "standard.2": "two"}]
