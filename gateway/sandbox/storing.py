"""Calls that leave a card with the processor: payment methods, tokens, customers, setup intents.

Pure: decides what is answered and what is kept.
"""

from gateway.sandbox.books import Books, KeptCard, found, keep
from gateway.sandbox.cards import Challenged, Declined, read_card
from gateway.sandbox.objects import (
    Customer,
    LastError,
    NextAction,
    PaymentMethod,
    SetupIntent,
    Token,
)
from gateway.sandbox.params import Params
from gateway.sandbox.refusals import Refusal, card_error, invalid, missing, unexpected_state


def create_payment_method(books: Books, params: Params) -> PaymentMethod:
    if params.required("type") != "card":
        raise invalid("type", "Only cards are simulated.")
    return new_payment_method(books, params, "card")


def new_payment_method(books: Books, params: Params, parent: str) -> PaymentMethod:
    """Keep the card whose fields stand under `parent`."""
    card = books.kept(read_card(params, parent, at=books.now()))
    method = PaymentMethod(
        id=books.new_id("pm"),
        created=books.created(),
        card=card.shown,
        metadata=params.under("metadata"),
    )
    keep(books.payment_methods, method.id, method)
    keep(books.cards, method.id, card)
    return method


def retrieve_payment_method(books: Books, _params: Params, id_: str) -> PaymentMethod:
    return found(books.payment_methods, id_, kind="payment_method")


def chosen_payment_method(books: Books, params: Params) -> PaymentMethod | None:
    """Find the one that a call names, or keep the one under `payment_method_data`."""
    named = params.text("payment_method")
    if named is not None:
        return found(books.payment_methods, named, kind="payment_method", param="payment_method")
    if params.text("payment_method_data[type]") is None:
        return None
    if params.text("payment_method_data[type]") != "card":
        raise invalid("payment_method_data[type]", "Only cards are simulated.")
    return new_payment_method(books, params, "payment_method_data[card]")


def create_token(books: Books, params: Params) -> Token:
    card = books.kept(read_card(params, "card", at=books.now()))
    token = Token(id=books.new_id("tok"), created=books.created(), card=card.shown)
    keep(books.tokens, token.id, token)
    keep(books.cards, token.id, card)
    return token


def card_at_source(books: Books, params: Params) -> KeptCard | None:
    """Read a card named in the older way: a token in `source`, or fields in `source` or `card`."""
    named = params.text("source") or params.text("card")
    if named is not None:
        token = found(books.tokens, named, kind="token", param="source")
        if token.used:
            raise invalid("source", "This token was used already.")
        token.used = True
        return found(books.cards, token.id, kind="token", param="source")
    for parent in ("source", "card"):
        if params.under(parent):
            return books.kept(read_card(params, parent, at=books.now()))
    return None


def create_customer(books: Books, params: Params) -> Customer:
    customer = Customer(
        id=books.new_id("cus"),
        created=books.created(),
        description=params.text("description"),
        email=params.text("email"),
        name=params.text("name"),
        metadata=params.under("metadata"),
    )
    card = card_at_source(books, params)
    if card is not None:
        refuse_storing(books, card)
        customer.default_source = books.new_id("card")
        keep(books.cards, customer.default_source, card)
    keep(books.customers, customer.id, customer)
    return customer


def retrieve_customer(books: Books, _params: Params, id_: str) -> Customer:
    return found(books.customers, id_, kind="customer")


def refuse_storing(books: Books, card: KeptCard) -> None:
    """Decline those cards that cannot even be kept for later."""
    if isinstance(card.outcome, Declined) and card.outcome.when_stored:
        books.counts.declines += 1
        raise declined(card.outcome)


def declined(outcome: Declined) -> Refusal:
    refusal = card_error(outcome.code, outcome.message)
    refusal.error.decline_code = outcome.decline_code
    return refusal


def create_setup_intent(books: Books, params: Params) -> SetupIntent:
    id_ = books.new_id("seti")
    intent = SetupIntent(
        id=id_,
        created=books.created(),
        client_secret=books.new_id(f"{id_}_secret"),
        customer=params.text("customer"),
        description=params.text("description"),
        metadata=params.under("metadata"),
    )
    method = chosen_payment_method(books, params)
    if method is not None:
        intent.payment_method = method.id
        intent.status = "requires_confirmation"
    confirm = params.flag("confirm")
    keep(books.setup_intents, id_, intent)
    return _confirmed(books, intent, params) if confirm else intent


def retrieve_setup_intent(books: Books, _params: Params, id_: str) -> SetupIntent:
    return found(books.setup_intents, id_, kind="setup_intent")


def confirm_setup_intent(books: Books, params: Params, id_: str) -> SetupIntent:
    intent = found(books.setup_intents, id_, kind="setup_intent")
    method = chosen_payment_method(books, params)
    if method is not None:
        intent.payment_method = method.id
    return _confirmed(books, intent, params)


def _confirmed(books: Books, intent: SetupIntent, params: Params) -> SetupIntent:
    if intent.status == "succeeded":
        raise unexpected_state("setup_intent", intent.status)
    if intent.payment_method is None:
        raise missing("payment_method")
    outcome = found(books.cards, intent.payment_method, kind="payment_method").outcome
    if isinstance(outcome, Challenged):
        intent.status = "requires_action"
        intent.next_action = challenge(intent.id, params)
        return intent
    if isinstance(outcome, Declined) and outcome.when_stored:
        books.counts.declines += 1
        intent.last_setup_error = last_error(outcome, charge=None)
        intent.status, intent.payment_method = "requires_payment_method", None
        raise declined(outcome)
    intent.status = "succeeded"
    return intent


def last_error(outcome: Declined, *, charge: str | None) -> LastError:
    return LastError(
        code=outcome.code,
        decline_code=outcome.decline_code,
        message=outcome.message,
        charge=charge,
    )


def challenge(intent: str, params: Params) -> NextAction:
    """Where the shopper would go. The address is nobody's (RFC 6761)."""
    url = f"https://3ds.processor.invalid/{intent}"
    return NextAction(redirect_to_url={"url": url, "return_url": params.text("return_url")})
