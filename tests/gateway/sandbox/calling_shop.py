"""What the tests of callbacks share: a shop that pays at each processor, and reads what comes."""

import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import aiohttp

from gateway.sandbox.callbacks import CallingProcessor
from gateway.sandbox.calling_back import Destination
from gateway.sandbox.processor import Processor
from tests.cards import VISA, VISA_ALT
from tests.flows.receiver import Arrival, Receiver, ok
from tests.gateway.sandbox.harness import API_KEY, payment

STRIPE_SECRET = "whsec_test_of_callbacks"
ADYEN_SECRET = "44782DEF547AAA06C910C43932B1EB0C71FC68D9D0C057550C48EC2ACF6BA056"
CHECKOUT_SECRET = "sig-key"
SECRETS: dict[CallingProcessor, str] = {
    "stripe": STRIPE_SECRET,
    "adyen": ADYEN_SECRET,
    "checkout_com": CHECKOUT_SECRET,
}
ALL: tuple[CallingProcessor, ...] = tuple(SECRETS)


@dataclass(frozen=True)
class Shop:
    """Pays, and has the callbacks come to paths of the processors' names."""

    http: aiohttp.ClientSession
    processor: Processor
    receiver: Receiver

    def expects(self, of: CallingProcessor, **others: Any) -> None:  # noqa: ANN401 - any field
        if of == "adyen":
            self.receiver.script("/adyen", ok(200, b"[accepted]"))
        fields = {
            "processor": of,
            "url": self.receiver.url(f"/{of}"),
            "secret": SECRETS[of],
            "ca_file": str(self.receiver.ca_file),
        }
        self.processor.callbacks.call_back_to(Destination(**(fields | others)))

    async def stripe(self, path: str, **fields: str) -> dict[str, Any]:
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        return await self._post(f"/v1/{path}", urlencode(fields).encode(), headers)

    async def adyen(self, path: str, **fields: Any) -> dict[str, Any]:  # noqa: ANN401 - any field
        order = {"merchantAccount": "ShopCOM", "reference": "order-1"} | fields
        return await self._post(path, json.dumps(order).encode(), {"x-api-key": API_KEY})

    async def checkout(self, path: str, **fields: Any) -> dict[str, Any]:  # noqa: ANN401 - any field
        return await self._post(f"/{path}", json.dumps(fields).encode(), {})

    async def pay(self, of: CallingProcessor, **others: Any) -> str:  # noqa: ANN401 - any field
        """Return the processor's reference of a new payment."""
        match of:
            case "stripe":
                answer = await self.stripe("payment_intents", **(payment() | others))
                return str(answer.get("id") or answer["error"]["payment_intent"]["id"])
            case "adyen":
                answer = await self.adyen("/v72/payments", **(adyen_payment() | others))
                return str(answer["pspReference"])
            case "checkout_com":
                answer = await self.checkout("payments", **(checkout_payment() | others))
                return str(answer["id"])

    async def _post(self, path: str, body: bytes, headers: dict[str, str]) -> dict[str, Any]:
        sent = {"Content-Type": "application/json"} | headers
        async with self.http.post(path, data=body, headers=sent) as reply:
            answer: dict[str, Any] = json.loads(await reply.read())
            return answer


def adyen_payment(holder: str = "J. Smith") -> dict[str, Any]:
    card = {"type": "scheme", "number": VISA_ALT, "expiryMonth": "03", "expiryYear": "2032"}
    return {
        "amount": {"currency": "EUR", "value": 1099},
        "paymentMethod": card | {"cvc": "737", "holderName": holder},
        "returnUrl": "https://shop.example/back",
    }


def checkout_payment(number: str = VISA) -> dict[str, Any]:
    card = {"type": "card", "number": number, "expiry_month": 12, "expiry_year": 2034}
    return {"source": card, "amount": 1099, "currency": "EUR", "reference": "order-1"}


def item_of(arrival: Arrival) -> dict[str, Any]:
    """Return the one item of an Adyen notification."""
    document = json.loads(arrival.body)
    assert document["live"] == "false"
    [wrapped] = document["notificationItems"]
    item: dict[str, Any] = wrapped["NotificationRequestItem"]
    return item


def event_of(arrival: Arrival) -> dict[str, Any]:
    event: dict[str, Any] = json.loads(arrival.body)
    return event


def type_of(arrival: Arrival) -> str:
    if arrival.path == "/adyen":
        return str(item_of(arrival)["eventCode"])
    return str(event_of(arrival)["type"])
