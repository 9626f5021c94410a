"""A repeat of what may have been charged: no trouble on its way is told as `not_sent`.

Whoever hears that charges again under a new key. And what could be read as another call than the
one that was judged does not leave at all.
"""

import base64
import json
import secrets
from urllib.parse import quote

import pytest

from tests.flows.conftest import Witness
from tests.flows.deployment import Deployment, Store
from tests.flows.merchant import (
    FORM,
    INTENTS,
    Account,
    Merchant,
    form,
    new_idempotency_key,
    payment,
)
from tests.flows.processor import ProcessorControl
from tests.flows.replica import Replica
from tests.flows.wire import Reply, Wire

pytestmark = [pytest.mark.embedded, pytest.mark.guards("T-26", "F-23")]

AUTHORIZE_NET = "/out/authorize_net/xml/v1/request.api"


@pytest.fixture
def demo_shop(deployment: Deployment, wire: Wire) -> Merchant:
    """Give the tenant whose processors are all simulated."""
    made = json.loads((deployment.parts.folder / "credentials.json").read_text())
    account = Account(made["tenant"], made["publishable_key"], made["secret_key"])
    return Merchant(account, deployment.urls, wire)


async def test_while_the_key_service_is_away(
    shop: Merchant, processor: ProcessorControl, deployment: Deployment
) -> None:
    token, key = await shop.token(), new_idempotency_key()
    processor.do("lose_next_answer")
    first = await shop.pay(payment(token), key=key)
    assert first.headers["Panward-State"] == "unknown"
    with deployment.frozen(deployment.openbao):
        again = await shop.pay(payment(token), key=key)
    assert again.status == 503
    assert again.headers["Panward-State"] == "unknown"
    assert again.headers["Stripe-Should-Retry"] == "true"


async def test_where_an_error_document_would_read_as_not_charged(
    demo_shop: Merchant, processor: ProcessorControl, deployment: Deployment
) -> None:
    token, key = await demo_shop.token(), secrets.token_hex(8)
    login = {"name": "x", "transactionKey": demo_shop.account.secret_key}
    card = {"cardNumber": token, "expirationDate": "2034-12"}
    asked = {
        "transactionType": "authCaptureTransaction",
        "amount": "12.34",
        "payment": {"creditCard": card},
    }
    request = {"merchantAuthentication": login, "transactionRequest": asked}
    body = {"createTransactionRequest": request}
    headers = {"Content-Type": "application/json", "Panward-Idempotency-Key": key}

    async def pay() -> Reply:
        url = demo_shop.urls.private + AUTHORIZE_NET
        return await demo_shop.wire("POST", url, json.dumps(body).encode(), headers=headers)

    before = processor.counts.charges
    processor.do("lose_next_answer")
    assert (await pay()).headers["Panward-State"] == "unknown"
    assert processor.counts.charges == before + 1
    with deployment.frozen(deployment.openbao):
        again = await pay()
    assert (again.status, again.headers["Panward-State"], again.body) == (504, "unknown", b"")


@pytest.mark.guards("T-50")
async def test_two_accounts_of_one_merchant_share_no_answer(
    replica: Replica, shop: Merchant, deployment: Deployment
) -> None:
    there = shop.at(replica.urls)
    token, key = await there.token(), new_idempotency_key()

    async def pay(processor_key: str) -> Reply:
        headers = {
            "Panward-Key": there.account.secret_key,
            "Authorization": f"Bearer {processor_key}",
            "Content-Type": FORM,
            "Idempotency-Key": key,
        }
        url = f"{there.urls.private}/out/own{INTENTS}"
        return await there.wire("POST", url, form(payment(token)), headers=headers)

    assert (await pay(deployment.processor_key)).status == 200
    other = await pay("sk_test_another_account_of_this_merchant")
    assert other.status == 401, "the processor's own word, not the first account's answer"


# --- what could be read as another call ---------------------------------------------------


@pytest.mark.guards("T-42")
@pytest.mark.parametrize(
    ("verb", "body"), [("POST", b'{"query":"query{ping}"}'), ("POST", b""), ("GET", None)]
)
async def test_a_mutation_in_the_url_does_not_leave(
    demo_shop: Merchant, store: Store, nothing_happens: Witness, verb: str, body: bytes | None
) -> None:
    mutation = 'mutation{chargePaymentMethod(input:{paymentMethodId:"x"}){transaction{id}}}'
    login = base64.b64encode(f"pk:{demo_shop.account.secret_key}".encode()).decode()
    headers = {"Authorization": f"Basic {login}"}
    if body is not None:
        headers["Content-Type"] = "application/json"
    async with nothing_happens():
        url = f"{demo_shop.urls.private}/out/braintree/graphql?query={quote(mutation)}"
        reply = await demo_shop.wire(verb, url, body, headers=headers)
    assert "Panward-Processor-Status" not in reply.headers


@pytest.mark.guards("T-05", "T-42")
@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/v1/payment_intents.json", {"amount": 1}),
        ("/v1/refunds.XML", {"amount": 1}),
        (f"{INTENTS}?amount=2", {"amount": 1, "currency": "eur"}),
        (INTENTS, [("amount", 1), ("amount", 2), ("currency", "eur")]),
    ],
    ids=["json", "xml", "in the url", "twice"],
)
async def test_what_is_on_record_is_what_the_processor_reads(
    shop: Merchant, nothing_happens: Witness, path: str, fields: object
) -> None:
    async with nothing_happens():
        reply = await shop.out(path, fields)  # type: ignore[arg-type]
    assert reply.status in {400, 404}
