"""A merchant whose back end runs official SDKs: its key in every form that one insists on.

Three kinds of logins, each by the SDK's name in `tests/sdks`: what panward gave out in the place
of a processor's own, what the processor itself gave out, and nobody's.
"""

import secrets
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from gateway.embedded import FIRST_ACCOUNT, credentials_access, new_tenant
from gateway.sandbox.accounts import credentials_of
from gateway.sandbox.processors import transaction_key
from gateway.sandbox.wire import SandboxCredential
from tests.flows.deployment import Deployment
from tests.flows.merchant import Account
from tests.flows.sdk_gateway import LOCALSTRIPE, PROCESSORS, ROUTES
from vault.api_keys import (
    AliasForm,
    NewAlias,
    Scope,
    new_alias,
    new_api_key,
    route_scope,
    signing_secret_name,
)
from vault.db import Database
from vault.observer import Silent
from vault.tenant_table import ApiKeyRow, TenantTable
from vault.transit import Transit

EVERYTHING: Final = frozenset({*(scope.value for scope in Scope), *map(route_scope, ROUTES)})
PAIR_KEYS: Final = tuple(f"sk_sbox_{letter * 27}" for letter in "bc")
"""Of the two accounts at a processor that a test runs: in the form that an SDK insists on."""
PAIR: Final = credentials_of(PAIR_KEYS)
PUBLIC: Final = "pk_sbox_" + "a" * 27

Logins = Mapping[str, Mapping[str, str]]

STRANGER: Final[Logins] = {
    "adyen": {"api_key": "of-nobody"},
    "authorizenet": {"user": "nobody", "api_key": "0123456789abcdef"},
    "braintree": {"merchant": "shop", "user": "nobody", "api_key": "of-nobody"},
    "checkout": {"api_key": "sk_sbox_" + "d" * 27, "user": PUBLIC},
    "stripe": {"api_key": "sk_test_of_nobody"},
}
"""What an SDK may hold in a tunnel, where the tunnel says who calls; CyberSource's signs."""


@dataclass(frozen=True)
class SellerKey:
    """A secret key, and the logins that stand for it."""

    id: str
    text: str = field(repr=False)
    logins: Logins = field(repr=False)


@dataclass(frozen=True)
class Seller:
    """A tenant with a key that may do everything, and its account at the pair."""

    account: Account
    key: SellerKey
    pair_account: str
    own: Logins = field(repr=False)


async def new_seller(deployment: Deployment, pair_account: str = FIRST_ACCOUNT) -> Seller:
    """Add a tenant, and put what its processors know it by into OpenBao."""
    async with _books(deployment) as (table, transit):
        name = f"seller-{secrets.token_hex(4)}"
        tenant, publishable, _ = await new_tenant(table, name, at=datetime.now(UTC))
        key = await _add_key(table, transit, tenant.id, EVERYTHING)
        first = credentials_of([deployment.processor_key])[FIRST_ACCOUNT]
        for route, values in _secrets(FIRST_ACCOUNT, first, pair_account):
            await transit.write_secret(f"processor/{tenant.id}/{route}", values, cas=0)
    account = Account(tenant.id, publishable.text, key.text)
    return Seller(account, key, pair_account, _logins_at(pair_account, PAIR[pair_account]))


async def keys_of_a_seller(deployment: Deployment) -> tuple[Seller, SellerKey, SellerKey]:
    """Give a seller, a key of it that was revoked, and one that no route takes."""
    seller = await new_seller(deployment)
    tenant = seller.account.tenant
    async with _books(deployment) as (table, transit):
        revoked = await _add_key(table, transit, tenant, EVERYTHING)
        assert await table.revoke_key(revoked.id, at=datetime.now(UTC))
        unscoped = await _add_key(table, transit, tenant, {Scope.READ.value})
    return seller, revoked, unscoped


@asynccontextmanager
async def _books(deployment: Deployment) -> AsyncIterator[tuple[TenantTable, Transit]]:
    config = deployment.config
    database = await Database.open(config.secret(config.database.runtime_dsn_file))
    transit = Transit(credentials_access(config), observer=Silent())
    try:
        await transit.start()
        yield TenantTable(database), transit
    finally:
        await transit.close()
        await database.close()


async def _add_key(
    table: TenantTable, transit: Transit, tenant: str, scopes: Iterable[str]
) -> SellerKey:
    made, at = new_api_key("secret_key", "test"), datetime.now(UTC)
    row = ApiKeyRow(made.id, tenant, "secret_key", made.digest, frozenset(scopes), at, None, None)
    await table.add_key(row)
    forms: tuple[AliasForm, ...] = ("checkout_com", "authorize_net", "signing_key")
    checkout, anet, signing = (new_alias(form, "test", made.id) for form in forms)
    name = signing_secret_name(signing.parts["key_id"])
    values = {"secret": signing.parts["secret"]}
    await transit.write_secret(f"processor/{tenant}/{name}", values, cas=0)
    for alias in (checkout, anet, signing):
        assert await table.add_alias(alias, made.id, at=at)
    return SellerKey(made.id, made.text, _logins_for(made.text, checkout, anet, signing))


def _logins_for(text: str, checkout: NewAlias, anet: NewAlias, signing: NewAlias) -> Logins:
    return {
        "adyen": {"api_key": text},
        "authorizenet": {
            "user": anet.parts["name"],
            "api_key": anet.parts["transaction_key"],
        },
        "braintree": {"merchant": "shop", "user": "panward", "api_key": text},
        "checkout": {"api_key": checkout.parts["secret_key"], "user": PUBLIC},
        "cybersource": {
            "merchant": "shop",
            "user": signing.parts["key_id"],
            "secret": signing.parts["secret"],
        },
        "stripe": {"api_key": text},
    }


def _logins_at(name: str, credential: SandboxCredential) -> Logins:
    key = credential.api_key
    return {
        "adyen": {"api_key": key},
        "authorizenet": {"user": credential.user, "api_key": transaction_key(key)},
        "braintree": {"merchant": name, "user": credential.user, "api_key": key},
        "checkout": {"api_key": key, "user": PUBLIC},
        "cybersource": {
            "merchant": name,
            "user": credential.user,
            "secret": credential.secret,
        },
        "stripe": {"api_key": key},
    }


def _secrets(
    name: str, credential: SandboxCredential, pair_account: str
) -> Iterable[tuple[str, dict[str, str]]]:
    """Give what is stored for each route; of `_own` ones only CyberSource's is looked at."""
    for processor in PROCESSORS:
        pair = _values(processor, pair_account, PAIR[pair_account])
        for kind in ("", "_quick"):
            yield processor + kind, _values(processor, name, credential)
        yield f"{processor}_pair", pair
    yield "cybersource_own", _values("cybersource", pair_account, PAIR[pair_account])
    yield LOCALSTRIPE, {"api_key": "sk_test_of_localstripe"}


def _values(processor: str, name: str, credential: SandboxCredential) -> dict[str, str]:
    key = credential.api_key
    return {
        "api_key": transaction_key(key) if processor == "authorize_net" else key,
        "user": credential.user,
        "secret": credential.secret,
        "merchant_id": name,
    }
