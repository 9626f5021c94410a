"""`panward explain`: a record in, a table or JSON out, and what the exit code says."""

import json
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner, Result

from gateway.cli import app
from gateway.explain import Explanation
from tests import cards
from vault.errors import StartRefused
from vault.tokens import token_of

TOKEN = token_of("test", 4)
FORM = "Content-Type: application/x-www-form-urlencoded"
NUMBER = f"card[number]={cards.VISA}&card[exp_month]=12&card[cvc]=737"
ANET = "createTransactionRequest.transactionRequest"


def raw(body: str, path: str = "/v1/payment_methods", type_: str = FORM) -> str:
    return (
        f"POST {path} HTTP/1.1\nHost: api.stripe.com\nAuthorization: Bearer sk\n{type_}\n\n{body}"
    )


def run(record: str, *words: str, preset: str = "stripe") -> Result:
    command = ["explain", "-", "--preset", preset, *words]
    return CliRunner().invoke(app, command, input=record.encode(), env={"COLUMNS": "80"})


def test_a_record_with_a_number_is_good_but_for_the_token() -> None:
    result = run(raw(NUMBER))
    assert result.exit_code == 0
    assert "POST /v1/payment_methods" in result.output
    assert "payment_methods.create, store_card, on record" in result.output
    assert "card[number]     number     card number  put its token here" in result.output
    assert "card[cvc]        cvc        digits       put 000 here" in result.output
    assert "raw_card_number: " in result.output
    assert "sent: with tokens in their places" in result.output
    assert cards.VISA not in result.output


def test_one_that_would_be_refused_is_told_by_the_exit_code() -> None:
    result = run(raw(f"{NUMBER}&billing_details[name]={TOKEN}"))
    assert result.exit_code == 1
    assert "token_undeclared: with tokens too" in result.output
    assert "billing_details[name]" in result.output
    assert TOKEN not in result.output


@pytest.mark.parametrize(
    ("record", "preset", "words"),
    [
        (raw(NUMBER), "adyen", ["no operation of Adyen", "the preset stripe knows this path"]),
        (raw("{}", "/v72/payments", "Content-Type: application/json"), "stripe", ["adyen"]),
        (raw(f"a={cards.VISA}", "/v1/products"), "stripe", ["looks like a card number", "body"]),
        (
            raw('{"amount": 1}', "/v1/payments", "Content-Type: application/json"),
            "razorpay",
            ["unverified"],
        ),
    ],
)
def test_what_a_new_user_should_notice_is_said(record: str, preset: str, words: list[str]) -> None:
    result = run(record, preset=preset)
    assert result.exit_code == 0
    assert all(word in result.output for word in words)


def test_a_table_fits_a_terminal_and_long_names_are_cut_in_front() -> None:
    card = f"<cardNumber>{cards.VISA}</cardNumber><cardCode>999</cardCode>"
    body = (
        "<createTransactionRequest><merchantAuthentication><name>shop</name><transactionKey>k"
        "</transactionKey></merchantAuthentication><transactionRequest><transactionType>"
        "authOnlyTransaction</transactionType><amount>1</amount><payment><creditCard>"
        f"{card}</creditCard></payment></transactionRequest></createTransactionRequest>"
    )
    record = raw("\ufeff" + body, "/xml/v1/request.api", "Content-Type: application/xml")
    result = run(record, preset="authorize_net")
    assert result.exit_code == 0
    table = [line for line in result.output.splitlines() if "  " in line]
    assert all(len(line) <= 80 for line in table)
    assert any("…creditCard.cardNumber " in line for line in table)
    assert any("…transactionKey" in line and "processor's login" in line for line in table)
    (told,) = result_of(run(record, "--json", preset="authorize_net"))
    assert f"{ANET}.payment.creditCard.cardNumber" in {each.field for each in told.fields}


def result_of(result: Result) -> list[Explanation]:
    return [msgspec.json.decode(line, type=Explanation) for line in result.stdout.splitlines()]


def test_json_is_one_line_a_call_and_keeps_its_names() -> None:
    entries = [
        {"request": {"method": "POST", "url": f"https://api.stripe.com{path}", "headers": []}}
        for path in ("/v1/refunds", "/v1/products")
    ]
    result = run(json.dumps({"log": {"entries": entries}}), "--json")
    assert result.exit_code == 0
    first, second = result_of(result)
    assert (first.operation, first.verdict) == ("refunds.create", "sent")
    assert (second.operation, second.on_record) == (None, False)
    assert list(json.loads(result.stdout.splitlines()[0])) == [
        "preset",
        "verified",
        "method",
        "path",
        "operation",
        "kind",
        "on_record",
        "format",
        "fields",
        "headers_dropped",
        "headers_replaced",
        "idempotency",
        "replay_seconds",
        "timeout_seconds",
        "verdict",
        "words",
        "with_tokens",
        "with_tokens_words",
        "card_like",
    ]


def test_a_curl_command_of_the_documentation_is_a_record() -> None:
    result = run(f"curl https://api.stripe.com/v1/tokens -u sk: -d 'card[number]={cards.VISA}'")
    assert result.exit_code == 0
    assert "tokens.create" in result.output


@pytest.mark.parametrize(
    "words",
    [
        ("explain", f"card[number]={cards.VISA}", "--preset", "stripe"),
        ("explain", "a\0b", "--preset", "stripe"),
        ("explain", "-", "--preset", "stripe"),
    ],
)
def test_without_a_record_nothing_of_the_arguments_is_repeated(words: tuple[str, ...]) -> None:
    result = CliRunner().invoke(app, list(words), input=f"{cards.VISA} {TOKEN}".encode())
    assert result.exit_code == 1
    assert "record" in result.output
    assert cards.VISA not in result.output


def test_tokens_of_a_live_deployment_are_told_with_live() -> None:
    body = f"card[number]={token_of('live', 4)}"
    assert run(raw(body)).exit_code == 1
    assert run(raw(body), "--live").exit_code == 0


def test_the_preset_may_be_a_file_of_one_s_own(tmp_path: Path) -> None:
    packaged = Path("gateway/processors/stripe.toml").read_text()
    file = tmp_path / "own.toml"
    file.write_text(packaged.replace('name = "stripe"', 'name = "own"', 1))
    assert run(raw(NUMBER), preset=str(file)).exit_code == 0
    file.write_text(packaged.replace("timeout_seconds = 75", "timeout_seconds = 0", 1))
    result = run(raw(NUMBER), preset=str(file))
    assert isinstance(result.exception, StartRefused)
    assert "timeout_seconds" in str(result.exception)
    assert isinstance(run(raw(NUMBER), preset="nobody").exception, StartRefused)


def test_one_of_the_two_ways_to_a_preset_is_asked_for() -> None:
    result = CliRunner().invoke(app, ["explain", "-"])
    assert result.exit_code == 2
    assert "worldpay_wpg" in result.output
