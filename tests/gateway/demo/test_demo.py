"""`panward demo` as somebody runs it who has just cloned it: every promise, on real parts.

Two runs in the same folder. The first must keep its promises; between the two somebody changes
one byte of the ledger, and the second must say so.
"""

import asyncio
import base64
import json
import os
import re
import shlex
import signal
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from gateway.demo.stage import set_up
from tests import cards
from tests.embedded_process import EmbeddedProcess
from vault.embedded.bootstrap import StartOptions
from vault.errors import StartRefused

pytestmark = pytest.mark.embedded

PANWARD = (sys.executable, "-c", "from gateway.cli import main; main()")
COMMAND = (*PANWARD, "demo")
SECONDS_MAX = 180
# What a developer's machine has, and the demo's clients must not see.
ENVIRONMENT = {
    **os.environ,
    "REQUESTS_CA_BUNDLE": "/nonexistent/ca.pem",
    "CURL_CA_BUNDLE": "/nonexistent/ca.pem",
    "HTTPS_PROXY": "http://127.0.0.1:9",
    "VAULT_ADDR": "http://127.0.0.1:9",
    "PGHOST": "/nonexistent",
    "COLUMNS": "80",
}

Step = Mapping[str, Any]


@dataclass(frozen=True)
class Run:
    """A run to its end, and what it said."""

    code: int
    out: str
    err: str
    status: str = ""
    """What `ledger status` said of its ledger meanwhile."""

    @property
    def steps(self) -> Sequence[Step]:
        return [json.loads(line) for line in self.out.splitlines()]

    def step(self, name: str) -> Step:
        return next(step for step in self.steps if step.get("name") == name)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo") / "deployment"


@pytest.fixture(scope="module")
def run(folder: Path) -> Run:
    """The demo, once, for machines."""
    done = subprocess.run(  # noqa: S603 - our own words
        [*COMMAND, "--once", "--json", "--embedded", str(folder)],
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        timeout=SECONDS_MAX,
        check=False,
    )
    return Run(done.returncode, done.stdout, done.stderr)


def entries(step: Step) -> list[str]:
    """The steps of the authorizations in a step's ledger, with their results."""
    return [
        " ".join(filter(None, (line["state"], line.get("result"))))
        for line in step["ledger"]
        if "state" in line
    ]


# --- all as it should be ------------------------------------------------------------------


def test_it_ends_with_0_when_all_promises_were_kept(run: Run) -> None:
    assert run.code == 0, run.err
    end = run.steps[-1]
    assert end["ok"]
    assert [kept["ok"] for kept in end["promises"]] == [True] * 17
    assert "not shown" not in run.out


def test_it_prints_one_object_a_step_and_nothing_else(run: Run) -> None:
    assert [step["step"] for step in run.steps] == list(range(1, 23))
    for step in run.steps[:-1]:
        assert {"title", "merchant", "processor", "ledger", "checks", "ok"} <= step.keys()
        assert step["ok"] is True
        assert all(check["ok"] for check in step["checks"])


def test_no_card_number_is_printed_or_kept(run: Run, folder: Path) -> None:
    texts = [run.out, run.err]
    texts += [path.read_text(errors="replace") for path in folder.glob("log/*.log")]
    assert len(texts) > 5
    for text in texts:
        assert not any(number in text for number in cards.ALL)


def test_the_requests_are_logged_in_the_folder(run: Run, folder: Path) -> None:
    lines = (folder / "log" / "gateway.log").read_text().splitlines()
    events = [json.loads(line) for line in lines]
    assert {event["route"] for event in events if event["event"] == "request"} >= {
        "/v1/tokens",
        "/out/{route}/{path}",
        "/v1/authorizations",
    }
    assert {event["event"] for event in events} >= {"undeclared_card", "card_in_reply"}
    assert (folder / "log" / "clients.log").read_text() == ""


# --- the steps ----------------------------------------------------------------------------


def test_the_code_that_is_shown_is_the_code_that_runs(run: Run) -> None:
    step = run.step("code")
    source = Path("gateway/demo/shop.py").read_text()
    assert step["code"] in source
    for part in ("ca_bundle_path", "StripeClient(", "base_addresses="):
        assert part in step["code"]
    assert [line["type"] for line in step["ledger"]] == ["log.opened", "gateway.started"]


def test_cards_become_tokens(run: Run) -> None:
    step = run.step("tokens")
    made = [re.search(r"•••• (\d{4}) → (pwt_test_\w{28})", line) for line in step["merchant"]]
    assert [found and found[1] for found in made] == ["4242", "0002", "4444", "0005"]
    assert [line["token"] for line in step["ledger"]] == [found and found[2] for found in made]


def test_a_payment_is_approved(run: Run) -> None:
    step = run.step("approved")
    assert "succeeded" in step["merchant"][1]
    assert step["processor"] == [
        "POST /v1/payment_methods  card[number] •••• 4242  card[cvc] •••",
        "POST /v1/payment_intents",
    ]
    assert entries(step) == ["attempted", "completed stored", "attempted", "completed approved"]
    assert step["ledger"][0]["opens"] == ["pan", "cvc"]


def test_an_old_shop_gets_tokens_and_pays_with_them(run: Run, folder: Path) -> None:
    step = run.step("old_shop")
    token = re.search(r"card_number (pwt_test_\w{28}), card_code 000$", step["merchant"][1])
    assert token is not None
    assert step["ledger"][0]["token"] == token[1]
    assert step["merchant"][2].endswith("number, code: none")
    assert step["processor"][0].endswith("card[number] •••• 4444  card[cvc] •••")
    assert entries(step) == ["attempted", "completed stored", "attempted", "completed approved"]
    received = (folder / "old_shop" / "received.bin").read_text()
    assert token[1] in received
    assert not any(number in received for number in cards.ALL)


def test_a_number_where_nobody_expects_one_is_masked_both_ways(run: Run) -> None:
    _, comment, _, page, counted = run.step("strays")["merchant"]
    assert re.search(r"“Your form ate my card! It is \*{12,}0002\.”", comment)
    assert re.search(r"test_card = \*{12,}4444$", page)
    assert re.search(r"\+1 on the way in, \+1 on the way out$", counted)


def test_a_call_is_explained_and_not_made(run: Run) -> None:
    step = run.step("explained")
    assert step["processor"] == ["it was not called"]
    assert step["merchant"][-1].endswith("raw_card_number")
    assert not step["ledger"]


def test_the_same_token_pays_at_another_processor(run: Run) -> None:
    step = run.step("elsewhere")
    assert "checkout-test.adyen.com" in step["merchant"][0]
    assert step["processor"] == ["POST /v72/payments  number 1 •••• 4242"]
    assert entries(step) == ["attempted", "completed approved"]


def test_a_payment_is_declined(run: Run) -> None:
    step = run.step("declined")
    assert "stripe.CardError (HTTP 402, generic_decline)" in step["merchant"][1]
    assert entries(step)[-1] == "completed declined"


def test_another_shops_token_is_refused_and_nothing_is_sent(run: Run) -> None:
    step = run.step("foreign")
    assert "stripe.InvalidRequestError" in step["merchant"][1]
    assert step["processor"] == ["it was not called"]
    assert [line["type"] for line in step["ledger"]] == ["token.created"]  # the other shop's


def test_a_lost_answer_is_unknown_and_a_retry_charges_once(run: Run) -> None:
    step = run.step("lost")
    assert "HTTP 502" in step["merchant"][1]
    assert "unknown, no result" in step["merchant"][2]
    assert "succeeded" in step["merchant"][3]
    assert step["processor"][-1] == "3 payments under 1 idempotency key: 1 charge"
    assert entries(step) == [
        *("attempted", "completed stored"),
        *("attempted", "unknown", "attempted", "unknown", "attempted", "completed approved"),
        *("resolved approved", "resolved approved"),
    ]
    first = step["ledger"][2]["index"]
    assert [line.get("of") for line in step["ledger"]][2:8:2] == [None, first, first]


def test_the_processors_callback_settles_a_purchase_once(run: Run) -> None:
    step = run.step("called_back")
    assert "waiting" in step["merchant"][0]
    assert step["merchant"][1].endswith("paid: 401, and it is unknown still")
    assert step["merchant"][2].endswith("resolved, approved; the shop: paid")
    assert re.search(r"“paid with \*{12}4242”", step["merchant"][4])
    assert step["processor"][-1] == "its callback, sent 3 times: 3 acknowledged"
    assert [line["type"] for line in step["ledger"]].count("callback.received") == 1
    assert entries(step) == [
        *("attempted", "completed stored", "attempted", "unknown", "resolved approved"),
    ]


def test_a_token_in_a_text_field_stays_text(run: Run) -> None:
    step = run.step("text")
    assert re.search(r"“Card pwt_test_\w{28}, as agreed”", step["merchant"][0])
    assert "token_undeclared" in step["merchant"][1]
    assert "receipt_email" in step["merchant"][1]


def test_an_echoed_number_comes_back_as_its_token(run: Run) -> None:
    step = run.step("echo")
    for line in step["merchant"]:
        assert re.search(r"[cC]ard pwt_test_\w{28} ", line)


def test_with_vault_sealed_nothing_leaves_and_the_purchase_goes_on_later(run: Run) -> None:
    step = run.step("sealed")
    assert "stripe.APIError (HTTP 503, vault_sealed)" in step["merchant"][1]
    assert step["merchant"][3] == "the old shop's form: 503, and the shop received 0 bytes"
    assert step["processor"][0] == "while Vault is sealed: 0 calls"
    assert step["ledger"][0]["type"] == "token.created"
    assert entries(step) == ["attempted", "completed stored", "attempted", "completed approved"]


def test_the_stolen_database_has_cards_and_no_number(run: Run) -> None:
    dumped, backup, forms, files = run.step("stolen")["merchant"]
    assert "8 cards, 2 CVCs" in dumped
    assert "8 cards, 0 CVCs" in backup
    assert forms.endswith("forms: none")
    assert files.endswith("base64: none")


def test_verify_names_the_entry_that_was_changed_on_a_copy(run: Run) -> None:
    step = run.step("ledger")
    index = step["ledger"][0]["index"]
    assert any(line.startswith(f"    entry {index}: ") for line in step["merchant"])
    assert step["merchant"][-1] == "    exit code 1"


def test_an_auditor_needs_an_address_a_credential_and_a_key(run: Run) -> None:
    lines = run.step("published")["merchant"]
    assert re.search(r"[1-9]\d* entries over HTTPS, 0 violations", lines[1])
    assert lines[2] == lines[5] == "    exit code 0"


def test_a_print_is_bought_in_the_shop_and_proven(run: Run) -> None:
    step = run.step("bought")
    assert re.search(r"https://127\.0\.0\.1:\d+: 2 prints, 68\.00 EUR: paid", step["merchant"][0])
    assert step["processor"][0].endswith("card[number] •••• 4242  card[cvc] •••")
    assert entries(step) == ["attempted", "completed stored", "attempted", "completed approved"]


def test_a_forged_head_stops_disclosures_until_somebody_says_why(run: Run) -> None:
    step = run.step("forged")
    assert any(line.startswith("    SEALED root_mismatch, since") for line in step["merchant"])
    assert any("HTTP 503, ledger_sealed" in line for line in step["merchant"])
    assert step["processor"] == ["while it is sealed: 0 calls"]
    assert "ledger.unsealed" in [line["type"] for line in step["ledger"]]
    assert entries(step) == ["attempted", "completed stored", "attempted", "completed approved"]


def test_each_decrypt_is_matched_to_an_earlier_intent(run: Run) -> None:
    lines = run.step("audit")["merchant"]
    found = [re.search(r"(\d+) decrypts in Vault's audit log, 0 without", line) for line in lines]
    # Visa, declined, the old shop's and another Mastercard, UnionPay, JCB and the print's Visa:
    # number and code; Visa 5 times without.
    assert [int(each[1]) for each in found if each] == [7 * 2 + 5]


def test_each_number_at_the_processor_was_on_record_before(run: Run) -> None:
    step = run.step("heard")
    assert step["processor"] == ["12 card numbers, and 12 are on record as to be sent"]


# --- a broken promise ---------------------------------------------------------------------


CHANGE = """
UPDATE entry SET body = set_byte(body, position('"status":402'::bytea IN body) + 8, ascii('2'))
  WHERE idx = (SELECT min(idx) FROM entry WHERE position('"status":402'::bytea IN body) > 0)
  RETURNING idx
"""


@pytest.fixture(scope="module")
def changed(run: Run, folder: Path) -> int:
    """Change one byte of the deployment's own ledger; give the index of the entry."""
    process = EmbeddedProcess.started(folder)
    try:
        return asyncio.run(change(process.parts.owner_dsn))
    finally:
        process.close()


async def change(owner_dsn: str) -> int:
    owner = await asyncpg.connect(owner_dsn)
    try:
        await owner.execute("ALTER TABLE entry DISABLE TRIGGER no_rewrite")
        index = await owner.fetchval(CHANGE)
        await owner.execute("ALTER TABLE entry ENABLE TRIGGER no_rewrite")
    finally:
        await owner.close()
    assert isinstance(index, int)
    return index


@pytest.fixture(scope="module")
def served(changed: int, folder: Path) -> tuple[Run, bytes]:
    """The demo, for people, over the changed ledger: and what its curl is answered."""
    process = subprocess.Popen(  # noqa: S603 - our own words
        [*COMMAND, "--embedded", str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
    )
    assert process.stdout is not None
    try:
        out = []
        for line in process.stdout:
            out.append(line)
            if line.startswith("ready:"):
                break
        answer = by_hand("".join(out))
        status = sealed_status(folder)
        process.send_signal(signal.SIGINT)
        rest, err = process.communicate(timeout=SECONDS_MAX)
    finally:
        process.kill()
        process.communicate()
    return Run(process.returncode, "".join(out) + rest, err, status), answer


def sealed_status(folder: Path) -> str:
    """Ask how the ledger stands, until the scrub has come to the changed entry."""
    ends = time.monotonic() + SECONDS_MAX
    while True:
        done = subprocess.run(  # noqa: S603 - our own words
            [*PANWARD, "ledger", "status", "--config", str(folder / "panward.toml")],
            capture_output=True,
            text=True,
            env=ENVIRONMENT,
            timeout=SECONDS_MAX,
            check=False,
        )
        if "SEALED" in done.stdout or time.monotonic() > ends:
            return done.stdout


def by_hand(out: str) -> bytes:
    """Do what the first curl that is offered for pasting does."""
    found = re.search(r"^curl (?:.*\\\n)*.*$", out, re.MULTILINE)
    assert found is not None, out
    words = iter(shlex.split(found[0])[1:])
    headers, ca_file, body, url = {}, "", b"", ""
    for word in words:
        match word:
            case "--cacert":
                ca_file = next(words)
            case "-H":
                name, _, value = next(words).partition(": ")
                headers[name] = value
            case "--data":
                body = Path(next(words).removeprefix("@")).read_bytes()
            case _:
                url = word
    request = urllib.request.Request(url, body, headers)  # noqa: S310 - https, see ca_file
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}),
        urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=ca_file)),
    )
    with opener.open(request, timeout=20) as response:
        content: bytes = response.read()
        return content


def test_a_broken_promise_makes_exit_code_1_and_says_which(
    served: tuple[Run, bytes], changed: int
) -> None:
    run, _ = served
    assert run.code == 1
    assert "✗ NOT so: verify ends with 0" in run.out
    assert f"entry {changed}: the leaf hash is not that of the entry" in run.out
    assert re.search(r"^\d+ of 17 promises kept$", run.out, re.MULTILINE)
    assert "17 of 17" not in run.out
    assert "verify ends with 0" in run.err
    assert "Traceback" not in run.err


def test_the_changed_entry_is_named_and_seals_and_gives_nothing_away(
    served: tuple[Run, bytes],
) -> None:
    """When the scrub comes upon it decides which steps can still pay."""
    run, _ = served
    failed = set(re.findall(r"✗ NOT so: (.*?) *$", run.out, re.MULTILINE))
    assert failed >= {
        "it names the entry, and no other",
        "the log is good for who has nothing but its key",
        "verify ends with 0",
    }
    assert re.search(r"SEALED\s+corrupt,", run.status)
    assert not failed & {
        "one charge",
        "nothing was opened, nothing left",
        "no dump has a card number, in any form",
        "the shop never heard a card number",
        "no card was opened, nothing left",
        "each has an intent",
    }


def test_what_people_read_fits_their_terminal_and_has_no_number(
    served: tuple[Run, bytes],
) -> None:
    run, _ = served
    story, _, _ = run.out.partition("public   https://")
    assert max(map(len, story.splitlines())) <= 80
    assert not any(number in run.out + run.err for number in cards.ALL)


def test_then_it_serves_and_the_curl_to_paste_works(
    served: tuple[Run, bytes], folder: Path
) -> None:
    _, answer = served
    assert re.fullmatch(r"pwt_test_\w{28}", json.loads(answer)["id"])
    assert not (folder / "card.json").exists()  # only while it serves


def test_it_says_where_the_shop_is_and_how_a_browser_trusts_it(served: tuple[Run, bytes]) -> None:
    run, _ = served
    found = re.search(r"^shop     (https://127\.0\.0\.1:\d+/)$", run.out, re.MULTILINE)
    assert found is not None
    assert re.search(r"^old shop (https://127\.0\.0\.1:\d+/)$", run.out, re.MULTILINE)
    chromium = re.search(r"^chromium (?:.*\\\n)*.*$", run.out, re.MULTILINE)
    assert chromium is not None
    words = shlex.split(chromium[0])
    assert words[-1] == found[1]
    switch = next(word for word in words if word.startswith("--ignore-certificate-errors-spki"))
    assert len(base64.b64decode(switch.partition("=")[2], validate=True)) == 32


# --- the end ------------------------------------------------------------------------------


def test_an_interrupted_demo_leaves_nothing_behind() -> None:
    with tempfile.TemporaryDirectory(prefix="pw") as folder:  # a socket's path must be short
        interrupted(Path(folder))


def interrupted(tmp_path: Path) -> None:
    process = subprocess.Popen(  # noqa: S603 - our own words
        [*COMMAND, "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**ENVIRONMENT, "TMPDIR": str(tmp_path)},
    )
    assert process.stdout is not None
    for line in process.stdout:
        if json.loads(line)["step"] == 2:
            break
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=SECONDS_MAX)
    assert process.returncode == 1, err
    assert err.rstrip().endswith("interrupted")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_somebody_elses_is_refused(tmp_path: Path) -> None:
    (tmp_path / "theirs").write_text("")
    done = subprocess.run(  # noqa: S603 - our own words
        [*COMMAND, "--once", "--embedded", str(tmp_path)],
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        timeout=SECONDS_MAX,
        check=False,
    )
    assert done.returncode == 78
    assert "not made by panward" in done.stderr
    assert done.stdout == ""


async def test_without_the_sdk_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(StartRefused, match="pip install"):
        async with set_up(tmp_path / "never", StartOptions(), at=datetime.now(UTC)):
            pass
    assert not (tmp_path / "never").exists()
