"""What a browser receives of a payment page, compared with what it must be (PCI DSS 11.6.1). Pure.

What lives here: one received thing and its expectation go in, findings come out. What never may:
how it was fetched, and a guess: whatever is not as expected is told, for a person to judge.

The frame is ours, and known to the byte. A shop's page is not: that is `page_baseline`.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final
from urllib.parse import urljoin

from gateway.checkout.document import FieldName, read_page
from gateway.checkout.inventory import Inventory, Script, hash_of
from gateway.checkout.policy import ROOT, fields_headers
from gateway.page_scripts import printable, scripts_of

HSTS_SECONDS_MIN: Final = 31_536_000

UNWANTED_HEADERS: Final = (
    "access-control-allow-credentials",
    "access-control-allow-origin",
    "content-encoding",
    "content-location",
    "content-security-policy-report-only",
    "link",
    "nel",
    "refresh",
    "report-to",
    "service-worker-allowed",
    "set-cookie",
    "sourcemap",
    "x-frame-options",
)
"""Of the frame's page: we send none of these, and each changes what a browser does."""

_MAX_AGE: Final = re.compile(r'(?:^|;)\s*max-age="?([0-9]{1,12})"?\s*(?:;|$)', re.IGNORECASE)
_CONTROL: Final = re.compile(r"[^\x20-\x7e]")
_TEXT_MAX: Final = 200
_SCRIPT_URL: Final = re.compile(r"\s*javascript:", re.IGNORECASE)
_DATA: Final = frozenset({"application/json", "application/ld+json"})


class Verdict(StrEnum):
    """What became of one thing that was looked at."""

    OK = "ok"
    CHANGED = "changed"
    MISSING = "missing"
    ADDED = "added"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. `detail` may quote what was received, made printable."""

    verdict: Verdict
    where: str
    what: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Received:
    """An answer, as a browser has it: headers in order, repeated ones too."""

    where: str
    url: str
    status: int
    headers: Sequence[tuple[str, str]] = field(repr=False)
    body: bytes = field(repr=False)

    def values(self, name: str) -> list[str]:
        return [value for each, value in self.headers if each.lower() == name.lower()]

    def found(self, verdict: Verdict, what: str, detail: str = "") -> Finding:
        return Finding(verdict, self.where, what, printable(detail))


def status_of(got: Received) -> Finding:
    good = got.status == 200  # noqa: PLR2004 - OK
    return got.found(Verdict.OK if good else Verdict.CHANGED, "status", str(got.status))


# --- the frame ----------------------------------------------------------------------------


def check_frame(
    got: Received, inventory: Inventory, field_name: FieldName, origin: str
) -> list[Finding]:
    """Compare a frame's page with the only one that it can be."""
    expected = {
        "Content-Type": "text/html; charset=utf-8",
        "Cache-Control": "no-store",
        **fields_headers(inventory, origin),
    }
    return [
        status_of(got),
        *(_header(got, name, value) for name, value in expected.items()),
        _hsts(got),
        *_unwanted(got, UNWANTED_HEADERS),
        *_frame_scripts(got, inventory),
        _document(got, inventory, field_name, origin),
    ]


def _document(got: Received, inventory: Inventory, field_name: FieldName, origin: str) -> Finding:
    """Write the page once more from what it says of itself: all of its bytes must be there."""
    page = read_page(got.body, field_name, origin)
    if page is None:
        return got.found(Verdict.CHANGED, "document", "tenant, env or ledger is not there once")
    if page.render(inventory) != got.body:
        words = "it is not the page that this release serves"
        return got.found(Verdict.CHANGED, "document", words)
    return got.found(Verdict.OK, "document", f"{page.tenant}, {page.env}, {page.ledger}")


def _frame_scripts(got: Received, inventory: Inventory) -> list[Finding]:
    file, expected = inventory.fields.file, inventory.fields.sha384
    own = urljoin(got.url, f"{ROOT}{file}")
    findings, is_there = [], False
    for tag in scripts_of(got.url, got.body):
        if tag.url != own or tag.text.strip() or is_there:
            findings.append(got.found(Verdict.ADDED, "script", tag.shown))
            continue
        is_there = True
        same = tag.integrity == expected
        verdict = Verdict.OK if same else Verdict.CHANGED
        findings.append(got.found(verdict, f"script {file}", "" if same else "other integrity"))
    if not is_there:
        findings.append(got.found(Verdict.MISSING, f"script {file}"))
    return findings


def check_script(got: Received, script: Script, *, cross_origin: bool) -> list[Finding]:
    """Compare a script, as it came, with the inventory."""
    same = hash_of(got.body) == script.sha384
    words = "" if same else f"{hash_of(got.body)}, approved is {script.sha384}"
    findings = [
        status_of(got),
        got.found(Verdict.OK if same else Verdict.CHANGED, "content", words),
        _header(got, "Content-Type", "text/javascript; charset=utf-8"),
        _header(got, "X-Content-Type-Options", "nosniff"),
    ]
    if cross_origin:  # without it no browser takes the script with `integrity`
        findings.append(_header(got, "Access-Control-Allow-Origin", "*"))
    return [*findings, *_unwanted(got, ("service-worker-allowed", "set-cookie", "sourcemap"))]


def _header(got: Received, name: str, expected: str) -> Finding:
    what = f"header {name.lower()}"
    values = got.values(name)
    if not values:
        return got.found(Verdict.MISSING, what)
    if expected not in values:
        return got.found(Verdict.CHANGED, what, " | ".join(values))
    values.remove(expected)
    if values:
        return got.found(Verdict.ADDED, what, " | ".join(values))
    return got.found(Verdict.OK, what)


def _unwanted(got: Received, names: Sequence[str]) -> list[Finding]:
    return [
        got.found(Verdict.ADDED, f"header {name}", value)
        for name in names
        for value in got.values(name)
    ]


def _hsts(got: Received) -> Finding:
    """A proxy may promise more than we do, not less."""
    what = "header strict-transport-security"
    values = got.values("Strict-Transport-Security")
    if not values:
        return got.found(Verdict.MISSING, what)
    age = _MAX_AGE.search(values[0])  # of several, a browser takes the first (RFC 6797 8.1)
    holds = age is not None and int(age[1]) >= HSTS_SECONDS_MIN
    return got.found(Verdict.OK if holds else Verdict.CHANGED, what, values[0])
