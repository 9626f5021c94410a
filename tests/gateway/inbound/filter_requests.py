"""Routes and messages for the tests of filters, and tokens that nobody has to make."""

from collections.abc import Sequence
from datetime import UTC, datetime

from gateway.codecs.splice import Format
from gateway.inbound.filtering import Head, Plan, Rewritten, plan_request, plan_rows
from gateway.inbound.rules import Filter, InboundConfig
from vault.tokens import pan_like_of, token_of

AT = datetime(2026, 11, 1, 12, tzinfo=UTC)

FORM = "application/x-www-form-urlencoded"
JSON = "application/json"
XML = "application/xml"
LINES = "application/x-ndjson"
CSV = "text/csv"
MULTIPART = 'multipart/form-data; boundary="--cut"'


def route(*filters: Filter, **settings: object) -> InboundConfig:
    return InboundConfig(
        name="shop",
        tenant="t_shop",
        hosts=("shop.example",),
        upstream="https://origin.shop.example",
        filters=filters,
        **settings,  # type: ignore[arg-type]  # each test's own
    )


def tokens_for(plan: Plan) -> list[str]:
    return [
        pan_like_of(each.card.pan, lambda bound, at=at: (at * 7919 + 11) % bound)  # type: ignore[misc]
        if each.format == "pan_like"
        else token_of("test", at + 1)
        for at, each in enumerate(plan.cards)
    ]


def done(plan: Plan) -> Rewritten:
    return plan.apply(tokens_for(plan))


def planned(
    config: InboundConfig,
    content_type: str,
    body: bytes,
    *,
    query: str = "",
    path: str = "/pay",
    headers: Sequence[tuple[str, str]] = (),
) -> Plan:
    typed = (("Content-Type", content_type),) if content_type else ()
    head = Head("POST", path, query, (*typed, *headers))
    return plan_request(config, head, content_type, body, at=AT)


def body_of(config: InboundConfig, content_type: str, body: bytes) -> bytes:
    return done(planned(config, content_type, body)).body


def rows_of(config: InboundConfig, format_: Format, block: bytes, first_row: int = 0) -> Plan:
    return plan_rows(config, format_, block, at=AT, first_row=first_row)


def multipart(*parts: tuple[str, str, str]) -> bytes:
    """Write parts: their disposition after `form-data; `, other headers, and content."""
    pieces = [
        f"----cut\r\nContent-Disposition: form-data; {named}\r\n{headers}\r\n{content}\r\n"
        for named, headers, content in parts
    ]
    return "".join((*pieces, "----cut--\r\n")).encode()
