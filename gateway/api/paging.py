"""Lists: `{"data": […], "next": cursor or null}`, newest first.

A cursor is the place of the last row shown. It says nothing that its holder has not seen, and
opens nothing: the tenant comes from the key, not from the cursor.
"""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as NotBase64
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from aiohttp import web

from gateway.errors import BadField

LIMIT_DEFAULT: Final = 20
LIMIT_MAX: Final = 100

_LIMIT: Final = re.compile("[1-9][0-9]{0,2}")
_PLACE: Final = re.compile(r"([0-9]{1,17}) ([A-Za-z0-9_-]{1,64})")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)

Place = tuple[datetime, str]


@dataclass(frozen=True, slots=True)
class Page:
    """Which part of a list is wanted. Ask for one row more than `limit`, to know what follows."""

    limit: int
    after: Place | None

    def answer(
        self, documents: Sequence[Mapping[str, object]], places: Sequence[Place]
    ) -> Mapping[str, object]:
        """Return the page's document; `documents` may have one row more than the limit."""
        more = len(documents) > self.limit
        return {
            "data": documents[: self.limit],
            "next": _cursor(places[self.limit - 1]) if more else None,
        }


def read_page(request: web.Request, *, also: Collection[str]) -> Page:
    """Read `limit` and `cursor`; `also` names the other parameters of this list.

    Raises BadField for a parameter that is unknown, given twice, or not what it must be.
    """
    check_parameters(request, {"limit", "cursor", *also})
    text = request.query.get("limit", str(LIMIT_DEFAULT))
    if not _LIMIT.fullmatch(text) or int(text) > LIMIT_MAX:
        raise BadField("limit", "range")
    cursor = request.query.get("cursor")
    return Page(int(text), _place(cursor) if cursor is not None else None)


def check_parameters(request: web.Request, known: Collection[str]) -> None:
    """Raise BadField unless the query has only these parameters, each at most once."""
    given = set(request.query)
    if len(given) != len(request.query) or not given <= set(known):
        raise BadField("query", "unknown_or_repeated_parameter")


def _cursor(place: Place) -> str:
    at, identity = place
    return urlsafe_b64encode(f"{(at - _EPOCH) // _MICROSECOND} {identity}".encode()).decode()


def _place(cursor: str) -> Place:
    try:
        found = _PLACE.fullmatch(urlsafe_b64decode(cursor.encode("ascii")).decode("ascii"))
    except (NotBase64, ValueError):
        found = None
    if found is None:
        raise BadField("cursor", "format")
    return _EPOCH + int(found[1]) * _MICROSECOND, found[2]
