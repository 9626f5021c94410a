"""The simulated Braintree's GraphQL: each mutation as a call on the same books as REST. Pure.

A real GraphQL library reads the query, so variables and literals in it are the same to what is
here. Its messages quote what was sent, and so none of them is passed on.
"""

import base64
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from graphql import (
    ExecutionResult,
    GraphQLError,
    ObjectFieldNode,
    StringValueNode,
    Visitor,
    execute_sync,
    parse,
    validate,
    visit,
)

from gateway.sandbox import braintree_books as ledger
from gateway.sandbox import braintree_refusals as refusals
from gateway.sandbox.braintree_answers import global_id
from gateway.sandbox.braintree_books import Books, Order, Transaction
from gateway.sandbox.braintree_cards import KeptCard, read_card
from gateway.sandbox.braintree_document import Fields, Value
from gateway.sandbox.braintree_graphql_answers import (
    Payload,
    card_shown,
    instant_now,
    transaction_shown,
    verification_shown,
)
from gateway.sandbox.braintree_refusals import Invalid, NotFound, Problem
from gateway.sandbox.braintree_schema import SCHEMA

Input = Mapping[str, object]
Resolver = Callable[[object, Input], Payload]

QUERY_TOKENS_MAX: Final = 2_000


@dataclass(frozen=True, slots=True, repr=False)
class Asked:
    """A GraphQL request as its JSON body brings it."""

    query: str
    variables: dict[str, object] | None
    operation: str | None


def read(body: bytes) -> Asked | None:
    """None where it is not a request."""
    try:
        members = json.loads(body)
        json.dumps(members, ensure_ascii=False).encode()  # half a surrogate pair is no text
    except (ValueError, RecursionError):  # json's error carries the whole document
        return None
    if not isinstance(members, dict) or not isinstance(members.get("query"), str):
        return None
    variables, operation = members.get("variables"), members.get("operationName")
    return Asked(
        query=members["query"],
        variables=variables if isinstance(variables, dict) else None,
        operation=operation if isinstance(operation, str) else None,
    )


def numbers_in(asked: Asked) -> tuple[str, ...]:
    """Every text under the name `number`, in the variables and as a literal."""
    collector = _Numbers()
    try:
        visit(parse(asked.query, max_tokens=QUERY_TOKENS_MAX), collector)
    except (GraphQLError, RecursionError):
        collector.found.clear()
    return (*_named_number(asked.variables), *collector.found)


class _Numbers(Visitor):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def enter_object_field(self, node: ObjectFieldNode, *_: object) -> None:
        if node.name.value == "number" and isinstance(node.value, StringValueNode):
            self.found.append(node.value.value)


def _named_number(value: object) -> Iterator[str]:
    match value:
        case dict():
            for name, inner in value.items():
                if name == "number" and isinstance(inner, str):
                    yield inner
                yield from _named_number(inner)
        case list():
            for inner in value:
                yield from _named_number(inner)
        case _:
            return


def executed(books: Books, asked: Asked) -> Payload:
    """Carry a request out; its answer always has the status 200."""
    result = _result(books, asked)
    answer: Payload = {"data": result.data}
    if result.errors:
        answer["errors"] = [_error_shown(error) for error in result.errors]
    return answer | {"extensions": {"requestId": books.new_id("")}}


def _result(books: Books, asked: Asked) -> ExecutionResult:
    try:
        document = parse(asked.query, max_tokens=QUERY_TOKENS_MAX)
    except GraphQLError as error:
        return ExecutionResult(None, [error])
    except RecursionError:
        return ExecutionResult(None, [GraphQLError("Nested too deeply.")])
    errors = validate(SCHEMA, document)
    if errors:
        return ExecutionResult(None, errors)
    return execute_sync(
        SCHEMA,
        document,
        root_value={"ping": "pong", **_Mutations(books).by_name()},
        variable_values=asked.variables,
        operation_name=asked.operation,
    )


def refused(message: str, error_class: str, request_id: str) -> Payload:
    """Refuse a request that is not even looked at."""
    error = {"message": message, "extensions": {"errorClass": error_class}}
    return {"data": None, "errors": [error], "extensions": {"requestId": request_id}}


def _error_shown(error: GraphQLError) -> Payload:
    path: Payload = {} if error.path is None else {"path": error.path}
    original = error.original_error
    match original:
        case Invalid():
            said = {
                "errorClass": "VALIDATION",
                "legacyCode": original.problem.code,
                "inputPath": ["input", *original.place, original.problem.attribute],
            }
            return {"message": original.problem.message, **path, "extensions": said}
        case NotFound():
            message = "An object with this ID was not found."
            return {"message": message, **path, "extensions": {"errorClass": "NOT_FOUND"}}
        case None:
            message = "The request is not valid GraphQL, or does not fit the schema."
            return {"message": message, **path, "extensions": {"errorClass": "VALIDATION"}}
        case _ if isinstance(original, GraphQLError):
            return _error_shown(original)
        case _:
            raise original  # a fault of the simulation


class _Mutations:
    """The mutations of one merchant."""

    def __init__(self, books: Books) -> None:
        self._books = books

    def by_name(self) -> dict[str, Resolver]:
        return {
            "tokenizeCreditCard": _echoing_id(self._tokenize),
            "vaultPaymentMethod": _echoing_id(self._vault),
            "chargePaymentMethod": _echoing_id(self._charge),
            "chargeCreditCard": _echoing_id(self._charge),
            "authorizePaymentMethod": _echoing_id(self._authorize),
            "authorizeCreditCard": _echoing_id(self._authorize),
            "captureTransaction": _echoing_id(self._capture),
            "refundTransaction": _echoing_id(self._refund),
            "reverseTransaction": _echoing_id(self._reverse),
            "verifyPaymentMethod": _echoing_id(self._verify),
            "verifyCreditCard": _echoing_id(self._verify),
        }

    def _tokenize(self, asked: Input) -> Payload:
        card = read_card(_card_fields(_under(asked, "creditCard")), ("creditCard",))
        nonce = ledger.keep_nonce(self._books, card)
        shown = card_shown(card)
        return {
            "token": nonce,
            "creditCard": shown,
            "paymentMethod": {"id": nonce, "usage": "SINGLE_USE", "details": shown},
        }

    def _vault(self, asked: Input) -> Payload:
        card = self._card_at(asked)
        skipped = _under(asked, "verification").get("skip") is True
        verification = None if skipped else ledger.verify(self._books, card)
        if verification is not None and verification.status != "verified":
            return {"paymentMethod": None, "verification": verification_shown(verification)}
        stored = ledger.store(self._books, card, _text(asked, "customerId"))
        return {
            "paymentMethod": {
                "id": global_id("paymentmethod_cc", stored.token),
                "legacyId": stored.token,
                "usage": "MULTI_USE",
                "createdAt": instant_now(self._books),
                "details": card_shown(card),
            },
            "verification": None if verification is None else verification_shown(verification),
        }

    def _charge(self, asked: Input) -> Payload:
        return self._sold(asked, settle=True)

    def _authorize(self, asked: Input) -> Payload:
        return self._sold(asked, settle=False)

    def _sold(self, asked: Input, *, settle: bool) -> Payload:
        wanted = _under(asked, "transaction")
        amount = ledger.amount_of(_text(wanted, "amount"))
        order = Order(
            order_id=_text(wanted, "orderId"),
            merchant_account_id=_text(wanted, "merchantAccountId"),
            customer_id=_text(wanted, "customerId"),
        )
        card = self._card_at(asked)
        sale = ledger.sell(self._books, amount, card, order, settle=settle)
        return {"transaction": transaction_shown(sale)}

    def _capture(self, asked: Input) -> Payload:
        amount = _amount(_under(asked, "transaction"))
        id_ = _legacy(asked, "transactionId")
        captured = ledger.submit_for_settlement(self._books, id_, amount)
        return {"transaction": transaction_shown(captured)}

    def _refund(self, asked: Input) -> Payload:
        amount = _amount(_under(asked, "refund"))
        made = ledger.refund(self._books, _legacy(asked, "transactionId"), amount)
        return {"refund": self._refund_shown(made)}

    def _reverse(self, asked: Input) -> Payload:
        made = ledger.reverse(self._books, _legacy(asked, "transactionId"))
        if made.refunded_transaction is None:
            return {"reversal": transaction_shown(made)}
        return {"reversal": self._refund_shown(made)}

    def _verify(self, asked: Input) -> Payload:
        amount = _amount(_under(asked, "options")) or Decimal("0.00")
        verification = ledger.verify(self._books, self._card_at(asked, spend=False), amount)
        return {"verification": verification_shown(verification)}

    def _card_at(self, asked: Input, *, spend: bool = True) -> KeptCard:
        """Find the card of a payment method; what is single-use is gone once it was used."""
        id_ = _text(asked, "paymentMethodId") or ""
        if id_ in self._books.nonces:
            card = self._books.nonces[id_]
            if card is None:
                raise Invalid((), _at("paymentMethodId", refusals.NONCE_CONSUMED))
            if spend:
                ledger.use_nonce(self._books, id_)
            return card
        stored = self._books.cards.get(_local(id_))
        if stored is None:
            raise Invalid((), _at("paymentMethodId", refusals.CARD_NONCE_UNKNOWN))
        return stored.card

    def _refund_shown(self, made: Transaction) -> Payload:
        sale = self._books.transactions.get(made.refunded_transaction or "")
        shown = transaction_shown(made) | {
            "__typename": "Refund",
            "id": global_id("refund", made.id),
        }
        return shown | {"refundedTransaction": None if sale is None else transaction_shown(sale)}


def _echoing_id(act: Callable[[Input], Payload]) -> Resolver:
    def resolve(_info: object, input: Input) -> Payload:  # noqa: A002 - its name in the schema
        return {"clientMutationId": input.get("clientMutationId")} | act(input)

    return resolve


# --- reading ------------------------------------------------------------------------------


def _under(asked: Input, name: str) -> Input:
    value = asked.get(name)
    return value if isinstance(value, dict) else {}


def _text(asked: Input, name: str) -> str | None:
    """Read a text; a number, which a literal may well be, is one."""
    value = asked.get(name)
    return None if value is None or isinstance(value, bool) else str(value) or None


def _amount(asked: Input) -> Decimal | None:
    text = _text(asked, "amount")
    return None if text is None else ledger.amount_of(text)


def _card_fields(asked: Input) -> Fields:
    names = {
        "number": "number",
        "expirationMonth": "expiration_month",
        "expirationYear": "expiration_year",
        "cvv": "cvv",
        "cardholderName": "cardholder_name",
    }
    members: dict[str, Value] = {rest: _text(asked, name) for name, rest in names.items()}
    return Fields(members)


def _legacy(asked: Input, name: str) -> str:
    """Take an id of either kind: GraphQL's own, or the one REST shows."""
    return _local(_text(asked, name) or "")


def _local(id_: str) -> str:
    padded = id_ + "=" * (-len(id_) % 4)
    try:
        decoded = base64.b64decode(padded, altchars=b"-_", validate=True).decode()
    except ValueError:
        return id_
    kind, _, local = decoded.rpartition("_")
    return local if kind in {"transaction", "refund", "paymentmethod_cc"} else id_


def _at(attribute: str, problem: Problem) -> Problem:
    return Problem(attribute, problem.code, problem.message)
