"""What each login may and may not do, asked of the real OpenBao."""

from collections.abc import Iterator, Mapping

import pytest

from tests.vault.embedded.bao_client import BaoClient
from vault.embedded.bootstrap import KEYS, EmbeddedParts, policy
from vault.embedded.layout import LOGINS

pytestmark = [pytest.mark.embedded, pytest.mark.guards("T-63")]

# base64 of `context`, `plaintext`: never a card number.
ITEM = {"plaintext": "cGxhaW50ZXh0", "context": "Y29udGV4dA==", "reference": "1"}
BATCH = {"batch_input": [ITEM]}
HASHED = {"batch_input": [{"input": "aW5wdXQ=", "reference": "1"}], "key_version": 1}
HEAD = {"data": {"size": "1"}, "options": {"cas": 0}}

Rights = Mapping[str, frozenset[str]]


def _rights(**by_capability: str) -> Rights:
    return {
        path: frozenset(names.split("_"))
        for names, paths in by_capability.items()
        for path in paths.split()
    }


EVERY_LOGIN = {
    **_rights(
        read="auth/token/lookup-self transit/keys/other "
        + " ".join(f"transit/keys/{name}" for name in KEYS),
        update="auth/token/renew-self auth/token/revoke-self sys/capabilities-self",
        deny="transit/export/encryption-key/pan transit/backup/pan transit/byok-export/pan/pan"
        " transit/restore/pan transit/keys/pan/soft-delete sys/audit-hash/primary",
    ),
}

GOLDEN: Mapping[str, Rights] = {
    "tokenize": {
        **EVERY_LOGIN,
        **_rights(
            update="transit/encrypt/pan transit/encrypt/cvc"
            " transit/hmac/fingerprint/sha2-256 transit/hmac/digest/sha2-256",
            read="kv/data/edge/k1 kv/data/callback/t/r",
            list="kv/metadata/edge",
        ),
    },
    "reveal": {
        **EVERY_LOGIN,
        **_rights(
            update="transit/decrypt/pan transit/decrypt/cvc transit/decrypt/reply"
            " transit/encrypt/reply transit/hmac/digest/sha2-256 transit/rewrap/pan"
            " transit/sign/ledger transit/sign/edge-sign transit/keys/pan/rotate"
            " transit/keys/cvc/rotate transit/keys/cvc/config transit/keys/cvc/trim"
            " transit/keys/reply/rotate transit/keys/reply/config transit/keys/reply/trim"
            " kv/destroy/edge/k1 kv/destroy/webhook/t/e pki/sign/gateway",
            read="kv/data/processor/t/r",
            create_read_update="kv/data/ledger/head kv/data/webhook/t/e",
            create_update="kv/data/edge/k1",
            list="kv/metadata/edge",
        ),
    },
    "credentials": {
        **EVERY_LOGIN,
        **_rights(
            create_update="kv/data/processor/t/r",
            create_patch_update="kv/data/callback/t/r",
            update="kv/destroy/callback/t/r",
            read="kv/subkeys/callback/t/r",
            list_read="kv/metadata/processor/t/r kv/metadata/callback/t/r",
        ),
    },
    "break-glass": {
        **EVERY_LOGIN,
        **_rights(
            sudo_update="sys/seal",
            update="sys/audit-hash/primary transit/keys/pan/config transit/keys/pan/trim"
            " transit/keys/fingerprint/rotate transit/keys/digest/rotate"
            " transit/keys/ledger/rotate transit/keys/edge-sign/rotate"
            " pki-root/issuers/generate/root/internal pki-root/issuer/i/sign-intermediate"
            " pki/issuers/generate/intermediate/internal pki/issuers/import/cert"
            " pki/config/issuers",
            delete_read="pki/issuer/i pki-root/issuer/i",
            delete="pki/key/k pki-root/key/k",
        ),
    },
}

# Beside what some login may: what none may.
NOBODY = (
    "transit/encrypt/other",
    "transit/datakey/plaintext/pan",
    "transit/hmac/pan",
    "transit/hmac/pan/sha2-256",
    "transit/hmac/digest",
    "transit/config/keys",
    "transit/cache-config",
    "transit/keys/fingerprint/trim",
    "transit/keys/ledger/config",
    "transit/keys/pan/import_version",
    "sys/policies/acl/tokenize",
    "sys/mounts/transit",
    "sys/mounts/other",
    "sys/audit",
    "sys/unseal",
    "sys/storage/raft/snapshot",
    "auth/approle/role/reveal/secret-id",
    "auth/token/create",
    "kv/data/other",
    "kv/delete/ledger/head",
    "kv/subkeys/processor/t/r",
    "kv/subkeys/webhook/t/e",
    "kv/metadata/webhook/t/e",
    "kv/destroy/processor/t/r",
    "kv/destroy/ledger/head",
    "kv/delete/callback/t/r",
    "kv/undelete/callback/t/r",
    "kv/undelete/webhook/t/e",
    "kv/metadata/ledger/head",
    "identity/entity",
    "pki/roles/gateway",
    "pki/issue/gateway",
    "pki/sign/other",
    "pki/sign-verbatim",
    "pki/issuer/i/sign/gateway",
    "pki/issuers/import/bundle",
    "pki/issuers/generate/intermediate/exported",
    "pki/config/urls",
    "pki-root/issuers/generate/root/exported",
    "pki-root/roles/gateway",
    "pki-root/sign/gateway",
    "pki-root/config/issuers",
)

ALL_PATHS = sorted({*NOBODY, *(path for rights in GOLDEN.values() for path in rights)})


@pytest.fixture(scope="module", params=LOGINS)
def login(request: pytest.FixtureRequest) -> str:
    name = request.param
    assert isinstance(name, str)
    return name


@pytest.fixture(scope="module")
def client(embedded: EmbeddedParts, login: str) -> Iterator[BaoClient]:
    with BaoClient(embedded, embedded.logins[login]) as client:
        yield client


def test_a_login_has_its_own_policy_and_no_other(client: BaoClient, login: str) -> None:
    assert client.auth["policies"] == [login]


def test_tokens_are_short_lived(client: BaoClient, login: str) -> None:
    standing = login in ("tokenize", "reveal")

    _, answer = client.call("GET", "auth/token/lookup-self")

    assert answer["data"].get("period") == (1200 if standing else None)
    assert answer["data"]["creation_ttl"] == (1200 if standing else 300)
    assert answer["data"]["bound_cidrs"] == ["127.0.0.1"]


def test_a_login_may_what_the_table_says_and_nothing_else(client: BaoClient, login: str) -> None:
    status, answer = client.call("POST", "sys/capabilities-self", {"paths": ALL_PATHS})

    assert status == 200
    nothing = frozenset({"deny"})
    expected = {path: GOLDEN[login].get(path, nothing) for path in ALL_PATHS}
    found = answer["data"]
    assert {path: frozenset(_words(found[path])) for path in ALL_PATHS} == expected


def _words(value: object) -> list[str]:
    assert isinstance(value, list)
    return value


FORBIDDEN_TO_ALL: tuple[tuple[str, str, object], ...] = (
    ("POST", "transit/encrypt/other", BATCH),
    ("POST", "transit/keys/other", {"type": "aes256-gcm96"}),
    ("POST", "transit/datakey/plaintext/pan", {"context": ITEM["context"]}),
    ("POST", "transit/hmac/pan/sha2-256", HASHED),
    ("GET", "transit/export/encryption-key/pan", None),
    ("GET", "transit/backup/pan", None),
    ("DELETE", "transit/keys/pan", None),
    ("POST", "transit/keys/pan/config", {"exportable": True}),
    ("POST", "transit/keys/cvc/config", {"deletion_allowed": True}),
    ("PUT", "sys/policies/acl/tokenize", {"policy": ""}),
    ("POST", "auth/token/create", {}),
    ("GET", "sys/storage/raft/snapshot", None),
)
FORBIDDEN: Mapping[str, tuple[tuple[str, str, object], ...]] = {
    "tokenize": (
        ("POST", "transit/encrypt/pan", ITEM),  # a single item: no batch, no rule about it
        ("POST", "transit/encrypt/pan", {**BATCH, "type": "aes256-gcm96"}),
        ("POST", "transit/decrypt/pan", BATCH),
        ("POST", "transit/decrypt/cvc", BATCH),
        ("POST", "transit/decrypt/reply", BATCH),
        ("POST", "transit/rewrap/pan", BATCH),
        ("POST", "transit/hmac/fingerprint/sha2-256", {"batch_input": HASHED["batch_input"]}),
        ("POST", "transit/hmac/digest/sha2-256", {**HASHED, "algorithm": "sha2-512"}),
        ("POST", "transit/hmac/fingerprint/sha2-512", HASHED),
        ("POST", "transit/keys/pan/rotate", {}),
        ("POST", "transit/sign/ledger", {"input": ""}),
        ("GET", "kv/data/processor/t/r", None),
        ("GET", "kv/data/webhook/t/e", None),
        ("POST", "kv/data/callback/t/r", HEAD),
        ("POST", "sys/audit-hash/primary", {"input": ""}),
    ),
    "reveal": (
        ("POST", "transit/encrypt/pan", BATCH),
        ("POST", "transit/encrypt/cvc", BATCH),
        ("POST", "transit/decrypt/pan", {"ciphertext": "", "context": ITEM["context"]}),
        ("POST", "transit/rewrap/cvc", BATCH),
        ("POST", "transit/hmac/fingerprint/sha2-256", HASHED),
        ("POST", "transit/keys/pan/trim", {"min_available_version": 1}),
        ("POST", "transit/keys/fingerprint/rotate", {}),
        ("POST", "transit/keys/ledger/rotate", {}),
        ("GET", "kv/data/callback/t/r", None),
        ("GET", "kv/data/edge/k1", None),
        ("POST", "kv/data/processor/t/r", HEAD),
        ("POST", "sys/audit-hash/primary", {"input": ""}),
        ("POST", "pki/sign/gateway", {"csr": "", "alt_names": "a", "ttl": "9000h"}),
        ("POST", "pki/sign/gateway", {"csr": "", "uri_sans": "spiffe://a"}),
        ("POST", "pki/sign/gateway", {"alt_names": "a"}),
        ("POST", "pki/config/issuers", {"default": "i"}),
        ("POST", "pki-root/issuer/default/sign-intermediate", {"csr": ""}),
        ("DELETE", "pki/issuer/default", None),
    ),
    "credentials": (
        ("POST", "transit/encrypt/pan", BATCH),
        ("POST", "transit/decrypt/pan", BATCH),
        ("POST", "transit/hmac/digest/sha2-256", HASHED),
        ("POST", "transit/sign/ledger", {"input": ""}),
        ("GET", "kv/data/processor/t/r", None),
        ("GET", "kv/data/callback/t/r", None),
        ("GET", "kv/data/webhook/t/e", None),
        ("GET", "kv/data/edge/k1", None),
        ("POST", "kv/data/ledger/head", HEAD),
        ("DELETE", "kv/metadata/processor/t/r", None),
        ("POST", "transit/keys/pan/rotate", {}),
        ("POST", "sys/seal", {}),
        ("POST", "sys/audit-hash/primary", {"input": ""}),
    ),
    "break-glass": (
        ("POST", "transit/encrypt/pan", BATCH),
        ("POST", "transit/decrypt/pan", BATCH),
        ("POST", "transit/decrypt/cvc", BATCH),
        ("POST", "transit/rewrap/pan", BATCH),
        ("POST", "transit/hmac/fingerprint/sha2-256", HASHED),
        ("POST", "transit/sign/ledger", {"input": ""}),
        ("POST", "transit/keys/fingerprint/trim", {"min_available_version": 1}),
        ("POST", "transit/keys/pan/config", {"allow_plaintext_backup": True}),
        ("GET", "kv/data/processor/t/r", None),
        ("GET", "kv/data/callback/t/r", None),
        ("GET", "kv/data/edge/k1", None),
        ("POST", "auth/approle/role/reveal/secret-id", {}),
        ("POST", "pki/sign/gateway", {"csr": "", "alt_names": "a"}),
        ("POST", "pki/config/issuers", {"default_follows_latest_issuer": True}),
    ),
}


def test_what_is_forbidden_is_refused(client: BaoClient, login: str) -> None:
    asked = (*FORBIDDEN_TO_ALL, *FORBIDDEN[login])

    statuses = [(method, path, client.call(method, path, body)[0]) for method, path, body in asked]

    assert [each for each in statuses if each[2] != 403] == []


def test_the_ways_in_and_out_and_nothing_crosswise(embedded: EmbeddedParts) -> None:
    with (
        BaoClient(embedded, embedded.logins["tokenize"]) as tokenize,
        BaoClient(embedded, embedded.logins["reveal"]) as reveal,
    ):
        status, sealed = tokenize.call("POST", "transit/encrypt/pan", BATCH)
        assert status == 200
        (item,) = _items(sealed)
        opened = {**ITEM, "ciphertext": item["ciphertext"]}
        status, answer = reveal.call("POST", "transit/decrypt/pan", {"batch_input": [opened]})
        assert status == 200
        assert _items(answer)[0]["plaintext"] == ITEM["plaintext"]
        assert tokenize.call("POST", "transit/hmac/fingerprint/sha2-256", HASHED)[0] == 200
        assert reveal.call("POST", "transit/hmac/digest/sha2-256", HASHED)[0] == 200
        assert reveal.call("POST", "transit/encrypt/reply", BATCH)[0] == 200
        assert reveal.call("POST", "transit/sign/ledger", {"input": "aW5wdXQ="})[0] == 200
        assert reveal.call("POST", "transit/keys/cvc/rotate", {})[0] in (200, 204)
        minimum = {"min_decryption_version": 1, "min_encryption_version": 0}
        assert reveal.call("POST", "transit/keys/cvc/config", minimum)[0] in (200, 204)


def _items(answer: Mapping[str, Mapping[str, object]]) -> list[dict[str, str]]:
    items = answer["data"]["batch_results"]
    assert isinstance(items, list)
    return items


def test_credentials_go_in_by_one_login_and_out_by_another(embedded: EmbeddedParts) -> None:
    secret = {"data": {"api_key": "k"}, "options": {"cas": 0}}
    with (
        BaoClient(embedded, embedded.logins["credentials"]) as credentials,
        BaoClient(embedded, embedded.logins["reveal"]) as reveal,
        BaoClient(embedded, embedded.logins["tokenize"]) as tokenize,
    ):
        assert credentials.call("POST", "kv/data/processor/t-policies/r", secret)[0] == 200
        assert credentials.call("POST", "kv/data/callback/t-policies/r", secret)[0] == 200
        status, listed = credentials.call("LIST", "kv/metadata/processor/t-policies")
        assert (status, listed["data"]["keys"]) == (200, ["r"])
        status, found = reveal.call("GET", "kv/data/processor/t-policies/r")
        assert (status, found["data"]["data"]) == (200, {"api_key": "k"})
        assert tokenize.call("GET", "kv/data/callback/t-policies/r")[0] == 200


def test_a_secret_is_never_overwritten_blindly(embedded: EmbeddedParts) -> None:
    with BaoClient(embedded, embedded.logins["credentials"]) as credentials:
        status, _ = credentials.call("POST", "kv/data/processor/t-policies/x", {"data": {}})

    assert status == 400  # check-and-set is required


@pytest.mark.parametrize("name", LOGINS)
def test_a_policy_ends_with_what_every_login_has(name: str) -> None:
    assert policy(name).endswith(policy("every-login").split("\n\n\n")[0][-40:])
