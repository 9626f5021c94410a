"""The story goes on: what careless, unlucky and hostile people do to the parts.

A token in the wrong field, a processor that repeats card numbers, HashiCorp Vault sealed, the
database stolen, the ledger changed; and at the end what two witnesses say about all of it.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import resources
from pathlib import Path
from typing import Final
from urllib.parse import quote

from gateway.demo.act import Acted, calls_shown
from gateway.demo.answers import said, shown
from gateway.demo.behind import refused_unstored
from gateway.demo.cards import FORMS, Search
from gateway.demo.clients import typed_in
from gateway.demo.orders import Pay
from gateway.demo.scene import Check, StoryBroke
from gateway.demo.stage import Stage
from gateway.sandbox.control import Behave, EchoNumbers
from vault.embedded.sealing import seal
from vault.private_files import write_private

OK: Final = 200
UNAVAILABLE: Final = 503


async def text(stage: Stage) -> Acted:
    token = stage.token("visa")
    start = await stage.witness.look()
    method = said(await stage.save_card(token, with_cvc=False))
    before = await stage.witness.look()
    order = Pay(stage.order_id("1004"), 1500, method.id, description=f"Card {token}, as agreed")
    paid = await stage.pay(order)
    order = Pay(stage.order_id("1005"), 1500, method.id, receipt_email=token)
    refused = await stage.pay(order)
    seen = await stage.witness.since(before)
    error = said(refused).error
    return Acted(
        merchant=[
            f"in description: {shown(paid)}, “{said(paid).description}”",
            f"in receipt_email: {shown(refused)}",
        ],
        witnessed=await stage.witness.since(start),
        checks=[
            Check("in a text field it stays what it is", token in (said(paid).description or "")),
            Check("nothing was opened for it", seen.decrypts == 0),
            Check(
                "in any other field it is refused, and the field named",
                refused.kind == "InvalidRequestError" and error.param == "receipt_email",
            ),
            Check("the refused call did not leave", len(seen.calls) == 1),
        ],
        result=f"sent as text, {seen.decrypts} opened",
    )


async def echo(stage: Stage) -> Acted:
    token = stage.token("visa")
    before = await stage.witness.look()
    processor = stage.witness.processor
    await processor.do(EchoNumbers(in_="body"))
    in_object = await stage.save_card(token, with_cvc=False)
    await processor.do(EchoNumbers(in_="error"))
    in_error = await stage.save_card(token, with_cvc=False)
    await processor.do(Behave())
    seen = await stage.witness.since(before)
    both = (in_object.body + in_error.body).encode()
    return Acted(
        merchant=[
            f"in the object: {shown(in_object)}, “{said(in_object).description}”",
            f"in an error: {shown(in_error)}",
        ],
        processor=[*calls_shown(seen), "it repeats the number in description, then in an error"],
        witnessed=seen,
        checks=[
            Check("the number was sent, twice", [c.cards.get("card[number]") for c in seen.calls]
                  == [stage.cards["visa"].masked] * 2),
            Check("the object has the token in its place", token in in_object.body),
            Check("so has the error message", token in in_error.says),
            Check("no form of the number came back", not stage.search.finds(both)),
        ],
        result="2 echoes, 2 tokens",
    )  # fmt: skip


# --- sealed -------------------------------------------------------------------------------


async def sealed(stage: Stage) -> Acted:
    now = asyncio.get_running_loop().time
    start = await stage.witness.look()
    token = await stage.page.tokenize(stage.cards["jcb"])
    before = await stage.witness.look()
    try:
        await seal(stage.deployment.parts)
        refused = await stage.save_card(token.id, retries=0)
        masked = await stage.office.get(f"/v1/tokens/{token.id}")
        another = await stage.page.post("/v1/tokens", {"card": typed_in(stage.cards["visa"])})
        form, arrived = await refused_unstored(stage)
        during = await stage.witness.since(before)
    finally:
        unsealed_at = now()
        await stage.deployment.children.openbao.restart()
    method = await stage.save_card(token.id)
    paid = await stage.pay(Pay(stage.order_id("1006"), 3300, said(method).id))
    seconds = now() - unsealed_at
    seen = await stage.witness.since(start)
    return Acted(
        merchant=[
            f"the card is {token.id}; Vault is sealed now",
            f"the shop tries to pay: {shown(refused)}",
            f"GET /v1/tokens/…: {masked.status}, the masked card is still there",
            f"the old shop's form: {form}, and the shop received {arrived} bytes",
            f"Vault starts again and unseals; {seconds:.1f} s later, the same token:",
            shown(method),
            shown(paid),
        ],
        processor=[f"while Vault is sealed: {len(during.calls)} calls", *calls_shown(seen)],
        witnessed=seen,
        checks=[
            Check("the SDK hears 503 in Stripe's shape",
                  (refused.kind, refused.http_status) == ("APIError", UNAVAILABLE)),
            Check("nothing was opened, nothing left", during.nothing_left),
            Check("new cards are refused, not kept for later", another.status == UNAVAILABLE),
            Check("nor does the old shop receive what could not be stored",
                  (form, arrived) == (UNAVAILABLE, 0)),
            Check("masked cards can be read", masked.status == OK and token.last4 in masked.body),
            Check("the same purchase goes through afterwards", said(paid).status == "succeeded"),
        ],
        result=f"503, 0 sent; paid {seconds:.1f} s after the unseal",
    )  # fmt: skip


# --- stolen, changed ----------------------------------------------------------------------


async def stolen(stage: Stage) -> Acted:
    witness, search = stage.witness, stage.search
    whole = await witness.dump()
    backup = await witness.dump("--no-unlogged-table-data")
    found = any(map(search.finds, (whole, backup)))
    blind = await asyncio.to_thread(search.is_blind, backup)
    folder, files = await asyncio.to_thread(_search_folder, stage.folder, search)
    cvcs, left = _rows(whole, "cvc"), _rows(backup, "cvc")
    cards, numbers, forms = _rows(whole, "token"), len(search.numbers), len(FORMS)
    return Acted(
        who="thief",
        merchant=[
            f"pg_dump: {len(whole) // 1000} kB, {cards} cards, {cvcs} CVCs not used yet",
            f"pg_dump --no-unlogged-table-data, as for backups: {cards} cards, {left} CVCs",
            f"both searched for {numbers} numbers in {forms} forms: {_verdict(found)}",
            f"all {folder // 1_000_000} MB of the folder, plain, hex, base64: {_verdict(files)}",
            *(f"    in {path.relative_to(stage.folder)}" for path in files),
        ],
        checks=[
            Check("there are cards in the dump", cards >= numbers),
            Check("no dump has a card number, in any form", not found),
            Check("the same search finds each number in each form when it is put there", not blind),
            Check("no file of the deployment has one, log or data", not files),
            Check("CVCs are in no backup", cvcs > 0 and left == 0),
        ],
        result=f"2 dumps, {numbers} numbers in {forms} forms: {_verdict(found)}",
    )


def _verdict(found: object) -> str:
    return "FOUND" if found else "none"


def _rows(dump: bytes, table: str) -> int:
    """Count the rows of a table in what pg_dump wrote."""
    _, _, after = dump.partition(f"\nCOPY public.{table} (".encode())
    return max(after.partition(b"\n\\.")[0].count(b"\n"), 0)


def _search_folder(folder: Path, search: Search) -> tuple[int, list[Path]]:
    """Give how many bytes there are, and the files that have a number in them."""
    found, size = [], 0
    for where, _, names in os.walk(folder):  # unlike rglob it minds no folder that vanishes
        for path in (Path(where, name) for name in names):
            try:
                content = path.read_bytes() if path.is_file() else b""
            except FileNotFoundError:
                continue  # PostgreSQL took it away meanwhile
            size += len(content)
            if search.finds_plain(content):
                found.append(path)
    return size, found


HEADS: Final = frozenset({"head", "checkpoint"})
"""Rules that a change somewhere before a head breaks; the others are about one entry."""


async def ledger(stage: Stage) -> Acted:
    async with _copy_of_the_ledger(stage) as (index, dsn_file):
        status, findings = await stage.witness.verify("--dsn-file", str(dsn_file))
    line = (await stage.witness.ledger())[index]
    named = {one.index for one in findings.violations if one.rule not in HEADS}
    signed = [one for one in findings.violations if one.rule == "checkpoint"]
    return Acted(
        who="auditor",
        merchant=[
            f"entry {index}, {line.type}: the 402 of a decline becomes a 202",
            "panward ledger verify --dsn-file … (the copy)",
            *(f"    {one.where}: {one.message}" for one in findings.violations),
            f"    exit code {status}",
        ],
        ledger=[line],
        checks=[
            Check("verify ends with 1", status == 1 and not findings.good),
            Check("it names the entry, and no other", named == {index}),
            Check("and says that it was signed otherwise", bool(signed)),
        ],
        result=f"exit code {status}, entry {index} named",
    )


@asynccontextmanager
async def _copy_of_the_ledger(stage: Stage) -> AsyncIterator[tuple[int, Path]]:
    """Make a copy of the ledger with one byte changed: the index of the entry, and an address."""
    script = (resources.files("gateway.demo") / "tamper.sql").read_bytes()
    dsn_file = stage.folder / "secrets" / "copy.dsn"
    try:
        index = await stage.witness.psql(script)
        if not index.isdigit():
            raise StoryBroke("the ledger has no declined payment to be changed")
        options = quote("-csearch_path=demo_copy")
        dsn = f"{stage.witness.parts.owner_dsn}&options={options}"
        write_private(dsn_file, f"{dsn}\n".encode())
        yield int(index), dsn_file
    finally:
        dsn_file.unlink(missing_ok=True)
        await stage.witness.psql(b"DROP SCHEMA IF EXISTS demo_copy CASCADE;")


# --- the accounts -------------------------------------------------------------------------

SHOWN_DECRYPTS: Final = 3


async def audit(stage: Stage) -> Acted:
    status, findings = await stage.witness.verify("--embedded", str(stage.folder))
    opened = await stage.witness.opened()
    decrypts, unmatched = findings.decrypts or 0, len(findings.unmatched or ())
    return Acted(
        who="auditor",
        merchant=[
            f"panward ledger verify --embedded {stage.folder}",
            f"    {findings.size} entries, {len(findings.violations)} violations",
            f"    {decrypts} decrypts in Vault's audit log, {unmatched} without an intent",
            f"    exit code {status}",
            "the last ones, each with the entry of its intent:",
            *(
                f"    decrypt of a {one.key}: entry {one.index}, {one.ms:.0f} ms earlier"
                for one in opened[-SHOWN_DECRYPTS:]
            ),
        ],
        checks=[
            Check("verify ends with 0", status == 0 and findings.good),
            Check("Vault's audit log has decrypts", decrypts > 0),
            Check("each has an intent", unmatched == 0 and len(opened) == decrypts),
            Check("each intent is the earlier of the two", all(one.ms > 0 for one in opened)),
        ],
        result=f"{decrypts} decrypts, {decrypts - unmatched} matched",
    )


async def heard(stage: Stage) -> Acted:
    answers = stage.heard_by_the_shop()
    everything = b"\n".join(answers)
    found = stage.search.finds(everything)
    received = await stage.witness.processor.numbers()
    lines = (await stage.witness.ledger())[stage.begun.entries :]
    recorded = sum("pan" in line.opens for line in lines)
    numbers = _verdict(found)
    known = {card.number for card in stage.cards.values()}
    return Acted(
        merchant=[
            f"{len(answers)} answers, {len(everything) // 1000} kB; card numbers: {numbers}",
        ],
        processor=[f"{len(received)} card numbers, and {recorded} are on record as to be sent"],
        checks=[
            Check("the shop never heard a card number", not found),
            Check("the processor got numbers, and no token for one", set(received) <= known),
            Check("each of them was on record before", 0 < len(received) == recorded),
        ],
        result=f"{len(answers)} answers, numbers: {numbers}",
    )
