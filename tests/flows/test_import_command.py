"""`panward import` beside a running gateway, and `panward redact` without any: real processes."""

import asyncio
import contextlib
import json
import secrets
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.card_files.run import UNUSED_MAX
from tests.cards import VISA, luhn_completed
from tests.crash.panward import Ended, panward
from tests.flows.deployment import Deployment, Store, eventually
from tests.flows.merchant import Account, Merchant, payment
from tests.flows.processor import ProcessorControl
from vault.deployment import state_folder_of_one

ROWS = 12_000
OPENED = 200
NUMBERS = [luhn_completed(f"42424242{n:07}") for n in range(ROWS)]
HEAD = "name,Card number,exp\n"


def body(numbers: list[str]) -> str:
    return HEAD + "".join(f'"N ""{n}""",{pan},12/40\n' for n, pan in enumerate(numbers))


class Importing:
    """The words of one import, and its files."""

    def __init__(self, deployment: Deployment, account: Account, folder: Path) -> None:
        self.source = folder / "cards.csv"
        self.out = folder / "tokens.csv"
        self.report = folder / "report.json"
        self.words = (
            *("import", str(self.source), "--out", str(self.out), "--tenant", account.tenant),
            *("--number", "Card number", "--expiry", "exp", "--report", str(self.report)),
            *("--config", str(deployment.config.path)),
        )

    async def run(self, *more: str) -> Ended:
        return await panward(*self.words, *more)

    async def killed_after(self, blocks: int, *more: str) -> bool:
        """Kill it once so many more blocks are in its journal; False: it had ended."""
        journal = self.out.with_name("tokens.csv.journal")
        before = self.blocks(journal)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", "from gateway.cli import main; main()", *self.words, *more),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

        async def is_there() -> bool:
            return process.returncode is not None or self.blocks(journal) >= before + blocks

        await eventually(is_there, "the import does not go on", seconds=60)
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        return await process.wait() == -signal.SIGKILL

    @staticmethod
    def blocks(journal: Path) -> int:
        return journal.read_bytes().count(b"\n") if journal.exists() else 0


@pytest.fixture
def importing(deployment: Deployment, account: Account, tmp_path: Path) -> Importing:
    return Importing(deployment, account, tmp_path)


async def tokens_of(store: Store, tenant: str) -> dict[str, str]:
    rows = await store.fetch("SELECT id, last4 FROM token WHERE tenant = $1", tenant)
    return {row["id"]: row["last4"] for row in rows}


def check_output(importing: Importing, numbers: list[str], stored: dict[str, str]) -> list[str]:
    """See that each row is there once, with a token of its own card; return the tokens."""
    head, *rows = importing.out.read_text().splitlines()
    assert head + "\n" == HEAD
    tokens = [row.split(",")[1] for row in rows]
    assert len(set(tokens)) == len(numbers)
    assert [f'"N ""{n}""",{token},12/40' for n, token in enumerate(tokens)] == rows
    assert [stored[token] for token in tokens] == [number[-4:] for number in numbers]
    assert stat.S_IMODE(importing.out.stat().st_mode) == 0o600
    return tokens


async def test_a_file_is_imported_beside_a_running_gateway_and_other_commands(
    importing: Importing, deployment: Deployment, account: Account, store: Store
) -> None:
    numbers = NUMBERS[:40]
    importing.source.write_text(body(numbers))
    before = await tokens_of(store, account.tenant)
    name = await store.fetchval("SELECT name FROM tenant WHERE id = $1", account.tenant)
    with state_folder_of_one(deployment.config.state_folder / "console"):  # edge-keys replace, say
        ended = await importing.run("--json", "--tenant", name)
    assert ended.status == 0, ended.err
    stored = await tokens_of(store, account.tenant)
    tokens = check_output(importing, numbers, stored)
    assert stored.keys() - before.keys() == set(tokens)
    report = json.loads(ended.out)
    assert report == json.loads(importing.report.read_text())
    assert (report["rows"], report["tokens"], report["refused"]) == (40, 40, 0)
    said = ended.out + ended.err + importing.report.read_text()
    assert not [each for each in numbers if each in said]
    assert "100 %" in ended.err
    assert (await importing.run()).status == 1, "it would be written over"


@pytest.mark.timeout(180)
async def test_a_killed_import_goes_on_until_it_is_whole(
    importing: Importing,
    deployment: Deployment,
    shop: Merchant,
    processor: ProcessorControl,
    store: Store,
) -> None:
    account = shop.account
    importing.source.write_text(body(NUMBERS))
    before = await tokens_of(store, account.tenant)
    kills = 0
    for _ in range(4):
        more = ("--resume",) if kills else ()
        kills += await importing.killed_after(1 + secrets.randbelow(6), *more)
        assert kills == 0 or not importing.out.exists() or importing.report.exists()
    assert kills >= 3
    ended = await importing.run("--resume")
    assert ended.status == 0, ended.err
    assert f"up to {UNUSED_MAX} tokens" in ended.out
    stored = await tokens_of(store, account.tenant)
    tokens = check_output(importing, NUMBERS, stored)
    unused = stored.keys() - before.keys() - set(tokens)
    assert len(unused) <= kills * UNUSED_MAX
    assert json.loads(importing.report.read_text())["tokens"] == ROWS
    left = {path.name for path in importing.out.parent.iterdir()}
    assert left == {"cards.csv", "tokens.csv", "report.json"}
    for token in tokens[:: ROWS // OPENED]:  # what the processor is sent is each token's card
        paid = await shop.pay(payment(token))
        assert paid.headers.get("Panward-State") is not None, paid.body
    assert processor.numbers[-OPENED:] == NUMBERS[:: ROWS // OPENED]
    verified = await panward("ledger", "verify", "--config", str(deployment.config.path))
    assert verified.status == 0, verified.out


async def test_cards_that_come_again_keep_one_token_and_the_latest_date(
    importing: Importing, account: Account, store: Store
) -> None:
    """The blocks that hold them are under way at the same time."""
    numbers = [luhn_completed(f"42424243{n:07}") for n in range(3)] * 500
    dates = [f"12/{30 + n % 11}" for n in range(len(numbers))]
    rows = (f"x,{pan},{date}\n" for pan, date in zip(numbers, dates, strict=True))
    importing.source.write_text(HEAD + "".join(rows))
    ended = await importing.run("--reuse")
    assert ended.status == 0, ended.err
    tokens = [line.split(",")[1] for line in importing.out.read_text().splitlines()[1:]]
    assert tokens == tokens[:3] * 500
    found = await store.fetch("SELECT exp_year FROM token WHERE id = ANY($1)", tokens[:3])
    assert [row["exp_year"] for row in found] == [2040] * 3


async def test_a_row_that_holds_no_card_ends_it_or_is_left_out(importing: Importing) -> None:
    importing.source.write_text(body([*NUMBERS[:3], "4242", *NUMBERS[4:6]]))
    ended = await importing.run()
    assert ended.status == 1
    assert "row 4" in ended.err
    assert "--resume" in ended.err
    assert not importing.out.exists()
    ended = await importing.run("--refused", "keep-out", "--json")
    assert ended.status == 0, ended.err
    assert [each["row"] for each in json.loads(ended.out)["refused_rows"]] == [4]
    assert len(importing.out.read_text().splitlines()) == 6


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--format", "fixed"), "--column"),
        (("--record-length", "9"), "--record-length"),
        (("--format", "raw"), "--format"),
        (("--embedded", "somewhere"), "either"),
    ],
)
async def test_wrong_words_are_refused(
    importing: Importing, more: tuple[str, ...], words: str
) -> None:
    importing.source.write_text(HEAD)
    ended = await importing.run(*more)
    assert ended.status == 2
    assert words in ended.err


async def test_other_refusals(importing: Importing, deployment: Deployment) -> None:
    importing.source.write_bytes(body(NUMBERS[:2]).encode("utf-16"))
    ended = await importing.run()
    assert ended.status == 1
    assert "UTF-16" in ended.err
    importing.source.write_text(HEAD)
    words = [*importing.words]
    words[words.index("--tenant") + 1] = "nobody"
    ended = await panward(*words)
    assert (ended.status, "no tenant nobody" in ended.err) == (1, True)
    words[words.index(str(deployment.config.path))] = "/nowhere.toml"
    assert (await panward(*words)).status == 78


# --- redact -------------------------------------------------------------------------------


@pytest.mark.parametrize("format_", ["csv", "raw"])
async def test_a_file_is_masked_without_a_deployment(tmp_path: Path, format_: str) -> None:
    source, out = tmp_path / "cards.csv", tmp_path / "masked.csv"
    comma = "," if format_ == "csv" else " | "  # a bare number would get quotes

    def text(numbers: list[str], other: str) -> str:
        return body(numbers).replace("12/40", f"paid by {other}").replace(",", comma)

    source.write_text(text(NUMBERS[:30], VISA))
    ended = await panward("redact", str(source), "--out", str(out), "--format", format_, "--json")
    assert ended.status == 0, ended.err
    stars = "*" * 12
    masked = [stars + each[-4:] for each in NUMBERS[:30]]
    assert out.read_text() == text(masked, stars + VISA[-4:])
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert sum(each["count"] for each in json.loads(ended.out)["found"]) == 60
    assert (await panward("redact", str(source), "--out", str(out))).status == 1


async def test_standard_input_is_masked_to_standard_output() -> None:
    text = f"\x00 card {VISA}\n".encode() + bytes(range(256))
    ended = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", "from gateway.cli import main; main()"),
        *("redact", "-", "--out", "-"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    out, err = await ended.communicate(text)
    assert ended.returncode == 0
    assert out == text.replace(VISA[:-4].encode(), b"*" * 12)
    assert VISA.encode() not in out + err


async def test_jsonl_columns_are_masked_and_emptied(tmp_path: Path) -> None:
    source, out = tmp_path / "cards.jsonl", tmp_path / "masked.jsonl"
    source.write_text(f'{{"pan": "{VISA}", "cvc": "123", "n": 1}}\n')
    ended = await panward(
        *("redact", str(source), "--out", str(out), "--number", "pan", "--remove", "cvc")
    )
    assert ended.status == 0, ended.err
    assert json.loads(out.read_text()) == {"pan": "*" * 12 + VISA[-4:], "cvc": "", "n": 1}
