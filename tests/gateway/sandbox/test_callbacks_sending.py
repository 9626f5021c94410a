"""How the simulated processors send callbacks: until acknowledged, and as badly as told."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import stripe
import trustme

from gateway.sandbox import calling_back
from gateway.sandbox.callbacks import CallingProcessor
from gateway.sandbox.control import serve_control
from gateway.sandbox.processor import Processor
from tests.cards import VISA_ALT
from tests.flows import receiver as scripts
from tests.flows.receiver import Arrival, Receiver
from tests.gateway.sandbox.calling_shop import (
    ADYEN_SECRET,
    ALL,
    STRIPE_SECRET,
    Shop,
    event_of,
    item_of,
    type_of,
)
from tests.gateway.sandbox.harness import API_KEY, payment
from tests.gateway.sandbox.test_sandbox_main import started

SOON = (0.01,) * 5
every = pytest.mark.parametrize("of", ALL)


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Receiver]:
    with Receiver.started(tmp_path) as started:
        yield started


@pytest.fixture
def shop(http: aiohttp.ClientSession, processor: Processor, receiver: Receiver) -> Shop:
    return Shop(http, processor, receiver)


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Send again at once: the schedule itself is for people who watch."""
    monkeypatch.setattr(calling_back, "AGAIN_AFTER_SECONDS", SOON)


def is_signed(arrival: Arrival) -> bool:
    header = arrival.header("Stripe-Signature") or ""
    try:
        stripe.Webhook.construct_event(arrival.body, header, STRIPE_SECRET, tolerance=None)  # type: ignore[arg-type]  # None asks for none
    except stripe.SignatureVerificationError:
        return False
    return True


def ids(arrivals: tuple[Arrival, ...]) -> list[str]:
    return [str(event_of(each)["id"]) for each in arrivals]


def test_the_schedule() -> None:
    assert calling_back.AGAIN_AFTER_SECONDS == (0.2, 0.5, 1.0, 2.0, 5.0)


@every
@pytest.mark.usefixtures("soon")
async def test_again_until_it_is_acknowledged(shop: Shop, of: CallingProcessor) -> None:
    shop.expects(of)
    accepted = scripts.ok(200, b"[accepted]")
    elsewhere = scripts.redirect(shop.receiver.url("/elsewhere"))
    trouble = (scripts.hung_up(), scripts.failing(503), elsewhere, scripts.huge(10**9, 500))
    shop.receiver.script(f"/{of}", scripts.in_turn(*trouble, accepted))
    shop.processor.callbacks.hold()
    await shop.pay(of)
    shop.processor.callbacks.release()
    await shop.processor.callbacks.settled()
    first = shop.processor.callbacks.recent[0]
    assert first.acknowledged
    assert shop.receiver.arrivals("/elsewhere") == ()
    counts = shop.processor.callbacks.counts
    assert (counts.unanswered, counts.refused) == (1, 3)
    assert (counts.sent, counts.acknowledged) == (counts.told + 4, counts.told)
    assert (counts.waiting, counts.given_up, counts.faults) == (0, 0, 0)


@pytest.mark.usefixtures("soon")
async def test_adyen_wants_its_word(shop: Shop) -> None:
    shop.expects("adyen")
    silent = (scripts.ok(200), scripts.ok(202, b"[accepted]"), scripts.ok(200, b"OK"))
    shop.receiver.script("/adyen", scripts.in_turn(*silent, scripts.ok(200, b"[accepted]\n")))
    await shop.pay("adyen")
    await shop.processor.callbacks.settled()
    assert shop.processor.callbacks.recent[0].tries == 4


@pytest.mark.usefixtures("soon")
async def test_gives_up_in_the_end(shop: Shop) -> None:
    shop.expects("stripe")
    shop.receiver.script("/stripe", scripts.failing())
    await shop.pay("stripe")
    await shop.processor.callbacks.settled()
    counts = shop.processor.callbacks.counts
    assert (counts.sent, counts.given_up, counts.acknowledged) == (6, 1, 0)


@pytest.mark.usefixtures("soon")
async def test_who_answers_must_prove_who_they_are(shop: Shop, tmp_path: Path) -> None:
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(str(other))
    shop.expects("stripe", ca_file=str(other))
    await shop.pay("stripe")
    await shop.processor.callbacks.settled()
    assert shop.receiver.arrivals() == ()
    assert shop.processor.callbacks.counts.unanswered == 6


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize(("of", "in_order"), [("adyen", True), ("checkout_com", False)])
async def test_who_keeps_an_order(shop: Shop, of: CallingProcessor, *, in_order: bool) -> None:
    """Adyen's callbacks queue behind one that is not accepted; those of others overtake it."""
    shop.expects(of)
    good = scripts.ok(200, b"[accepted]")
    shop.receiver.script(f"/{of}", scripts.in_turn(scripts.failing(), good))
    shop.processor.callbacks.hold()
    for reference in ("order-1", "order-2"):
        await shop.pay(of, reference=reference, **({} if in_order else {"capture": False}))
    shop.processor.callbacks.release()
    await shop.processor.callbacks.settled()
    arrivals = shop.receiver.arrivals(f"/{of}")
    seen = [b"order-1" in each.body for each in arrivals]
    assert seen == ([True, True, False] if in_order else [True, False, True])


async def test_a_lost_answer_is_reported_all_the_same(shop: Shop) -> None:
    shop.expects("stripe")
    shop.processor.lose_next_answer()
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await shop.pay("stripe")
    [arrival] = await shop.receiver.arrived(1, "/stripe")
    assert type_of(arrival) == "payment_intent.succeeded"


async def test_a_callback_may_come_before_the_answer(shop: Shop) -> None:
    shop.expects("stripe")
    shop.processor.hold("answer")
    async with asyncio.TaskGroup() as group:
        paying = group.create_task(shop.pay("stripe"))
        [arrival] = await shop.receiver.arrived(1, "/stripe")
        assert not paying.done()
        shop.processor.release()
    assert event_of(arrival)["data"]["object"]["id"] == paying.result()


async def test_what_is_repeated_under_a_key_is_not_reported_again(shop: Shop) -> None:
    shop.expects("stripe")
    shop.http.headers["Idempotency-Key"] = "one"
    await shop.pay("stripe")
    await shop.pay("stripe")
    assert shop.processor.callbacks.counts.told == 1


# --- what is asked for --------------------------------------------------------------------


@pytest.mark.parametrize("order", ["as_told", "reversed", "shuffled"])
async def test_held_and_released(shop: Shop, order: calling_back.ReleaseOrder) -> None:
    shop.expects("stripe")
    callbacks = shop.processor.callbacks
    callbacks.hold()
    for _ in range(12):
        await shop.pay("stripe")
    told = [each.id for each in callbacks.recent]
    assert (callbacks.counts.held, callbacks.counts.sent) == (12, 0)
    await callbacks.settled()  # but for those
    callbacks.release(order)
    await callbacks.settled()
    sent = ids(shop.receiver.arrivals("/stripe"))
    if order == "shuffled":
        assert sorted(sent) == sorted(told)
        assert sent != told  # one time in 479,001,600
    else:
        assert sent == (told if order == "as_told" else told[::-1])


@every
async def test_repeats(shop: Shop, of: CallingProcessor) -> None:
    shop.expects(of)
    shop.processor.callbacks.repeat_next(20)
    await shop.pay(of)
    await shop.processor.callbacks.settled()
    arrivals = shop.receiver.arrivals(f"/{of}")
    assert len({each.body for each in arrivals[:21]}) == 1
    assert shop.processor.callbacks.counts.acknowledged == len(arrivals) >= 21


async def test_several_at_once(shop: Shop) -> None:
    shop.expects("stripe", at_once=4)
    shop.receiver.script("/stripe", scripts.dead())
    shop.processor.callbacks.repeat_next(9)
    await shop.pay("stripe")
    assert len(await shop.receiver.arrived(4, "/stripe")) == 4


@every
async def test_a_planted_number_and_a_signature_that_holds(
    shop: Shop, of: CallingProcessor
) -> None:
    shop.expects(of)
    shop.processor.callbacks.plant_in_next(f"paid with {VISA_ALT}")
    reference = await shop.pay(of)
    if of == "stripe":
        shop.processor.callbacks.plant_in_next(f"paid with {VISA_ALT}")
        shop.processor.charge_back(of, reference)
    await shop.processor.callbacks.settled()
    arrivals = shop.receiver.arrivals(f"/{of}")
    planted = [VISA_ALT.encode() in each.body for each in arrivals]
    assert planted == {"stripe": [True, True], "adyen": [True], "checkout_com": [True, False]}[of]
    if of == "stripe":
        assert all(is_signed(each) for each in arrivals)


async def test_forgeries(shop: Shop) -> None:
    """A forger tries once, and the next callback is the processor's own again."""
    shop.expects("stripe")
    shop.receiver.script("/stripe", scripts.in_turn(scripts.ok(401), scripts.ok(401), scripts.ok()))
    for forgery in ("other_secret", "missing"):
        shop.processor.callbacks.forge_next(forgery)
        await shop.pay("stripe")
        await shop.processor.callbacks.settled()
    await shop.pay("stripe")
    await shop.processor.callbacks.settled()
    arrivals = shop.receiver.arrivals("/stripe")
    assert [is_signed(each) for each in arrivals] == [False, False, True]
    assert [each.header("Stripe-Signature") is None for each in arrivals] == [False, True, False]
    assert shop.processor.callbacks.counts.given_up == 2


async def test_forged_items(shop: Shop) -> None:
    shop.expects("adyen")
    shop.processor.callbacks.forge_next("missing")
    await shop.pay("adyen")
    await shop.processor.callbacks.settled()
    assert "additionalData" not in item_of(shop.receiver.arrivals("/adyen")[0])


async def test_behaves_again(shop: Shop) -> None:
    shop.expects("stripe")
    callbacks = shop.processor.callbacks
    callbacks.hold()
    callbacks.repeat_next(5)
    callbacks.plant_in_next("note")
    callbacks.forge_next()
    shop.processor.behave()
    await shop.pay("stripe")
    await callbacks.settled()
    [arrival] = shop.receiver.arrivals("/stripe")
    assert is_signed(arrival)
    assert event_of(arrival)["data"]["object"]["metadata"] == {}


async def test_accounts_and_those_without_a_destination(shop: Shop) -> None:
    await shop.pay("stripe")  # nobody wants to hear of it
    shop.expects("stripe", account="acct_2")
    await shop.pay("stripe")
    assert shop.processor.callbacks.counts.told == 0
    shop.expects("stripe", account="acct_1", url=shop.receiver.url("/mine"))
    await shop.pay("stripe")
    await shop.receiver.arrived(1, "/mine")
    shop.processor.callbacks.call_back_no_more("stripe", "acct_1")
    await shop.pay("stripe")
    assert shop.processor.callbacks.counts.told == 1


@pytest.mark.parametrize(
    ("of", "wrong"),
    [
        ("stripe", {"url": "http://127.0.0.1/"}),
        ("stripe", {"url": "https:///path"}),
        ("stripe", {"secret": ""}),
        ("checkout_com", {"secret": ""}),
        ("adyen", {"secret": "no key"}),
        ("adyen", {"at_once": 2}),
        ("stripe", {"at_once": 0}),
        ("stripe", {"ca_file": "/nowhere/ca.pem"}),
    ],
)
async def test_where_nothing_could_be_sent(
    shop: Shop, of: CallingProcessor, wrong: dict[str, object]
) -> None:
    with pytest.raises((ValueError, OSError)):
        shop.expects(of, **wrong)


async def test_no_more_wait_than_may(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calling_back, "WAITING_MAX", 3)
    shop.expects("stripe")
    shop.processor.callbacks.hold()
    shop.processor.callbacks.repeat_next(4)
    await shop.pay("stripe")
    counts = shop.processor.callbacks.counts
    assert (counts.told, counts.waiting, counts.given_up) == (5, 3, 2)


# --- the control socket, and the process --------------------------------------------------


@pytest.fixture
async def control(processor: Processor, tmp_path: Path) -> AsyncIterator[aiohttp.ClientSession]:
    connector = aiohttp.UnixConnector(str(tmp_path / "control"))
    async with (
        serve_control(processor, tmp_path / "control"),
        aiohttp.ClientSession("http://processor", connector=connector) as session,
    ):
        yield session


async def test_commands(shop: Shop, control: aiohttp.ClientSession) -> None:
    async def do(status: int = 204, **command: object) -> None:
        async with control.post("/do", json=command) as reply:
            assert reply.status == status

    to: dict[str, Any] = {
        "url": shop.receiver.url("/stripe"),
        "ca_file": str(shop.receiver.ca_file),
    }
    to |= {"do": "call_back_to", "processor": "stripe"}
    await do(**to, secret=STRIPE_SECRET)
    await do(do="hold_callbacks")
    await do(do="repeat_next_callback", times=2)
    await do(do="plant_in_next_callback", text="a note")
    id_ = await shop.pay("stripe")
    await do(do="release_callbacks", order="shuffled")
    await shop.processor.callbacks.settled()
    await do(do="forge_next_callback", forgery="missing")
    await do(do="charge_back", processor="stripe", payment=id_)
    await shop.processor.callbacks.settled()
    async with control.get("/state") as reply:
        text = await reply.text()
    assert STRIPE_SECRET not in text
    told = json.loads(text)["callbacks"]
    assert (told["counts"]["sent"], told["counts"]["acknowledged"]) == (4, 4)
    assert [each["payment"] for each in told["recent"]] == [id_] * 4
    assert told["recent"][3]["type"] == "charge.dispute.created"
    assert [b"a note" in each.body for each in shop.receiver.arrivals()] == [True] * 3 + [False]
    await do(do="call_back_no_more", processor="stripe")
    await shop.pay("stripe")
    assert shop.processor.callbacks.counts.told == 4
    await do(400, **to, secret="")
    await do(400, **(to | {"url": "http://127.0.0.1/"}), secret=STRIPE_SECRET)
    await do(400, **(to | {"processor": "braintree"}), secret="s")
    await do(400, do="charge_back", processor="stripe", payment="nobodys")


async def test_the_process_calls_back_by_itself(receiver: Receiver, tmp_path: Path) -> None:
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    issued.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
    issued.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    (tmp_path / "keys").write_text(f"{API_KEY}\n")
    to = {"processor": "adyen", "secret": ADYEN_SECRET, "ca_file": str(receiver.ca_file)}
    destinations = [to | {"url": receiver.url("/adyen")}]
    destinations += [to | {"processor": "stripe", "url": receiver.url("/stripe")}]
    file = tmp_path / "callbacks.json"
    file.write_text(json.dumps(destinations))
    async with (
        asyncio.timeout(30),
        started(tmp_path, f"--callbacks-file={file}") as process,
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {API_KEY}"}) as http,
    ):
        assert process.stdout is not None
        url = json.loads(await process.stdout.readline())["url"]
        async with http.post(f"{url}/v1/payment_intents", data=payment(), ssl=False) as reply:
            assert reply.status == 200
        [arrival] = await receiver.arrived(1, "/stripe")
        assert type_of(arrival) == "payment_intent.succeeded"
        process.terminate()
        output, errors = await process.communicate()
    assert (process.returncode, output, errors) == (0, b"", b"")
