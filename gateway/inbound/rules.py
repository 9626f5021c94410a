"""What an inbound route is: the merchant's endpoint, and what happens to cards on the way. Pure.

Read from `panward.toml` (`[[inbound]]`). What never may live here: how a field is found, a socket.
"""

from typing import Annotated, Literal

from msgspec import Meta, Struct

Phase = Literal["request", "response"]
Operation = Literal["tokenize", "mask", "remove", "reveal-masked"]
TokenFormat = Literal["opaque", "pan_like"]
Undeclared = Literal["report", "mask", "tokenize", "refuse"]
MediaType = Annotated[str, Meta(pattern=r"^[a-z0-9.+-]{1,60}/[a-z0-9.+-]{1,60}$")]
Selector = Annotated[str, Meta(min_length=1, max_length=300)]
Column = Annotated[str, Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}$")]
Place = Annotated[int, Meta(ge=0, le=65_535)]


class Filter(Struct, frozen=True, forbid_unknown_fields=True):
    """One declared field, and what is done with it.

    `selector` is one of `gateway.selectors`, or `header:Name`, or `url:` and the name of a field
    of the query.
    """

    selector: Selector
    operation: Operation = "tokenize"
    phase: Phase = "request"
    content_type: MediaType | None = None
    """Bodies of this type alone; without it, of any that the selector can be read in."""
    exp_month: Selector | None = None
    exp_year: Selector | None = None
    expiry: Selector | None = None
    """Month and year in one field: MM/YY, MMYY, MM/YYYY, MM-YYYY or YYYY-MM."""
    cvc: Selector | None = None
    """The code that belongs to the number: kept for fifteen minutes, sent on as zeros."""
    format: TokenFormat = "opaque"

    def beside(self) -> tuple[str, ...]:
        """Give the selectors of what is tied to the number."""
        tied = (self.exp_month, self.exp_year, self.expiry, self.cvc)
        return tuple(each for each in tied if each is not None)


class InboundConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """One endpoint of a merchant's own that the gateway stands in front of."""

    name: Annotated[str, Meta(pattern="^[a-z0-9_-]{1,64}$")]
    tenant: Annotated[str, Meta(pattern="^t_[0-9a-z]{2,32}$")]
    hosts: Annotated[tuple[str, ...], Meta(min_length=1)]
    upstream: str
    """`https://host[:port]`, verified; `http://` only to an address of `address_allow`."""
    path_prefix: Annotated[str, Meta(pattern=r"^/[A-Za-z0-9/_.~-]*$")] = "/"
    methods: tuple[Annotated[str, Meta(pattern="^[A-Z]{1,16}$")], ...] = ()
    content_types: tuple[MediaType, ...] = ()
    filters: tuple[Filter, ...] = ()
    undeclared: Undeclared = "report"
    """What the scanner's finds get that no filter declares, in a request."""
    replies: Literal["mask", "report"] = "mask"
    """What a card number in the merchant's own answer gets."""
    allow: tuple[Selector, ...] = ()
    """Fields that hold long numbers which are no cards: not scanned."""
    other_content: Literal["refuse", "scan"] = "refuse"
    """A body of a type that no filter can read, where there are filters."""
    fixed_width: dict[Column, tuple[Place, Place]] = {}
    """Of files of fixed width (`text/plain`): the columns, each from and up to a byte."""
    host_header: Literal["client", "upstream"] = "client"
    address_allow: tuple[str, ...] = ()
    ca_file: str | None = None
    certificate_file: str | None = None
    private_key_file: str | None = None
    """Of this route's hosts, where the listener's own certificate has not their names."""
    body_bytes_max: Annotated[int, Meta(ge=1024, le=64 << 20)] = 1 << 20
    """Of a body that is read as a whole, inflated."""
    upload_bytes_max: Annotated[int, Meta(ge=1024)] = 4 << 30
    """Of a body that passes as a stream."""
    timeout_seconds: Annotated[float, Meta(gt=0, le=3600)] = 30.0
    """Until the merchant's answer begins, and between two pieces of it."""
    concurrency: Annotated[int, Meta(ge=1, le=1024)] = 128
    websocket: bool = False
    server_sent_events: bool = False
    token_hours: Annotated[int, Meta(ge=1, le=175_680)] | None = None
    """How long its tokens live; without it, until they are erased."""
    reuse: bool = False
    """Whether a card that is known gets the token it has."""
    address_per_second: Annotated[float, Meta(ge=0.01, le=1_000_000)] = 1.0
    address_burst: Annotated[int, Meta(ge=1)] = 30
    """New cards that one network address may bring."""
