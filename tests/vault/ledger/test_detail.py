"""Details: their canonical bytes, and the commitment in the leaf."""

import json
from hashlib import sha256

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from tests.vault.ledger.samples import FIELDS, full
from vault.ledger.detail import (
    DETAIL_BYTES_MAX,
    DETAIL_FIELDS,
    DetailValue,
    commitment,
    detail_body,
    read_detail,
)
from vault.ledger.entry import (
    TYPES,
    AccessDenied,
    AuthorizationAttempted,
    AuthorizationCompleted,
    AuthorizationResolved,
    Draft,
    Entry,
    EntryRefused,
    TokenDeleted,
    TokenUpdated,
)
from vault.ledger.forms import INTEGER_MAX, base64url

SALT = bytes(range(32))


def test_the_published_detail() -> None:
    body = detail_body(
        AuthorizationAttempted,
        {"merchant_reference": "order-1001", "amount": 1999, "currency": "EUR"},
    )
    assert body == b'{"amount":1999,"currency":"EUR","merchant_reference":"order-1001"}'
    assert commitment(SALT, body) == "2oClmaiU-Y7wjZ5d7jeR_I8oAc-JsEkJMRQ2p0bqV_c"


def test_a_commitment_is_no_leaf_and_no_node() -> None:
    assert commitment(SALT, b"{}") == base64url(sha256(b"\x02" + SALT + b"{}").digest())


def test_exactly_the_types_with_details_commit_to_them() -> None:
    for name, entry_type in TYPES.items():
        assert (entry_type in DETAIL_FIELDS) == ("detail" in FIELDS[name][1])


@pytest.mark.parametrize(
    ("entry_type", "fields"),
    [
        ("token.created", "customer_reference source_address"),
        ("token.updated", "before after"),
        (
            "authorization.attempted",
            (
                "amount currency merchant_reference host source_address idempotency_digest"
                " request_digest"
            ),
        ),
        (
            "authorization.completed",
            "processor_reference authorization_code decline_code response_digest",
        ),
        (
            "authorization.unknown",
            "processor_reference authorization_code decline_code response_digest",
        ),
        (
            "authorization.resolved",
            "processor_reference authorization_code decline_code response_digest evidence",
        ),
        ("ledger.sealed", "statement"),
        ("ledger.unsealed", "statement"),
        (
            "callback.received",
            "processor_event processor_reference body_digest source_address",
        ),
        ("access.denied", "source_address"),
    ],
)
def test_details_of_a_type(entry_type: str, fields: str) -> None:
    assert DETAIL_FIELDS[TYPES[entry_type]] == set(fields.split())


@pytest.mark.parametrize("count", [0, 31, 33, 64])
def test_a_salt_has_32_bytes(count: int) -> None:
    with pytest.raises(EntryRefused):
        commitment(bytes(count), b"{}")


@pytest.mark.parametrize(
    ("entry_type", "fields"),
    [
        (TokenDeleted, {"source_address": "192.0.2.1"}),  # a type without details
        (AccessDenied, {"host": "example.com:443"}),
        (AuthorizationAttempted, {"amount": "1999"}),
        (AuthorizationAttempted, {"amount": 19.99}),
        (AuthorizationAttempted, {"amount": True}),
        (AuthorizationAttempted, {"amount": INTEGER_MAX + 1}),
        (AuthorizationAttempted, {"amount": -INTEGER_MAX - 1}),
        (AuthorizationAttempted, {"amount": None}),
        (AuthorizationAttempted, {"currency": 978}),
        (AuthorizationAttempted, {"currency": None}),
        (AuthorizationAttempted, {"host": {"name": "example.com"}}),
        (AuthorizationCompleted, {"decline_code": "\ud800"}),
        (AuthorizationCompleted, {"processor_reference": "x" * DETAIL_BYTES_MAX}),
        (TokenUpdated, {"before": "2026-01"}),
        (TokenUpdated, {"before": {"number": "1"}}),
        (TokenUpdated, {"before": {"expiry": 202_601}}),
        (TokenUpdated, {"before": {"expiry": None}}),
    ],
)
def test_details_outside_of_the_profile_are_refused(
    entry_type: type[Draft], fields: dict[str, DetailValue]
) -> None:
    with pytest.raises(EntryRefused):
        detail_body(entry_type, fields)


def test_what_says_nothing_is_left_out() -> None:
    assert detail_body(AuthorizationCompleted, {"decline_code": ""}) == b"{}"
    assert detail_body(AuthorizationCompleted, {}) == b"{}"


def test_changed_values() -> None:
    fields = {
        "after": {"expiry": "2031-01", "customer_reference": "c-2"},
        "before": {"expiry": "2030-01"},
    }
    assert detail_body(TokenUpdated, fields) == (
        b'{"after":{"customer_reference":"c-2","expiry":"2031-01"},"before":{"expiry":"2030-01"}}'
    )


texts = st.text(min_size=1, max_size=40) | st.sampled_from(
    ["\r\n\t\b\f", "\x00\x1f\x7f", "\u20ac", "\u2028", '"\\/', "\U0001f600", "\ufb33"]
)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "amount": st.integers(-INTEGER_MAX, INTEGER_MAX),
            "currency": texts,
            "merchant_reference": texts,
            "host": texts,
            "source_address": texts,
            "idempotency_digest": texts,
            "request_digest": texts,
        },
    )
)
def test_details_are_rfc_8785(fields: dict[str, str | int]) -> None:
    body = detail_body(AuthorizationAttempted, fields)
    assert json.loads(body) == fields
    assert rfc8785.dumps(fields) == body


def test_evidence_is_words() -> None:
    body = detail_body(AuthorizationResolved, {"evidence": "Zoë has seen it: “paid”"})
    assert body == '{"evidence":"Zoë has seen it: “paid”"}'.encode()


# --- reading --------------------------------------------------------------------------------


def committing(body: bytes, salt: bytes = SALT) -> Entry:
    """An intent that commits to these bytes, whatever they are."""
    draft = next(one for one in full() if isinstance(one, AuthorizationAttempted))
    return structs.replace(draft, detail=commitment(salt, body))


def test_what_was_committed_to_is_read() -> None:
    body = detail_body(AuthorizationAttempted, {"amount": 1999, "currency": "EUR"})
    assert read_detail(committing(body), SALT, body) == {"amount": 1999, "currency": "EUR"}


@pytest.mark.guards("T-60")
@pytest.mark.parametrize(
    ("salt", "body"),
    [
        (SALT, b'{"amount":2000}'),
        (bytes(32), b'{"amount":1999}'),
        (bytes(31), b'{"amount":1999}'),
    ],
)
def test_what_was_not_committed_to_is_not_read(salt: bytes, body: bytes) -> None:
    with pytest.raises(EntryRefused):
        read_detail(committing(b'{"amount":1999}'), salt, body)


def test_a_type_that_commits_to_nothing_has_no_details() -> None:
    deleted = next(one for one in full() if isinstance(one, TokenDeleted))
    with pytest.raises(EntryRefused):
        read_detail(deleted, SALT, b"{}")


@pytest.mark.parametrize(
    "body",
    [
        b"canary",
        b"\xff",
        b"[]",
        b'{"amount":1999.5}',
        b'{"amount":null}',
        b'{"amount": 1999}',
        b'{"currency":"EUR","amount":1999}',
        b'{"amount":1,"amount":1999}',
        b'{"currency":""}',
        b'{"decline_code":"x"}',
        b'{"currency":"\\u0045UR"}',
        b"[" * 10_000,
    ],
)
def test_details_in_another_form_are_not_read(body: bytes) -> None:
    with pytest.raises(EntryRefused) as refused:
        read_detail(committing(body), SALT, body)
    assert "canary" not in str(refused.value)
    assert refused.value.__cause__ is refused.value.__context__ is None
