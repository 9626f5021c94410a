"""Signed calls: checked as they came, signed again as they leave, and nothing else let through."""

import base64
import hashlib
import hmac
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import SignatureRefused
from gateway.resign import (
    Reason,
    Refusal,
    SignedCall,
    SigningKey,
    Verified,
    key_id_of,
    signed_again,
    signing_key,
    verified,
)
from tests.cards import VISA_ALT

HOST = "apitest.cybersource.com"
NOW = datetime(2026, 11, 22, 15, 29, 42, tzinfo=UTC)
DATE = "Sun, 22 Nov 2026 15:29:42 GMT"
SECRET = "yBJxy6LjM2TmcPGu+GaJrHtkke25fPpUX+UY6/L/1tE="  # of the processor's public examples
ISSUED = base64.b64encode(bytes(range(32))).decode()
KEY_ID = "08c94330-f618-42a3-b09d-e1e43be5efda"
OURS = "5a1c1c4e-8f6a-4b8e-9a53-0c2f7f6f9a11"
POST_NAMES = "host date request-target digest v-c-merchant-id"
GET_NAMES = "host date request-target v-c-merchant-id"
WITH_TOKEN = b'{"paymentInformation":{"card":{"number":"pwt_test_0123456789abcdefghjkmnpqrsda"}}}'
WITH_NUMBER = b'{"paymentInformation":{"card":{"number":"%s"}}}' % VISA_ALT.encode()


def key_of(key_id: str, secret: str, merchant_id: str | None = None) -> SigningKey:
    made = signing_key(key_id, secret, merchant_id)
    assert made is not None
    return made


THEIRS = key_of(KEY_ID, SECRET)
GIVEN = key_of(OURS, ISSUED)


def digest_of(body: bytes) -> str:
    return "SHA-256=" + base64.b64encode(hashlib.sha256(body).digest()).decode()


@dataclass
class Client:
    """Signs as the processor's guide says, by its own code; every part can be made wrong."""

    key: SigningKey = THEIRS
    method: str = "POST"
    target: str = "/pts/v2/payments"
    body: bytes = WITH_TOKEN
    names: str = POST_NAMES
    algorithm: str = "HmacSHA256"
    values: dict[str, str] = field(default_factory=dict)

    def headers(self) -> list[tuple[str, str]]:
        values = {
            "host": HOST,
            "date": DATE,
            "digest": digest_of(self.body),
            "v-c-merchant-id": "testrest",
            **self.values,
        }
        target = f"{self.method.lower()} {self.target}"
        known = {**values, "request-target": target, "(request-target)": target}
        known |= {"Host": values["host"], "content-type": "application/json"}
        text = "\n".join(f"{name}: {known[name]}" for name in self.names.split())
        raw = hmac.new(self.key.secret, text.encode(), "sha256").digest()
        signature = (
            f'keyid="{self.key.id}", algorithm="{self.algorithm}", headers="{self.names}",'
            f' signature="{base64.b64encode(raw).decode()}"'
        )
        shown = [(name.title(), value) for name, value in values.items()]
        return [*shown, ("Content-Type", "application/json"), ("Signature", signature)]

    def call(self) -> SignedCall:
        return SignedCall(self.method, self.target, self.headers(), self.body)


def reason_of(call: SignedCall, key: SigningKey = THEIRS, now: datetime = NOW) -> Reason | None:
    outcome = verified(call, key, now=now)
    return outcome.reason if isinstance(outcome, Refusal) else None


def proof_of(call: SignedCall, key: SigningKey = THEIRS) -> Verified:
    outcome = verified(call, key, now=NOW)
    assert isinstance(outcome, Verified), outcome
    return outcome


def part(headers: Sequence[tuple[str, str]], name: str) -> str:
    """Read one part of the signature header."""
    return dict(headers)["signature"].split(f'{name}="')[1].split('"')[0]


def header(call: SignedCall, name: str, value: str | None) -> SignedCall:
    """Give the call with another value of a header, or without it."""
    kept = [each for each in call.headers if each[0].lower() != name]
    return replace(call, headers=kept if value is None else [*kept, (name, value)])


# --- the published example ----------------------------------------------------------------

VECTORS = [
    (
        WITH_TOKEN,
        "R5PTtKGX7Ws+9E0XYwYssjchZaX+1YdlBw21RaFFAs8=",
        "a7jah4ox4/bJfyXWgdPhfI6p2uSLJiuEuWcFu6U5gUw=",
    ),
    (
        WITH_NUMBER,
        "jvbj2BzrjfUyX932R0X3BK2jj9BlWhcOfo62GRGF53g=",
        "DDQw2JHzIhnLNdq6xivaXYPYA5WfwN9U2YPz5jlEQDQ=",
    ),
]


@pytest.mark.parametrize(("body", "digest", "signature"), VECTORS, ids=["token", "number"])
def test_the_worked_example_is_accepted(body: bytes, digest: str, signature: str) -> None:
    client = Client(body=body)
    call = client.call()
    text = f'keyid="{KEY_ID}", algorithm="HmacSHA256", headers="{POST_NAMES}", signature="{{}}"'
    assert ("Digest", f"SHA-256={digest}") in call.headers
    assert reason_of(header(call, "signature", text.format(signature))) is None
    assert reason_of(header(call, "signature", text.format(VECTORS[0][2][::-1]))) is not None


def test_the_worked_example_is_made_when_the_token_became_a_number() -> None:
    headers = signed_again(
        proof_of(Client().call()), bytearray(WITH_NUMBER), THEIRS, host=HOST, now=NOW
    )
    assert dict(headers)["digest"] == f"SHA-256={VECTORS[1][1]}"
    assert part(headers, "signature") == VECTORS[1][2]
    assert part(headers, "keyid") == KEY_ID
    assert part(headers, "headers") == POST_NAMES


# --- signing again ------------------------------------------------------------------------


def test_a_call_under_our_key_leaves_under_the_merchants() -> None:
    """In the same order, by the same names, and with the date that came."""
    names = "digest v-c-merchant-id (request-target) date host"
    values = {"v-c-merchant-id": "panward", "host": "gateway.test:8443"}
    call = Client(key=GIVEN, names=names, values=values).call()
    merchant = replace(THEIRS, merchant_id="testrest")
    again = dict(signed_again(proof_of(call, GIVEN), WITH_NUMBER, merchant, host=HOST, now=NOW))
    assert again == {
        name.lower(): value
        for name, value in Client(names=names, body=WITH_NUMBER).headers()
        if name.lower() in {"digest", "v-c-merchant-id", "signature"}
    }


def test_what_was_signed_again_is_accepted_by_whoever_checks_as_we_do() -> None:
    for client in (
        Client(),
        Client(method="GET", body=b"", names=GET_NAMES, target="/tss/v2/transactions/1?a=b%20c"),
        Client(method="DELETE", body=b"", names=GET_NAMES),
        Client(method="PATCH", names="v-c-date " + POST_NAMES, values={"v-c-date": DATE}),
        Client(body=b"", names="host v-c-date request-target digest v-c-merchant-id",
               values={"v-c-date": DATE}),
    ):  # fmt: skip
        call = client.call()
        body = WITH_NUMBER if call.body else b""
        merchant = key_of(OURS, ISSUED, "another_id")
        again = signed_again(proof_of(call), body, merchant, host="api.test", now=NOW)
        for name, value in (*again, ("host", "api.test")):
            call = header(call, name, value)
        assert reason_of(replace(call, body=body), GIVEN) is None
        assert dict(call.headers)["v-c-merchant-id"] == "another_id"


def test_a_call_without_a_body_gets_no_digest() -> None:
    call = Client(method="GET", body=b"", names=GET_NAMES).call()
    again = signed_again(proof_of(call), b"", THEIRS, host=HOST, now=NOW)
    assert {name for name, _ in again} == {"signature", "v-c-merchant-id"}


def test_without_another_id_the_merchants_own_stays() -> None:
    again = signed_again(proof_of(Client().call()), WITH_NUMBER, THEIRS, host=HOST, now=NOW)
    assert dict(again)["v-c-merchant-id"] == "testrest"


# --- refused ------------------------------------------------------------------------------


@pytest.mark.guards("T-25")
@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        (lambda call: replace(call, body=call.body + b" "), Reason.DIGEST),
        (lambda call: replace(call, method="PUT"), Reason.SIGNATURE),
        (lambda call: replace(call, target="/pts/v2/credits"), Reason.SIGNATURE),
        (lambda call: header(call, "host", "evil.test"), Reason.SIGNATURE),
        (lambda call: header(call, "v-c-merchant-id", "other"), Reason.SIGNATURE),
        (lambda call: header(call, "date", "Sun, 22 Nov 2026 15:29:43 GMT"), Reason.SIGNATURE),
        (lambda call: header(call, "digest", digest_of(b"")), Reason.DIGEST),
        (lambda call: header(replace(call, body=b"x"), "digest", digest_of(b"x")),
         Reason.SIGNATURE),
        (lambda call: header(call, "digest", None), Reason.COVERAGE),
        (lambda call: header(call, "host", None), Reason.COVERAGE),
        (lambda call: header(call, "digest", "SHA-256=\xe9"), Reason.COVERAGE),
        (lambda call: header(call, "signature", None), Reason.MALFORMED),
    ],
    ids=["body", "method", "target", "host", "merchant", "date", "digest", "body and digest",
         "no digest", "no host", "digest no text", "no signature"],
)  # fmt: skip
def test_whatever_is_changed_after_signing_is_refused(changed: object, reason: Reason) -> None:
    assert callable(changed)
    assert reason_of(changed(Client().call())) is reason


@pytest.mark.guards("T-25")
def test_a_header_that_is_signed_may_come_once() -> None:
    for name in ("Host", "Date", "Digest", "v-c-merchant-id", "Signature"):
        call = Client().call()
        value = next(value for each, value in call.headers if each.lower() == name.lower())
        twice = replace(call, headers=[*call.headers, (name.upper(), value)])
        refused = Reason.MALFORMED if name == "Signature" else Reason.COVERAGE
        assert reason_of(twice) is refused


@pytest.mark.guards("T-25")
@pytest.mark.parametrize(
    "names",
    [
        "date request-target digest v-c-merchant-id",
        "host date digest v-c-merchant-id",
        "host date request-target v-c-merchant-id",
        "host date request-target digest",
        "host request-target digest v-c-merchant-id",
        "host host date request-target digest v-c-merchant-id",
        "host date request-target (request-target) digest v-c-merchant-id",
        "host date request-target digest v-c-merchant-id content-type",
        "Host date request-target digest v-c-merchant-id",
        "host  date request-target digest v-c-merchant-id",
    ],
)
def test_all_that_counts_must_be_signed_and_nothing_that_may_change(names: str) -> None:
    """A client that signs too little is refused though its signature is right."""
    assert reason_of(Client(names=names).call()) is Reason.COVERAGE


def test_a_body_must_be_signed_whatever_the_method() -> None:
    assert reason_of(Client(method="DELETE", names=GET_NAMES).call()) is Reason.COVERAGE
    assert reason_of(Client(method="POST", names=GET_NAMES, body=b"").call()) is Reason.COVERAGE


@pytest.mark.guards("T-25")
def test_another_key_proves_nothing() -> None:
    assert reason_of(Client(key=GIVEN).call()) is Reason.SIGNATURE  # that id was not asked about
    assert reason_of(Client(key=replace(THEIRS, id=OURS)).call()) is Reason.SIGNATURE
    pretending = replace(GIVEN, id=KEY_ID)
    assert reason_of(Client(key=pretending).call()) is Reason.SIGNATURE


@pytest.mark.parametrize(
    ("seconds", "reason"), [(0, None), (300, None), (-300, None), (301, "x"), (-301, "x")]
)
def test_an_old_call_is_refused(seconds: int, reason: str | None) -> None:
    found = reason_of(Client().call(), now=NOW + timedelta(seconds=seconds))
    assert found is (Reason.STALE if reason else None)


@pytest.mark.parametrize(
    "date",
    ["Sun, 22 Nov 26 15:29:42 +0000", "22 Nov 2026 16:29:42 +0100", format_datetime(NOW),
     "Sun, 22 Nov 2026 15:29:42 -0000"],
)  # fmt: skip
def test_the_ways_in_which_clients_write_a_date(date: str) -> None:
    assert reason_of(Client(values={"date": date}).call()) is None


@pytest.mark.parametrize("date", ["", "now", "2026-11-22T15:29:42Z", "Sun, 99 Nov 2026 15:29:42"])
def test_what_is_no_date_is_not_of_now(date: str) -> None:
    call = Client(values={"date": date}).call()
    assert reason_of(call) is (Reason.STALE if date else Reason.COVERAGE)


def test_both_dates_count_when_both_are_signed() -> None:
    values = {"v-c-date": "Sun, 22 Nov 2020 15:29:42 GMT"}
    assert reason_of(Client(names="v-c-date " + POST_NAMES, values=values).call()) is Reason.STALE


def test_a_value_with_a_line_end_is_refused() -> None:
    """It would be read as two lines of what is signed."""
    values = {"v-c-merchant-id": "a\nhost: evil.test"}
    assert reason_of(Client(values=values).call()) is Reason.COVERAGE


GOOD = f'keyid="{KEY_ID}", algorithm="HmacSHA256", headers="host", signature="AAAA"'


@pytest.mark.parametrize(
    "text",
    [
        "",
        " " + GOOD,
        GOOD + ",",
        GOOD + ', keyid="x"',
        GOOD + ', created="1"',
        GOOD.replace("keyid", "keyId"),
        GOOD.replace(', signature="AAAA"', ""),
        GOOD.replace('"AAAA"', "AAAA"),
        GOOD.replace("AAAA", 'AA\\"AA'),
        GOOD.replace("AAAA", ""),
        GOOD.replace(KEY_ID, "../" + KEY_ID),
        GOOD.replace(KEY_ID, "x" * 65),
        GOOD.replace("AAAA", "A" * 9000),
    ],
)
def test_a_header_of_another_form_is_refused(text: str) -> None:
    call = header(Client().call(), "signature", text)
    assert reason_of(call) is Reason.MALFORMED
    assert key_id_of(call.headers) is None


@pytest.mark.parametrize("algorithm", ["hmac-sha256", "HmacSHA1", "none", "RSASHA256"])
def test_one_algorithm_and_no_other(algorithm: str) -> None:
    assert reason_of(Client(algorithm=algorithm).call()) is Reason.ALGORITHM


@given(st.text(max_size=200))
def test_any_header_is_read_or_refused(text: str) -> None:
    for name in ("signature", "authorization"):
        call = header(Client().call(), "signature", None)
        assert reason_of(header(call, name, text)) is not None
    call = Client(values={"date": "x"}).call()
    assert reason_of(header(call, "date", text)) is not None


# --- tokens -------------------------------------------------------------------------------


def unpadded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


@dataclass
class TokenClient:
    """Makes a token as the processor's SDKs do; every part can be made wrong."""

    key: SigningKey = THEIRS
    method: str = "POST"
    target: str = "/pts/v2/payments"
    body: bytes = WITH_TOKEN
    head: dict[str, object] = field(default_factory=dict)
    claims: dict[str, object] = field(default_factory=dict)

    def token(self) -> str:
        at = int(NOW.timestamp())
        head = {"alg": "HS256", "kid": self.key.id, "typ": "JWT", **self.head}
        digest = {
            "digest": digest_of(self.body).removeprefix("SHA-256="),
            "digestAlgorithm": "SHA-256",
        }
        claims = {
            **(digest if self.body else {}),
            "iat": at,
            "exp": at + 120,
            "request-method": self.method,
            "request-host": HOST,
            "request-resource-path": self.target,
            "iss": "testrest",
            "jti": "6b0f7a0c-3bd3-4a61-9e53-5d6f3f2f1b11",
            "v-c-jwt-version": "2",
            "v-c-merchant-id": "testrest",
            **self.claims,
        }
        present = {name: value for name, value in claims.items() if value is not None}
        text = ".".join(unpadded(json.dumps(each).encode()) for each in (head, present))
        return f"{text}.{unpadded(hmac.new(self.key.secret, text.encode(), 'sha256').digest())}"

    def call(self) -> SignedCall:
        headers = [("Authorization", f"Bearer {self.token()}"), ("Host", "127.0.0.1:1")]
        return SignedCall(self.method, self.target, headers, self.body)


def claims_in(headers: Sequence[tuple[str, str]]) -> dict[str, object]:
    payload = dict(headers)["authorization"].split(".")[1]
    found: dict[str, object] = json.loads(base64.urlsafe_b64decode(payload + "=="))
    return found


def test_a_token_is_accepted_and_made_anew() -> None:
    call = TokenClient(key=GIVEN).call()
    assert key_id_of(call.headers) == OURS
    later = NOW + timedelta(seconds=30)
    merchant = key_of(KEY_ID, SECRET, "merchant_1")
    again = signed_again(
        proof_of(call, GIVEN), WITH_NUMBER, merchant, host="api.cybersource.com", now=later
    )
    claims = claims_in(again)
    jti = claims.pop("jti")
    at = int(later.timestamp())
    assert claims == {
        "digest": VECTORS[1][1],
        "digestAlgorithm": "SHA-256",
        "iat": at,
        "exp": at + 120,
        "request-method": "POST",
        "request-host": "api.cybersource.com",
        "request-resource-path": "/pts/v2/payments",
        "iss": "merchant_1",
        "v-c-jwt-version": "2",
        "v-c-merchant-id": "merchant_1",
    }
    made = replace(call, headers=again, body=WITH_NUMBER)
    assert reason_of(made, THEIRS, later) is None
    assert jti != "6b0f7a0c-3bd3-4a61-9e53-5d6f3f2f1b11"


def test_a_replayed_token_gives_the_same_new_id() -> None:
    """So the processor still sees a replay as one, though the times are new."""

    def made_at(seconds: int, jti: str) -> object:
        call = TokenClient(claims={"jti": jti}).call()
        now = NOW + timedelta(seconds=seconds)
        return claims_in(signed_again(proof_of(call), b"", THEIRS, host=HOST, now=now))["jti"]

    assert made_at(0, "one") == made_at(60, "one") != made_at(0, "two")


def test_a_token_for_a_call_without_a_body() -> None:
    call = TokenClient(method="GET", body=b"", target="/tss/v2/transactions/1?x=1").call()
    again = signed_again(proof_of(call), b"", THEIRS, host=HOST, now=NOW)
    assert "digest" not in claims_in(again)
    assert reason_of(replace(call, headers=again)) is None


def test_a_merchant_id_beside_a_token_is_replaced_too() -> None:
    call = header(TokenClient().call(), "v-c-merchant-id", "panward")
    merchant = key_of(KEY_ID, SECRET, "testrest")
    again = dict(signed_again(proof_of(call), WITH_NUMBER, merchant, host=HOST, now=NOW))
    assert again["v-c-merchant-id"] == "testrest"


AT = int(NOW.timestamp())


@pytest.mark.guards("T-25")
@pytest.mark.parametrize(
    ("client", "reason"),
    [
        (TokenClient(head={"alg": "RS256", "x5c": ["x"]}), Reason.RS256),
        (TokenClient(head={"alg": "none"}), Reason.ALGORITHM),
        (TokenClient(head={"alg": "HS512"}), Reason.ALGORITHM),
        (TokenClient(head={"crit": ["exp"]}), Reason.MALFORMED),
        (TokenClient(head={"kid": None}), Reason.MALFORMED),
        (TokenClient(head={"kid": "a/b"}), Reason.MALFORMED),
        (TokenClient(key=replace(GIVEN, id=KEY_ID)), Reason.SIGNATURE),
        (TokenClient(claims={"iat": AT + 61, "exp": AT + 120}), Reason.STALE),
        (TokenClient(claims={"iat": AT - 200, "exp": AT - 61}), Reason.STALE),
        (TokenClient(claims={"exp": AT + 901}), Reason.STALE),
        (TokenClient(claims={"exp": AT - 1}), Reason.STALE),
        (TokenClient(claims={"iat": str(AT)}), Reason.MALFORMED),
        (TokenClient(claims={"iat": 10**400}), Reason.STALE),
        (TokenClient(claims={"exp": None}), Reason.MALFORMED),
        (TokenClient(claims={"jti": None}), Reason.MALFORMED),
        (TokenClient(claims={"v-c-response-mle-kid": "1"}), Reason.MALFORMED),
        (TokenClient(claims={"request-method": "PUT"}), Reason.TARGET),
        (TokenClient(claims={"request-resource-path": "/pts/v2/credits"}), Reason.TARGET),
        (TokenClient(claims={"digest": None}), Reason.COVERAGE),
        (TokenClient(claims={"digest": "\u00e9"}), Reason.DIGEST),
        (TokenClient(claims={"digest": digest_of(WITH_NUMBER)[8:]}), Reason.DIGEST),
        (TokenClient(claims={"digestAlgorithm": "SHA-1"}), Reason.ALGORITHM),
        (TokenClient(claims={"digestAlgorithm": None}), Reason.ALGORITHM),
    ],
    ids=lambda value: value.value if isinstance(value, Reason) else None,
)
def test_a_token_that_is_not_right_is_refused(client: TokenClient, reason: Reason) -> None:
    assert reason_of(client.call()) is reason


@pytest.mark.guards("T-25")
def test_a_token_is_good_for_its_own_body_method_and_target() -> None:
    call = TokenClient().call()
    assert reason_of(replace(call, body=WITH_NUMBER)) is Reason.DIGEST
    assert reason_of(replace(call, method="PUT")) is Reason.TARGET
    assert reason_of(replace(call, target="/pts/v2/credits")) is Reason.TARGET
    head, payload, signature = TokenClient().token().split(".")
    other = TokenClient(claims={"iss": "other"}).token().split(".")[1]
    for text in (f"{head}.{other}.{signature}", f"{head}.{payload}.{signature[::-1]}"):
        assert reason_of(header(call, "authorization", f"Bearer {text}")) is Reason.SIGNATURE


@pytest.mark.parametrize(
    "text",
    [
        "Bearer pwsk_test_x",
        "Basic a.b.c",
        "Bearer a.b.c",
        "Bearer e30.e30.",
        "Bearer " + unpadded(b"[" * 5000) + ".e30.e30",
        "Bearer " + unpadded(b'{"x":' * 1000) + ".e30.e30",
        "Bearer " + unpadded(b'{"alg":"HS256","kid":"\xff"}') + ".e30.e30",
        "Bearer " + "a" * 8000 + ".e30.e30",
    ],
)
def test_what_is_no_token_is_refused(text: str) -> None:
    call = header(TokenClient().call(), "authorization", text)
    assert reason_of(call) is Reason.MALFORMED
    assert key_id_of(call.headers) is None


@pytest.mark.guards("T-25")
def test_two_kinds_of_signature_at_once_are_refused() -> None:
    call = header(Client().call(), "authorization", f"Bearer {TokenClient().token()}")
    assert reason_of(call) is Reason.MALFORMED


# --- shape --------------------------------------------------------------------------------


def test_whose_key_it_says() -> None:
    assert key_id_of(Client().headers()) == KEY_ID
    assert key_id_of([("Host", HOST)]) is None


@pytest.mark.parametrize(
    "wrong",
    [
        ("../x", SECRET, None),
        (KEY_ID, "no base64!", None),
        (KEY_ID, "\u00e9", None),
        (KEY_ID, "AAAA", None),
        (KEY_ID, SECRET, "a\nb"),
        (KEY_ID, SECRET, ""),
    ],
)
def test_what_is_no_key_is_none(wrong: tuple[str, str, str | None]) -> None:
    assert signing_key(*wrong) is None


def test_no_secret_body_or_digest_is_printed() -> None:
    for client in (Client(), TokenClient()):
        call = client.call()
        shown = repr((THEIRS, call, verified(call, THEIRS, now=NOW)))
        assert KEY_ID in shown
        for hidden in (SECRET, repr(THEIRS.secret)[2:12], VECTORS[0][1], "pwt_test", "testrest"):
            assert hidden not in shown


def test_every_reason_is_fit_for_an_answer() -> None:
    for reason in Reason:
        assert SignatureRefused(reason).reason == reason.value
    assert len(set(Reason)) == 8
