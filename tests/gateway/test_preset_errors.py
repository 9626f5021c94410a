"""Every preset's errors, for every code that can meet a call: fit for the processor's own SDK."""

import json
from xml.etree import ElementTree as ET

import pytest

from gateway.call import REFUSALS
from gateway.codecs.splice import BOM, Format
from gateway.preset import Preset
from gateway.problems import PROBLEMS
from gateway.processor_errors import Problem, ProcessorError, shaped
from tests.gateway.preset_bodies import PRESETS
from vault.authorization import State

CODES = {
    **{code.value: status for code, (status, _) in REFUSALS.items()},
    **{
        kind.code: row.status  # type: ignore[attr-defined]  # every class of the table has a code
        for kind, row in PROBLEMS.items()
        if row.status not in {499, 505}
    },
}
PROBLEMS_OF_ALL = [
    Problem(code, 'Words with "quotes", <angles> & more', status, state, retry, field)
    for code, status in CODES.items()
    for state in (State.NOT_SENT, State.UNKNOWN, State.COMPLETED)
    for retry in (True, False, None)
    for field in (None, "card[number]")
]
FORMATS = (None, *Format)
IN_FLIGHT = "idempotency_key_in_flight"
OF_UNKNOWN = {"outcome_unknown", *(code for code in CODES if code.startswith("upstream_"))}


def _document(error: ProcessorError) -> object:
    """Read the body as its content type says."""
    (content_type,) = (value for name, value in error.headers if name == "content-type")
    body = error.body.removeprefix(BOM)
    if content_type == "application/json":
        return json.loads(body)
    assert content_type in {"application/xml", "text/xml"}
    return ET.fromstring(body)  # noqa: S314 - our own


@pytest.mark.parametrize("preset", PRESETS.values(), ids=lambda preset: preset.name)
@pytest.mark.parametrize("format_", FORMATS)
def test_every_error_is_a_document_of_its_type(preset: Preset, format_: Format | None) -> None:
    for problem in PROBLEMS_OF_ALL:
        error = shaped(preset, problem, format_)
        assert 400 <= error.status <= 599 or error.status == 200
        if not error.body:
            assert problem.state is not State.NOT_SENT or problem.code == IN_FLIGHT
            assert error.status >= 400
            assert not [each for each in error.headers if each[0] == "content-type"]
            continue
        document = _document(error)
        text = (
            ET.tostring(document, "unicode") if isinstance(document, ET.Element) else str(document)
        )
        assert problem.code in text
        assert "quotes" in text


@pytest.mark.guards("T-61")
@pytest.mark.parametrize("preset", PRESETS.values(), ids=lambda preset: preset.name)
@pytest.mark.parametrize("format_", FORMATS)
def test_what_is_not_known_never_reads_as_an_answer(preset: Preset, format_: Format | None) -> None:
    """An SDK takes a 200 for what the processor said, and "not charged" would be a guess."""
    for problem in PROBLEMS_OF_ALL:
        if problem.state is not State.NOT_SENT and problem.code in OF_UNKNOWN:
            assert shaped(preset, problem, format_).status >= 500


@pytest.mark.parametrize(
    ("name", "format_", "bom"),
    [
        *((name, format_, name == "authorize_net") for name in PRESETS for format_ in FORMATS),
    ],
)
def test_a_byte_order_mark_stands_where_the_sdk_cuts_three_bytes_off(
    name: str, format_: Format | None, *, bom: bool
) -> None:
    error = shaped(PRESETS[name], Problem("token_unknown", "Words", 422), format_)
    assert error.body.startswith(BOM) is bom


JSON, GRAPHQL = Format.JSON, Format.GRAPHQL
SHAPES = [
    ("stripe", None, ("token_unknown", 422), 400, "error.type = invalid_request_error"),
    ("stripe", None, ("idempotency_key_reused", 422), 400, "error.type = idempotency_error"),
    ("stripe", None, ("idempotency_key_in_flight", 409), 409, "error.type = idempotency_error"),
    ("stripe", None, ("vault_sealed", 503), 503, "error.type = api_error"),
    ("adyen", JSON, ("token_unknown", 422), 422, "errorType = validation"),
    ("adyen", JSON, ("not_authenticated", 401), 401, "errorType = security"),
    ("adyen", JSON, ("upstream_timeout", 504), 504, "errorType = internal"),
    ("checkout_com", JSON, ("unsupported_media_type", 415), 422, "error_type = request_invalid"),
    ("checkout_com", JSON, ("not_authenticated", 401), 401, "error_type = authentication_error"),
    ("braintree", GRAPHQL, ("token_unknown", 422), 200, "…errorClass = VALIDATION"),
    ("braintree", GRAPHQL, ("not_permitted", 403), 200, "…errorClass = AUTHORIZATION"),
    ("braintree", GRAPHQL, ("vault_sealed", 503), 503, "…errorClass = SERVICE_AVAILABILITY"),
    ("braintree", JSON, ("token_unknown", 422), 422, "…panward = token_unknown"),
    (
        "braintree",
        JSON,
        ("not_authenticated", 401),
        401,
        "…panward = not_authenticated",
    ),
    ("cybersource", JSON, ("token_unknown", 422), 400, "status = INVALID_REQUEST"),
    ("cybersource", JSON, ("vault_sealed", 503), 503, "status = SERVER_ERROR"),
    ("authorize_net", JSON, ("token_unknown", 422), 200, "…message.code = E00003"),
    ("authorize_net", JSON, ("not_authenticated", 401), 200, "…message.code = E00007"),
    ("authorize_net", JSON, ("vault_sealed", 503), 200, "…message.code = E00053"),
    ("worldpay_access", JSON, ("token_unknown", 422), 400, "errorName = token_unknown"),
    ("paypal", JSON, ("token_unknown", 422), 422, "name = UNPROCESSABLE_ENTITY"),
    ("paypal", JSON, ("rate_limited", 429), 429, "name = RATE_LIMIT_REACHED"),
    ("razorpay", JSON, ("token_unknown", 422), 400, "error.code = BAD_REQUEST_ERROR"),
    ("square", JSON, ("token_unknown", 422), 400, "errors.0.category = INVALID_REQUEST_ERROR"),
    ("mollie", JSON, ("token_undeclared", 422), 422, "title = token_undeclared"),
]
LONG = {
    "…errorClass": "errors.0.extensions.errorClass",
    "…message.code": "messages.message.0.code",
    "…panward": "apiErrorResponse.panward",
}


@pytest.mark.parametrize(("name", "format_", "problem", "status", "said"), SHAPES)
def test_an_error_has_the_shape_that_the_sdk_raises_by(
    name: str, format_: Format | None, problem: tuple[str, int], status: int, said: str
) -> None:
    error = shaped(PRESETS[name], Problem(problem[0], "Words", problem[1], field="a.b"), format_)
    assert error.status == status
    path, _, type_ = said.partition(" = ")
    found = _document(error)
    for step in LONG.get(path, path).split("."):
        assert isinstance(found, dict | list)
        found = found[int(step)] if isinstance(found, list) else found[step]
    assert found == type_


@pytest.mark.parametrize(
    ("name", "path", "status", "code"),
    [
        ("braintree", "message", 422, None),
        ("authorize_net", "messages/message/code", 200, "E00003"),
        ("worldpay_wpg", "reply/error", 200, None),
    ],
)
def test_a_client_that_writes_xml_reads_xml(
    name: str, path: str, status: int, code: str | None
) -> None:
    error = shaped(PRESETS[name], Problem("token_unknown", "Words", 422), Format.XML)
    root = _document(error)
    assert isinstance(root, ET.Element)
    assert error.status == status
    spaced = root.tag.partition("}")[0] + "}" if root.tag.startswith("{") else ""
    found = root.find("/".join(f"{spaced}{step}" for step in path.split("/")))
    assert found is not None
    assert code is None or found.text == code


def test_only_stripe_s_sdk_is_told_whether_to_repeat() -> None:
    for name, preset in PRESETS.items():
        names = [
            each
            for each, _ in shaped(preset, Problem("vault_sealed", "W", 503, retry=True)).headers
        ]
        assert ("stripe-should-retry" in names) is (name == "stripe")


@pytest.mark.parametrize("name", ["authorize_net", "worldpay_wpg"])
@pytest.mark.parametrize(
    ("problem", "status"),
    [
        (Problem("upstream_timeout", "Words", 504, State.UNKNOWN), 504),
        (Problem("upstream_reset", "Words", 502, State.UNKNOWN), 504),
        (Problem("upstream_reflected_pan", "Words", 502, State.COMPLETED), 502),
        (Problem(IN_FLIGHT, "Words", 409), 409),
    ],
)
def test_where_a_document_would_read_as_an_answer_there_is_none(
    name: str, problem: Problem, status: int
) -> None:
    for format_ in (Format.XML, Format.JSON, None):
        error = shaped(PRESETS[name], problem, format_)
        assert (error.status, error.body) == (status, b"")
