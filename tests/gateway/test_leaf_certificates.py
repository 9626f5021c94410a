"""Contexts of hosts: one signing each, renewed in time, never more than so many, on no disk."""

import asyncio
import ssl
import subprocess
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from gateway import leaf_certificates
from gateway.leaf_certificates import (
    FAILED_SECONDS,
    ISSUER_SECONDS,
    LeafCertificates,
    check_memory_files,
)
from vault.authority import Issued
from vault.errors import KeysError, KeysSealed, StartRefused

NOW = datetime(2026, 1, 2, tzinfo=UTC)
LIFE = timedelta(days=3)
HOST = "api.stripe.com"


@dataclass
class Signer:
    """Signs what it is asked for, counts, and can be away or rotated."""

    at: datetime = NOW
    signed: list[str] = field(default_factory=list)
    looks: int = 0
    under_way: int = 0
    most_under_way: int = 0
    away: type[KeysError] | None = None
    generation: int = 1
    key: ec.EllipticCurvePrivateKey = field(
        default_factory=lambda: ec.generate_private_key(ec.SECP256R1())
    )

    async def sign(self, host: str, csr: bytes) -> Issued:
        self.signed.append(host)
        self.under_way += 1
        self.most_under_way = max(self.under_way, self.most_under_way)
        await asyncio.sleep(0)
        self.under_way -= 1
        if self.away is not None:
            raise self.away
        request = x509.load_pem_x509_csr(csr)
        assert request.is_signature_valid
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
        made = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(request.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(self.at)
            .not_valid_after(self.at + LIFE)
            .sign(self.key, hashes.SHA256())
        )
        pem = made.public_bytes(serialization.Encoding.PEM)
        return Issued(pem, b"%d" % self.generation, self.at, self.at + LIFE)

    async def issuer(self) -> bytes:
        self.looks += 1
        if self.away is not None:
            raise self.away
        return b"%d" % self.generation


class Times:
    """A clock and a stopwatch that go together."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> datetime:
        return NOW + timedelta(seconds=self.seconds)

    def monotonic(self) -> float:
        return self.seconds


@pytest.fixture
def signer() -> Signer:
    return Signer()


@pytest.fixture
def times() -> Times:
    return Times()


@pytest.fixture
async def leaves(signer: Signer, times: Times) -> LeafCertificates:
    made = LeafCertificates(signer, now=times.now, monotonic=times.monotonic, contexts_max=4)
    await made.start()
    return made


async def test_a_hundred_who_ask_at_once_cost_one_signing(
    leaves: LeafCertificates, signer: Signer
) -> None:
    contexts = await asyncio.gather(*(leaves.context_for(HOST) for _ in range(100)))
    assert len(set(map(id, contexts))) == 1
    assert signer.signed == [HOST]
    assert signer.looks == 1


async def test_hosts_have_contexts_of_their_own_and_few_are_signed_at_once(
    leaves: LeafCertificates, signer: Signer
) -> None:
    hosts = [f"h{n}.example" for n in range(4)]
    contexts = await asyncio.gather(*map(leaves.context_for, hosts))
    assert len(set(map(id, contexts))) == 4
    assert sorted(signer.signed) == hosts
    assert signer.most_under_way == leaf_certificates.SIGNINGS_AT_ONCE


async def test_only_so_many_are_kept_and_the_one_not_used_for_longest_goes(
    leaves: LeafCertificates, signer: Signer
) -> None:
    for n in (0, 1, 2, 3, 0, 4, 0, 1):  # 4 pushes 1 out, which is then signed again
        await leaves.context_for(f"h{n}.example")
    assert signer.signed == [f"h{n}.example" for n in (0, 1, 2, 3, 4, 1)]
    assert len(leaves._hosts) == 4


async def test_a_certificate_is_renewed_while_a_third_of_its_life_is_left(
    leaves: LeafCertificates, signer: Signer, times: Times
) -> None:
    first = await leaves.context_for(HOST)
    times.seconds = (LIFE * 2 / 3).total_seconds() - 1
    assert await leaves.context_for(HOST) is first
    times.seconds += 2
    signer.at = times.now()
    assert await leaves.context_for(HOST) is not first
    assert len(signer.signed) == 2


async def test_one_that_cannot_be_renewed_serves_to_its_end(
    leaves: LeafCertificates, signer: Signer, times: Times
) -> None:
    first = await leaves.context_for(HOST)
    signer.away = KeysSealed
    times.seconds = LIFE.total_seconds() - 1
    assert await leaves.context_for(HOST) is first
    times.seconds += 2
    with pytest.raises(KeysSealed):
        await leaves.context_for(HOST)


async def test_those_who_wait_for_a_signing_that_fails_hear_it_at_once(
    leaves: LeafCertificates, signer: Signer, times: Times
) -> None:
    signer.away = KeysSealed
    ends = await asyncio.gather(
        *(leaves.context_for(HOST) for _ in range(100)), return_exceptions=True
    )
    assert {type(end) for end in ends} == {KeysSealed}
    assert len(signer.signed) == 1
    signer.away = None
    times.seconds += FAILED_SECONDS
    await leaves.context_for(HOST)


async def test_a_waiter_that_gives_up_leaves_the_signing_to_the_next(
    leaves: LeafCertificates, signer: Signer
) -> None:
    first = asyncio.ensure_future(leaves.context_for(HOST))
    second = asyncio.ensure_future(leaves.context_for(HOST))
    while not signer.signed:  # noqa: ASYNC110 - until the first is in the midst of it
        await asyncio.sleep(0)
    first.cancel()
    assert isinstance(await second, ssl.SSLContext)


async def test_another_issuer_is_noticed_within_half_a_minute(
    leaves: LeafCertificates, signer: Signer, times: Times
) -> None:
    first = await leaves.context_for(HOST)
    signer.generation = 2
    times.seconds = ISSUER_SECONDS - 1
    assert await leaves.context_for(HOST) is first
    times.seconds = ISSUER_SECONDS
    assert await leaves.context_for(HOST) is not first
    assert ISSUER_SECONDS < 60
    assert signer.looks == 2


async def test_while_nobody_tells_the_issuer_all_goes_on(
    leaves: LeafCertificates, signer: Signer, times: Times
) -> None:
    first = await leaves.context_for(HOST)
    signer.away = KeysSealed
    times.seconds = ISSUER_SECONDS
    assert await leaves.context_for(HOST) is first
    assert len(signer.signed) == 1


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_machine_without_files_in_memory_stops_the_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    check_memory_files()
    before = descriptors()
    check_memory_files()
    assert descriptors() == before
    monkeypatch.setattr(leaf_certificates, "_MEMORY", "/nowhere/{}")
    with pytest.raises(StartRefused):
        check_memory_files()


AS_AN_ORDINARY_USER = """
import os
from gateway.hardening import close_process
from gateway.leaf_certificates import check_memory_files
if os.geteuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
close_process()
check_memory_files()
print("good")
"""


def test_a_closed_process_of_an_ordinary_user_can_use_its_keys() -> None:
    """PR_SET_DUMPABLE=0 gives /proc/self to root; our own descriptors stay ours."""
    command = [sys.executable, "-c", AS_AN_ORDINARY_USER]
    said = subprocess.run(command, capture_output=True, check=True)  # noqa: S603 - our own words
    assert said.stdout == b"good\n"
