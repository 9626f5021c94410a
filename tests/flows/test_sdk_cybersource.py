"""CyberSource's SDK signs what it sends: HTTP Signature and JWT, verified here and signed again.

The simulated processor verifies digest and signature of what it gets: what is approved there was
signed again after the swap, with the merchant's own key.
"""

import base64
import hashlib
import hmac
import json
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Final

import pytest

from gateway.sandbox.processor import Processor
from tests.cards import VISA_ALT
from tests.flows.conftest import Witness
from tests.flows.deployment import Deployment
from tests.flows.merchant import Merchant
from tests.flows.processor import ProcessorControl
from tests.flows.sdk_story import MODES, Story
from tests.flows.sdks import Desk, Mode
from tests.flows.seller import new_seller
from tests.flows.wire import Reply, Wire

pytestmark = pytest.mark.embedded

HOST: Final = "apitest.cybersource.com"
PATH: Final = "/pts/v2/payments"
STYLES: Final = ("http_signature", "jwt")
SDK: Final = "cybersource"


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("style", STYLES)
async def test_each_way_of_signing_pays(
    desk: Desk, till: Merchant, style: str, mode: Mode, processor: ProcessorControl
) -> None:
    """With the key that panward gave out."""
    story = Story(till, SDK, desk.way(SDK, mode, style=style))
    token, step = await story.payment()
    reply = await story.do(step)
    assert (reply.error, reply.status) == (None, 201)
    assert story.dialect.word(reply) == "AUTHORIZED"
    assert processor.numbers[-1] == VISA_ALT
    assert processor.received[-1]["account"] == "acct_1"  # whose key signed it
    assert (await story.record(token))["result"] == "approved"
    looked = await story.do(story.dialect.look(story.dialect.id_of(reply), story.bill(token)))
    assert looked.error is None  # a call without a body is signed too


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("mode", MODES)
async def test_each_way_of_signing_with_the_merchants_own_key(
    desk: Desk, till: Merchant, style: str, mode: Mode, pair: Processor, nothing_happens: Witness
) -> None:
    own, headers = desk.seller.own[SDK], {"Panward-Key": desk.seller.key.text}
    way = desk.by_proxy(SDK, beside=True, style=style)
    if mode == "base":
        way = desk.by_base(SDK, "_own", keys=own, headers=headers, style=style)
    story = Story(till, SDK, way, kind="_own")
    _, step = await story.payment()
    reply = await story.do(step)
    assert story.dialect.word(reply) == "AUTHORIZED"
    assert (pair.received[-1].account, pair.numbers_received) == ("acct_1", (VISA_ALT,))

    _, step = await story.payment()
    wrong = {**own, "secret": base64.b64encode(b"another secret of thirty-two byt").decode()}
    way = desk.by_proxy(SDK, beside=True, keys=wrong, style=style)
    if mode == "base":
        way = desk.by_base(SDK, "_own", keys=wrong, headers=headers, style=style)
    async with nothing_happens():
        refused = await story.by(way, kind="_own").do(step)
        assert story.dialect.told(refused) == story.dialect.no("signature_refused", 401)
    assert len(pair.received) == 1


# --- what an SDK does not send ------------------------------------------------------------


class Signer:
    """Signs as the processor's guide says, with a key that panward gave out."""

    def __init__(self, desk: Desk, wire: Wire) -> None:
        self._keys = desk.seller.key.logins[SDK]
        self._url = f"{desk.deployment.urls.private}/out/{SDK}"
        self._wire = wire

    async def __call__(
        self, document: object, *, sent: object = None, path: str = PATH, age_seconds: float = 0
    ) -> Reply:
        """Sign a document; `sent` is what goes out in its place."""
        body = json.dumps(document).encode()
        at = datetime.fromtimestamp(datetime.now(UTC).timestamp() - age_seconds, UTC)
        signed = {
            "host": HOST,
            "date": format_datetime(at, usegmt=True),
            "request-target": f"post {path}",
            "digest": f"SHA-256={base64.b64encode(hashlib.sha256(body).digest()).decode()}",
            "v-c-merchant-id": "shop",
        }
        lines = "\n".join(f"{name}: {value}" for name, value in signed.items())
        secret = base64.b64decode(self._keys["secret"])
        mac = base64.b64encode(hmac.new(secret, lines.encode(), hashlib.sha256).digest()).decode()
        del signed["request-target"]
        names = "host date request-target digest v-c-merchant-id"
        headers = signed | {
            "Content-Type": "application/json",
            "Signature": f'keyid="{self._keys["user"]}", algorithm="HmacSHA256", '
            f'headers="{names}", signature="{mac}"',
        }
        content = body if sent is None else json.dumps(sent).encode()
        return await self._wire("POST", self._url + path, content, headers=headers)


@pytest.fixture
def signer(desk: Desk, wire: Wire) -> Signer:
    return Signer(desk, wire)


def charge(number: str, amount: str = "10.99") -> dict[str, object]:
    card = {"number": number, "expirationMonth": "12", "expirationYear": "2034"}
    price = {"totalAmount": amount, "currency": "EUR"}
    return {
        "paymentInformation": {"card": card},
        "orderInformation": {"amountDetails": price},
    }


@pytest.mark.guards("T-28")
async def test_what_was_changed_on_the_way_is_not_signed_again(
    signer: Signer, till: Merchant, nothing_happens: Witness
) -> None:
    """Otherwise anybody in between could have panward sign what they like."""
    token = await till.token(VISA_ALT)
    async with nothing_happens():
        for refused in (
            await signer(charge(token), sent=charge(token, "1.00")),
            await signer(charge(token), age_seconds=3_600),
        ):
            assert refused.status == 401
            assert refused.json()["reason"] == "signature_refused"
    assert (await signer(charge(token))).json()["status"] == "AUTHORIZED"


async def test_what_is_encrypted_for_the_processor_cannot_be_opened_here(
    signer: Signer, nothing_happens: Witness
) -> None:
    async with nothing_happens():
        refused = await signer({"encryptedRequest": "a.b.c.d.e"})
    assert (refused.status, refused.json()["reason"]) == (400, "field_refused")


@pytest.mark.guards("T-20", "T-50")
async def test_in_a_tunnel_who_opened_it_must_have_signed(
    desk: Desk, till: Merchant, deployment: Deployment, nothing_happens: Witness
) -> None:
    """Another tenant's signature, and one of a key that was revoked."""
    rival = await new_seller(deployment)
    _, step = await Story(till, SDK, desk.by_proxy(SDK)).payment()
    async with nothing_happens():
        for keys in (rival.key.logins[SDK], desk.revoked.logins[SDK]):
            story = Story(till, SDK, desk.by_proxy(SDK, keys=keys))
            refused = await story.do(step)
            assert story.dialect.told(refused) == story.dialect.no("not_authenticated", 401)
