"""What real-looking replies mean, by preset: the ledger's words for each processor's own."""

import json
import re

import pytest

from gateway.codecs.splice import BOM
from gateway.preset import Operation
from gateway.reply import Scrubbed
from gateway.result import References, Settled, UnknownOutcome, read_result
from tests.gateway.preset_bodies import PRESETS

Reply = str | dict[str, object]
Row = tuple[str, int, Reply, str]

XML_START = '<?xml version="1.0" encoding="UTF-8"?>'
ANET_NAMESPACE = "AnetApi/xml/v1/schema/AnetApiSchema.xsd"


def _adyen(code: str) -> Reply:
    return {"pspReference": "881", "resultCode": code, "refusalReasonCode": "2"}


def _checkout(status: str, *, approved: bool | None = None) -> Reply:
    said = {} if approved is None else {"approved": approved}
    return {"id": "pay_1", "status": status, "response_code": "20005", **said}


def _bt(inside: str, *, refused: bool = False) -> str:
    return XML_START + (f"<api-error-response>{inside}</api-error-response>" if refused else inside)


def _bt_status(status: str) -> str:
    return (
        f"<transaction><id>t1</id><status>{status}</status><processor-response-code>2000"
        "</processor-response-code></transaction>"
    )


def _graphql(path: str, status: str) -> Reply:
    return {"data": {"anything": {path: {"id": "t1", "status": status}}}}


def _failed(error_class: str) -> Reply:
    return {"data": None, "errors": [{"message": "no", "extensions": {"errorClass": error_class}}]}


def _cybersource(status: str) -> Reply:
    return {"id": "7", "status": status, "errorInformation": {"reason": "PROCESSOR_DECLINED"}}


def _anet(code: str, root: str = "createTransactionResponse") -> str:
    said = "Error" if code == "3" else "Ok"
    inside = (
        f"<messages><resultCode>{said}</resultCode></messages><transactionResponse><responseCode>"
        f"{code}</responseCode><authCode>A1</authCode><transId>60</transId><errors><error>"
        "<errorCode>2</errorCode></error></errors></transactionResponse>"
    )
    return f'{BOM.decode()}{XML_START}<{root} xmlns="{ANET_NAMESPACE}">{inside}</{root}>'


def _anet_json(code: str) -> Reply:
    return {
        "transactionResponse": {"responseCode": code, "transId": "60", "authCode": "A1",
                                "errors": [{"errorCode": "2"}]},
        "messages": {"resultCode": "Ok", "message": [{"code": "I00001"}]},
    }  # fmt: skip


def _anet_messages(result: str, code: str, root: str = "anyResponse") -> str:
    message = f"<message><code>{code}</code></message>"
    inside = f"<messages><resultCode>{result}</resultCode>{message}</messages>"
    return f'{BOM.decode()}{XML_START}<{root} xmlns="{ANET_NAMESPACE}">{inside}</{root}>'


def _wpg(inside: str) -> str:
    return (
        f'{XML_START}<!DOCTYPE paymentService PUBLIC "-//WorldPay//DTD WorldPay PaymentService '
        f'v1//EN" "http://dtd.worldpay.com/paymentService_v1.dtd"><paymentService><reply>{inside}</reply>'
        "</paymentService>"
    )


def _wpg_event(event: str) -> str:
    payment = f'<payment><lastEvent>{event}</lastEvent><ISO8583ReturnCode code="51"/></payment>'
    return _wpg(f'<orderStatus orderCode="o-1">{payment}</orderStatus>')


def _paypal(kind: str, status: str) -> Reply:
    payments = {
        kind: [{"id": "3C", "status": status, "processor_response": {"response_code": "0500"}}]
    }
    return {"id": "5O", "status": "COMPLETED", "purchase_units": [{"payments": payments}]}


ROWS: dict[str, list[Row]] = {
    "adyen": [
        ("payments", 200, _adyen("Authorised"), "approved"),
        ("payments", 200, _adyen("PartiallyAuthorised"), "approved"),
        ("payments", 200, _adyen("Refused"), "declined"),
        ("payments", 200, _adyen("Cancelled"), "declined"),
        ("payments", 200, _adyen("Error"), "error"),
        ("payments.details", 200, _adyen("ChallengeShopper"), "pending"),
        ("payments", 201, _adyen("RedirectShopper"), "pending"),
        ("payments", 200, _adyen("Received"), "pending"),
        ("payments", 200, _adyen("NeverHeardOf"), "upstream_protocol_error"),
        ("payments", 422, {"status": 422, "errorCode": "101"}, "error"),
        ("payments", 500, {"status": 500}, "upstream_error"),
        ("payments.balance", 200, _adyen("Success"), "approved"),
        ("payments.balance", 200, _adyen("NotEnoughBalance"), "declined"),
        ("stored_payment_methods", 201, {"id": "8415"}, "stored"),
        ("card_details", 200, {"brands": []}, "approved"),
        ("payments.captures", 201, {"status": "received", "pspReference": "1"}, "pending"),
        ("payments.refunds", 201, {"status": "received", "pspReference": "1"}, "pending"),
        ("payments.amount_updates", 201, {"status": "received"}, "pending"),
        ("classic.authorise", 200, {"resultCode": "Authorised", "authCode": "1"}, "approved"),
        ("classic.capture", 200, {"response": "[capture-received]"}, "pending"),
        ("classic.cancel", 200, {"response": "[technical-cancel-received]"}, "pending"),
        ("classic.payout", 200, {"resultCode": "[payout-submit-received]"}, "pending"),
        ("classic.payout", 200, _adyen("Authorised"), "approved"),
        ("classic.store_detail", 200, {"recurringDetailReference": "1"}, "stored"),
    ],
    "checkout_com": [
        ("payments.create", 201, _checkout("Authorized", approved=True), "approved"),
        ("payments.create", 201, _checkout("Card Verified", approved=True), "approved"),
        ("payments.create", 201, _checkout("Declined", approved=False), "declined"),
        ("payments.create", 201, _checkout("Declined"), "declined"),
        ("payments.create", 202, _checkout("Pending"), "pending"),
        ("payments.create", 422, {"error_type": "x", "error_codes": ["y"]}, "error"),
        ("payments.create", 502, "", "upstream_error"),
        ("payments.create", 201, {"id": "pay_1"}, "upstream_protocol_error"),
        ("payouts.create", 201, _checkout("Paid", approved=True), "approved"),
        ("tokens.create", 201, {"token": "tok_1"}, "stored"),
        ("instruments.create", 201, {"id": "src_1"}, "stored"),
        ("payments.capture", 202, {"action_id": "act_1"}, "pending"),
        ("payments.void", 202, {"action_id": "act_1"}, "pending"),
        ("payments.refund", 202, {"action_id": "act_1"}, "pending"),
        ("sessions", 201, {"id": "sid_1"}, "pending"),
        ("payments.setups", 200, {"id": "pay_1"}, "pending"),
    ],
    "braintree": [
        ("transactions.create", 201, _bt(_bt_status("authorized")), "approved"),
        ("transactions.create", 201, _bt(_bt_status("submitted_for_settlement")), "approved"),
        ("transactions.create", 201, _bt(_bt_status("settlement_pending")), "pending"),
        (
            "transactions.create",
            422,
            _bt(_bt_status("processor_declined"), refused=True),
            "declined",
        ),
        ("transactions.create", 422, _bt(_bt_status("gateway_rejected"), refused=True), "declined"),
        ("transactions.create", 422, _bt(_bt_status("failed"), refused=True), "error"),
        ("transactions.create", 422, _bt("<message>no</message>", refused=True), "error"),
        ("transactions.create", 503, "", "upstream_error"),
        ("transactions.create", 201, _bt("<transaction/>"), "upstream_protocol_error"),
        ("transactions.create", 201, {"transaction": {"status": "authorized"}}, "approved"),
        (
            "transactions.create",
            422,
            {"apiErrorResponse": {"transaction": {"status": "processor_declined"}}},
            "declined",
        ),
        ("transactions.void", 200, _bt(_bt_status("voided")), "approved"),
        ("transactions.submit_for_settlement", 200, _bt(_bt_status("settling")), "approved"),
        ("customers.create", 201, _bt("<customer><id>1</id></customer>"), "stored"),
        (
            "payment_methods.create",
            201,
            _bt("<credit-card><token>x</token></credit-card>"),
            "stored",
        ),
        (
            "verifications.create",
            201,
            _bt("<credit-card-verification><status>verified</status></credit-card-verification>"),
            "approved",
        ),
        (
            "verifications.create",
            422,
            _bt("<verification><status>processor_declined</status></verification>", refused=True),
            "declined",
        ),
        ("graphql.authorize", 200, _graphql("transaction", "AUTHORIZED"), "approved"),
        ("graphql.authorize", 200, _graphql("transaction", "PROCESSOR_DECLINED"), "declined"),
        ("graphql.authorize", 200, _graphql("transaction", "SETTLEMENT_PENDING"), "pending"),
        ("graphql.authorize", 200, _graphql("transaction", "FAILED"), "error"),
        ("graphql.refund", 200, _graphql("refund", "SUBMITTED_FOR_SETTLEMENT"), "approved"),
        ("graphql.void", 200, _graphql("reversal", "VOIDED"), "approved"),
        ("graphql.verify", 200, _graphql("verification", "VERIFIED"), "approved"),
        ("graphql.verify", 200, _graphql("verification", "PROCESSOR_DECLINED"), "declined"),
        ("graphql.store", 200, {"data": {"a": {"paymentMethod": {"id": "x"}}}}, "stored"),
        ("graphql.store", 200, _failed("VALIDATION"), "error"),
        ("graphql.authorize", 200, _failed("INTERNAL"), "upstream_protocol_error"),
        ("graphql.authorize", 200, _failed("SERVICE_AVAILABILITY"), "upstream_protocol_error"),
    ],
    "cybersource": [
        ("payments.create", 201, _cybersource("AUTHORIZED"), "approved"),
        ("payments.create", 201, _cybersource("PARTIAL_AUTHORIZED"), "approved"),
        ("payments.create", 201, _cybersource("DECLINED"), "declined"),
        ("payments.create", 201, _cybersource("AUTHORIZED_RISK_DECLINED"), "declined"),
        ("payments.create", 201, _cybersource("AUTHORIZED_PENDING_REVIEW"), "pending"),
        ("payments.create", 201, _cybersource("PENDING_AUTHENTICATION"), "pending"),
        ("payments.create", 201, _cybersource("INVALID_REQUEST"), "error"),
        ("payments.create", 400, _cybersource("INVALID_REQUEST"), "error"),
        ("payments.create", 502, _cybersource("SERVER_ERROR"), "upstream_error"),
        ("payments.capture", 201, _cybersource("PENDING"), "pending"),
        ("payments.void", 201, _cybersource("REVERSED"), "approved"),
        ("payments.refund", 201, _cybersource("PENDING"), "pending"),
        ("risk", 201, _cybersource("AUTHENTICATION_SUCCESSFUL"), "approved"),
        ("instrument_identifiers.create", 200, {"id": "7", "state": "ACTIVE"}, "stored"),
    ],
    "authorize_net": [
        ("transactions.authorize", 200, _anet("1"), "approved"),
        ("transactions.authorize", 200, _anet("2"), "declined"),
        ("transactions.authorize", 200, _anet("3"), "error"),
        ("transactions.authorize", 200, _anet("4"), "pending"),
        ("transactions.authorize", 200, _anet_json("1"), "approved"),
        ("transactions.authorize", 200, _anet_json("2"), "declined"),
        ("transactions.capture", 200, _anet_json("4"), "pending"),
        ("transactions.void", 200, _anet("1"), "approved"),
        ("transactions.refund", 200, _anet_json("1"), "approved"),
        ("transactions.refund", 200, _anet("3"), "error"),
        (
            "transactions.authorize",
            200,
            _anet_messages("Error", "E00007", "ErrorResponse"),
            "error",
        ),
        ("transactions.authorize", 200, _anet_messages("Ok", "I00001"), "upstream_protocol_error"),
        ("transactions.authorize", 200, "<html>", "upstream_protocol_error"),
        ("customer_profiles.create", 200, _anet_messages("Ok", "I00001"), "stored"),
        ("customer_profiles.payment_profiles", 200, _anet_messages("Error", "E00027"), "declined"),
        ("customer_profiles.payment_profiles", 200, _anet_messages("Error", "E00039"), "error"),
        ("customer_profiles.validate", 200, _anet_messages("Ok", "I00001"), "approved"),
        ("customer_profiles.validate", 200, _anet_messages("Error", "E00027"), "declined"),
        ("customer_profiles.transactions", 200, _anet_messages("Ok", "I00001"), "pending"),
    ],
    "worldpay_wpg": [
        ("orders.submit", 200, _wpg_event("AUTHORISED"), "approved"),
        ("orders.submit", 200, _wpg_event("REFUSED"), "declined"),
        ("orders.submit", 200, _wpg_event("SENT_FOR_AUTHORISATION"), "pending"),
        ("orders.submit", 200, _wpg_event("ERROR"), "error"),
        ("orders.submit", 200, _wpg_event("NEW_EVENT"), "upstream_protocol_error"),
        ("orders.submit", 200, _wpg('<error code="5"><![CDATA[no]]></error>'), "error"),
        (
            "orders.submit",
            200,
            _wpg('<orderStatus orderCode="o"><error code="5"/></orderStatus>'),
            "error",
        ),
        (
            "orders.submit",
            200,
            _wpg(
                '<orderStatus orderCode="o"><requestInfo><request3DSecure><issuerURL>u</issuerURL>'
                "</request3DSecure></requestInfo></orderStatus>"
            ),
            "pending",
        ),
        ("orders.capture", 200, _wpg('<ok><captureReceived orderCode="o"/></ok>'), "pending"),
        ("orders.cancel", 200, _wpg('<ok><cancelReceived orderCode="o"/></ok>'), "pending"),
        ("orders.refund", 200, _wpg('<ok><refundReceived orderCode="o"/></ok>'), "pending"),
        (
            "tokens.create",
            200,
            _wpg("<token><tokenDetails><paymentTokenID>1</paymentTokenID></tokenDetails></token>"),
            "stored",
        ),
    ],
    "worldpay_access": [
        ("payments", 201, {"outcome": "authorized"}, "approved"),
        ("payments", 201, {"outcome": "sentForSettlement"}, "approved"),
        ("payments", 201, {"outcome": "refused", "refusalCode": "5"}, "declined"),
        ("payments", 201, {"outcome": "fraudHighRisk"}, "declined"),
        ("payments", 201, {"outcome": "3dsChallenged"}, "pending"),
        ("payments", 400, {"errorName": "bodyDoesNotMatchSchema"}, "error"),
        ("payments", 201, {}, "upstream_protocol_error"),
        ("tokens.create", 201, {"tokenPaymentInstrument": {"href": "https://x"}}, "stored"),
        ("settlements", 202, {}, "pending"),
        ("cancellations", 202, "", "pending"),
        ("refunds", 202, {}, "pending"),
    ],
    "paypal": [
        ("orders", 201, _paypal("captures", "COMPLETED"), "approved"),
        ("orders", 201, _paypal("authorizations", "CREATED"), "approved"),
        ("orders", 201, _paypal("captures", "DECLINED"), "declined"),
        ("orders", 201, _paypal("captures", "PENDING"), "pending"),
        ("orders", 201, {"id": "5O", "status": "PAYER_ACTION_REQUIRED"}, "pending"),
        ("orders", 201, {"id": "5O", "status": "COMPLETED"}, "upstream_protocol_error"),
        ("orders", 422, {"details": [{"issue": "INSTRUMENT_DECLINED"}]}, "declined"),
        ("orders", 422, {"details": [{"issue": "OTHER"}]}, "error"),
        ("vault", 201, {"id": "8k"}, "stored"),
        ("authorizations.capture", 201, {"id": "3C", "status": "COMPLETED"}, "approved"),
        ("authorizations.reauthorize", 201, {"id": "3C", "status": "CREATED"}, "approved"),
        ("authorizations.reauthorize", 201, {"id": "3C", "status": "DENIED"}, "declined"),
        ("authorizations.void", 204, "", "approved"),
        ("captures.refund", 201, {"id": "1J", "status": "PENDING"}, "pending"),
        ("captures.refund", 201, {"id": "1J", "status": "COMPLETED"}, "approved"),
    ],
    "razorpay": [
        ("payments.create", 200, {"razorpay_payment_id": "pay_1", "next": []}, "pending"),
        ("payments.create", 200, {"id": "pay_1", "status": "authorized"}, "approved"),
        ("payments.create", 200, {"id": "pay_1", "status": "failed"}, "declined"),
        ("payments.create", 400, {"error": {"code": "BAD_REQUEST_ERROR"}}, "error"),
        ("payments.capture", 200, {"id": "pay_1", "status": "captured"}, "approved"),
        ("payments.refund", 200, {"id": "rfnd_1", "status": "processed"}, "approved"),
        ("tokens.create", 200, {"id": "token_1"}, "stored"),
    ],
    "square": [
        ("payments.create", 200, {"payment": {"id": "p", "status": "COMPLETED"}}, "approved"),
        ("payments.create", 200, {"payment": {"id": "p", "status": "APPROVED"}}, "approved"),
        ("payments.create", 200, {"payment": {"id": "p", "status": "FAILED"}}, "declined"),
        (
            "payments.create",
            402,
            {"errors": [{"category": "PAYMENT_METHOD_ERROR", "code": "CARD_DECLINED"}]},
            "declined",
        ),
        ("payments.create", 400, {"errors": [{"category": "INVALID_REQUEST_ERROR"}]}, "error"),
        ("payments.complete", 200, {"payment": {"id": "p", "status": "COMPLETED"}}, "approved"),
        ("payments.cancel", 200, {"payment": {"id": "p", "status": "CANCELED"}}, "approved"),
        ("refunds.create", 200, {"refund": {"id": "r", "status": "PENDING"}}, "pending"),
        ("cards.create", 200, {"card": {"id": "ccof:1"}}, "stored"),
    ],
    "mollie": [
        ("payments.create", 201, {"id": "tr_1", "status": "paid"}, "approved"),
        ("payments.create", 201, {"id": "tr_1", "status": "open"}, "pending"),
        ("payments.create", 201, {"id": "tr_1", "status": "failed"}, "declined"),
        ("payments.create", 201, {"id": "tr_1", "status": "canceled"}, "declined"),
        ("payments.create", 422, {"status": 422, "detail": "x"}, "error"),
        ("payments.cancel", 200, {"id": "tr_1", "status": "canceled"}, "approved"),
        ("captures.create", 201, {"id": "cpt_1", "status": "succeeded"}, "approved"),
        ("refunds.create", 201, {"id": "re_1", "status": "queued"}, "pending"),
    ],
}
CASES = [(name, *row) for name, rows in ROWS.items() for row in rows]


def _operation(name: str, operation: str) -> Operation:
    (found,) = (each for each in PRESETS[name].operations if each.name == operation)
    return found


def _read(name: str, operation: str, status: int, reply: Reply) -> Settled | UnknownOutcome:
    body = reply if isinstance(reply, str) else json.dumps(reply)
    scrubbed = Scrubbed((), body.encode(), 0, 0)
    return read_result(PRESETS[name], _operation(name, operation), status, scrubbed)


@pytest.mark.guards("F-25", "F-29")
@pytest.mark.parametrize(("name", "operation", "status", "reply", "said"), CASES)
def test_what_a_processor_s_reply_means(
    name: str, operation: str, status: int, reply: Reply, said: str
) -> None:
    read = _read(name, operation, status, reply)
    assert (read.result.value if isinstance(read, Settled) else read.reason) == said


@pytest.mark.parametrize("name", PRESETS)
def test_each_preset_has_replies_here_or_in_a_file_of_its_own(name: str) -> None:
    """Stripe's are in test_result.py."""
    kinds = {each.kind for each in PRESETS[name].operations}
    shown = {_operation(name, operation).kind for operation, *_ in ROWS.get(name, [])}
    assert name == "stripe" or kinds == shown


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("status", [401, 403, 429])
def test_a_refused_login_or_rate_was_not_executed(name: str, status: int) -> None:
    """Save where the status says nothing."""
    operation = PRESETS[name].operations[0].name
    read = _read(name, operation, status, "{}")
    assert isinstance(read, Settled)
    assert (read.result.value, read.executed) == ("error", False)


@pytest.mark.parametrize(
    ("name", "operation", "status", "reply", "references"),
    [
        ("adyen", "payments", 200, _adyen("Refused"), References("881", "2")),
        ("checkout_com", "payments.create", 201, _checkout("Declined", approved=False),
         References("pay_1", "20005")),
        ("braintree", "transactions.create", 422,
         _bt(_bt_status("processor_declined"), refused=True), References("t1", "2000")),
        ("braintree", "graphql.authorize", 200, _graphql("transaction", "AUTHORIZED"),
         References("t1")),
        ("cybersource", "payments.create", 201, _cybersource("DECLINED"),
         References("7", "PROCESSOR_DECLINED")),
        ("authorize_net", "transactions.authorize", 200, _anet("2"), References("60", "2", "A1")),
        ("authorize_net", "transactions.authorize", 200, _anet_json("2"),
         References("60", "2", "A1")),
        ("worldpay_wpg", "orders.submit", 200, _wpg_event("REFUSED"), References("o-1", "51")),
        ("worldpay_access", "payments", 201, {"outcome": "refused", "refusalCode": "5",
         "paymentId": "pay1", "issuer": {"authorizationCode": "A"}}, References("pay1", "5", "A")),
        ("paypal", "orders", 201, _paypal("captures", "DECLINED"), References("3C", "0500")),
        ("razorpay", "payments.create", 200, {"id": "pay_1", "status": "failed",
         "error_reason": "payment_failed"}, References("pay_1", "payment_failed")),
        ("square", "payments.create", 402, {"errors": [{"category": "PAYMENT_METHOD_ERROR",
         "code": "CVV_FAILURE"}]}, References(None, "CVV_FAILURE")),
        ("mollie", "payments.create", 201, {"id": "tr_1", "status": "failed",
         "details": {"failureReason": "invalid_cvv"}}, References("tr_1", "invalid_cvv")),
    ],
)  # fmt: skip
def test_what_a_processor_s_reply_is_remembered_by(
    name: str, operation: str, status: int, reply: Reply, references: References
) -> None:
    assert _read(name, operation, status, reply).references == references


def test_no_rule_is_written_for_nothing() -> None:
    """A rule that an earlier one of the same shape always hides would never be heard."""
    for preset in PRESETS.values():
        shown = [re.sub(r"result=.*?,", "", repr(rule)) for rule in preset.results]
        assert len(set(shown)) == len(shown)
