from importlib.resources import files

import pytest

from gateway import preset
from gateway.preset_rules import problems_of, remarks_on

FILE = (files("gateway.processors") / "stripe.toml").read_text()
ASKS = 'operations = ["payment_intents.create"]'
METHODS = 'name = "payment_methods.create"'
METHODS_PATH = 'path = "/v1/payment_methods"'


def _problems(old: str, new: str) -> list[str]:
    assert old in FILE
    return problems_of(preset.parse(FILE.replace(old, new, 1).encode()))


@pytest.mark.parametrize("name", preset.names())
def test_the_presets_of_the_package_have_no_problems(name: str) -> None:
    assert problems_of(preset.load(name)) == []
    assert bool(remarks_on(preset.load(name))) is not preset.load(name).verified


def test_an_unverified_preset_is_said_aloud() -> None:
    unverified = preset.parse(FILE.replace("verified = true", "verified = false").encode())
    assert problems_of(unverified) == []
    assert remarks_on(unverified) == ["Stripe is unverified: prove it in its sandbox"]


@pytest.mark.parametrize(
    ("old", "new", "finding"),
    [
        ('name = "stripe"', 'name = "Stripe"', "name: "),
        ('live = ["api.stripe.com", "files.stripe.com"]', "live = []", "hosts: at least one"),
        ('"api.stripe.com"', '"API.stripe.com"', "hosts: 'API.stripe.com' is no"),
        ('"api.stripe.com"', '"*.stripe.com"', "hosts: "),
        ('"api.stripe.com"', '"127.0.0.1"', "hosts: "),
        ('"api.stripe.com"', '"api.stripe.com:443"', "hosts: "),
        ('"api.stripe.com"', '"files.stripe.com"', "hosts: files.stripe.com is given twice"),
        ("timeout_seconds = 75", "timeout_seconds = 0", "timeout_seconds: "),
        ("timeout_seconds = 75", "timeout_seconds = 601", "timeout_seconds: "),
        ("connect_seconds = 3", "connect_seconds = 76", "connect_seconds: "),
        ("body_bytes_max = 1_048_576", "body_bytes_max = 0", "body_bytes_max: "),
        ("reply_bytes_max = 1_048_576", "reply_bytes_max = 99_999_999", "reply_bytes_max: "),
        ("replay_seconds = 86_400", "replay_seconds = -1", "idempotency.replay_seconds: "),
        ("[401, 403, 429]", "[401, 500]", "not_executed_statuses: 500"),
        ('headers = ["authorization"]', 'headers = ["Authorization"]', "credential.headers: "),
        ('"x-real-ip"', '"x real ip"', "headers.request_dropped: "),
        ('"x-real-ip"', '"idempotency-*"', "the idempotency key would not reach"),
        ('"request-id"', '"location"', "redirects and cookies"),
        ('"request-id"', '"set-*"', "redirects and cookies"),
        ('header = "idempotency-key"', 'header = "Key!"', "idempotency.header: "),
        (METHODS, 'name = "tokens.create"', "name: tokens.create is given twice"),
        (METHODS, 'name = "Create!"', "operation Create!: name"),
        ("/v1/payment_intents/{id}/cancel", "/v1/payment_intents/{x}/capture", "path: POST"),
        ('path = "/v1/refunds"', 'path = "/v1/refunds/"', "refunds.create: path"),
        ('path = "/v1/refunds"', 'path = "/v1/../refunds"', "refunds.create: path"),
        (METHODS_PATH, METHODS_PATH + '\ncontent_types = ["text/plain"]', "there is no codec"),
        ('number = "card[number]"', 'number = "$[?"', "selectors: '$[?'"),
        ('kind = "store_card"', 'kind = "other"', "never `other`"),
        ('cvc = "card[cvc]"', 'cvc = "card[number]"', "cards: card[number] is given twice"),
        ('number = "card[number]"', 'number = "description"', "text: description is a card's"),
        ("cards = [\n", "cards = [\n" + '{ number = "n" },\n' * 16, "cards: at most 16"),
        ('statuses = ["409"]', "statuses = []", "results 1: statuses"),
        ('statuses = ["409"]', 'statuses = ["4x9"]', "results 1: statuses"),
        ('reason = "upstream_in_flight"\n', "", "results 1: a reason for"),
        ('result = "declined"', 'result = "declined"\nreason = "x"', "results 3: a reason for"),
        ('"upstream_in_flight"', '"Up!"', "results 1: a reason is"),
        ('path = "error.type"', 'path = "$.error["', "results 2: path: '$.error['"),
        ('is = ["card_error"]', 'is = ["card_error"], exists = true', "needs either"),
        (', is = ["card_error"]', "", "needs either"),
        ('"error.payment_intent.id"', '"a..b"', "references: 'a..b'"),
        (ASKS, ASKS.replace("intents.create", "melt"), "inquiries 1: there is no operation"),
        ("{merchant_reference}", "1", "inquiries 1: ask by {merchant_reference}"),
        (
            'method = "GET"\npath = "/v1/payment_intents/search"',
            'method = "POST"\npath = "/v1/payment_intents/search"',
            "inquiries 1: path: a call",
        ),
        ("_seconds = 3_600", "_seconds = 74", "inquiries 1: settled_after_seconds"),
        ("_seconds = 3_600", "_seconds = 3_600\ncomplete = true", "inquiries 1: complete: "),
        ('asks_for = "[A-Z', 'asks_for = "([A-Z', "inquiries 1: asks_for: a regular expression"),
        ("payments_max = 100", "payments_max = 0", "inquiries 1: payments_max"),
        ('more = "has_more"', 'more = "$[?"', "inquiries 1: more: '$[?'"),
        ('["metadata.order_id"]', '["a..b"]', "inquiries 1: reference: 'a..b'"),
        (
            'at = "created"',
            'at = "created"\nresults = [{ statuses = [], result = "error" }]',
            "inqu",
        ),
        ('at = "created"', 'at = "created"\nwhere = [{ path = "x" }]', "inquiries 1: x needs"),
        ("  { status = 400, type", "  { statuses = [400], type", "errors.rules: the last"),
        ('status = 400, type = "idem', 'status = 302, type = "idem', "302 is no status"),
        ('body = \'{"error"', "body = '{error", "errors.body: not a document"),
        ('"message":{message}', '"message":"m"', "errors.body: needs {code} and {message}"),
    ],
)
def test_a_preset_that_makes_no_sense_is_told_what_to_change(
    old: str, new: str, finding: str
) -> None:
    problems = _problems(old, new)
    assert any(finding in problem for problem in problems), problems


def test_a_preset_without_rules_for_errors_is_told_so() -> None:
    start, end = FILE.index("rules = ["), FILE.index("# Issuing shows")
    empty = preset.parse((FILE[:start] + "rules = []\n" + FILE[end:]).encode())
    assert problems_of(empty) == [
        "errors.rules: the last one must fit all others, so it names no codes or statuses"
    ]


@pytest.mark.guards("F-23", "F-28")
@pytest.mark.parametrize("name", ["authorize_net", "worldpay_wpg"])
@pytest.mark.parametrize(
    "rule",
    [
        '{ states = ["unknown"], status = 504, bare = true },',
        '{ states = ["completed", "resolved"], bare = true },',
    ],
)
def test_what_may_have_been_charged_may_not_read_as_a_refusal(name: str, rule: str) -> None:
    """Where errors are documents with 200, one would be an answer about the payment."""
    text = (files("gateway.processors") / f"{name}.toml").read_text()
    assert rule in text
    found = problems_of(preset.parse(text.replace(rule, "").encode()))
    assert found
    assert all("would read as an answer" in each for each in found)
