"""A client certificate in the place of a key: on the private listener and on a route's port."""

import asyncio
import os
import secrets
import shutil
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest
import trustme

from gateway.sandbox.processor import Processor
from tests.cards import VISA_ALT
from tests.flows.conftest import Witness
from tests.flows.deployment import Deployment, said_by_panward
from tests.flows.leaks import first_leak
from tests.flows.merchant import INTENTS, Merchant, form, payment
from tests.flows.processor import ProcessorControl
from tests.flows.sdks import Desk
from tests.flows.wire import Wire

pytestmark = [pytest.mark.embedded, pytest.mark.guards("T-28")]

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
SALE = """<?xml version="1.0" encoding="UTF-8"?>
<transaction><type>sale</type><amount>10.99</amount><credit-card><number>{number}</number>
<expiration-date>12/2034</expiration-date><cvv>000</cvv></credit-card></transaction>"""
CHARGE = """<createTransactionRequest xmlns="AnetApi/xml/v1/schema/AnetApiSchema.xsd">
<merchantAuthentication><name>{user}</name><transactionKey>{api_key}</transactionKey>
</merchantAuthentication><transactionRequest><transactionType>authOnlyTransaction</transactionType>
<amount>10.99</amount><payment><creditCard><cardNumber>{number}</cardNumber>
<expirationDate>2034-12</expirationDate><cardCode>000</cardCode></creditCard></payment>
</transactionRequest></createTransactionRequest>"""


@dataclass(frozen=True)
class Certificate:
    """A client's certificate and its key, as files."""

    chain: Path
    key: Path

    @classmethod
    def issued(cls, authority: trustme.CA, folder: Path) -> "Certificate":
        name = secrets.token_hex(4)
        made = authority.issue_cert(f"{name}.shop.test")
        files = cls(folder / f"{name}.pem", folder / f"{name}.key")
        made.cert_chain_pems[0].write_to_path(str(files.chain))
        made.private_key_pem.write_to_path(str(files.key))
        return files

    @asynccontextmanager
    async def client(self, deployment: Deployment) -> AsyncIterator[Wire]:
        context: ssl.SSLContext = deployment.client_context()
        context.load_cert_chain(self.chain, self.key)
        connector = aiohttp.TCPConnector(ssl=context)
        async with aiohttp.ClientSession(connector=connector) as session:
            yield Wire(session)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("clients")


@pytest.fixture(scope="module")
def known(deployment: Deployment, desk: Desk, authority: trustme.CA, folder: Path) -> Certificate:
    """Give a certificate that stands for the seller's key."""
    made = Certificate.issued(authority, folder)
    words = ("--form", "client_certificate", "--certificate", str(made.chain))
    said_by_panward(deployment, "tenants", "key-alias", desk.seller.key.id, *words)
    return made


async def test_it_is_who_calls_and_no_key_is_needed(
    deployment: Deployment,
    desk: Desk,
    till: Merchant,
    known: Certificate,
    processor: ProcessorControl,
) -> None:
    """What stands where the processor's key would is nobody's, or not there."""
    token = await till.token(VISA_ALT)
    url = f"{desk.beside.urls.private}/out/stripe{INTENTS}"
    async with known.client(deployment) as wire:
        body = form(payment(token, cvc="000"))
        reply = await wire("POST", url, body, headers=FORM)
        assert (reply.status, reply.json()["status"]) == (200, "succeeded")
        assert processor.numbers[-1] == VISA_ALT
        assert (await till.authorization(reply))["tokens"] == [token]

        token = await till.token(VISA_ALT)
        headers = {"Content-Type": "application/xml", "X-ApiVersion": "6"}
        url = f"{desk.beside.roots['braintree']}/merchants/shop/transactions"
        sale = SALE.format(number=token).encode()
        reply = await wire("POST", url, sale, headers=headers | {"Authorization": "Basic eDp5"})
        assert reply.status == 201, reply.body
        assert (await till.authorization(reply))["result"] == "approved"


async def test_with_the_merchants_own_login_it_needs_no_header(
    deployment: Deployment, desk: Desk, till: Merchant, known: Certificate, pair: Processor
) -> None:
    """So Authorize.Net's own login can come by base URL, whose SDK adds no header."""
    token = await till.token(VISA_ALT)
    own = desk.seller.own["authorizenet"]
    url = f"{desk.beside.urls.private}/out/authorize_net_own/xml/v1/request.api"
    async with known.client(deployment) as wire:
        body = CHARGE.format(number=token, **own).encode()
        reply = await wire("POST", url, body, headers={"Content-Type": "application/xml"})
    assert b"<responseCode>1</responseCode>" in reply.body
    assert pair.received[-1].account == desk.seller.pair_account
    assert (await till.authorization(reply))["result"] == "approved"


async def test_another_certificate_of_the_same_authority_is_nobodys(
    deployment: Deployment,
    desk: Desk,
    till: Merchant,
    authority: trustme.CA,
    folder: Path,
    nothing_happens: Witness,
) -> None:
    """Even with a good key: who shows a certificate is whose it is."""
    token = await till.token(VISA_ALT)
    url = f"{desk.beside.urls.private}/out/stripe{INTENTS}"
    headers = FORM | {"Authorization": f"Bearer {desk.seller.key.text}"}
    stranger = Certificate.issued(authority, folder)
    async with nothing_happens(), stranger.client(deployment) as wire:
        reply = await wire("POST", url, form(payment(token)), headers=headers)
    assert (reply.status, reply.error["code"]) == (401, "not_authenticated")


async def test_of_another_authority_none_is_taken(
    deployment: Deployment, desk: Desk, folder: Path, nothing_happens: Witness
) -> None:
    stranger = Certificate.issued(trustme.CA(), folder)
    url = f"{desk.beside.urls.private}/out/stripe{INTENTS}"
    async with nothing_happens(), stranger.client(deployment) as wire:
        with pytest.raises(aiohttp.ClientError):
            await wire("POST", url, b"a=b", headers=FORM)


async def test_curl_pays_with_a_certificate(
    deployment: Deployment,
    desk: Desk,
    till: Merchant,
    known: Certificate,
    processor: ProcessorControl,
) -> None:
    curl = shutil.which("curl")
    assert curl is not None
    token = await till.token(VISA_ALT)
    body = form(payment(token)).decode()
    url = f"{desk.beside.urls.private}/out/stripe{INTENTS}"
    certificate = ("--cert", str(known.chain), "--key", str(known.key))
    process = await asyncio.create_subprocess_exec(
        *(curl, "-sS", "--cacert", str(deployment.ca_file), *certificate, "--data", body, url),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={"PATH": os.environ["PATH"], "NO_PROXY": "127.0.0.1"},
    )
    said, _ = await process.communicate()
    assert first_leak(said) is None
    assert b'"status": "succeeded"' in said
    assert processor.numbers[-1] == VISA_ALT
