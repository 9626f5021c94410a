"""A page of the log, and what can be said of it without the others. Pure.

`examination` turns the one into the other; pages know nothing of each other, so several processes
can examine them at once. `check` puts together what they say, in order.
"""

from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from vault.authorization import State
from vault.ledger.rules import Violation

PAGE_ENTRIES: Final = 4096  # a full subtree
TOKEN_BYTES: Final = 28  # of a token, what is drawn
INTENT_BYTES: Final = 16

# --- what is examined ---------------------------------------------------------------------


class Stored(Struct):
    """What a database has beside bodies; of UUIDs their 16 bytes, of what is NULL nothing."""

    intents: Sequence[bytes]
    tenants: Sequence[str] | None = None  # None: nobody asked
    ids: Sequence[bytes] | None = None


class Group(Struct):
    """Entries of one type, by their source's word, in order."""

    type: str
    places: Sequence[int]  # in the page
    bodies: Sequence[bytes]
    leaves: bytes  # their stored hashes
    stored: Stored | None = None


class Kept(Struct):
    """A row of details."""

    place: int
    salt: bytes
    body: bytes


class Page(Struct):
    """Consecutive entries. `marks` are sizes of the log whose roots are wanted."""

    first: int
    count: int
    groups: list[Group]
    marks: list[int] = []
    details: list[Kept] | None = None
    joins: bool = False


def page_of(first: int, bodies: Sequence[bytes], leaves: Sequence[bytes]) -> Page:
    """Make a page of entries without anything beside them."""
    places: dict[str, list[int]] = {}
    for place, body in enumerate(bodies):
        name = body[body.rfind(b'"', 0, -8) + 1 : -8].decode("latin-1")
        places.setdefault(name, []).append(place)
    groups = [
        Group(name, at, [bodies[one] for one in at], b"".join(leaves[one] for one in at))
        for name, at in places.items()
    ]
    return Page(first, len(bodies), groups)


# --- what is found ------------------------------------------------------------------------


class Mark(Struct, array_like=True):
    """The page up to a size: its peaks, and its latest time."""

    size: int
    peaks: list[bytes]
    newest: str
    newest_index: int


class Beat(Struct, array_like=True):
    """Entries of a boot, `n` and on: one, or several that are nothing but contiguous."""

    index: int
    replica: str
    boot: str
    n: int
    count: int = 1
    starts: bool = False
    stops: bool = False
    opens_log: bool = False
    previous: tuple[str, int] | None = None


class Step(Struct, array_like=True):
    """A step of an intent."""

    index: int
    state: State
    intent: bytes
    at: str
    attempt: int = 0
    of: bytes = b""
    supersedes: int | None = None


class Opening(Struct, array_like=True):
    """An intent, as the audit log of the keys must know it; `keys`: what it opens, in order."""

    intent: bytes
    at: str
    keys: str  # "p" or "c" for each


class Examined(Struct, array_like=True):
    """What is to be known of a page when the pages before it are known."""

    first: int
    count: int
    violations: list[Violation] = []
    warnings: list[Violation] = []
    peaks: list[bytes] = []  # of the page as a tree of its own
    leaves: bytes = b""  # of a page that does not begin or end as pages do
    tiles: bytes = b""  # the roots of its full tiles
    marks: list[Mark] = []
    beats: list[Beat] = []
    ended: bytes = b""  # intents that began and ended in the page
    ended_at: list[int] = []
    steps: list[Step] = []  # all others
    opened: list[int] = []
    opened_tokens: bytes = b""
    deleted: list[int] = []
    deleted_tokens: bytes = b""
    versions: list[tuple[str, int, int]] = []  # key, version, the first index
    told: list[tuple[int, bytes]] = []  # entries that must be read as a whole
    first_time: str = ""
    last_time: str = ""
    newest: str = ""
    newest_index: int = 0
    intents: list[Opening] = []
    ends: list[tuple[bytes, str]] = []  # of intents
    details_kept: int = 0
    details_missing: list[int] = []
