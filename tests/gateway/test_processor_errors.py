import json
from importlib.resources import files

import pytest

from gateway import preset
from gateway.processor_errors import Problem, shaped

STRIPE = preset.load("stripe")


def _shown(body: bytes) -> dict[str, str | None]:
    error = json.loads(body)["error"]
    assert isinstance(error, dict)
    return error


def test_an_error_has_the_processor_s_shape() -> None:
    shown = shaped(STRIPE, Problem("token_unknown", "No such token", 422, field="card[number]"))
    assert shown.status == 400
    assert shown.headers == (("content-type", "application/json"),)
    assert _shown(shown.body) == {
        "type": "invalid_request_error",
        "code": "token_unknown",
        "message": "No such token",
        "param": "card[number]",
    }


@pytest.mark.parametrize(
    ("code", "status", "shown_status", "type_"),
    [
        ("raw_card_number", 422, 400, "invalid_request_error"),
        ("malformed_request", 400, 400, "invalid_request_error"),
        ("unsupported_media_type", 415, 400, "invalid_request_error"),
        ("body_too_large", 413, 400, "invalid_request_error"),
        ("not_authenticated", 401, 401, "invalid_request_error"),
        ("not_permitted", 403, 403, "invalid_request_error"),
        ("not_found", 404, 404, "invalid_request_error"),
        ("rate_limited", 429, 429, "invalid_request_error"),
        ("idempotency_key_reused", 422, 400, "idempotency_error"),
        ("idempotency_key_in_flight", 409, 409, "idempotency_error"),
        ("internal_error", 500, 500, "api_error"),
        ("upstream_reset", 502, 502, "api_error"),
        ("vault_sealed", 503, 503, "api_error"),
        ("upstream_timeout", 504, 504, "api_error"),
    ],
)
def test_status_and_type_decide_what_the_sdk_raises(
    code: str, status: int, shown_status: int, type_: str
) -> None:
    shown = shaped(STRIPE, Problem(code, "Words", status))
    assert (shown.status, _shown(shown.body)["type"]) == (shown_status, type_)


def test_the_sdk_is_told_whether_to_repeat() -> None:
    for retry, value in ((True, "true"), (False, "false")):
        shown = shaped(STRIPE, Problem("vault_sealed", "Words", 503, retry=retry))
        assert ("stripe-should-retry", value) in shown.headers


def test_a_processor_without_such_a_header_gets_none() -> None:
    file = (files("gateway.processors") / "stripe.toml").read_bytes()
    silent = preset.parse(file.replace(b"retry_header =", b"# retry_header ="))
    shown = shaped(silent, Problem("vault_sealed", "Words", 503, retry=True))
    assert shown.headers == (("content-type", "application/json"),)


@pytest.mark.parametrize("text", ['a "quoted" \\ text', "{code}", "line\nbreak", "é"])
def test_no_text_breaks_the_document(text: str) -> None:
    error = _shown(shaped(STRIPE, Problem("some_code", text, 400, field=text)).body)
    assert (error["message"], error["param"], error["code"]) == (text, text, "some_code")
