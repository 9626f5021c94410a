"""WebSockets of inbound routes: opened where a route says so, each message looked at.

What never may live here: how messages get from one side to the other.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from aiohttp import hdrs, web

from gateway.errors import Malformed, UndeclaredCard
from gateway.inbound.filtering import Finding, WantedCard, plan_raw
from gateway.inbound.forwarding import Header
from gateway.inbound.merchant import Merchant
from gateway.inbound.rules import InboundConfig, Phase, Undeclared
from gateway.inbound.sockets import Look, client_socket, pump
from gateway.scan import find_cards

IDLE_SECONDS: Final = 120.0
VERSION: Final = "13"
PLACE: Final = "message"


def asks_to_upgrade(request: web.Request) -> bool:
    """Whether it means to go on as something else, by either of the two headers for that."""
    return hdrs.UPGRADE in request.headers or "upgrade" in _options(request)


def check_upgrade(request: web.Request, route: InboundConfig) -> None:
    """Let in what asks for a WebSocket and nothing else, where the route has them (T-03).

    Raises Malformed.
    """
    headers = request.headers
    asks = (
        route.websocket
        and request.method == hdrs.METH_GET
        and not request.body_exists
        and headers.getall(hdrs.UPGRADE, []) == ["websocket"]
        and "upgrade" in _options(request)
        and headers.get(hdrs.SEC_WEBSOCKET_VERSION) == VERSION
        and len(headers.getall(hdrs.SEC_WEBSOCKET_KEY, [])) == 1
    )
    if not asks:
        raise Malformed("upgrade")


def _options(request: web.Request) -> set[str]:
    lines = request.headers.getall(hdrs.CONNECTION, [])
    return {each.strip().lower() for line in lines for each in line.split(",")}


async def pass_socket(
    request: web.Request,
    merchant: Merchant,
    target: str,
    headers: Sequence[Header],
    look: Look,
) -> web.StreamResponse:
    """Open a socket to the merchant, then the client's, and pass messages until one ends.

    Raises MerchantFailed, Malformed, before the client's is open.
    """
    asked = request.headers.getall(hdrs.SEC_WEBSOCKET_PROTOCOL, [])
    protocols = [each.strip() for line in asked for each in line.split(",") if each.strip()]
    theirs = await merchant.socket(target, headers, protocols)
    ours = client_socket(theirs.protocol)
    try:
        await ours.prepare(request)
    except BaseException:
        await theirs.close()
        raise
    await pump(ours, theirs, look=look, idle_seconds=IDLE_SECONDS)
    return ours


def looking(
    policies: dict[Phase, Undeclared],
    notes: dict[Phase, Callable[[Sequence[Finding]], None]],
    store: Callable[[Sequence[WantedCard]], Awaitable[Sequence[str]]],
) -> Look:
    """Make what looks at messages: each way by its policy."""

    async def look(data: str | bytes, phase: Phase) -> str | bytes:
        raw = data.encode() if isinstance(data, str) else data
        found = find_cards(raw, binary=isinstance(data, bytes))
        if found.exhausted and policies[phase] != "report":
            raise UndeclaredCard(PLACE)
        if not found.hits:
            return data
        plan = plan_raw(policies[phase], raw, found.hits, PLACE)
        notes[phase](plan.findings)
        made = plan.apply(await store(plan.cards)).body
        return made.decode("utf-8", "replace") if isinstance(data, str) else made

    return look
