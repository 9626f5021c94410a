"""Who calls: keys in force are let in, and everything else looks the same."""

import hmac
from base64 import b64encode
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from gateway.errors import NotAuthenticated, NotPermitted, SignatureRefused
from gateway.known_keys import CACHE_SECONDS
from gateway.merchants import (
    Merchants,
    basic_credential,
    basic_user,
    bearer_key,
)
from gateway.resign import (
    Reason,
    Refusal,
    SignedCall,
    SigningKey,
    Verified,
    signed_again,
    signing_key,
    verified,
)
from vault.api_keys import (
    AliasForm,
    KeyKind,
    NewAlias,
    NewApiKey,
    certificate_alias,
    new_alias,
    new_api_key,
)
from vault.errors import StoreUnavailable
from vault.tenant_table import ApiKeyRow, TenantTable

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@dataclass
class KnownKeys(TenantTable):
    """Keeps the promises of the table that matter here, and can be away."""

    rows: dict[str, ApiKeyRow] = field(default_factory=dict)
    aliases: dict[bytes, str] = field(default_factory=dict)
    reads: int = 0
    away: bool = False

    async def key(self, key_id: str) -> ApiKeyRow | None:
        self.reads += 1
        if self.away:
            raise StoreUnavailable
        return self.rows.get(key_id)

    async def key_of_alias(self, digest: bytes) -> ApiKeyRow | None:
        return await self.key(self.aliases.get(digest, ""))

    def alias(self, form: AliasForm, **changes: datetime) -> NewAlias:
        key = self.made("secret_key", **changes)
        of_certificate = form == "client_certificate"
        made = certificate_alias(key.digest) if of_certificate else new_alias(form, "test", key.id)
        self.aliases[made.digest] = key.id
        return made

    def made(self, kind: KeyKind = "secret_key", **changes: datetime) -> NewApiKey:
        key = new_api_key(kind, "test")
        self.rows[key.id] = ApiKeyRow(
            key.id,
            "t_one",
            kind,
            key.digest,
            frozenset({"read", "route:stripe"}),
            NOW,
            changes.get("expires_at"),
            changes.get("revoked_at"),
        )
        return key


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def table() -> KnownKeys:
    return KnownKeys()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def merchants(table: KnownKeys, clock: Clock) -> Merchants:
    return Merchants(table, env="test", now=lambda: NOW, monotonic=clock)


async def test_a_key_in_force_gives_its_tenant(merchants: Merchants, table: KnownKeys) -> None:
    caller = await merchants.authenticate(table.made().text)
    assert caller.tenant == "t_one"
    assert caller.actor.kind == "secret_key"
    caller.require("read")
    caller.require_route("stripe")
    with pytest.raises(NotPermitted):
        caller.require("delete")
    with pytest.raises(NotPermitted):
        caller.require_route("adyen")


async def test_all_other_keys_look_the_same(merchants: Merchants, table: KnownKeys) -> None:
    good = table.made().text
    wrong = good[:-1] + ("0" if good[-1] != "0" else "1")
    second = NOW - timedelta(seconds=1)
    for text in (
        None,
        "",
        "pwsk_test_short",
        wrong,
        new_api_key("secret_key", "test").text,
        new_api_key("secret_key", "live").text,
        good.replace("pwsk_test_", "pwsk_live_"),
        table.made(revoked_at=second).text,
        table.made(expires_at=second).text,
        table.made(expires_at=NOW).text,
    ):
        with pytest.raises(NotAuthenticated):
            await merchants.authenticate(text)


async def test_a_publishable_key_is_known_as_one(merchants: Merchants, table: KnownKeys) -> None:
    caller = await merchants.authenticate(table.made("publishable_key").text)
    assert caller.is_publishable


@pytest.mark.guards("T-29")
async def test_a_revocation_counts_within_five_seconds(
    merchants: Merchants, table: KnownKeys, clock: Clock
) -> None:
    key = table.made()
    await merchants.authenticate(key.text)
    table.made()
    row = table.rows[key.id]
    table.rows[key.id] = ApiKeyRow(
        row.id, row.tenant, row.kind, row.digest, row.scopes, row.created_at, None, NOW
    )
    clock.seconds = CACHE_SECONDS
    with pytest.raises(NotAuthenticated):
        await merchants.authenticate(key.text)


@pytest.mark.guards("T-29")
async def test_without_the_store_a_key_counts_for_five_seconds(
    merchants: Merchants, table: KnownKeys, clock: Clock
) -> None:
    key = table.made()
    await merchants.authenticate(key.text)
    table.away = True
    clock.seconds = CACHE_SECONDS - 0.01
    await merchants.authenticate(key.text)
    clock.seconds = CACHE_SECONDS
    with pytest.raises(StoreUnavailable):
        await merchants.authenticate(key.text)


async def test_guesses_push_no_real_key_out(merchants: Merchants, table: KnownKeys) -> None:
    key = table.made()
    await merchants.authenticate(key.text)
    for _ in range(50):
        with pytest.raises(NotAuthenticated):
            await merchants.authenticate(new_api_key("secret_key", "test").text)
    reads = table.reads
    await merchants.authenticate(key.text)
    assert table.reads == reads


def test_where_a_key_may_stand() -> None:
    key = new_api_key("secret_key", "test").text
    basic = b64encode(f"{key}:".encode()).decode()
    assert bearer_key({"Authorization": f"Bearer {key}"}) == key
    assert bearer_key({"Authorization": f"Basic {basic}"}) is None
    assert bearer_key({}) is None
    assert bearer_key({"Authorization": f"Bearer {key} {key}"}) is None
    assert basic_user({"Authorization": f"Basic {basic}"}) == key
    assert basic_user({"Authorization": f"Bearer {key}"}) is None
    assert basic_user({"Authorization": "Basic " + "=" * 24}) is None
    assert basic_user({"Authorization": "Basic " + b64encode(b"\xff" * 24).decode()}) is None
    assert basic_credential({"Authorization": f"Basic {basic}"}) == (key, "")
    login = b64encode(b"public_key_1:private:key_1").decode()
    assert basic_credential({"Authorization": f"Basic {login}"}) == (
        "public_key_1",
        "private:key_1",
    )
    form = "sk_sbox_" + "a" * 26
    for last in "a2*#$=":
        assert bearer_key({"Authorization": f"Bearer {form}{last}"}) == form + last


# --- aliases ------------------------------------------------------------------------------

FORMS: tuple[AliasForm, ...] = ("checkout_com", "authorize_net", "client_certificate")


def shown(alias: NewAlias) -> str:
    """Write an alias as a caller shows it."""
    return ":".join(alias.parts.values())


@pytest.mark.parametrize("form", FORMS)
async def test_an_alias_is_its_key(merchants: Merchants, table: KnownKeys, form: AliasForm) -> None:
    alias = table.alias(form)
    caller = await merchants.authenticate_alias(form, shown(alias))
    assert caller.key == table.aliases[alias.digest]
    caller.require_route("stripe")


@pytest.mark.guards("T-29")
@pytest.mark.parametrize("form", FORMS)
async def test_all_other_aliases_look_the_same(
    merchants: Merchants, table: KnownKeys, form: AliasForm
) -> None:
    good = shown(table.alias(form))
    second = NOW - timedelta(seconds=1)
    for text in (
        None,
        "",
        good[:-1] + ("a" if good[-1] != "a" else "b"),
        good + "a",
        shown(table.alias("signing_key")).split(":")[0],
        shown(table.alias(form, revoked_at=second)),
        shown(table.alias(form, expires_at=NOW)),
        table.made().text,
    ):
        with pytest.raises(NotAuthenticated):
            await merchants.authenticate_alias(form, text)
    for other in set(FORMS) - {form}:
        with pytest.raises(NotAuthenticated):
            await merchants.authenticate_alias(other, good)
    with pytest.raises(NotAuthenticated):
        await merchants.authenticate(good)


@pytest.mark.guards("T-29")
async def test_revoking_the_key_ends_its_aliases_within_five_seconds(
    merchants: Merchants, table: KnownKeys, clock: Clock
) -> None:
    alias = table.alias("checkout_com")
    await merchants.authenticate_alias("checkout_com", shown(alias))
    table.rows.clear()
    clock.seconds = CACHE_SECONDS - 0.01
    await merchants.authenticate_alias("checkout_com", shown(alias))
    clock.seconds = CACHE_SECONDS
    with pytest.raises(NotAuthenticated):
        await merchants.authenticate_alias("checkout_com", shown(alias))
    table.away = True
    with pytest.raises(StoreUnavailable):
        await merchants.authenticate_alias("checkout_com", shown(alias))


@pytest.mark.guards("T-25")
async def test_a_key_id_proves_nothing_without_a_signature(
    merchants: Merchants, table: KnownKeys
) -> None:
    alias = table.alias("signing_key")
    key = signing_key(alias.parts["key_id"], alias.parts["secret"])
    assert key is not None
    claimant = await merchants.claimed_by(key.id)
    assert (claimant.tenant, claimant.signing_key) == ("t_one", key.id)
    with pytest.raises(SignatureRefused) as refused:
        claimant.proven(Refusal(Reason.STALE))
    assert refused.value.reason == "signature_stale"
    assert claimant.proven(proof(key)).key == table.aliases[alias.digest]
    other = new_alias("signing_key", "test", "k_x").parts
    strange = signing_key(other["key_id"], other["secret"])
    assert strange is not None
    with pytest.raises(SignatureRefused):
        claimant.proven(proof(strange))
    with pytest.raises(AssertionError):
        await merchants.authenticate_alias("signing_key", key.id)


async def test_a_key_id_that_is_not_in_force_is_nobodys(
    merchants: Merchants, table: KnownKeys
) -> None:
    revoked = table.alias("signing_key", revoked_at=NOW).parts["key_id"]
    strange = new_alias("signing_key", "test", "k_x").parts["key_id"]
    for text in (None, "", "acct_1", revoked, strange):
        with pytest.raises(NotAuthenticated):
            await merchants.claimed_by(text)


def proof(key: SigningKey) -> Verified:
    """A call that this key signed, verified."""
    date = format_datetime(NOW, usegmt=True)
    headers = [("host", "a"), ("date", date), ("v-c-merchant-id", "m")]
    names = "host date request-target v-c-merchant-id"
    lines = f"host: a\ndate: {date}\nrequest-target: get /\nv-c-merchant-id: m"
    signature = b64encode(hmac.digest(key.secret, lines.encode(), "sha256")).decode()
    headers.append(
        (
            "signature",
            f'keyid="{key.id}", algorithm="HmacSHA256", headers="{names}", signature="{signature}"',
        )
    )
    found = verified(SignedCall("GET", "/", headers, b""), key, now=NOW)
    assert isinstance(found, Verified)
    assert dict(signed_again(found, b"", key, host="a", now=NOW))["signature"] == headers[-1][1]
    return found
