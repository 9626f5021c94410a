"""`panward page-check`: a payment page as a browser receives it, compared with what was approved.

PCI DSS 11.6.1: run it at least weekly, from a place that sees what shoppers see. It needs no
deployment: what this release serves is in its own inventory.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Final
from urllib.parse import urlencode, urljoin, urlsplit

import msgspec
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from gateway.addresses import AddressAllow, AddressAllowRefused
from gateway.checkout.document import FIELD_NAMES, KEY_ID
from gateway.checkout.inventory import Inventory, load_inventory
from gateway.checkout.policy import CURRENT_LOADER, FIELDS_PATH, ROOT
from gateway.commands.options import EX_FAILED, JsonOption, run, show
from gateway.exchange import Replied
from gateway.https_client import HttpsUrl, Unwatched, UrlRefused
from gateway.origins import OriginRefused, parse_origin
from gateway.page_baseline import Baseline, baseline_of, check_page, compare
from gateway.page_check import (
    Finding,
    Received,
    Verdict,
    check_frame,
    check_script,
)
from gateway.page_scripts import printable, scripts_of
from gateway.upstream import Upstream, UpstreamRoute

ANSWER_BYTES_MAX: Final = 8_388_608
TIMEOUT_SECONDS: Final = 30.0
SCRIPTS_MAX: Final = 200
AT_ONCE: Final = 4
WIDTH_MIN: Final = 100

_CHROMIUM: Final = (
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko)"
    " Chrome/140.0.0.0 Safari/537.36"
)
BROWSER: Final = (("User-Agent", _CHROMIUM), ("Accept-Language", "en-US,en;q=0.9"))
"""What changes pages on their way likes to leave monitors alone: this one looks like a shopper."""

_STYLES: Final = {
    Verdict.OK: "green",
    Verdict.CHANGED: "bold red",
    Verdict.MISSING: "bold red",
    Verdict.ADDED: "bold red",
}


@dataclass(slots=True)
class Browser:
    """Fetches as a browser would: verified TLS, a browser's headers, nothing from a cache."""

    allow: AddressAllow
    ca_file: Path | None
    stack: AsyncExitStack
    _upstreams: dict[tuple[str, int], Upstream] = field(default_factory=dict)

    async def get(
        self, where: str, url: str, headers: Sequence[tuple[str, str]] = ()
    ) -> Received | Finding:
        """Return the answer; a finding where there is none."""
        plain, _, query = url.partition("#")[0].partition("?")
        try:
            address = HttpsUrl.parse(plain, self.allow)
        except UrlRefused:
            return Finding(Verdict.MISSING, where, "address", f"not fetched: {printable(url)}")
        path = urlsplit(plain).path or "/"  # HttpsUrl takes a slash from its end
        outcome = await self._upstream(address).send("GET", path, query, (*BROWSER, *headers), b"")
        if not isinstance(outcome, Replied):
            return Finding(Verdict.MISSING, where, "answer", outcome.code.value)
        return Received(where, url, outcome.status, outcome.headers, outcome.body)

    def _upstream(self, address: HttpsUrl) -> Upstream:
        place = (address.host, address.port)
        if place not in self._upstreams:
            route = UpstreamRoute(
                name="page",
                host=address.host,
                port=address.port,
                timeout_seconds=TIMEOUT_SECONDS,
                address_allow=self.allow,
                ca_file=self.ca_file,
                concurrency=AT_ONCE,
                connect_seconds=TIMEOUT_SECONDS,  # as many wait for a place as there are scripts
                reply_bytes_max=ANSWER_BYTES_MAX,
            )
            self._upstreams[place] = made = Upstream(route, Unwatched())
            self.stack.push_async_callback(made.close)
        return self._upstreams[place]


@dataclass(frozen=True, slots=True)
class Target:
    """What is looked at."""

    gateway: str
    origin: str
    key: str
    page: str | None
    baseline: Path | None


def page_check(  # noqa: PLR0913 - the options of one command
    url: Annotated[str, typer.Argument(metavar="URL", help="The gateway: https://pay.example")],
    *,
    origin: Annotated[str, typer.Option(metavar="ORIGIN", help="Of the shop's page.")],
    key: Annotated[
        str, typer.Option(metavar="K", help="Id of a publishable key that lists this origin.")
    ],
    page: Annotated[
        str | None, typer.Option(metavar="URL", help="The shop's payment page, to be looked at.")
    ] = None,
    baseline: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="How --page was before; written if it is not there."),
    ] = None,
    ca_file: Annotated[
        Path | None,
        typer.Option("--ca-file", metavar="FILE", exists=True, help="Trust these authorities."),
    ] = None,
    address_allow: Annotated[
        list[str] | None,
        typer.Option("--address-allow", metavar="NET", help="A private network to be called."),
    ] = None,
    inventory_folder: Annotated[
        Path | None,
        typer.Option(
            "--inventory", metavar="DIR", exists=True, help="Of another release: gateway/checkout."
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Compare headers and scripts as received with the inventory; exit 1 on any difference."""
    allow = _allow(address_allow or ())
    target = Target(_gateway(url, allow), _origin(origin), _key(key), page, baseline)
    if baseline is not None and page is None:
        raise typer.BadParameter("--baseline is of a --page")
    if page is not None:
        _address(page.partition("?")[0], allow, "--page")
    inventory = load_inventory(inventory_folder)
    findings: list[Finding] = []

    async def look() -> None:
        async with AsyncExitStack() as stack:
            browser = Browser(allow, ca_file, stack)
            findings.extend(await look_at(target, inventory, browser))

    run(look())
    _tell(findings, as_json=json)
    if any(finding.verdict is not Verdict.OK for finding in findings):
        raise typer.Exit(EX_FAILED)


async def look_at(target: Target, inventory: Inventory, browser: Browser) -> list[Finding]:
    """Fetch everything, and compare it."""
    findings: list[Finding] = []
    for name in FIELD_NAMES:
        query = urlencode({"key": target.key, "origin": target.origin, "field": name})
        got = await browser.get(
            f"frame {name}",
            f"{target.gateway}{FIELDS_PATH}?{query}",
            _fetch("iframe", "navigate", target.origin),
        )
        frame = (
            [got] if isinstance(got, Finding) else check_frame(got, inventory, name, target.origin)
        )
        findings += frame
    findings += await _scripts(target, inventory, browser)
    if target.page is not None:
        findings += await _page(target, target.page, inventory, browser)
    return findings


async def _scripts(target: Target, inventory: Inventory, browser: Browser) -> list[Finding]:
    wanted = {name: inventory.scripts[name] for name in inventory.scripts}
    wanted[CURRENT_LOADER] = inventory.loader
    findings: list[Finding] = []
    for file, script in wanted.items():
        is_for_pages = inventory.is_for_pages(script.file)
        by = (
            _fetch("script", "cors", target.origin) if is_for_pages else _fetch("script", "no-cors")
        )
        got = await browser.get(f"script {file}", f"{target.gateway}{ROOT}{file}", by)
        if isinstance(got, Finding):
            findings.append(got)
        else:
            findings += check_script(got, script, cross_origin=is_for_pages)
    return findings


async def _page(target: Target, page: str, inventory: Inventory, browser: Browser) -> list[Finding]:
    got = await browser.get("page", page, _fetch("document", "navigate"))
    if isinstance(got, Finding):
        return [got]
    findings = check_page(got, inventory, target.gateway)
    if target.baseline is None:
        return findings
    tags = scripts_of(got.url, got.body)
    addresses = sorted({tag.url for tag in tags if tag.url is not None})
    if len(addresses) > SCRIPTS_MAX:
        return [*findings, got.found(Verdict.ADDED, "scripts", f"more than {SCRIPTS_MAX}")]
    fetched = await asyncio.gather(*(_body(browser, url, page) for url in addresses))
    now = baseline_of(got, dict(zip(addresses, fetched, strict=True)))
    return [*findings, *_against(got, target.baseline, now)]


async def _body(browser: Browser, url: str, page: str) -> bytes | None:
    got = await browser.get(
        "page", url, (("Referer", urljoin(page, "/")), *_fetch("script", "cors"))
    )
    return got.body if isinstance(got, Received) and got.status == 200 else None  # noqa: PLR2004


def _against(got: Received, file: Path, now: Baseline) -> Iterable[Finding]:
    if file.exists():
        return compare(got, _read_baseline(file), now)
    try:
        with file.open("xb") as stream:
            stream.write(msgspec.json.format(msgspec.json.encode(now), indent=2) + b"\n")
    except OSError:
        pass
    else:
        return [got.found(Verdict.OK, "baseline", f"written: look at {file} before you trust it")]
    raise typer.BadParameter(f"--baseline: {file} cannot be written")


def _read_baseline(file: Path) -> Baseline:
    try:
        return msgspec.json.decode(file.read_bytes(), type=Baseline)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        pass
    raise typer.BadParameter(f"--baseline: {file} is none that this command wrote")


def _fetch(destination: str, mode: str, origin: str | None = None) -> tuple[tuple[str, str], ...]:
    """Return what a browser says of a fetch (Fetch Metadata); `origin`: of the page that asks."""
    accept = "*/*" if destination == "script" else "text/html,application/xhtml+xml,*/*;q=0.8"
    headers = [
        ("Accept", accept),
        ("Sec-Fetch-Dest", destination),
        ("Sec-Fetch-Mode", mode),
        ("Sec-Fetch-Site", _site(destination, origin)),
    ]
    if mode == "navigate":
        headers.append(("Upgrade-Insecure-Requests", "1"))
    if origin is not None and destination == "script":  # the loader's frames ask without a referrer
        headers.append(("Referer", f"{origin}/"))
        headers += [("Origin", origin)] if mode == "cors" else []
    return tuple(headers)


def _site(destination: str, origin: str | None) -> str:
    if destination == "document":
        return "none"  # typed in, or from a bookmark
    return "same-origin" if origin is None else "cross-site"


# --- options ------------------------------------------------------------------------------


def _allow(networks: Sequence[str]) -> AddressAllow:
    try:
        return AddressAllow.parse(networks)
    except AddressAllowRefused:
        pass
    raise typer.BadParameter("--address-allow: a private network, such as 10.0.0.0/8")


def _address(url: str, allow: AddressAllow, option: str) -> HttpsUrl:
    try:
        return HttpsUrl.parse(url, allow)
    except UrlRefused:
        pass
    raise typer.BadParameter(f"{option}: an address such as https://pay.example")


def _gateway(url: str, allow: AddressAllow) -> str:
    if _address(url, allow, "URL").path:
        raise typer.BadParameter("URL: the gateway's origin, without a path")
    return url.rstrip("/").lower()


def _origin(text: str) -> str:
    try:
        return parse_origin(text, env="test")  # localhost is for whoever tries it out
    except OriginRefused:
        pass
    raise typer.BadParameter("--origin: such as https://shop.example, without a path")


def _key(text: str) -> str:
    if not KEY_ID.fullmatch(text):
        raise typer.BadParameter("--key: the id of a publishable key, k_ and 16 characters")
    return text


# --- telling ------------------------------------------------------------------------------


def _tell(findings: Sequence[Finding], *, as_json: bool) -> None:
    if as_json:
        good = all(finding.verdict is Verdict.OK for finding in findings)
        show({"good": good, "findings": findings})
        return
    table = Table(box=None, pad_edge=False)
    for title in ("", "where", "what", "as received"):
        table.add_column(title, overflow="fold")
    for finding in _shortened(findings):
        row = (finding.verdict.value, finding.where, finding.what, finding.detail)
        table.add_row(*(Text(text, style=_STYLES[finding.verdict]) for text in row))
    console = Console(highlight=False)
    console.width = max(console.width, WIDTH_MIN)
    console.print(table)


def _shortened(findings: Iterable[Finding]) -> Iterable[Finding]:
    """Yield the differences, and a line for each place without one; remarks stay."""
    places: dict[str, list[Finding]] = defaultdict(list)
    for finding in findings:
        places[finding.where].append(finding)
    for where, found in places.items():
        wrong = [finding for finding in found if finding.verdict is not Verdict.OK]
        if wrong:
            yield from wrong
            continue
        remarks = [finding.detail for finding in found if finding.what in {"document", "baseline"}]
        yield Finding(Verdict.OK, where, f"{len(found)} checks", "; ".join(remarks))
