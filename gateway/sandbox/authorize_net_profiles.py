"""Calls of the simulated Authorize.Net that leave a card there: profiles and subscriptions. Pure.

Decides what is answered and what is kept.
"""

from dataclasses import replace
from typing import Final

from gateway.sandbox import authorize_net_cards as cards
from gateway.sandbox.authorize_net_books import Books, PaymentProfile, Profile
from gateway.sandbox.authorize_net_cards import KeptCard, Unusable, read_card
from gateway.sandbox.authorize_net_document import Element, Shown, Wrapped
from gateway.sandbox.books import keep

_FIELDS_OF: Final = {
    cards.NUMBER_INVALID.code: ("E00013", "Card Number is invalid."),
    cards.EXPIRY_INVALID.code: ("E00013", "Expiration Date is invalid."),
    cards.CARD_EXPIRED.code: ("E00013", "Expiration Date is invalid."),
}


class Refused(Exception):
    """A call that leaves nothing behind, with its published error."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(code)
        self.code = code
        self.text = text


def create_profile(books: Books, request: Element) -> dict[str, Shown]:
    sent = request.first("profile")
    assert sent is not None  # the schema was checked
    known_by = (sent.at("merchantCustomerId"), sent.at("description"), sent.at("email"))
    payment_profiles = tuple(sent.all("paymentProfiles"))
    if not any(known_by) and not payment_profiles:
        raise Refused("E00041", "One or more fields in the profile must contain a value.")
    for other in books.profiles.values():
        if any(known_by) and other.known_by == known_by:
            raise Refused("E00039", f"A duplicate record with ID {other.id} already exists.")
    made = [_payment_profile(books, each, request) for each in payment_profiles]
    profile = Profile(books.number(9), known_by, {each.id: each for each in made})
    keep(books.profiles, profile.id, profile)
    return {
        "customerProfileId": profile.id,
        "customerPaymentProfileIdList": Wrapped("numericString", tuple(profile.payment_profiles)),
        "customerShippingAddressIdList": Wrapped("numericString", ()),
        "validationDirectResponseList": Wrapped("string", ()),
    }


def create_payment_profile(books: Books, request: Element) -> dict[str, Shown]:
    profile = _profile(books, request)
    sent = request.first("paymentProfile")
    assert sent is not None  # the schema was checked
    made = _payment_profile(books, sent, request)
    digest = made.card.digest
    if any(each.card.digest == digest for each in profile.payment_profiles.values()):
        raise Refused("E00039", "A duplicate customer payment profile already exists.")
    profile.payment_profiles[made.id] = made
    return {"customerProfileId": profile.id, "customerPaymentProfileId": made.id}


def update_payment_profile(books: Books, request: Element) -> dict[str, Shown]:
    """Replace a stored card; a number with a mask before its last four is the one before."""
    profile = _profile(books, request)
    sent = request.first("paymentProfile")
    assert sent is not None  # the schema was checked
    stored = profile.payment_profiles.get(sent.at("customerPaymentProfileId") or "")
    if stored is None:
        raise Refused("E00040", "The record cannot be found.")
    zip_code = sent.at("billTo", "zip")
    if sent.at("payment", "creditCard", "cardNumber") == stored.card.masked:
        updated = replace(stored, zip_code=zip_code)
    else:
        updated = replace(_payment_profile(books, sent, request), id=stored.id)
    profile.payment_profiles[stored.id] = updated
    return {}


def create_subscription(books: Books, request: Element) -> dict[str, Shown]:
    sent = request.first("subscription")
    assert sent is not None  # the schema was checked
    for name, told in (("paymentSchedule", "Payment Schedule"), ("amount", "Amount")):
        if sent.first(name) is None:
            raise Refused("E00014", f"{told} is required.")
    card = _card(books, sent)
    payment_profile = PaymentProfile(books.number(9), card, sent.at("billTo", "zip"))
    profile = Profile(books.number(9), (None, None, None), {payment_profile.id: payment_profile})
    keep(books.profiles, profile.id, profile)
    return {
        "subscriptionId": books.number(7),
        "profile": {
            "customerProfileId": profile.id,
            "customerPaymentProfileId": payment_profile.id,
        },
    }


def _profile(books: Books, request: Element) -> Profile:
    profile = books.profiles.get(request.at("customerProfileId") or "")
    if profile is None:
        raise Refused("E00040", "The record cannot be found.")
    return profile


def _payment_profile(books: Books, sent: Element, request: Element) -> PaymentProfile:
    card = _card(books, sent)
    zip_code = sent.at("billTo", "zip")
    if request.at("validationMode") == "liveMode":
        decision = cards.decision_on(card, cards.AMOUNT_OF_VALIDATION, zip_code)
        if decision is not cards.APPROVED:
            books.counts.declines += 1
            raise Refused("E00027", cards.DECLINED.text)
    return PaymentProfile(books.number(9), card, zip_code)


def _card(books: Books, sent: Element) -> KeptCard:
    element = sent.first("payment", "creditCard")
    if element is None:
        raise Refused("E00014", "Payment is required.")
    try:
        return read_card(element, key=books.key, at=books.now())
    except Unusable as unusable:
        code, text = _FIELDS_OF[unusable.reason.code]
    raise Refused(code, text)
