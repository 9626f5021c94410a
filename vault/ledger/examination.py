"""A page of the log, examined by itself.

Leaf hashes, forms, columns, details and card numbers are checked here, and what is needed to
look back is gathered into a summary. What never may live here: what an entry means to another
page's. Pure.
"""

from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from typing import Final

from msgspec import UNSET

from vault.authorization import State
from vault.ledger.alike import Alike, read_alike
from vault.ledger.card_scan import holds_card
from vault.ledger.detail import commitment
from vault.ledger.entry import (
    TYPES,
    AuthorizationAttempted,
    AuthorizationCompleted,
    AuthorizationNotSent,
    AuthorizationResolved,
    AuthorizationUnknown,
    DetailErased,
    Entry,
    EntryRefused,
    EntryUnknown,
    GatewayStarted,
    GatewayStopped,
    KeyRotated,
    LogOpened,
    OfIntent,
    TokenCreated,
    TokenDeleted,
    decode,
)
from vault.ledger.pages import TOKEN_BYTES, Examined, Group, Kept, Page, Stored
from vault.ledger.rules import Rule, Violation
from vault.ledger.summary import (
    PlainStep,
    Row,
    Stamps,
    Steps,
    binary,
    summarize_boots,
    summarize_intents,
    summarize_joins,
    summarize_marks,
    summarize_times,
    summarize_tree,
    unreadable,
)
from vault.ledger.tree import HASH_BYTES

_LEAF: Final = b"\x00"
_OUTCOMES: Final[Mapping[str, State]] = {
    str(kind.__struct_config__.tag): kind.state
    for kind in (AuthorizationCompleted, AuthorizationNotSent, AuthorizationUnknown)
}
_ATTEMPTED: Final = str(AuthorizationAttempted.__struct_config__.tag)
_CREATED: Final = str(TokenCreated.__struct_config__.tag)
_DELETED: Final = str(TokenDeleted.__struct_config__.tag)
_TOLD_WHOLE: Final = (LogOpened, KeyRotated, DetailErased)


def examine(page: Page) -> Examined:
    examination = _Examination(page)
    for group in page.groups:
        examination.take(group)
    return examination.finished()


class _Examination:
    """A page while it is examined. Columns are by place; empty where an entry is unreadable."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self._found = Examined(page.first, page.count)
        self._rows: list[Row] = [unreadable(b"")] * page.count
        self._special: dict[int, Entry] = {}  # starts and stops
        self._details: dict[int, bytes] = {}
        self._alike: list[Steps] = []
        self._steps: list[PlainStep] = []  # all others
        self._openings: dict[int, list[str]] = {}
        self._versions: dict[tuple[str, int], int] = {}

    def take(self, group: Group) -> None:
        """Look at each entry of a group, at all at once where they are alike."""
        computed = [sha256(_LEAF + body).digest() for body in group.bodies]
        if b"".join(computed) != group.leaves:
            self._find_wrong_leaves(group, computed)
        alike = read_alike(group.type, group.bodies)
        if alike is None:
            for row, leaf in enumerate(computed):
                self._read_one(group, row, leaf)
            return
        self._gather(group, alike, computed)
        if group.stored is not None:
            self._compare(group, group.stored, alike.columns)

    def finished(self) -> Examined:
        found, stamps = self._found, Stamps.of(self._rows)
        if found.first == 0 and stamps.times[0] and 0 not in self._special:
            self._violate(Rule.V1, 0, NOT_OPENED)
        for place, entry in self._special.items():
            if isinstance(entry, LogOpened) != (found.first + place == 0):
                self._violate(Rule.V1, place, NOT_OPENED)
        roots = summarize_tree(found, stamps.leaves)
        summarize_marks(found, self._page.marks, roots, stamps)
        summarize_boots(found, stamps, self._special)
        summarize_intents(found, self._alike, self._steps, stamps.times)
        summarize_times(found, stamps.times)
        if self._page.joins:
            alike = [step for steps in self._alike for step in steps.one_by_one()]
            summarize_joins(found, [*self._steps, *alike], stamps.times, self._openings)
        if self._page.details is not None:
            self._check_details(self._page.details)
        found.versions = [(key, version, at) for (key, version), at in self._versions.items()]
        found.violations.sort(key=lambda one: one.index or 0)
        return found

    # --- one group ------------------------------------------------------------------------

    def _find_wrong_leaves(self, group: Group, computed: Sequence[bytes]) -> None:
        for row, leaf in enumerate(computed):
            if group.leaves[row * HASH_BYTES : (row + 1) * HASH_BYTES] != leaf:
                self._violate(
                    Rule.LEAF, group.places[row], "the leaf hash is not that of the entry"
                )

    def _gather(self, group: Group, alike: Alike, leaves: Sequence[bytes]) -> None:
        columns, places, rows = alike.columns, group.places, self._rows
        values = (leaves, columns["n"], columns["ts"], columns["replica"], columns["boot"])
        for place, row in zip(places, zip(*values, strict=True), strict=True):
            rows[place] = row
        if self._page.details is not None and "detail" in columns:
            self._details.update(zip(places, columns["detail"], strict=True))
        if group.type in _OUTCOMES:
            self._alike.append(Steps(_OUTCOMES[group.type], places, columns["intent"]))
        elif group.type == _ATTEMPTED:
            self._gather_intents(places, alike)
        elif group.type == _DELETED:
            tokens = [token[-TOKEN_BYTES:] for token in columns["token"]]
            self._gather_deleted(places, tokens)
        elif group.type == _CREATED:
            versions = columns["key_version"]
            for version in set(versions):
                self._use("pan", int(version), places[versions.index(version)])

    def _gather_intents(self, places: Sequence[int], alike: Alike) -> None:
        columns = alike.columns
        if any(columns["of"]):
            values = zip(places, columns["intent"], columns["attempt"], columns["of"], strict=True)
            self._steps += [
                PlainStep(place, State.ATTEMPTED, intent, int(attempt), of)
                for place, intent, attempt, of in values
            ]
        else:
            self._alike.append(Steps(State.ATTEMPTED, places, columns["intent"]))
        found = self._found
        found.opened += [self._page.first + places[one.row] for one in alike.openings]
        found.opened_tokens += b"".join([one.token for one in alike.openings])
        first = {(one.key, one.version): one.row for one in reversed(alike.openings)}
        for (key, version), row in first.items():
            self._use(key.decode(), int(version), places[row])
        if self._page.joins:
            for row, key, *_ in alike.openings:
                self._openings.setdefault(places[row], []).append(key.decode())

    def _gather_deleted(self, places: Iterable[int], tokens: Iterable[bytes]) -> None:
        self._found.deleted += [self._page.first + place for place in places]
        self._found.deleted_tokens += b"".join(tokens)

    def _use(self, key: str, version: int, place: int) -> None:
        used = (key, version)
        index = self._page.first + place
        self._versions[used] = min(index, self._versions.get(used, index))

    def _compare(
        self, group: Group, stored: Stored, columns: Mapping[str, Sequence[bytes]]
    ) -> None:
        """Compare what stands beside alike entries, and look closer where it is not the same."""
        ids, intents = columns["id"], columns.get("intent", ())
        same = (
            b"".join(stored.intents) == binary(b"".join(intents))
            and (stored.ids is None or b"".join(stored.ids) == binary(b"".join(ids)))
            and (
                stored.tenants is None
                or "\n".join(stored.tenants).encode() == b"\n".join(columns["tenant"])
            )
        )
        if not same:
            for row, body in enumerate(group.bodies):
                if not _repeats(group, stored, row, decode(body)):
                    self._violate(Rule.COLUMNS, group.places[row], NOT_REPEATED)

    # --- one entry ------------------------------------------------------------------------

    def _read_one(self, group: Group, row: int, leaf: bytes) -> None:
        place, body = group.places[row], group.bodies[row]
        self._rows[place] = unreadable(leaf)
        if holds_card(body):
            self._violate(Rule.V9, place, "a card number is in the entry")
        try:
            entry = decode(body)
        except EntryUnknown as unknown:
            self._violate(Rule.V2, place, str(unknown))
            return
        except EntryRefused as refused:
            self._violate(Rule.V1, place, str(refused))
            return
        if group.stored is not None and not _repeats(group, group.stored, row, entry):
            self._violate(Rule.COLUMNS, place, NOT_REPEATED)
        stamp = (str(entry.n), entry.ts, entry.replica, entry.boot)
        n, at, replica, boot = (text.encode() for text in stamp)
        self._rows[place] = (leaf, n, at, replica, boot)
        self._details[place] = _text(entry, "detail").encode()
        self._gather_one(place, body, entry)

    def _gather_one(self, place: int, body: bytes, entry: Entry) -> None:
        if isinstance(entry, LogOpened | GatewayStarted | GatewayStopped):
            self._special[place] = entry
        if isinstance(entry, _TOLD_WHOLE):
            self._found.told.append((self._page.first + place, body))
        elif isinstance(entry, TokenDeleted):
            self._gather_deleted([place], [entry.token[-TOKEN_BYTES:].encode()])
        elif isinstance(entry, TokenCreated):
            self._use("pan", entry.key_version, place)
        elif isinstance(entry, AuthorizationAttempted):
            self._gather_intent(place, entry)
        elif isinstance(entry, OfIntent):
            self._gather_step(place, entry)

    def _gather_step(self, place: int, entry: OfIntent) -> None:
        intent = entry.intent.encode()
        supersedes = entry.supersedes if isinstance(entry, AuthorizationResolved) else UNSET
        of = entry.of if isinstance(entry, AuthorizationAttempted) else UNSET
        if isinstance(entry, AuthorizationAttempted) and of is not UNSET:
            step = PlainStep(place, entry.state, intent, entry.attempt, of.encode())
            self._steps.append(step)
        elif supersedes is not UNSET:
            step = PlainStep(place, entry.state, intent, supersedes=supersedes)
            self._steps.append(step)
        else:
            self._alike.append(Steps(entry.state, [place], [intent]))

    def _gather_intent(self, place: int, entry: AuthorizationAttempted) -> None:
        self._gather_step(place, entry)
        for one in entry.opens:
            self._found.opened.append(self._page.first + place)
            self._found.opened_tokens += one.token[-TOKEN_BYTES:].encode()
            self._use(one.key, one.version, place)
        if self._page.joins and entry.opens:
            self._openings[place] = [one.key for one in entry.opens]

    def _check_details(self, kept: Sequence[Kept]) -> None:
        """Compare what is kept with what its entry commits to."""
        for one in kept:
            said = self._details.pop(one.place, b"")
            try:
                right = commitment(one.salt, one.body).encode() == said
            except EntryRefused:
                right = False
            if right:
                self._found.details_kept += 1
            elif self._rows[one.place][2]:  # else the entry cannot be read
                self._violate(Rule.DETAIL, one.place, "the details are not those of the entry")
        first = self._page.first
        self._found.details_missing = [
            first + place for place, said in sorted(self._details.items()) if said
        ]

    def _violate(self, rule: Rule, place: int, message: str) -> None:
        self._found.violations.append(Violation(rule, self._page.first + place, message))


NOT_REPEATED: Final = "the columns are not those of the entry"
NOT_OPENED: Final = "log.opened is entry 0, and no other is"


def _repeats(group: Group, stored: Stored, row: int, entry: Entry) -> bool:
    intent, tenant = (entry.intent_id or "").encode(), _text(entry, "tenant")
    return (
        type(entry) is TYPES.get(group.type)
        and stored.intents[row] == binary(intent)
        and (stored.ids is None or stored.ids[row] == binary(entry.id.encode()))
        and (stored.tenants is None or stored.tenants[row] == tenant)
    )


def _text(entry: Entry, name: str) -> str:
    value = getattr(entry, name, UNSET)
    return value if isinstance(value, str) else ""
