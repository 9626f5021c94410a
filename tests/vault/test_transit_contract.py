"""What custody relies on, promised by the test Vault and kept by a real OpenBao."""

import asyncio
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import msgspec
import pytest

from tests.vault.fake_node import fake_cluster
from tests.vault.places import Place, place_of_cluster, place_of_openbao
from vault.errors import (
    CustodyError,
    KeysMisconfigured,
    KeyVersionRetired,
    RecordCorrupt,
)
from vault.transit import Transit
from vault.transit_answers import Verdict
from vault.transit_items import Decrypt, DecryptItem, Encrypted, EncryptItem, HmacItem, Request


@pytest.fixture(params=["fake", pytest.param("openbao", marks=pytest.mark.embedded)])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    if request.param == "openbao":
        yield place_of_openbao(request.getfixturevalue("embedded"))
    else:
        with fake_cluster() as cluster:
            yield place_of_cluster(cluster)


def plaintext(n: int) -> bytes:
    return b"plaintext number %d" % n


def context(n: int) -> bytes:
    return b"context number %d" % n


async def sealed(place: Place, number: int, key: str = "pan") -> list[Encrypted]:
    role = "reveal" if key == "reply" else "tokenize"
    async with place.transit(role) as transit:
        items = [EncryptItem(plaintext(n), context(n)) for n in range(number)]
        return successes(await transit.encrypt(key, items))


def successes(outcomes: Sequence[Encrypted | CustodyError]) -> list[Encrypted]:
    made = [outcome for outcome in outcomes if isinstance(outcome, Encrypted)]
    assert len(made) == len(outcomes)
    return made


def to_open(rows: Sequence[Encrypted], *, act: str = "") -> list[DecryptItem]:
    act = act or secrets.token_hex(8)
    return [DecryptItem(row.ciphertext, context(n), f"{act}/{n}") for n, row in enumerate(rows)]


def spoiled(item: DecryptItem, how: str) -> DecryptItem:
    start, _, body = item.ciphertext.rpartition(":")
    match how:
        case "context":
            return DecryptItem(item.ciphertext, b"another", item.reference)
        case "tag":
            changed = body[:20] + ("A" if body[20] != "A" else "B") + body[21:]
            return DecryptItem(f"{start}:{changed}", item.context, item.reference)
        case "short":
            return DecryptItem(f"{start}:AAAA", item.context, item.reference)
        case _:
            return DecryptItem(f"{start}:{body[:-5]}", item.context, item.reference)


async def test_what_is_sealed_opens_again_in_its_own_context(place: Place) -> None:
    rows = await sealed(place, 3)
    assert all(row.ciphertext.startswith(f"vault:v{row.key_version}:") for row in rows)
    async with place.transit("reveal") as transit:
        assert await transit.decrypt("pan", to_open(rows)) == [plaintext(n) for n in range(3)]


async def test_129_items_take_two_calls(place: Place) -> None:
    rows = await sealed(place, 129)
    async with place.transit("reveal") as transit:
        opened = await transit.decrypt("pan", to_open(rows))
    assert opened == [plaintext(n) for n in range(129)]


@pytest.mark.guards("T-20")
@pytest.mark.parametrize("how", ["context", "tag", "short", "base64"])
@pytest.mark.parametrize("bad", [1, 64, 127, 128])
async def test_every_item_of_a_mixed_batch_has_its_own_outcome(
    place: Place, bad: int, how: str
) -> None:
    items = to_open(await sealed(place, 128))
    spoiled_items = [spoiled(item, how) if n < bad else item for n, item in enumerate(items)]
    async with place.transit("reveal") as transit:
        outcomes = await transit.decrypt("pan", spoiled_items)
    assert {type(outcome) for outcome in outcomes[:bad]} == {RecordCorrupt}
    assert outcomes[bad:] == [plaintext(n) for n in range(bad, 128)]


async def test_a_ciphertext_opens_under_no_other_key(place: Place) -> None:
    items = to_open(await sealed(place, 2))
    async with place.transit("reveal") as transit:
        outcomes = await transit.decrypt("cvc", items)
    # Which error depends on what the versions of that other key happen to be.
    assert all(isinstance(outcome, CustodyError) for outcome in outcomes)


@pytest.mark.guards("T-69")
@pytest.mark.parametrize("culprit", [0, 77, 127])
async def test_a_poisonous_item_fails_alone(place: Place, culprit: int) -> None:
    """Such an item cannot be made; here one is, as a later mistake of ours might."""
    items = to_open(await sealed(place, 128))
    object.__setattr__(items[culprit], "context", b"")
    async with place.transit("reveal") as transit:
        outcomes = await transit.decrypt("pan", items)
    assert isinstance(outcomes[culprit], RecordCorrupt)
    assert [o for n, o in enumerate(outcomes) if n != culprit] == [
        plaintext(n) for n in range(128) if n != culprit
    ]


@pytest.mark.guards("T-69")
async def test_a_poisonous_item_to_be_sealed_fails_alone(place: Place) -> None:
    items = [EncryptItem(plaintext(n), context(n)) for n in range(128)]
    object.__setattr__(items[50], "context", b"")
    async with place.transit("tokenize") as transit:
        outcomes = await transit.encrypt("pan", items)
    assert isinstance(outcomes[50], RecordCorrupt)
    assert len(successes([*outcomes[:50], *outcomes[51:]])) == 127


@dataclass(frozen=True)
class Stripped(Decrypt):
    """A decrypt that leaves out the parameter which keeps a mixed batch from being a 400."""

    def body(self, items: Sequence[DecryptItem], references: Sequence[str]) -> bytes:
        body = msgspec.json.decode(super().body(items, references))
        del body["partial_failure_response_code"]
        return msgspec.json.encode(body)


@pytest.mark.guards("T-67")
async def test_a_mixed_batch_that_comes_as_a_400_is_read_all_the_same(place: Place) -> None:
    items = to_open(await sealed(place, 3))
    items[1] = spoiled(items[1], "tag")
    async with place.transit("reveal") as transit:
        outcomes = await transit._carry_out(Stripped("pan"), items)
    assert outcomes[::2] == [plaintext(0), plaintext(2)]
    assert isinstance(outcomes[1], RecordCorrupt)


async def test_the_same_input_has_the_same_mac_and_another_one_another(place: Place) -> None:
    async with place.transit("tokenize") as transit:
        items = [HmacItem(b"one"), HmacItem(b"one"), HmacItem(b"two")]
        one, again, two = await transit.hmac("fingerprint", 1, items)
        other_key = await transit.hmac("digest", 1, items[:1])
    assert isinstance(one, bytes)
    assert len(one) == 32
    assert one == again
    assert two != one
    assert other_key != [one]


async def test_a_version_that_does_not_exist_is_a_misconfiguration(place: Place) -> None:
    async with place.transit("tokenize") as transit:
        (outcome,) = await transit.hmac("fingerprint", 99, [HmacItem(b"one")])
    assert isinstance(outcome, KeysMisconfigured)


@pytest.mark.guards("T-63")
@pytest.mark.parametrize("key", ["pan", "unknown"])
async def test_what_the_policy_does_not_grant_is_a_misconfiguration(place: Place, key: str) -> None:
    rows = await sealed(place, 2)
    async with place.transit("tokenize") as transit:
        outcomes = await transit.decrypt(key, to_open(rows))
        assert [type(outcome) for outcome in outcomes] == [KeysMisconfigured, KeysMisconfigured]
        assert successes(await transit.encrypt("pan", [EncryptItem(b"p", b"c")]))


@pytest.mark.guards("F-08")
async def test_a_rotated_key_opens_old_versions_until_they_are_retired(place: Place) -> None:
    (old,) = await sealed(place, 1, "cvc")
    async with place.transit("reveal") as transit:
        await post(transit, "/v1/transit/keys/cvc/rotate")
        (new,) = await sealed(place, 1, "cvc")
        assert new.key_version == old.key_version + 1
        assert (await transit.read_key("cvc")).latest_version == new.key_version
        items = [*to_open([old]), *to_open([new])]
        assert await transit.decrypt("cvc", items) == [plaintext(0), plaintext(0)]
        minima = {
            "min_decryption_version": new.key_version,
            "min_encryption_version": new.key_version,
        }
        await post(transit, "/v1/transit/keys/cvc/config", minima)
        retired, opened = await transit.decrypt("cvc", items)
    assert isinstance(retired, KeyVersionRetired)
    assert opened == plaintext(0)


async def post(transit: Transit, path: str, body: dict[str, int] | None = None) -> None:
    answer = await transit.ask(Request("rotate", "POST", path, msgspec.json.encode(body or {})))
    assert answer.verdict is Verdict.ANSWERED


@pytest.mark.guards("F-04")
async def test_a_token_that_ended_is_replaced_unseen(place: Place) -> None:
    async with place.transit("tokenize") as transit:
        stale = await transit._login.token()
        revoke = Request("revoke", "POST", "/v1/auth/token/revoke-self")
        assert (await transit._nodes.send(revoke, stale)).verdict is Verdict.ANSWERED
        successes(await transit.encrypt("pan", [EncryptItem(b"p", b"c")]))
        assert await transit._login.token() != stale


async def test_a_token_can_be_renewed(place: Place) -> None:
    async with place.transit("tokenize") as transit:
        token = transit._login._token
        assert token is not None
        await transit._login._renew(token)
        assert transit._login._token is not token
        assert transit._login._token is not None
        assert transit._login._token.text == token.text
        successes(await transit.encrypt("pan", [EncryptItem(b"p", b"c")]))


@pytest.mark.parametrize(
    ("key", "kind", "derived", "seconds"),
    [
        ("pan", "aes256-gcm96", True, 7_776_000),
        ("cvc", "aes256-gcm96", True, 3600),
        ("reply", "aes256-gcm96", True, 7_776_000),
        ("fingerprint", "hmac", False, 0),
        ("digest", "hmac", False, 0),
    ],
)
async def test_the_settings_of_a_key_can_be_read(
    place: Place, key: str, kind: str, *, derived: bool, seconds: int
) -> None:
    async with place.transit("tokenize") as transit:
        found = await transit.read_key(key)
    assert (found.type, found.derived, found.auto_rotate_period) == (kind, derived, seconds)
    assert found.latest_version >= 1
    assert {found.exportable, found.allow_plaintext_backup, found.deletion_allowed} == {False}


@pytest.mark.guards("F-09")
async def test_a_key_that_does_not_exist_is_a_misconfiguration(place: Place) -> None:
    async with place.transit("tokenize") as transit:
        with pytest.raises(KeysMisconfigured):
            await transit.read_key("nosuch")


async def test_a_secret_is_written_once_and_read_by_the_other_login(place: Place) -> None:
    path = f"processor/t_01/route_{secrets.token_hex(4)}"
    async with place.transit("credentials") as transit, place.transit("reveal") as reader:
        assert await reader.read_secret(path) is None
        assert await transit.write_secret(path, {"api_key": "one"}, cas=0) == 1
        assert await transit.write_secret(path, {"api_key": "late"}, cas=0) is None
        assert await transit.write_secret(path, {"api_key": "two"}, cas=1) == 2
        secret = await reader.read_secret(path)
        with pytest.raises(KeysMisconfigured):
            await transit.read_secret(path)
    assert secret is not None
    assert (secret.data, secret.version) == ({"api_key": "two"}, 2)
    assert "two" not in repr(secret)


async def test_who_may_not_read_secrets_can_still_see_what_is_there(place: Place) -> None:
    tenant, route = (f"x_{secrets.token_hex(4)}" for _ in range(2))
    async with place.transit("credentials") as transit:
        assert await transit.secret_version(f"processor/{tenant}/{route}") == 0
        assert await transit.list_secrets(f"processor/{tenant}") == []
        for version in range(2):
            await transit.write_secret(f"processor/{tenant}/{route}", {"k": "v"}, cas=version)
        assert await transit.secret_version(f"processor/{tenant}/{route}") == 2
        assert await transit.list_secrets(f"processor/{tenant}") == [route]
        assert f"{tenant}/" in await transit.list_secrets("processor")


async def test_a_part_of_a_secret_is_changed_by_who_may_not_read_it(place: Place) -> None:
    path = f"callback/t_01/route_{secrets.token_hex(4)}"
    async with place.transit("credentials") as transit, place.transit("tokenize") as reader:
        assert await transit.secret_names(path) == frozenset()
        assert await transit.patch_secret(path, {"key.1": "one", "absent": None}) == 1
        assert await transit.patch_secret(path, {"key.2": "two"}) == 2
        assert await transit.secret_names(path) == {"key.1", "key.2"}
        assert await transit.patch_secret(path, {"key.1": None, "key.3": "three"}) == 3
        secret = await reader.read_secret(path)
        with pytest.raises(KeysMisconfigured):
            await transit.read_secret(path)
        with pytest.raises(KeysMisconfigured):
            await reader.patch_secret(path, {"key.1": "forged"})
    assert secret is not None
    assert secret.data == {"key.2": "two", "key.3": "three"}


async def test_changes_at_the_same_time_are_all_made(place: Place) -> None:
    path = f"callback/t_01/route_{secrets.token_hex(4)}"
    async with place.transit("credentials") as transit, place.transit("tokenize") as reader:
        made = await asyncio.gather(
            *(transit.patch_secret(path, {f"key.{n}": str(n)}) for n in range(3))
        )
        secret = await reader.read_secret(path)
    assert sorted(version or 0 for version in made) == [1, 2, 3]
    assert secret is not None
    assert secret.data == {f"key.{n}": str(n) for n in range(3)}


async def test_the_public_key_of_a_signing_key_can_be_read(place: Place) -> None:
    async with place.transit("reveal") as transit:
        assert len(await transit.public_key("ledger")) == 32
        with pytest.raises(KeysMisconfigured):
            await transit.public_key("pan")


async def test_rights_can_be_looked_up(place: Place) -> None:
    paths = ["transit/encrypt/pan", "transit/decrypt/pan"]
    async with place.transit("tokenize") as transit:
        found = await transit.capabilities(paths)
    assert found["transit/encrypt/pan"] == {"update"}
    assert found["transit/decrypt/pan"] == {"deny"}


async def test_it_can_be_seen_that_it_is_not_sealed(place: Place) -> None:
    async with place.transit("tokenize") as transit:
        assert await transit.seal_status() is False


@pytest.mark.parametrize("path", ["processor/../x", "processor//x", "processor/a%2fb", ""])
@pytest.mark.guards("T-64")
async def test_no_path_leaves_its_engine(place: Place, path: str) -> None:
    async with place.transit("reveal") as transit:
        with pytest.raises(KeysMisconfigured):
            await transit.read_secret(path)
        with pytest.raises(KeysMisconfigured):
            await transit.write_secret(path, {}, cas=0)
        with pytest.raises(KeysMisconfigured):
            await transit.patch_secret(path, {})
        with pytest.raises(KeysMisconfigured):
            await transit.secret_names(path)
        with pytest.raises(KeysMisconfigured):
            await transit.read_key(path)
        (outcome,) = await transit.encrypt(path, [EncryptItem(b"p", b"c")])
        assert isinstance(outcome, KeysMisconfigured)
