import json

import msgspec
import pytest

from gateway.call import Call, CallRefused, ReadCall, Refusal, read_call
from gateway.codecs.splice import BOM, Format
from gateway.preset import Operation, Preset
from gateway.preset_conditions import Condition
from tests.gateway.preset_bodies import PRESETS
from vault.authorization import Kind
from vault.tokens import token_of

TOKEN = token_of("test", 4)
JSON = "application/json"
XML = "application/xml"
ANET, BRAINTREE, STRIPE, WPG = (
    PRESETS[name] for name in ("authorize_net", "braintree", "stripe", "worldpay_wpg")
)
REQUEST = "/xml/v1/request.api"
GRAPHQL = "/graphql"
ORDERS = "/jsp/merchant/xml/paymentService.jsp"
SALE = "/merchants/shop/transactions"


def _read(
    preset: Preset, path: str, body: str | bytes, type_: str = JSON, method: str = "POST"
) -> ReadCall | CallRefused:
    data = body.encode() if isinstance(body, str) else body
    return read_call(preset, Call(method, path, "", (("Content-Type", type_),), data))


def _named(read: ReadCall | CallRefused) -> str | None:
    assert isinstance(read, ReadCall), read
    return read.operation.name if read.operation is not None else None


def _anet_xml(root: str, kind: str = "") -> str:
    kind = f"<transactionType>{kind}</transactionType>" if kind else ""
    namespace = ' xmlns="AnetApi/xml/v1/schema/AnetApiSchema.xsd"'
    return f"<{root}{namespace}><transactionRequest>{kind}</transactionRequest></{root}>"


def _query(text: str, **more: object) -> str:
    return json.dumps({"query": text, **more})


# --- one URL, many operations -------------------------------------------------------------

ANET_KINDS = [
    ("authOnlyTransaction", "transactions.authorize"),
    ("authCaptureTransaction", "transactions.authorize"),
    ("priorAuthCaptureTransaction", "transactions.capture"),
    ("captureOnlyTransaction", "transactions.capture"),
    ("voidTransaction", "transactions.void"),
    ("refundTransaction", "transactions.refund"),
    ("somethingNew", "transactions.other"),
    ("", "transactions.other"),
]


@pytest.mark.parametrize(("kind", "name"), ANET_KINDS)
def test_the_root_and_a_value_tell_authorize_net_s_operation(kind: str, name: str) -> None:
    body = _anet_xml("createTransactionRequest", kind)
    for type_ in (XML, "text/xml; charset=utf-8"):
        assert _named(_read(ANET, REQUEST, body, type_)) == name
        assert _named(_read(ANET, REQUEST, BOM + body.encode(), type_)) == name
    document = {"createTransactionRequest": {"transactionRequest": {"transactionType": kind}}}
    assert _named(_read(ANET, REQUEST, json.dumps(document))) == name
    assert _named(_read(ANET, REQUEST, BOM + json.dumps(document).encode())) == name


@pytest.mark.parametrize(
    ("root", "name"),
    [
        ("createCustomerProfileRequest", "customer_profiles.create"),
        ("createCustomerPaymentProfileRequest", "customer_profiles.payment_profiles"),
        ("updateCustomerPaymentProfileRequest", "customer_profiles.payment_profiles"),
        ("ARBCreateSubscriptionRequest", "subscriptions"),
        ("getTransactionDetailsRequest", None),
        ("authenticateTestRequest", None),
    ],
)
def test_a_root_that_no_operation_has_only_passes(root: str, name: str | None) -> None:
    for body, type_ in ((_anet_xml(root), XML), (json.dumps({root: {}}), JSON)):
        read = _read(ANET, REQUEST, body, type_)
        assert _named(read) == name
        assert ANET.passes_through("POST", REQUEST)


@pytest.mark.guards("T-11", "T-28")
@pytest.mark.parametrize(
    "body",
    [
        '{"createTransactionRequest": {}, "getTransactionDetailsRequest": {}}',
        '{"getTransactionDetailsRequest": {}, "createTransactionRequest": {}}',
        '{"createTransactionRequest": {}, "createTransactionRequest": {}}',
        '{"createTransactionRequest": {}, "refId": "1"}',
    ],
)
def test_two_roots_are_refused_whichever_is_which(body: str) -> None:
    read = _read(ANET, REQUEST, body)
    assert read == CallRefused(Refusal.SEVERAL_OPERATIONS, "body")


@pytest.mark.parametrize(
    ("inside", "name"),
    [
        ('<submit><order orderCode="o"/></submit>', "orders.submit"),
        (
            ("<submit><paymentTokenCreate><createToken><tokenEventReference>a"
            "</tokenEventReference></createToken></paymentTokenCreate></submit>"),
            "tokens.create",
        ),
        *(
            (
                (f'<modify><orderModification orderCode="o"><{verb}><amount value="1"/></{verb}>'
                "</orderModification></modify>"),
                f"orders.{verb}",
            )
            for verb in ("capture", "refund")
        ),
        ('<modify><orderModification orderCode="o"><cancel/></orderModification></modify>',
         "orders.cancel"),
        ('<inquiry><orderInquiry orderCode="o"/></inquiry>', None),
    ],
)  # fmt: skip
def test_an_attribute_s_presence_tells_worldpay_s(inside: str, name: str | None) -> None:
    doctype = '<!DOCTYPE paymentService PUBLIC "-//WorldPay//DTD" "http://dtd.worldpay.com/x.dtd">'
    body = f"<?xml version='1.0'?>{doctype}<paymentService version='1.4'>{inside}</paymentService>"
    assert _named(_read(WPG, ORDERS, body, "text/xml")) == name


@pytest.mark.parametrize(
    ("query", "more", "name"),
    [
        ("mutation { tokenizeCreditCard(input: {}) { x } }", {}, "graphql.store"),
        ("mutation { alias: vaultPaymentMethod(input: {}) { x } }", {}, "graphql.store"),
        ("mutation { chargeCreditCard(input: {}) { x } }", {}, "graphql.authorize"),
        ("mutation { authorizePaymentMethod(input: {}) { x } }", {}, "graphql.authorize"),
        ("mutation { captureTransaction(input: {}) { x } }", {}, "graphql.capture"),
        ("mutation { reverseTransaction(input: {}) { x } }", {}, "graphql.void"),
        ("mutation { refundTransaction(input: {}) { x } }", {}, "graphql.refund"),
        ("mutation { verifyPaymentMethod(input: {}) { x } }", {}, "graphql.verify"),
        ("mutation { createClientToken(input: {}) { x } }", {}, None),
        ("mutation { tokenizecreditcard: createClientToken(input: {}) { x } }", {}, None),
        ("query { tokenizeCreditCard { x } }", {}, None),
        ("{ ping }", {}, None),
        (
            "mutation A { ping } mutation B { refundTransaction { x } }",
            {"operationName": "B"},
            "graphql.refund",
        ),
        (
            "mutation A { ping } mutation B { refundTransaction { x } }",
            {"operationName": "A"},
            None,
        ),
    ],
)
def test_the_mutation_that_is_run_tells_graphql_s(
    query: str, more: dict[str, object], name: str | None
) -> None:
    read = _read(BRAINTREE, GRAPHQL, _query(query, **more))
    assert _named(read) == name
    assert isinstance(read, ReadCall)
    assert read.document.format is Format.GRAPHQL


@pytest.mark.guards("T-28")
@pytest.mark.parametrize(
    "query",
    [
        "mutation { tokenizeCreditCard { x } chargeCreditCard { x } }",
        "mutation { ping chargeCreditCard { x } }",
        "mutation { chargeCreditCard { x } ping }",
    ],
)
def test_two_mutations_in_one_call_are_refused(query: str) -> None:
    assert _read(BRAINTREE, GRAPHQL, _query(query)) == CallRefused(
        Refusal.SEVERAL_OPERATIONS, "body"
    )


@pytest.mark.parametrize(
    "body",
    [
        "[]",
        "{}",
        '{"query": 1}',
        _query("mutation {"),
        _query("mutation { ...F } fragment F on M { x }"),
        '[{"query": "{ ping }"}]',
    ],
)
def test_what_is_no_graphql_request_is_malformed(body: str) -> None:
    assert _read(BRAINTREE, GRAPHQL, body) == CallRefused(Refusal.MALFORMED, "body")


@pytest.mark.parametrize(
    ("type_", "name"), [("credit", "transactions.credit"), ("sale", "transactions.create")]
)
@pytest.mark.parametrize("xml", [True, False])
def test_braintree_s_credit_is_a_refund_in_either_format(
    type_: str, name: str, *, xml: bool
) -> None:
    body = f"<transaction><type>{type_}</type></transaction>"
    if not xml:
        body = json.dumps({"transaction": {"type": type_}})
    assert _named(_read(BRAINTREE, SALE, body, XML if xml else JSON)) == name


def test_checkout_s_payout_goes_to_a_card_instead_of_from_one() -> None:
    checkout = PRESETS["checkout_com"]
    for body, name in (
        ({"source": {"type": "currency_account"}}, "payouts.create"),
        ({"source": {"type": "entity"}, "destination": {"number": "1"}}, "payouts.create"),
        ({"source": {"type": "id"}, "destination": {"id": "ignored"}}, "payments.create"),
        ({"source": {"type": "card"}}, "payments.create"),
    ):
        assert _named(_read(checkout, "/payments", json.dumps(body))) == name


# --- names, conditions ---------------------------------------------------------------------


@pytest.mark.parametrize("name", ["credit_card", "credit-card", "creditCard", "CreditCard"])
def test_braintree_s_names_are_one_however_they_are_spelled(name: str) -> None:
    selector = "transaction.credit_card.number"
    xml = _read(
        BRAINTREE, SALE, f"<transaction><{name}><number>1</number></{name}></transaction>", XML
    )
    in_json = _read(BRAINTREE, SALE, json.dumps({"transaction": {name: {"number": "1"}}}))
    for read in (xml, in_json):
        assert isinstance(read, ReadCall)
        assert [match.field.text for match in read.find(selector)] == ["1"]


def test_names_that_are_one_given_in_two_spellings_are_a_field_given_twice() -> None:
    """Which of them the processor reads nobody knows."""
    body = json.dumps(
        {"transaction": {"credit_card": {"number": "1"}, "creditCard": {"number": "2"}}}
    )
    read = _read(BRAINTREE, SALE, body)
    assert isinstance(read, ReadCall)
    assert len(read.find("transaction.credit_card.number")) == 2


def _operation(name: str, *when: Condition) -> Operation:
    return Operation(name=name, method="POST", path="/a", kind=Kind.AUTHORIZE, when=when)


@pytest.mark.parametrize(
    ("condition", "body", "fits"),
    [
        (Condition(path="a", equals=("x", "y")), '{"a": "y"}', True),
        (Condition(path="a", equals=("x", "y")), '{"a": "z"}', False),
        (Condition(path=("b", "a"), equals=("x",)), '{"a": "x"}', True),
        (Condition(path="a", equals=(1,)), '{"a": 1}', True),
        (Condition(path="a", equals=(True,)), '{"a": true}', True),
        (Condition(path="a", equals=(True,)), '{"a": false}', False),
        (Condition(path="a", exists=True), '{"a": ""}', True),
        (Condition(path="a", exists=True), '{"a": null}', False),
        (Condition(path="a", exists=True), '{"b": 1}', False),
        (Condition(path="a", exists=False), '{"a": null}', True),
        (Condition(path="a", exists=False), '{"a": 1}', False),
        (Condition(path="a[*].b", equals=("x",)), '{"a": [{"b": "y"}, {"b": "x"}]}', True),
        (Condition(path="$.a[?@.b == 'x'].b", exists=True), '{"a": [{"b": "x"}]}', True),
    ],
)
def test_a_condition_asks_for_what_stands_somewhere(
    condition: Condition, body: str, *, fits: bool
) -> None:
    operations = (_operation("first", condition), _operation("second"))
    preset = msgspec.structs.replace(PRESETS["adyen"], operations=operations)
    assert _named(_read(preset, "/a", body)) == ("first" if fits else "second")


def test_all_conditions_have_to_hold() -> None:
    both = _operation("both", Condition(path="a", exists=True), Condition(path="b", exists=True))
    preset = msgspec.structs.replace(PRESETS["adyen"], operations=(both,))
    assert _named(_read(preset, "/a", '{"a": 1, "b": 2}')) == "both"
    assert _named(_read(preset, "/a", '{"a": 1}')) is None


# --- bodies --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "signature",
    [
        (
            '<s:Header xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><w:Security xmlns:w="http://'
            'docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-secext-1.0.xsd"/></s:Header>'
        ),
        '<Signature xmlns="http://www.w3.org/2000/09/xmldsig#"/>',
    ],
)
def test_a_signed_body_is_refused_as_one(signature: str) -> None:
    body = f"<createTransactionRequest>{signature}</createTransactionRequest>"
    assert _read(ANET, REQUEST, body, XML) == CallRefused(Refusal.SIGNED_BODY, "body")


@pytest.mark.guards("T-18")
@pytest.mark.parametrize(
    "body",
    [
        '<!DOCTYPE a [<!ENTITY x "y">]><createTransactionRequest>&x;</createTransactionRequest>',
        "<createTransactionRequest>&x;</createTransactionRequest>",
        "<createTransactionRequest>",
        "<a/><b/>",
        "\x00",
        '<?xml version="1.0" encoding="utf-16"?><createTransactionRequest/>',
    ],
)
def test_a_body_that_is_not_what_it_says_is_malformed(body: str) -> None:
    assert _read(ANET, REQUEST, body, XML) == CallRefused(Refusal.MALFORMED, "body")


@pytest.mark.guards("T-10")
@pytest.mark.parametrize(
    "type_",
    [
        "",
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/xml; charset=utf-16",
        "application/xml; charset=utf-8; charset=utf-8",
        "application/soap+xml",
    ],
)
def test_a_type_that_the_preset_does_not_list_is_refused(type_: str) -> None:
    read = _read(ANET, REQUEST, _anet_xml("createTransactionRequest"), type_)
    assert read == CallRefused(Refusal.UNSUPPORTED, "content-type")


def test_each_operation_has_the_types_of_its_own() -> None:
    """At Braintree's GraphQL there is no XML, though the preset has both."""
    assert _read(BRAINTREE, GRAPHQL, "<a/>", XML) == CallRefused(
        Refusal.UNSUPPORTED, "content-type"
    )


def test_a_body_of_no_operation_is_read_only_if_it_could_hide_a_token() -> None:
    for body, fields in (
        ('{"a": "b"}', 0),
        ('{"a": "\\u0062"}', 2),
        (json.dumps({"a": TOKEN}), 2),
        ('{"a": "\\u0062"', 0),
    ):
        read = _read(STRIPE, "/v1/products", body)
        assert isinstance(read, ReadCall)
        assert len(read.document.fields) == fields


def test_a_call_prints_nothing_of_itself() -> None:
    read = _read(STRIPE, "/v1/payment_methods", "a=s3cr3t", "application/x-www-form-urlencoded")
    assert "s3cr3t" not in repr(read)


def test_operations_at_one_path_may_differ_in_their_types() -> None:
    """A body of the first one's type that is the second's by what it says is nobody's."""
    first = msgspec.structs.replace(
        _operation("first", Condition(path="a", exists=True)), content_types=(JSON,)
    )
    second = msgspec.structs.replace(_operation("second"), content_types=(XML,))
    preset = msgspec.structs.replace(PRESETS["adyen"], operations=(first, second))
    assert _named(_read(preset, "/a", '{"a": 1}')) == "first"
    assert _named(_read(preset, "/a", "<c/>", XML)) == "second"
    assert _read(preset, "/a", '{"b": 1}') == CallRefused(Refusal.UNSUPPORTED, "content-type")
