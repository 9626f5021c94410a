"""The demo shop's back end, as a program of its own: orders in, what Stripe's SDK made of them out.

It knows the official `stripe` SDK, an API key, an address, and tokens; nothing of panward itself
may be imported here. JSON lines both ways: the first one in holds its settings, the first one
out says which SDK it is.
"""

import sys
from collections.abc import Mapping
from typing import Final

import msgspec
import stripe

from gateway.demo.orders import Account, Heard, Hook, Order, Pay, Reported, SaveCard


def stripe_client(account: Account) -> stripe.StripeClient:
    stripe.ca_bundle_path = account.ca_file  # an authority of our own
    return stripe.StripeClient(
        account.api_key,  # 1: panward's key, where Stripe's was
        base_addresses={"api": account.api_base},  # 2: https://…/out/stripe
    )


# --- what the shop does -------------------------------------------------------------------


CURRENCY: Final = "eur"
CVC_IN_PLACE: Final = "000"  # beside a token: use the code that the shopper typed in


def card_params(order: SaveCard) -> stripe.params.PaymentMethodCreateParams:
    card: stripe.params.PaymentMethodCreateParamsCard = {
        "number": order.token,
        "exp_month": order.exp_month,
        "exp_year": order.exp_year,
    }
    if order.with_cvc:
        card["cvc"] = CVC_IN_PLACE
    return {"type": "card", "card": card}


def payment_params(order: Pay) -> stripe.params.PaymentIntentCreateParams:
    params: stripe.params.PaymentIntentCreateParams = {
        "amount": order.amount,
        "currency": CURRENCY,
        "payment_method": order.payment_method,
        "automatic_payment_methods": {"enabled": True, "allow_redirects": "never"},
        "confirm": True,
        "metadata": {"order_id": order.order_id},
    }
    if order.description is not None:
        params["description"] = order.description
    if order.receipt_email is not None:
        params["receipt_email"] = order.receipt_email
    return params


def save_card(client: stripe.StripeClient, order: SaveCard) -> stripe.PaymentMethod:
    return client.v1.payment_methods.create(
        card_params(order), {"max_network_retries": order.retries}
    )


def pay(client: stripe.StripeClient, order: Pay) -> stripe.PaymentIntent:
    return client.v1.payment_intents.create(
        payment_params(order),
        {"idempotency_key": order.idempotency_key, "max_network_retries": order.retries},
    )


def read_hook(order: Hook) -> Reported:
    """As Stripe's documentation has it; the secret is the gateway's in place of Stripe's."""
    try:
        event = stripe.Webhook.construct_event(order.body, order.signature, order.secret)
    except (ValueError, stripe.SignatureVerificationError):
        return Reported(is_genuine=False)
    about = event.data.object.to_dict()
    order_id = (about.get("metadata") or {}).get("order_id", "")
    return Reported(is_genuine=True, type=event.type, order_id=str(order_id))


def carry_out(client: stripe.StripeClient, order: SaveCard | Pay) -> Heard:
    made: stripe.PaymentMethod | stripe.PaymentIntent
    if isinstance(order, SaveCard):
        path, sent = "/v1/payment_methods", flat(card_params(order))
    else:
        path, sent = "/v1/payment_intents", flat(payment_params(order))
    try:
        made = save_card(client, order) if isinstance(order, SaveCard) else pay(client, order)
    except stripe.StripeError as error:
        return Heard(
            type(error).__name__,
            is_error=True,
            http_status=error.http_status,
            headers=_headers(error.headers),
            body=str(error.http_body or ""),
            says=error.user_message or str(error),
            path=path,
            sent=sent,
        )
    response = made.last_response
    assert isinstance(response, stripe.StripeResponse)
    return Heard(
        type(made).__name__,
        is_error=False,
        http_status=response.code,
        headers=_headers(response.headers),
        body=response.body,
        path=path,
        sent=sent,
    )


def flat(params: Mapping[str, object], within: str = "") -> dict[str, str]:
    """Name the fields as they stand in the form that is sent: `card[number]`."""
    fields: dict[str, str] = {}
    for key, value in params.items():
        name = f"{within}[{key}]" if within else key
        if isinstance(value, dict):
            fields |= flat(value, name)
        else:
            fields[name] = str(value).lower() if isinstance(value, bool) else str(value)
    return fields


def _headers(headers: Mapping[str, str] | None) -> dict[str, str]:
    return {name.lower(): value for name, value in (headers or {}).items()}


def main() -> None:
    orders = msgspec.json.Decoder[Order](Order)
    client = stripe_client(msgspec.json.decode(sys.stdin.buffer.readline(), type=Account))
    _say({"sdk": f"stripe {stripe.VERSION}"})
    for line in sys.stdin.buffer:
        order = orders.decode(line)
        _say(read_hook(order) if isinstance(order, Hook) else carry_out(client, order))


def _say(answer: object) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(answer) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
