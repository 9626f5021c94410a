"""Where merchants want to hear of things: what an endpoint must be, and the secrets it signs with.

Secrets are shown once, to whoever makes them, and kept in HashiCorp Vault alone; they are there
before the row is, so that nothing is ever posted that nobody could check. What never lives here:
HTTP, and deliveries.
"""

import asyncio
import re
import secrets
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final, Literal, Protocol

from gateway.addresses import AddressAllow
from gateway.config import Route
from gateway.deliveries import WebhookUrl
from gateway.errors import BadField
from gateway.https_client import UrlRefused
from gateway.scan import find_cards
from gateway.signatures import SCHEMES, CannotSign, Scheme, Secret, new_secret
from gateway.webhook_form import CALLBACK, STANDARD
from vault.errors import KeysError, KeysUnavailable
from vault.ids import CROCKFORD_CLASS, new_uuid7_text
from vault.telling import EVENT_TYPES
from vault.tokens import new_id
from vault.webhook_table import Form, Signature, WebhookEndpoint, WebhookTable

ENDPOINTS_MAX: Final = 32
SECRETS_MAX: Final = 8
"""Of an endpoint: each of them signs each post."""
TYPES_MAX: Final = 64
CONCURRENCY: Final = 4
CONCURRENCY_MAX: Final = 32
URL_CHARACTERS_MAX: Final = 2_048

ENDPOINT_ID: Final = re.compile(f"we_{CROCKFORD_CLASS}{{26}}")

SecretKind = Literal["standard", "callback"]
"""Of Standard Webhooks, or in the form of the processor whose callbacks are passed on."""

_STANDARD_WEBHOOKS: Final = SCHEMES["standard_webhooks"]
_KEYS_NAMED_BY_THEIR_SCHEME: Final = frozenset({"braintree", "worldpay_access"})
_PROCESSORS_TYPE: Final = re.compile(r"[!-)+-~]{1,128}\*?|\*")  # a star only at the end


@dataclass(frozen=True, slots=True)
class Wanted:
    """An endpoint as it is asked for."""

    url: str
    form: Form
    route: str | None = None
    types: tuple[str, ...] = ()
    signature: Signature | None = None
    concurrency: int = CONCURRENCY


@dataclass(frozen=True, slots=True)
class Shown:
    """A secret just made: the only time that its text is in our hands to give away."""

    name: str
    scheme: str
    key_id: str
    text: str = field(repr=False)


class WebhookSecrets(Protocol):
    """Where secrets are kept: `vault.keys.RevealKeys`."""

    async def webhook_secrets(self, tenant: str, endpoint: str) -> Mapping[str, str] | None: ...

    async def put_webhook_secrets(
        self, tenant: str, endpoint: str, changes: Mapping[str, str | None]
    ) -> bool: ...


class WebhookEndpoints:
    """Makes, changes and ends endpoints. Everything raises StoreUnavailable and any KeysError."""

    def __init__(
        self,
        table: WebhookTable,
        keys: WebhookSecrets,
        *,
        routes: Mapping[str, Sequence[str]],
        allow: AddressAllow,
        now: Callable[[], datetime],
    ) -> None:
        """`routes` are those whose callbacks are received, each with the schemes of its preset."""
        self._table = table
        self._keys = keys
        self._routes = routes
        self._allow = allow
        self._now = now
        self._opening = asyncio.Lock()

    async def open(self, tenant: str, wanted: Wanted) -> tuple[WebhookEndpoint, Sequence[Shown]]:
        """Add an endpoint with a secret of each kind that it signs with. Raises BadField."""
        at = self._now()
        endpoint = self._checked(
            WebhookEndpoint(
                id=new_id("we"),
                tenant=tenant,
                url=wanted.url,
                form=wanted.form,
                route=wanted.route,
                types=wanted.types,
                signature=wanted.signature or _usual_signature(wanted.form),
                concurrency=wanted.concurrency,
                created_at=at,
                updated_at=at,
            )
        )
        made = [self._made(_STANDARD_WEBHOOKS)]
        if (scheme := self._scheme(endpoint)) is not None:
            made.append(self._made(scheme))
        async with self._opening:  # so that many at once are not too many
            if len(await self._table.list(tenant)) >= ENDPOINTS_MAX:
                raise BadField("webhook_endpoints", "too_many")
            await self._put(endpoint, {one.name: one.text for one in made})
            await self._table.add(endpoint)
        return endpoint, made

    async def change(self, endpoint: WebhookEndpoint, changed: WebhookEndpoint) -> bool:
        """Give it another URL, other types and so on. Raises BadField; False: it is gone.

        What stays as it is was checked when it was given, perhaps by other rules.
        """
        if changed == endpoint:
            return True
        return await self._table.update(self._checked(changed), self._now())

    async def remove(self, tenant: str, endpoint: str) -> bool:
        """End it, and take its secrets away; those that stay for now belong to nothing.

        Once more, they are taken away then. False: it has ended before.
        """
        is_ended = await self._table.remove(tenant, endpoint, self._now())
        with suppress(KeysError):
            names = await self._keys.webhook_secrets(tenant, endpoint) or {}
            await self._keys.put_webhook_secrets(tenant, endpoint, dict.fromkeys(names))
        return is_ended

    # --- secrets ------------------------------------------------------------------------------

    async def add_secret(self, endpoint: WebhookEndpoint, kind: SecretKind) -> Shown:
        """Make another, which signs beside the others, or first where one alone can sign.

        Raises BadField where there are as many as there may be, or none of this kind.
        """
        scheme = _STANDARD_WEBHOOKS if kind == "standard" else self._scheme(endpoint)
        if scheme is None:
            raise BadField("kind", "not_for_this_endpoint")
        if len(await self.secret_names(endpoint)) >= SECRETS_MAX:
            raise BadField("secrets", "too_many")
        made = self._made(scheme)
        await self._put(endpoint, {made.name: made.text})
        return made

    async def secret_names(self, endpoint: WebhookEndpoint) -> Sequence[str]:
        """Return the names of the secrets that are set, in order; never what they are."""
        return sorted(await self._keys.webhook_secrets(endpoint.tenant, endpoint.id) or ())

    async def remove_secret(self, endpoint: WebhookEndpoint, name: str) -> bool:
        """Take one away; False when there is none of this name.

        Raises BadField for the last one of Standard Webhooks: nothing could be checked any more.
        """
        names = await self.secret_names(endpoint)
        if name not in names:
            await self._put(endpoint, {name: None})  # perhaps an older version still holds it
            return False
        if [one for one in names if one.startswith(STANDARD)] == [name]:
            raise BadField("name", "last_secret")
        await self._put(endpoint, {name: None})
        return True

    async def _put(self, endpoint: WebhookEndpoint, changes: Mapping[str, str | None]) -> None:
        if not await self._keys.put_webhook_secrets(endpoint.tenant, endpoint.id, changes):
            raise KeysUnavailable

    def _made(self, scheme: Scheme) -> Shown:
        """Make a secret. Of its kind the last by name is the newest, where any name will do."""
        made = new_secret(scheme, secrets.token_bytes)
        if scheme.name not in _KEYS_NAMED_BY_THEIR_SCHEME:
            made = Secret(new_uuid7_text(self._now()), made.text)
        start = STANDARD if scheme is _STANDARD_WEBHOOKS else CALLBACK
        return Shown(start + made.key_id, scheme.name, made.key_id, made.text)

    def _scheme(self, endpoint: WebhookEndpoint) -> Scheme | None:
        """The processor's scheme in which its callbacks can be signed again, if there is one."""
        for name in self._routes.get(endpoint.route or "", ()):
            scheme = SCHEMES[name]
            with suppress(CannotSign):
                new_secret(scheme, secrets.token_bytes)
                return scheme
        return None

    # --- what an endpoint must be -------------------------------------------------------------

    def _checked(self, endpoint: WebhookEndpoint) -> WebhookEndpoint:
        self._check_url(endpoint.url)
        if endpoint.form == "events":
            _check_events(endpoint)
        else:
            self._check_callbacks(endpoint)
        if not 1 <= endpoint.concurrency <= CONCURRENCY_MAX:
            raise BadField("concurrency", "range")
        return replace(endpoint, types=_checked_types(endpoint.form, endpoint.types))

    def _check_url(self, url: str) -> None:
        if len(url) > URL_CHARACTERS_MAX:
            raise BadField("url", "length")
        refused = False
        try:
            WebhookUrl.parse(url, self._allow)
        except UrlRefused:
            refused = True
        if refused:
            raise BadField("url", "format")
        if _has_card(url):
            raise BadField("url", "card_number")

    def _check_callbacks(self, endpoint: WebhookEndpoint) -> None:
        if endpoint.route is None:
            raise BadField("route", "required")
        if endpoint.route not in self._routes:
            raise BadField("route", "unknown_value")


def schemes_by_route(routes: Iterable[Route]) -> Mapping[str, Sequence[str]]:
    """Give the routes whose callbacks are received, each with the schemes of its preset."""
    return {
        route.name: route.preset.callbacks.schemes
        for route in routes
        if route.preset.callbacks is not None
    }


def _usual_signature(form: Form) -> Signature:
    return "own" if form == "events" else "original"


def _check_events(endpoint: WebhookEndpoint) -> None:
    """Events are ours, of all routes, and nobody else ever signed them."""
    if endpoint.route is not None:
        raise BadField("route", "not_for_events")
    if endpoint.signature != "own":
        raise BadField("signature", "not_for_events")


def _checked_types(form: Form, types: Collection[str]) -> tuple[str, ...]:
    if len(types) > TYPES_MAX:
        raise BadField("types", "too_many")
    for one in types:
        if not _PROCESSORS_TYPE.fullmatch(one):
            raise BadField("types", "format")
        if form == "events" and not _is_told(one):
            raise BadField("types", "unknown_value")
        if _has_card(one):
            raise BadField("types", "card_number")
    return tuple(dict.fromkeys(types))


def _is_told(wanted: str) -> bool:
    """Whether any event of ours is of this type, or begins like this."""
    if not wanted.endswith("*"):
        return wanted in EVENT_TYPES
    return any(one.startswith(wanted[:-1]) for one in EVENT_TYPES)


def _has_card(text: str) -> bool:
    """Whether a card number would be stored with it, in clear (PCI DSS 3.5.1)."""
    found = find_cards(text.encode())
    return bool(found.hits) or found.exhausted
