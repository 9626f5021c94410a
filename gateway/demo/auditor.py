"""The story from outside: what an auditor can check, and what a forged record comes to.

An auditor has an address, a credential and the log's key; what it checks comes over HTTPS. And
somebody who owns the database forges the head while merchants pay: no card is disclosed any more
until an operator has put it right and said so.
"""

import asyncio
from importlib import resources
from typing import Final

import msgspec

from gateway.demo.act import Acted
from gateway.demo.answers import said, shown
from gateway.demo.clients import CREATED, PlainHttp, typed_in
from gateway.demo.orders import Pay
from gateway.demo.scene import Check, StoryBroke
from gateway.demo.stage import Stage
from vault.private_files import write_private

OK: Final = 200
UNAVAILABLE: Final = 503
WAITED_SECONDS: Final = 15.0
POLL_SECONDS: Final = 0.1
STATEMENT: Final = "The demo forged the head, and put it back"


# --- what is published --------------------------------------------------------------------


class _Place(msgspec.Struct):
    index: int
    leaf: str


class _Receipt(msgspec.Struct):
    ledger: _Place


class _Receipts(msgspec.Struct):
    data: list[_Receipt]


class _Event(msgspec.Struct):
    id: str


class _Events(msgspec.Struct):
    data: list[_Event]


async def published(stage: Stage) -> Acted:
    place, proof = await _receipt(stage)
    folder, origin = stage.folder / "secrets", f"{stage.credentials.ops_url}/ledger"
    files = {
        "auditor.key": stage.credentials.auditor_key or "",
        "log.vkey": await stage.witness.log_key(),
        "receipt.tlog-proof": proof,
    }
    for name, text in files.items():
        write_private(folder / name, text.encode())
    try:
        status, findings = await stage.witness.verify(
            *("--origin", origin, "--auditor-key-file", str(folder / "auditor.key")),
            *("--ca-file", stage.credentials.ca_file, "--vkey", str(folder / "log.vkey")),
        )
        checked, _ = await stage.witness.panward(
            *("ledger", "proof", "--check", str(folder / "receipt.tlog-proof")),
            *("--leaf", place.leaf, "--vkey", files["log.vkey"]),
        )
    finally:
        for name in files:
            (folder / name).unlink(missing_ok=True)
    return Acted(
        who="auditor",
        merchant=[
            f"panward ledger verify --origin {origin} --auditor-key-file … --vkey …",
            f"    {findings.size} entries over HTTPS, {len(findings.violations)} violations",
            f"    exit code {status}",
            f"the merchant's receipt: entry {place.index}, leaf {place.leaf[:16]}…",
            "panward ledger proof --check receipt.tlog-proof --leaf … --vkey …",
            f"    exit code {checked}",
        ],
        checks=[
            Check("the log is good for who has nothing but its key", status == 0 and findings.good),
            Check("all of it is signed by that key", findings.key_pinned and findings.size > 0),
            Check("the receipt is proven without asking anybody", checked == 0),
        ],
        result=f"{findings.size} entries checked over HTTPS, 1 receipt proven",
    )


async def _receipt(stage: Stage) -> tuple[_Place, str]:
    """Give where the shop's latest authorization is in the log, and the proof of it."""
    answer = await stage.office.get("/v1/authorizations?limit=1")
    if answer.status != OK:
        raise StoryBroke(f"GET /v1/authorizations answers {answer.status}")
    place = msgspec.json.decode(answer.body, type=_Receipts).data[0].ledger
    async with asyncio.timeout(WAITED_SECONDS):
        while True:
            path = f"/v1/ledger/events?since_index={place.index}&limit=1"
            events = await stage.office.get(path)
            found = msgspec.json.decode(events.body, type=_Events).data
            if found:
                break
            await asyncio.sleep(POLL_SECONDS)  # no checkpoint covers it yet
    proof = await stage.office.get(f"/v1/ledger/proof/{found[0].id}")
    if proof.status != OK:
        raise StoryBroke(f"GET /v1/ledger/proof/… answers {proof.status}")
    return place, proof.body


# --- forged -------------------------------------------------------------------------------


async def forged(stage: Stage) -> Acted:
    now = asyncio.get_running_loop().time
    before, forged_at = await stage.witness.look(), now()
    await stage.witness.psql(_script("forge.sql"))
    try:
        await _until_ready(stage, UNAVAILABLE)
        seconds = now() - forged_at
        status, told = await stage.witness.panward(
            "ledger", "status", "--embedded", str(stage.folder)
        )
    finally:
        await stage.witness.psql(_script("mend.sql"))
    refused = await stage.save_card(stage.token("visa"), with_cvc=False, retries=0)
    another = await stage.page.post("/v1/tokens", {"card": typed_in(stage.cards["visa"])})
    during = await stage.witness.since(before)
    unsealed, _ = await stage.witness.panward(
        *("ledger", "unseal", "--embedded", str(stage.folder), "--yes", "--statement", STATEMENT),
    )
    await _until_ready(stage, OK)
    method = await stage.save_card(stage.token("visa"), with_cvc=False)
    paid = await stage.pay(Pay(stage.order_id("1007"), 2100, said(method).id))
    seen = await stage.witness.since(before)
    types = [line.type for line in seen.ledger]
    return Acted(
        merchant=[
            f"another root stands in the head; {seconds:.1f} s later the deployment is sealed",
            *(f"    {' '.join(line.split())}" for line in told.decode().splitlines()
              if line.startswith(("SEALED", "BROKEN"))),
            f"the head is put back; the shop tries to pay: {shown(refused)}",
            f"POST /v1/tokens: {another.status}, new cards are taken",
            f"panward ledger unseal --statement “{STATEMENT}”",
            shown(paid),
        ],
        processor=[f"while it is sealed: {len(during.calls)} calls"],
        witnessed=seen,
        checks=[
            Check("status says why, and ends with 1", status == 1 and b"root_mismatch" in told),
            Check("the shop hears 503", refused.http_status == UNAVAILABLE),
            Check("no card was opened, nothing left", during.nothing_left),
            Check("new cards are taken all the while", another.status == CREATED),
            Check("the operator's word is on record", unsealed == 0 and "ledger.unsealed" in types),
            Check("then the same card pays", said(paid).status == "succeeded"),
        ],
        result=f"sealed after {seconds:.1f} s, {len(during.calls)} sent",
    )  # fmt: skip


async def _until_ready(stage: Stage, status: int) -> None:
    """Wait until readiness says so."""
    credentials = stage.credentials
    ops = PlainHttp(stage.office.process, credentials.ops_url, None, credentials.ca_file)
    async with asyncio.timeout(WAITED_SECONDS):
        while True:
            if (await ops.get("/readyz")).status == status:
                return
            await asyncio.sleep(POLL_SECONDS)


def _script(name: str) -> bytes:
    return (resources.files("gateway.demo") / name).read_bytes()
