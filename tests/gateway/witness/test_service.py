"""The witness as it is spoken to: over TLS, every status of the protocol, several at once."""

import asyncio
import base64
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from gateway.witness.service import BODY_BYTES_MAX, logs_of, names_of
from tests.gateway.witness.places import NAME, START, Place, Tls
from tests.gateway.witness.signed_log import SignedLog
from vault.errors import StartRefused
from vault.ledger.checkpoint import AddCheckpoint
from vault.ledger.note import COSIGNATURE, VerifierKey, parse_note, parse_signatures, verified


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    return Tls(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def log() -> SignedLog:
    return SignedLog.of_size(20)


@pytest.fixture
def place(tmp_path: Path, tls: Tls, log: SignedLog) -> Place:
    return Place(tmp_path / "witness", tls, [log])


async def test_a_cosignature_verifies_with_nothing_of_ours(place: Place, log: SignedLog) -> None:
    async with place.started() as running, place.https(running.port) as client:
        answer = await client.post("/add-checkpoint", log.request(0).body)
    assert (answer.status, answer.content_type) == (200, "text/plain; charset=utf-8")
    dash, name, encoded = answer.body.decode().removesuffix("\n").split(" ")
    raw = base64.b64decode(encoded)
    vkey_name, key_id, typed_key = running.key.text.split("+", 2)
    assert (dash, name) == ("\u2014", NAME) == ("\u2014", vkey_name)
    assert raw[:4].hex() == key_id
    time = int.from_bytes(raw[4:12])
    assert time == START.timestamp()
    public_key = Ed25519PublicKey.from_public_bytes(base64.b64decode(typed_key)[1:])
    public_key.verify(raw[12:], f"cosignature/v1\ntime {time}\n{log.note().text}".encode())


async def test_every_status_of_the_protocol(place: Place, log: SignedLog) -> None:
    other = SignedLog.of_size(5, origin="ledger.example/unknown")
    impostor = SignedLog.of_size(9, seed=bytes(32))
    story = [
        (log.request(0, 5).body, 200),
        (log.request(0, 9).body, 409),
        (log.request(5, 9).body, 200),
        (log.request(5, 9).body, 409),
        (log.request(9, 9).body, 200),
        (log.request(9, 5).body, 400),  # more than the checkpoint has
        (log.request(5, 5).body, 409),
        (log.forked(3).request(9, 9).body, 422),
        (log.forked(3).request(9, 20).body, 422),
        (AddCheckpoint(9, (), log.note(20)).body, 422),
        (b"old 9\n\n", 400),
        (other.request(0).body, 404),
        (impostor.request(9).body, 403),
        (log.request(9, 20).body, 200),
    ]
    held = 0
    async with place.started() as running, place.https(running.port) as client:
        for body, status in story:
            answer = await client.post("/add-checkpoint", body)
            assert answer.status == status
            if status == 409:
                assert answer.content_type == "text/x.tlog.size"
                assert answer.body == b"%d\n" % held
            if status == 200:
                (line,) = parse_signatures(answer.body)
                assert (line.name, line.key_id) == (NAME, running.key.key_id)
                held = int(body.split(b"\n\n")[1].split(b"\n")[1])
    events = [json.loads(each) for each in place.told.getvalue().splitlines()]
    assert [event["status"] for event in events] == [status for _, status in story]
    assert {event.get("code") for event in events} == {
        None,
        "held_other",
        "malformed",
        "no_extension",
        "not_signed",
        "unknown_log",
    }


async def test_auditors_see_what_was_last_cosigned(place: Place, log: SignedLog) -> None:
    async with place.started() as running, place.https(running.port) as client:
        assert (await client.get(log.path)).status == 404
        await client.post("/add-checkpoint", log.request(0, 5).body)
        await client.post("/add-checkpoint", log.request(5, 9).body)
        answer = await client.get(log.path)
        unknown = await client.get("/" + "0" * 64 + "/checkpoint")
        elsewhere = await client.get("/checkpoint")
    assert (answer.status, answer.content_type) == (200, "text/plain; charset=utf-8")
    note = parse_note(answer.body)
    assert note.text == log.note(9).text
    assert {each.key for each in verified(note, [log.key, running.key])} == {log.key, running.key}
    assert (unknown.status, elsewhere.status) == (404, 404)


@pytest.mark.guards("T-75")
async def test_what_was_cosigned_outlives_the_process(place: Place, log: SignedLog) -> None:
    keys = set()
    for old, size in ((0, 5), (5, 10), (10, 20)):
        async with place.started() as running, place.https(running.port) as client:
            keys.add(running.key)
            if old:
                answer = await client.post("/add-checkpoint", log.forked(0).request(0).body)
                assert (answer.status, answer.body) == (409, b"%d\n" % old)
            answer = await client.post("/add-checkpoint", log.request(old, size).body)
            assert answer.status == 200
    assert len(keys) == 1


@pytest.mark.guards("T-75")
async def test_of_two_histories_at_once_one_is_cosigned(place: Place, log: SignedLog) -> None:
    bodies = [log.request(0).body, log.forked(0).request(0).body] * 8
    async with (
        place.started() as running,
        place.https(running.port) as one,
        place.https(running.port) as other,
    ):
        calls = zip([one, other, other, one] * 4, bodies, strict=True)
        answers = await asyncio.gather(
            *(client.post("/add-checkpoint", body) for client, body in calls)
        )
    assert [answer.status for answer in answers].count(200) == 1
    assert {answer.body for answer in answers if answer.status == 409} == {b"20\n"}


async def test_a_body_is_small(place: Place, log: SignedLog) -> None:
    async with place.started() as running, place.https(running.port) as client:
        answer = await client.post("/add-checkpoint", bytes(BODY_BYTES_MAX + 1))
        assert answer.status == 413
        assert (await client.post("/add-checkpoint", log.request(0).body)).status == 200
        assert (await client.get("/add-checkpoint")).status == 405


def test_the_names_of_a_certificate_are_those_of_the_witness(tls: Tls, tmp_path: Path) -> None:
    assert names_of(tls.certificate) == {"localhost", "127.0.0.1", "witness.test"}
    assert names_of(tls.private_key) == names_of(tmp_path / "none") == frozenset()


def test_keys_of_logs_are_read_or_refused() -> None:
    log, other = SignedLog.of_size(1), SignedLog.of_size(1, seed=bytes(32))
    assert logs_of([log.key.text, other.key.text]) == {log.key.name: (log.key, other.key)}
    cosigner = VerifierKey(NAME, COSIGNATURE, log.key.public_key)
    for text in ["", "nonsense", log.key.text + "A", cosigner.text]:
        with pytest.raises(StartRefused, match="--log"):
            logs_of([text])
