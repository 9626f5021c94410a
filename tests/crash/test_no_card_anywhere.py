"""After everything, card numbers are nowhere: not in files, logs, metrics, dumps or processes.

A deployment of its own carries out what a shop does and what goes wrong, with every test card;
then everything it left is searched. Last of the session, so that what other tests left is, too.
"""

import asyncio
import base64
import contextlib
import json
import os
import re
import signal
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from gateway.embedded import control_socket
from tests.cards import ALL, AMEX, DECLINED, MASTERCARD, VISA, VISA_ALT
from tests.crash.captured import Captured
from tests.crash.card_search import CardSearch, Hit
from tests.crash.hostile import requests
from tests.crash.raw_wire import Answer, NoAnswer, RawWire
from tests.flows.deployment import Gateway
from tests.flows.merchant import FORM, INTENTS, JSON, METHODS, form, method, payment
from tests.flows.processor import ProcessorControl
from vault.embedded.bootstrap import EmbeddedParts, parts_of

pytestmark = [pytest.mark.embedded, pytest.mark.timeout(600)]

CVC = "737"  # no status, and no other number that comes up by chance
AMEX_CVC = "7373"
ECHOES = (
    *("body", "spaced", "json_number", "escaped", "percent", "base64", "base64_inside"),
    *("error", "header"),
)


@dataclass
class Site:
    """A deployment, a client of all its listeners, and the search that all answers go through."""

    gateway: Gateway
    folder: Path
    search: CardSearch
    hits: list[Hit]

    @property
    def parts(self) -> EmbeddedParts:
        return parts_of(self.folder)

    @property
    def processor(self) -> ProcessorControl:
        return ProcessorControl(control_socket(self.parts))

    @property
    def credentials(self) -> dict[str, str]:
        said: dict[str, str] = json.loads((self.folder / "credentials.json").read_bytes())
        return said

    def wire(self, listener: str) -> RawWire:
        context = ssl.create_default_context(cafile=self.credentials["ca_file"])
        return RawWire(self.credentials[f"{listener}_url"], context)

    async def exchange(
        self, listener: str, request: bytes, *, seconds: float = 30, own_text: bool = False
    ) -> Answer | None:
        """Send bytes on a connection of their own; no card number may be in what comes back.

        Except in `own_text`, which a merchant wrote into a text field and a processor repeats.
        """
        wire = self.wire(listener)
        try:
            answer = await wire.exchange(request, seconds=seconds)
        except NoAnswer:
            return None
        finally:
            wire.close()
        if own_text:
            return answer
        head = "\n".join(f"{name}: {value}" for name, value in answer.headers.items())
        self.hits += self.search.within(head.encode() + b"\n" + answer.body, "an answer")
        return answer

    async def call(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        *,
        listener: str = "private",
        own_text: bool = False,
        **more: str,
    ) -> Answer | None:
        key = self.credentials["publishable_key" if listener == "public" else "secret_key"]
        fields = {"Authorization": f"Bearer {key}", **more}
        lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", f"Content-Length: {len(body)}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in fields.items()]
        request = "\r\n".join([*lines, "", ""]).encode() + body
        return await self.exchange(listener, request, own_text=own_text)

    async def tokenize(self, number: str, listener: str = "private", **more: object) -> str | None:
        cvc = AMEX_CVC if number == AMEX else CVC
        card = {"number": number, "exp_month": 12, "exp_year": 2034, "cvc": cvc}
        body = json.dumps({"card": card, **more}).encode()
        answer = await self.call("POST", "/v1/tokens", body, listener=listener, Content_Type=JSON)
        return None if answer is None or answer.status != 201 else str(answer.json()["id"])

    async def pay(
        self,
        fields: dict[str, object],
        path: str = INTENTS,
        *,
        key: str = "",
        own_text: bool = False,
    ) -> int:
        answer = await self.call(
            "POST",
            f"/out/stripe{path}",
            form(fields),
            own_text=own_text,
            Content_Type=FORM,
            Idempotency_Key=key or str(uuid4()),
        )
        return 0 if answer is None else answer.status


# --- what a shop does, and what goes wrong ------------------------------------------------


async def ordinary_business(site: Site) -> None:
    stored = 0
    for number in ALL:
        for more in ({}, {"format": "pan_like"}, {"reuse": True}, {"single_use": True}):
            token = await site.tokenize(number, **more)
            if token is not None:
                stored += 1
                path, fields = (METHODS, method) if more else (INTENTS, payment)
                await site.pay(fields(token, cvc="000"), path)
        await site.tokenize(number, "public")
    assert stored > 3 * len(ALL), "hardly any card was taken"
    token = await site.tokenize(VISA)
    assert token is not None
    assert await site.pay(payment(token) | {"description": f"paid with {token}"}) == 200
    careless = {"metadata[order_id]": AMEX, "description": MASTERCARD, "transfer_group": VISA_ALT}
    assert await site.pay(payment(token) | careless, own_text=True) == 200
    for path in ("/v1/tokens", "/v1/authorizations", f"/v1/tokens/{token}"):
        assert await site.call("GET", path) is not None


async def careless_processor(site: Site) -> None:
    """It repeats the number in its answer, in each way that was seen somewhere."""
    for place in ECHOES:
        site.processor.do("echo_numbers", **{"in": place})
        for number in (VISA, MASTERCARD, AMEX, DECLINED):
            token = await site.tokenize(number)
            assert token is not None
            assert await site.pay(payment(token, cvc="000"))
    site.processor.behave()


async def failing_processor(site: Site) -> None:
    for what, arguments in (
        ("lose_next_answer", {}),
        ("lose_next_answer", {"half": True}),
        ("close_before_reading", {}),
        ("fail_next", {"status": 500}),
        ("fail_next", {"status": 500, "after_charge": True}),
        ("fail_next", {"status": 429}),
        ("redirect_next", {"url": "https://127.0.0.1:1/elsewhere"}),
    ):
        for number in (VISA, AMEX):
            token = await site.tokenize(number)
            assert token is not None
            key = str(uuid4())
            site.processor.do(what, **arguments)
            await site.pay(payment(token, cvc="000"), key=key)
            site.processor.behave()
            await site.pay(payment(token, cvc="000"), key=key)


async def dying_children(site: Site) -> None:
    """What fails amid a call with a card in hand: OpenBao, then PostgreSQL."""
    for child in ("openbao", "postgres"):
        tokens = [await site.tokenize(number) for number in (VISA, AMEX)]
        os.kill(site.gateway.child(child), signal.SIGKILL)
        fields = [payment(token, cvc="000") for token in tokens if token is not None]
        await asyncio.gather(
            *(site.tokenize(number) for number in (VISA, MASTERCARD, AMEX, VISA_ALT)),
            *(site.pay(one) for one in fields),
        )
        for _ in range(300):
            if await site.tokenize(VISA) is not None:
                break
            await asyncio.sleep(0.1)


async def hostile_clients(site: Site) -> None:
    for listener in ("public", "private", "ops"):
        key = site.credentials["publishable_key" if listener == "public" else "secret_key"]
        hostile = [one for number in (VISA, AMEX) for one in requests(number, key)]
        waiting = iter(hostile)

        async def send(listener: str = listener, waiting: Iterator[bytes] = waiting) -> int:
            answers = [
                await site.exchange(listener, request, seconds=1)  # some only begin a body
                for request in waiting
            ]
            return sum(answer is not None for answer in answers)

        answered = sum(await asyncio.gather(*(send() for _ in range(8))))
        assert answered > 0.9 * len(hostile), "most of it was not even read"


# --- where to look ------------------------------------------------------------------------


async def exposition(site: Site) -> bytes:
    answer = await site.call("GET", "/metrics", listener="ops")
    assert answer is not None
    assert b"panward_" in answer.body
    return answer.body


async def dump(site: Site) -> bytes:
    process = await asyncio.create_subprocess_exec(
        *(str(site.parts.postgres_binaries / "pg_dump"), site.parts.owner_dsn),
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate()
    assert process.returncode == 0
    assert b"COPY public.token " in out
    return out


def processes(site: Site) -> Iterator[tuple[str, bytes]]:
    """Give the command line and the environment of the gateway and all below it."""
    family = {site.gateway.pid}
    parents = {}
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            status = (process / "stat").read_text().rpartition(")")[2].split()
            parents[int(process.name)] = int(status[1])
    while more := {one for one, parent in parents.items() if parent in family} - family:
        family |= more
    assert len(family) > 4, "the gateway, its three children and PostgreSQL's own"
    for one in family:
        for name in ("cmdline", "environ"):
            with contextlib.suppress(OSError):
                yield f"{name} of a process", (Path("/proc") / str(one) / name).read_bytes()


def codes_in_the_clear(site: Site, dumped: bytes) -> list[str]:
    """Find CVCs where they would stand: three digits come up by chance everywhere else."""
    code = f"{CVC}|{AMEX_CVC}".encode()
    named = re.compile(rb"(?i)cvc[^a-z0-9]{1,12}(?:%s)(?![0-9])" % code)
    alone = re.compile(rb"(?m)(?:^|[\t,{\"])(?:%s)(?:$|[\t,}\"])" % code)
    files = [path for path in site.folder.rglob("*") if path.is_file()]
    found = [path.name for path in files if named.search(path.read_bytes())]
    written = [site.gateway.out, site.gateway.err, *(site.folder / "log").glob("[!v]*")]
    found += [path.name for path in written if alone.search(path.read_bytes())]
    if named.search(dumped) or alone.search(dumped):
        found.append("the dump")
    return found + plaintext_in_the_audit_log(site)


def plaintext_in_the_audit_log(site: Site) -> list[str]:
    """What OpenBao was given to encrypt, or has decrypted, is there as a keyed hash."""
    seen, clear = 0, []
    with site.parts.vault_audit_log_file.open("rb") as lines:
        for line in lines:
            for name, text in strings(json.loads(line)):
                if name in ("plaintext", "input"):
                    seen += 1
                    if not text.startswith("hmac-sha256:"):
                        clear.append(f"the audit log: {name}")
                elif text in CODES and name != "reference":  # those of encryptions just count
                    clear.append(f"the audit log: {name}")
    assert seen > 100, "the audit log is not what it was taken for"
    return clear


CODES = {
    form
    for code in (CVC, AMEX_CVC)
    for form in (code, base64.b64encode(code.encode()).decode(), code.encode().hex())
}


def strings(node: Any, name: str = "") -> Iterator[tuple[str, str]]:  # noqa: ANN401 - any JSON
    """Give each text in a document, with the name of its field."""
    if isinstance(node, str):
        yield name, node
    elif isinstance(node, dict):
        for key, value in node.items():
            yield from strings(value, key)
    elif isinstance(node, list):
        for value in node:
            yield from strings(value, name)


async def everything_happens(site: Site) -> bytes:
    """Do it all, look at what a running deployment shows, and give a dump of its database."""
    await ordinary_business(site)
    await careless_processor(site)
    await failing_processor(site)
    await hostile_clients(site)
    site.hits += site.search.within(await exposition(site), "metrics")
    for where, content in processes(site):
        site.hits += site.search.within(content, where)
    await dying_children(site)
    dumped = await dump(site)
    site.hits += site.search.within(dumped, "the dump")
    return dumped


# --- the tests ----------------------------------------------------------------------------


@pytest.mark.guards("T-30")
@pytest.mark.guards("T-36")
@pytest.mark.guards("T-38")
@pytest.mark.guards("T-64")
async def test_a_deployment_keeps_no_card_number(tmp_path: Path) -> None:
    folder = tmp_path / "deployment"
    gateway = Gateway(tmp_path / "written", "--embedded", str(folder))
    site = Site(gateway, folder, CardSearch(), [])
    try:
        gateway.until_ready()
        dumped = await everything_happens(site)
    finally:
        status = gateway.stop()
    site.hits += site.search.in_folder(tmp_path)
    assert site.hits == []
    assert codes_in_the_clear(site, dumped) == []
    assert status == 0


@pytest.mark.guards("T-36")
def test_no_test_left_a_card_number(
    tmp_path_factory: pytest.TempPathFactory, captured: Captured
) -> None:
    """In the folders of all deployments of this session, and in what its tests wrote."""
    search = CardSearch()
    base = tmp_path_factory.getbasetemp()
    deployments = {lock.parent for lock in base.rglob("lock") if (lock.parent / "openbao").is_dir()}
    hits = [hit for folder in deployments for hit in search.in_folder(folder)]
    for log in base.rglob("gateway.???"):
        hits += search.within(log.read_bytes(), str(log))
    assert deployments
    assert captured.reports
    assert hits + captured.hits == []
