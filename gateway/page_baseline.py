"""A shop's payment page as a browser receives it: what it owes, and what changed. Pure.

What lives here: the rules for a page that frames our fields (its scripts are the shop's own duty,
PCI DSS 6.4.3), and a baseline of headers and script hashes to compare a later look with (11.6.1).
What never may: how it was fetched. Whether a change is good, only a person knows.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Final
from urllib.parse import urlsplit

import msgspec

from gateway.checkout.inventory import Inventory, hash_of
from gateway.checkout.policy import CURRENT_LOADER, ROOT
from gateway.page_check import (
    Finding,
    Received,
    Verdict,
    status_of,
)
from gateway.page_scripts import ScriptTag, elements_of, scripts_of

WATCHED_HEADERS: Final = (
    "access-control-allow-credentials",
    "access-control-allow-origin",
    "content-security-policy",
    "content-security-policy-report-only",
    "content-type",
    "cross-origin-embedder-policy",
    "cross-origin-opener-policy",
    "cross-origin-resource-policy",
    "link",
    "permissions-policy",
    "referrer-policy",
    "refresh",
    "report-to",
    "reporting-endpoints",
    "service-worker-allowed",
    "strict-transport-security",
    "x-content-type-options",
    "x-frame-options",
)
"""Those that concern security; the others may differ from one answer to the next."""

INLINE: Final = "inline"
UNREADABLE: Final = "unreadable"

_NONCE: Final = re.compile(r"'nonce-[A-Za-z0-9+/_=-]+'")
_ANYTHING: Final = frozenset({"*", "http:", "https:", "data:", "blob:"})
_GUARDED: Final = ("'nonce-", "'sha256-", "'sha384-", "'sha512-")


class WatchedScript(msgspec.Struct, frozen=True, forbid_unknown_fields=True, order=True):
    """A script of a page: its address, or `inline`, and the hash of what it was."""

    source: str
    sha384: str


class Baseline(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A page as it was when somebody looked at it."""

    page: str
    headers: dict[str, list[str]]
    scripts: list[WatchedScript]


# --- what the page owes -------------------------------------------------------------------


def check_page(got: Received, inventory: Inventory, gateway: str) -> list[Finding]:
    """Look for what keeps a shop's page its own; `gateway` is the origin of our scripts."""
    return [status_of(got), *_policies(got), *_loaders(got, inventory, gateway)]


def _policies(got: Received) -> Iterator[Finding]:
    what = "header content-security-policy"
    policies = [_directives(text) for text in _policy_texts(got)]
    if not policies:
        yield got.found(Verdict.MISSING, what)
        return
    yield got.found(Verdict.OK, what)
    confined = any(_confines_scripts(policy) for policy in policies)
    yield got.found(
        Verdict.OK if confined else Verdict.MISSING,
        "policy for scripts",
        "" if confined else "script-src allows scripts that nobody approved",
    )


def _policy_texts(got: Received) -> Iterator[str]:
    for value in got.values("Content-Security-Policy"):
        yield from (text for text in value.split(",") if text.strip())
    for element in elements_of(got.body):
        kind = element.attributes.get("http-equiv", "").strip().lower()
        if element.name == "meta" and kind == "content-security-policy":
            yield element.attributes.get("content", "")


def _directives(text: str) -> Mapping[str, list[str]]:
    """Read a policy: of a directive given twice, the first counts (CSP Level 3, 2.2.1)."""
    found: dict[str, list[str]] = {}
    for part in text.split(";"):
        name, *sources = part.split()[:1000] or [""]
        found.setdefault(name.lower(), [source.lower() for source in sources])
    return found


def _confines_scripts(policy: Mapping[str, list[str]]) -> bool:
    for name in ("script-src-elem", "script-src", "default-src"):
        if name in policy:
            sources = policy[name]
            break
    else:
        return False
    guarded = any(source.startswith(_GUARDED) for source in sources)
    if "'strict-dynamic'" in sources:  # then lists of hosts do not count
        return guarded
    return _ANYTHING.isdisjoint(sources) and ("'unsafe-inline'" not in sources or guarded)


def _loaders(got: Received, inventory: Inventory, gateway: str) -> Iterator[Finding]:
    approved = {s.file: s.sha384 for s in inventory.scripts.values()}
    approved[CURRENT_LOADER] = inventory.loader.sha384
    is_there = False
    for tag in scripts_of(got.url, got.body):
        file = _file_of_ours(tag, gateway)
        if file is None:
            continue
        if not (file == CURRENT_LOADER or inventory.is_for_pages(file)):
            yield got.found(Verdict.ADDED, f"script {file}", "belongs in the frame alone")
            continue
        is_there = True
        problem = _problem_of_loader(tag, approved.get(file))
        verdict = Verdict.CHANGED if problem else Verdict.OK
        yield got.found(verdict, f"script {file}", problem)
    if not is_there:
        yield got.found(Verdict.MISSING, f"script {CURRENT_LOADER}", f"none from {gateway}")


def _file_of_ours(tag: ScriptTag, gateway: str) -> str | None:
    address = urlsplit(tag.url or "")
    if f"{address.scheme}://{address.netloc}" != gateway or not address.path.startswith(ROOT):
        return None
    return address.path.removeprefix(ROOT)


def _problem_of_loader(tag: ScriptTag, approved: str | None) -> str:
    if approved is None:
        return "is not in the inventory of this release"
    if tag.integrity.split() != [approved]:  # a second hash would let a second script in
        return f"integrity must be {approved}"
    if (tag.crossorigin or "anonymous") != "anonymous" or tag.crossorigin is None:
        return 'crossorigin="anonymous" is missing: no browser runs it with integrity alone'
    return ""


# --- what changed -------------------------------------------------------------------------


def baseline_of(got: Received, bodies: Mapping[str, bytes | None]) -> Baseline:
    """Take of a page what is compared later; `bodies` has its scripts by address.

    A nonce is another at each answer, so only that there is one is kept.
    """
    headers = {
        name: [_NONCE.sub("'nonce-*'", value) for value in values]
        for name in WATCHED_HEADERS
        if (values := got.values(name))
    }
    scripts = sorted(_watched(tag, bodies) for tag in scripts_of(got.url, got.body))
    return Baseline(got.url, headers, scripts)


def _watched(tag: ScriptTag, bodies: Mapping[str, bytes | None]) -> WatchedScript:
    if tag.url is None or not tag.url.startswith(("https:", "http:")):  # data: is inline, too
        return WatchedScript(INLINE, hash_of((tag.url or tag.text).encode()))
    body = bodies.get(tag.url)
    return WatchedScript(tag.url, UNREADABLE if body is None else hash_of(body))


def compare(got: Received, before: Baseline, now: Baseline) -> list[Finding]:
    """Tell what is not as it was."""
    findings = [] if before.page == now.page else [got.found(Verdict.CHANGED, "address", now.page)]
    for name in WATCHED_HEADERS:
        findings += _header_changes(got, name, before.headers.get(name), now.headers.get(name))
    findings += _script_changes(got, before.scripts, now.scripts)
    return findings or [got.found(Verdict.OK, "baseline", f"{len(now.scripts)} scripts")]


def _header_changes(
    got: Received, name: str, old: list[str] | None, new: list[str] | None
) -> Iterator[Finding]:
    if old == new:
        return
    verdict = Verdict.CHANGED
    if old is None or new is None:
        verdict = Verdict.ADDED if old is None else Verdict.MISSING
    yield got.found(verdict, f"header {name}", " | ".join(new or old or ()))


def _script_changes(
    got: Received, old: Iterable[WatchedScript], new: Iterable[WatchedScript]
) -> Iterator[Finding]:
    gone, come = Counter(old) - Counter(new), Counter(new) - Counter(old)
    addresses = {script.source for script in gone} - {INLINE}
    changed = {script.source for script in come if script.source in addresses}
    for script in sorted(come.elements()):
        verdict = Verdict.CHANGED if script.source in changed else Verdict.ADDED
        yield got.found(verdict, "script", f"{script.source} {script.sha384}")
    for script in sorted(gone.elements()):
        if script.source not in changed:
            yield got.found(Verdict.MISSING, "script", f"{script.source} {script.sha384}")
