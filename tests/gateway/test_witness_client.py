"""What each answer of a witness means, as it comes over the network."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from gateway.https_client import HttpsClient, Unwatched
from gateway.witness_client import REPLY_BYTES_MAX, HttpsWitness, witness_key
from tests.gateway.raw_servers import (
    LOOPBACK,
    Certificates,
    Script,
    Server,
    at,
    once,
    reply,
    say_nothing,
    serving,
)
from tests.gateway.witness.signed_log import SignedLog
from vault.ledger.note import COSIGNATURE, COSIGNATURE_ML_DSA, NoteRefused, VerifierKey
from vault.witnessing import (
    Cosigned,
    HoldsOther,
    NoExtension,
    Result,
    Unusable,
    WitnessAnswer,
)

LOG = SignedLog.of_size(9)
KEY = VerifierKey("witness.example/w1", COSIGNATURE, bytes(32))
SIZE = "Content-Type: text/x.tlog.size"
UNREACHABLE, INVALID = Unusable(Result.UNREACHABLE), Unusable(Result.INVALID)
NOT_ACCEPTED = Unusable(Result.NOT_ACCEPTED)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@asynccontextmanager
async def witness_at(server: Server, certificates: Certificates) -> AsyncIterator[HttpsWitness]:
    client = HttpsClient(
        f"https://processor.test:{server.port}/w",
        Unwatched(),
        name="w1",
        ca_file=certificates.ca_file,
        address_allow=LOOPBACK,
        timeout_seconds=1.0,
        reply_bytes_max=REPLY_BYTES_MAX,
        lookup=at("127.0.0.1"),
    )
    witness = HttpsWitness("w1", KEY, client)
    try:
        yield witness
    finally:
        await witness.close()


async def answer(
    certificates: Certificates, script: Script, *, old: int = 2, size: int = 5
) -> WitnessAnswer:
    async with (
        serving(script, certificates.server) as server,
        witness_at(server, certificates) as witness,
    ):
        found = await witness.add(LOG.request(old, size))
    assert server.connections == 1, "asked once, whatever came of it"
    return found


async def test_it_is_asked_as_the_protocol_says(certificates: Certificates) -> None:
    async with (
        serving(once(reply(b"lines\n")), certificates.server) as server,
        witness_at(server, certificates) as witness,
    ):
        assert await witness.add(LOG.request(2, 3)) == Cosigned(b"lines\n")
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /w/add-checkpoint HTTP/1.1\r\n")
    assert body == (b"old 2\n3t8ellaME6WCe7y4TZIK2yHZibXaT2Hea9Bg5SeS2pE=\n\n" + LOG.note(3).raw)


STATUSES: dict[str, tuple[bytes, WitnessAnswer]] = {
    "200": (reply(b"x"), Cosigned(b"x")),
    "422": (reply(b"", status="422 Unprocessable Entity"), NoExtension()),
    "409 smaller": (reply(b"0\n", SIZE, status="409 Conflict"), HoldsOther(0)),
    "409 larger": (
        reply(b"9223372036854775807\n", SIZE, status="409 Conflict"),
        HoldsOther(2**63 - 1),
    ),
    "409 the same": (reply(b"2\n", SIZE, status="409 Conflict"), INVALID),
    "409 untyped": (
        reply(b"4\n", "Content-Type: text/plain", status="409 Conflict"),
        INVALID,
    ),
    "409 garbage": (reply(b"\xff\n", SIZE, status="409 Conflict"), INVALID),
    "409 signed": (reply(b"-1\n", SIZE, status="409 Conflict"), INVALID),
    "409 zeros": (reply(b"04\n", SIZE, status="409 Conflict"), INVALID),
    "409 huge": (reply(b"9" * 30 + b"\n", SIZE, status="409 Conflict"), INVALID),
    "409 two": (reply(b"4\n5\n", SIZE, status="409 Conflict"), INVALID),
    "400": (reply(b"", status="400 Bad Request"), NOT_ACCEPTED),
    "403": (reply(b"", status="403 Forbidden"), NOT_ACCEPTED),
    "404": (reply(b"", status="404 Not Found"), NOT_ACCEPTED),
    "401": (reply(b"", status="401 Unauthorized"), NOT_ACCEPTED),
    "429": (reply(b"", status="429 Too Many Requests"), UNREACHABLE),
    "500": (reply(b"", status="500 Oh"), UNREACHABLE),
    "503": (reply(b"", status="503 Oh"), UNREACHABLE),
    "201": (reply(b"", status="201 Created"), INVALID),
    "302": (reply(b"", "Location: /", status="302 Found"), UNREACHABLE),
    "too much": (reply(bytes(REPLY_BYTES_MAX + 1)), UNREACHABLE),
    "no http": (b"garbage\r\n\r\n", UNREACHABLE),
    "nothing": (b"", UNREACHABLE),
}


@pytest.mark.parametrize(("told", "meant"), STATUSES.values(), ids=STATUSES)
async def test_each_answer_has_one_meaning(
    certificates: Certificates, told: bytes, meant: WitnessAnswer
) -> None:
    assert await answer(certificates, once(told)) == meant


async def test_silence_is_no_answer(certificates: Certificates) -> None:
    assert await answer(certificates, say_nothing) == UNREACHABLE


@pytest.mark.guards("T-75")
@pytest.mark.parametrize("body", [b"", b"5\n", b"other root\n"])
@pytest.mark.parametrize("kind", [SIZE, "Content-Type: text/plain"])
async def test_a_conflict_about_the_very_size_that_was_asked_is_another_root(
    certificates: Certificates, body: bytes, kind: str
) -> None:
    told = once(reply(body, kind, status="409 Conflict"))
    assert await answer(certificates, told, old=5, size=5) == NoExtension()


def test_a_witnesss_key_signs_cosignatures() -> None:
    assert witness_key(KEY.text) == KEY
    post_quantum = VerifierKey("witness.example/w1", COSIGNATURE_ML_DSA, bytes(1312))
    assert witness_key(post_quantum.text) == post_quantum
    for text in (LOG.key.text, "", KEY.text[:-1]):
        with pytest.raises(NoteRefused):
            witness_key(text)
