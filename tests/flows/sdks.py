"""Official SDKs of one seller, pointed at panward: by base URL, or with it as their proxy.

Each SDK's process is started when it is first asked for, and once for each proxy that its
environment names: Stripe's and CyberSource's take theirs as a setting.
"""

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal

from tests.flows.deployment import Deployment
from tests.flows.sdk_gateway import CHECKOUT_PREFIX, SdkGateway
from tests.flows.seller import STRANGER, Seller, SellerKey
from tests.sdks.driver import Reply, Sdk, Target

Mode = Literal["base", "proxy"]

ROUTE_OF: Final = {
    "adyen": "adyen",
    "authorizenet": "authorize_net",
    "braintree": "braintree",
    "checkout": "checkout_com",
    "cybersource": "cybersource",
    "stripe": "stripe",
}
BY_SETTING: Final = frozenset({"cybersource", "stripe"})
"""Whose proxy is a setting; all others read it from their environment."""


@dataclass(frozen=True)
class SdkWay:
    """An SDK, and how its calls reach panward."""

    sdk: Sdk
    target: Target

    async def __call__(
        self,
        call: str,
        *ids: str,
        params: Mapping[str, object] | None = None,
        idempotency_key: str | None = None,
    ) -> Reply:
        return await self.sdk(
            self.target, call, *ids, params=params, idempotency_key=idempotency_key
        )


@dataclass
class Sdks:
    """The processes."""

    folder: Path
    ca_file: Path
    stack: ExitStack
    started: dict[tuple[str, str | None], Sdk] = field(default_factory=dict)

    def process(self, name: str, https_proxy: str | None = None) -> Sdk:
        place = (name, https_proxy)
        if place not in self.started:
            folder = self.folder / f"{name}-{len(self.started)}"
            sdk = Sdk(name, folder, ca_file=self.ca_file, https_proxy=https_proxy)
            self.started[place] = self.stack.enter_context(sdk)
        return self.started[place]


@dataclass(frozen=True)
class Desk:
    """A seller's SDKs at the embedded deployment's gateway and at the one beside it."""

    sdks: Sdks
    seller: Seller
    revoked: SellerKey
    unscoped: SellerKey
    deployment: Deployment
    beside: SdkGateway

    def way(self, sdk: str, mode: Mode, **more: Any) -> SdkWay:  # noqa: ANN401 - of Target
        """The usual one: panward's key in the place of the processor's, or in the proxy's."""
        return self.by_proxy(sdk, **more) if mode == "proxy" else self.by_base(sdk, **more)

    def by_base(
        self,
        sdk: str,
        kind: str = "",
        *,
        key: SellerKey | None = None,
        **more: Any,  # noqa: ANN401 - of Target
    ) -> SdkWay:
        """`kind` is a kind of route of the gateway beside, as `sdk_gateway` lists them."""
        keys = (key or self.seller.key).logins[sdk]
        url = self.base_url(sdk, kind)
        return SdkWay(self.sdks.process(sdk), Target(**({"keys": keys, "url": url} | more)))

    def base_url(self, sdk: str, kind: str = "") -> str:
        route = ROUTE_OF[sdk] + kind
        if sdk == "braintree":
            return self.beside.roots[route]
        private = (self.beside if kind else self.deployment).urls.private
        path = "/xml/v1/request.api" if sdk == "authorizenet" else ""
        return f"{private}/out/{route}{path}"

    def by_proxy(
        self,
        sdk: str,
        *,
        key: str | None = None,
        beside: bool = False,
        **more: Any,  # noqa: ANN401 - of Target
    ) -> SdkWay:
        """Tunnels at the gateway beside end at routes of kind `_own`."""
        usual = {**STRANGER, "cybersource": self.seller.key.logins["cybersource"]}[sdk]
        keys = self.seller.own[sdk] if beside else usual
        if beside and sdk == "checkout":
            keys = {**keys, "prefix": CHECKOUT_PREFIX}
        proxy = self.proxy_url(key, beside=beside)
        target: dict[str, Any] = {"keys": keys} | more
        if sdk not in BY_SETTING:
            return SdkWay(self.sdks.process(sdk, proxy), Target(**target))
        return SdkWay(self.sdks.process(sdk), Target(**({"proxy": proxy} | target)))

    def second(self, sdk: str) -> SdkWay:
        """A second process of the same SDK, through the proxy that its environment names.

        But for CyberSource's, which reads no environment.
        """
        proxy = self.proxy_url()
        target = self.by_proxy(sdk).target
        if sdk == "stripe":
            target = replace(target, proxy=None)
        return SdkWay(self.sdks.process(sdk, proxy), target)

    def proxy_url(self, key: str | None = None, *, beside: bool = False) -> str:
        port = self.deployment.parts.ports["connect"]
        if beside:
            port = self.beside.connect_port
        return f"http://x:{key or self.seller.key.text}@127.0.0.1:{port}"
