"""The published schema of Authorize.Net, as far as the simulation looks at it. Pure.

Elements come in the order of the schema or are refused, in JSON too. What has no sequence here is
taken as it is. A refusal names elements, and only those of the schema; it never repeats a value.
"""

import re
from typing import Final

from gateway.sandbox.authorize_net_document import NAMESPACE, Element


class OffSchema(Exception):
    """A document that the schema does not allow, with the validator's words (E00003)."""

    def __init__(self, text: str) -> None:
        super().__init__("E00003")
        self.text = text


_REQUEST: Final = "merchantAuthentication!:authentication clientId refId"
_ADDRESS: Final = "firstName lastName company address city state zip country"
_PAYMENT_PROFILE: Final = (
    "customerType billTo:address payment:payment driversLicense taxId defaultPaymentProfile "
    "subsequentAuthInformation excludeFromAccountUpdater"
)

# By type; `!` must be there, `*` may come again, `:type` has a sequence of its own.
_SEQUENCES: Final = {
    "createTransactionRequest": f"{_REQUEST} transactionRequest!:transaction",
    "createCustomerProfileRequest": f"{_REQUEST} profile!:customerProfile validationMode",
    "createCustomerPaymentProfileRequest": (
        f"{_REQUEST} customerProfileId! paymentProfile!:paymentProfile validationMode"
    ),
    "updateCustomerPaymentProfileRequest": (
        f"{_REQUEST} customerProfileId! paymentProfile!:paymentProfileEx validationMode"
    ),
    "ARBCreateSubscriptionRequest": f"{_REQUEST} subscription!:subscription",
    "authenticateTestRequest": _REQUEST,
    "getTransactionDetailsRequest": f"{_REQUEST} transId!",
    "authentication": (
        "name transactionKey sessionToken password impersonationAuthentication fingerPrint "
        "clientKey accessToken mobileDeviceId"
    ),
    "transaction": (
        "transactionType! amount currencyCode payment:payment profile:paidByProfile solution "
        "callId terminalNumber authCode refTransId splitTenderId order:order lineItems tax duty "
        "shipping taxExempt poNumber customer:customer billTo:address shipTo:address customerIP "
        "cardholderAuthentication retail employeeId transactionSettings:settings "
        "userFields:userFields surcharge merchantDescriptor subMerchant tip processingOptions "
        "subsequentAuthInformation otherTax shipFrom authorizationIndicatorType"
    ),
    "payment": (
        "creditCard:creditCard bankAccount trackData encryptedTrackData payPal opaqueData emv "
        "dataSource"
    ),
    "creditCard": (
        "cardNumber! expirationDate! cardCode isPaymentToken cryptogram tokenRequestorName "
        "tokenRequestorId tokenRequestorEci"
    ),
    "paidByProfile": (
        "createProfile customerProfileId paymentProfile:paidByPaymentProfile shippingProfileId"
    ),
    "paidByPaymentProfile": "paymentProfileId! cardCode",
    "order": (
        "invoiceNumber description discountAmount taxIsAfterDiscount totalTaxTypeCode "
        "purchaserVATRegistrationNumber merchantVATRegistrationNumber vatInvoiceReferenceNumber "
        "purchaserCode summaryCommodityCode purchaseOrderDateUTC supplierOrderReference "
        "authorizedContactName cardAcceptorRefNumber amexDataTAA1 amexDataTAA2 amexDataTAA3 "
        "amexDataTAA4"
    ),
    "customer": "type id email driversLicense taxId",
    "address": f"{_ADDRESS} phoneNumber faxNumber email",
    "settings": "setting*:setting",
    "setting": "settingName settingValue",
    "userFields": "userField*:userField",
    "userField": "name value",
    "customerProfile": (
        "merchantCustomerId description email paymentProfiles*:paymentProfile shipToList* "
        "profileType"
    ),
    "paymentProfile": _PAYMENT_PROFILE,
    "paymentProfileEx": f"{_PAYMENT_PROFILE} customerPaymentProfileId!",
    "subscription": (
        "name paymentSchedule:schedule amount trialAmount payment:payment order:order "
        "customer:subscriber billTo:name shipTo:name profile"
    ),
    "schedule": "interval:interval startDate totalOccurrences trialOccurrences",
    "interval": "length unit",
    "subscriber": "type id email phoneNumber faxNumber driversLicense taxId",
    "name": _ADDRESS,
}
_LENGTHS: Final = {
    ("authentication", "name"): (0, 25),
    ("authentication", "transactionKey"): (0, 16),
    ("creditCard", "cardNumber"): (4, 16),
    ("creditCard", "expirationDate"): (4, 7),
    ("creditCard", "cardCode"): (3, 4),
    ("paidByPaymentProfile", "cardCode"): (3, 4),
    ("order", "invoiceNumber"): (0, 20),
    ("order", "description"): (0, 255),
    ("customer", "id"): (0, 20),
    ("customerProfile", "merchantCustomerId"): (0, 20),
    ("customerProfile", "description"): (0, 255),
    ("customerProfile", "email"): (0, 255),
    ("address", "address"): (0, 60),
    ("address", "zip"): (0, 20),
    ("name", "zip"): (0, 20),
} | {(request, "refId"): (0, 20) for request in _SEQUENCES if request.endswith("Request")}
_DECIMALS: Final = frozenset({("transaction", "amount"), ("subscription", "amount")})
_DECIMAL: Final = re.compile(r"[+-]?(?:[0-9]{1,12}(?:\.[0-9]{0,6})?|\.[0-9]{1,6})", re.ASCII)
_TRANSACTION_TYPES: Final = frozenset(
    {
        "authOnlyTransaction",
        "authCaptureTransaction",
        "captureOnlyTransaction",
        "refundTransaction",
        "priorAuthCaptureTransaction",
        "voidTransaction",
        "getDetailsTransaction",
        "authOnlyContinueTransaction",
        "authCaptureContinueTransaction",
    }
)

REQUESTS: Final = frozenset(name for name in _SEQUENCES if name.endswith("Request"))
_PARTS: Final = {
    type_: tuple(part.partition(":") for part in sequence.split())
    for type_, sequence in _SEQUENCES.items()
}
_NAMES: Final = {
    type_: tuple(part[0].rstrip("!*") for part in parts) for type_, parts in _PARTS.items()
}
_REQUIRED: Final = {
    type_: tuple(part[0][:-1] for part in parts if part[0].endswith("!"))
    for type_, parts in _PARTS.items()
}
_REPEATED: Final = {
    type_: frozenset(part[0][:-1] for part in parts if part[0].endswith("*"))
    for type_, parts in _PARTS.items()
}
_TYPE_OF: Final = {
    (type_, part[0].rstrip("!*")): part[2]
    for type_, parts in _PARTS.items()
    for part in parts
    if part[2]
}
_KNOWN_NAMES: Final = frozenset(name for names in _NAMES.values() for name in names) | REQUESTS


def check(document: Element) -> None:
    """Hold a request against its sequence; raise OffSchema at the first thing amiss."""
    _check(document, document.name)


def _check(element: Element, type_: str) -> None:
    names, place, last = _NAMES[type_], 0, ""
    for child in element.children:
        if child.name != last or last not in _REPEATED[type_]:
            expected = _until_required(type_, place)
            if child.name not in expected:
                raise OffSchema(_unexpected(element.name, child.name, expected))
            place, last = names.index(child.name, place) + 1, child.name
        _check_text(child, type_)
        inner = _TYPE_OF.get((type_, child.name))
        if inner is not None:
            _check(child, inner)
    missing = [name for name in _REQUIRED[type_] if name in names[place:]]
    if missing:
        raise OffSchema(_incomplete(element.name, missing[0]))


def _until_required(type_: str, place: int) -> tuple[str, ...]:
    """What may come next: up to the next element that must be there, and that one."""
    rest = _NAMES[type_][place:]
    stops = [at for at, name in enumerate(rest) if name in _REQUIRED[type_]]
    return rest[: stops[0] + 1] if stops else rest


def _check_text(child: Element, type_: str) -> None:
    place = (type_, child.name)
    shortest, longest = _LENGTHS.get(place, (0, len(child.text)))
    if len(child.text) > longest:
        raise OffSchema(_bad_text(child.name, "greater than the MaxLength"))
    if len(child.text) < shortest:
        raise OffSchema(_bad_text(child.name, "less than the MinLength"))
    if place in _DECIMALS and _DECIMAL.fullmatch(child.text) is None:
        raise OffSchema(
            f"The '{NAMESPACE}:{child.name}' element is invalid - The value XXXX is invalid "
            "according to its datatype 'http://www.w3.org/2001/XMLSchema:decimal' - The string "
            "XXXX is not a valid Decimal value."
        )
    if place == ("transaction", "transactionType") and child.text not in _TRANSACTION_TYPES:
        raise OffSchema(
            f"The '{NAMESPACE}:transactionType' element is invalid - The value XXXX is invalid "
            "according to its datatype 'String' - The Enumeration constraint failed."
        )


def _bad_text(name: str, how: str) -> str:
    return (
        f"The '{NAMESPACE}:{name}' element is invalid - The value XXXX is invalid according to "
        f"its datatype 'String' - The actual length is {how} value."
    )


def _unexpected(parent: str, child: str, expected: tuple[str, ...]) -> str:
    told = child if child in _KNOWN_NAMES else "(unknown)"
    listed = ", ".join(expected)
    return (
        f"The element '{parent}' in namespace '{NAMESPACE}' has invalid child element '{told}' in "
        f"namespace '{NAMESPACE}'. List of possible elements expected: '{listed}' in namespace "
        f"'{NAMESPACE}'."
    )


def _incomplete(parent: str, missing: str) -> str:
    return (
        f"The element '{parent}' in namespace '{NAMESPACE}' has incomplete content. List of "
        f"possible elements expected: '{missing}' in namespace '{NAMESPACE}'."
    )
