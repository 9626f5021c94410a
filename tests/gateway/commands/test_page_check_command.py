"""`panward page-check` against a gateway behind a proxy that changes what passes."""

import asyncio
import json
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from gateway.checkout.inventory import Inventory
from gateway.commands.page_check import Browser, Target, look_at, page_check
from gateway.page_check import Verdict
from tests.gateway.checkout.built_folder import PARTS, STYLES, BuiltFolder, built_folder
from tests.gateway.checkout.checkout_serving import (
    KEY,
    SHOP,
    Change,
    Headers,
    as_it_is,
    serving_checkout,
    tls_proxy,
)
from tests.gateway.raw_servers import LOOPBACK, Certificates, Server, reply

PROGRAM = "import typer; from gateway.commands.page_check import page_check; typer.run(page_check)"
POLICY = "Content-Security-Policy"


@dataclass(frozen=True)
class Ended:
    """What a run of the command left."""

    code: int
    out: str
    err: str

    @property
    def wrong(self) -> list[tuple[str, str, str]]:
        found = json.loads(self.out)
        told = [(f["verdict"], f["where"], f["what"]) for f in found["findings"]]
        wrong = [each for each in told if each[0] != "ok"]
        assert found["good"] is not bool(wrong)
        assert self.code == bool(wrong)
        return wrong


@dataclass
class Place:
    """A gateway behind a proxy."""

    server: Server
    certificates: Certificates
    built: BuiltFolder

    @property
    def url(self) -> str:
        return f"https://localhost:{self.server.port}"

    async def check(self, *more: str, origin: str = SHOP, key: str = KEY) -> Ended:
        return await run(
            self.url,
            "--origin",
            origin,
            "--key",
            key,
            "--ca-file",
            str(self.certificates.ca_file),
            "--address-allow",
            "127.0.0.1/32",
            "--inventory",
            str(self.built.folder),
            *more,
        )

    async def wrong(
        self, *, page: str | None = None, origin: str = SHOP, baseline: Path | None = None
    ) -> list[tuple[str, str, str]]:
        """What the command finds, without the command."""
        target = Target(self.url, origin, KEY, page and f"{self.url}{page}", baseline)
        async with AsyncExitStack() as stack:
            browser = Browser(LOOPBACK, self.certificates.ca_file, stack)
            found = await look_at(target, self.built.load(), browser)
        return [(f.verdict.value, f.where, f.what) for f in found if f.verdict is not Verdict.OK]


async def run(*arguments: str) -> Ended:
    started = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PROGRAM, *arguments, stdout=PIPE, stderr=PIPE
    )
    async with asyncio.timeout(60):
        out, err = await started.communicate()
    return Ended(started.returncode or 0, out.decode(), err.decode())


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def built(tmp_path: Path) -> BuiltFolder:
    return built_folder(tmp_path / "checkout")


@asynccontextmanager
async def behind_a_proxy(
    built: BuiltFolder,
    certificates: Certificates,
    change: Change = as_it_is,
    pages: Mapping[str, bytes] | None = None,
) -> AsyncIterator[Place]:
    async with (
        serving_checkout(built.load()) as checkout,
        tls_proxy(checkout, certificates, change, pages) as server,
    ):
        yield Place(server, certificates, built)


async def test_what_arrives_as_it_was_approved_is_good(
    built: BuiltFolder, certificates: Certificates
) -> None:
    async with behind_a_proxy(built, certificates) as place:
        ended = await place.check()
        assert (ended.code, ended.err) == (0, "")
        lines = ended.out.splitlines()
        assert sum(line.startswith("ok ") for line in lines) == 4 + 7
        assert "t_abc123, test, ledger.example/pay" in ended.out
        assert (await place.check("--json")).wrong == []
        requests = b"".join(place.server.requests)
        assert b"Chrome/" in requests
        assert b"panward-check" not in requests.lower()
        assert b"python" not in requests.lower()


def of_page(path: str) -> bool:
    return "field=number" in path


def adds_a_script(path: str, headers: Headers, body: bytes) -> tuple[Headers, bytes]:
    evil = b'<script src="https://evil.example/x.js"></script></head>'
    return headers, body.replace(b"</head>", evil) if of_page(path) else body


def adds_an_inline_script(path: str, headers: Headers, body: bytes) -> tuple[Headers, bytes]:
    return headers, body + b"<script>evil()</script>" if of_page(path) else body


def drops_the_policy(path: str, headers: Headers, body: bytes) -> tuple[Headers, bytes]:
    kept = [pair for pair in headers if not of_page(path) or pair[0] != POLICY]
    return kept, body


def adds_a_policy(path: str, headers: Headers, body: bytes) -> tuple[Headers, bytes]:
    return headers + [(POLICY, "default-src *")] * of_page(path), body


def loosens_the_policy(path: str, headers: Headers, body: bytes) -> tuple[Headers, bytes]:
    return [(n, v.replace(SHOP, f"{SHOP} *") if of_page(path) else v) for n, v in headers], body


def changes_a_byte(path: str, headers: Headers, body: bytes) -> tuple[Headers, bytes]:
    return headers, body.replace(b";", b":", 1) if path.endswith(PARTS["sealing"]) else body


def changes_the_styles(path: str, headers: Headers, body: bytes) -> tuple[Headers, bytes]:
    return headers, body.replace(STYLES, b"p{}") if of_page(path) else body


FRAME = "frame number"
CHANGES: dict[Change, list[tuple[str, str, str]]] = {
    adds_a_script: [("added", FRAME, "script"), ("changed", FRAME, "document")],
    adds_an_inline_script: [("added", FRAME, "script"), ("changed", FRAME, "document")],
    drops_the_policy: [("missing", FRAME, "header content-security-policy")],
    adds_a_policy: [("added", FRAME, "header content-security-policy")],
    loosens_the_policy: [("changed", FRAME, "header content-security-policy")],
    changes_a_byte: [("changed", f"script {PARTS['sealing']}", "content")],
    changes_the_styles: [("changed", FRAME, "document")],
}


@pytest.mark.guards("T-55")
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
async def test_what_changes_on_its_way_is_told(
    built: BuiltFolder, certificates: Certificates, change: Change
) -> None:
    async with behind_a_proxy(built, certificates, change) as place:
        assert await place.wrong() == CHANGES[change]


@pytest.mark.guards("T-55")
async def test_a_person_is_shown_what_changed(
    built: BuiltFolder, certificates: Certificates
) -> None:
    async with behind_a_proxy(built, certificates, adds_a_script) as place:
        ended = await place.check()
        assert ended.code == 1
        (line,) = [line for line in ended.out.splitlines() if line.startswith("added")]
        assert "frame number" in line
        assert "https://evil.example/x.js" in line


async def test_a_page_that_is_refused_is_not_good(
    built: BuiltFolder, certificates: Certificates
) -> None:
    async with behind_a_proxy(built, certificates) as place:
        wrong = await place.wrong(origin="https://other.example")
        assert ("changed", "frame card", "status") in wrong


async def test_a_gateway_that_nobody_vouches_for_is_not_good(
    built: BuiltFolder, certificates: Certificates, tmp_path: Path
) -> None:
    async with behind_a_proxy(built, certificates) as place:
        place.certificates = Certificates(tmp_path)
        wrong = await place.wrong()
        assert wrong[0] == ("missing", "frame card", "answer")
        assert len(wrong) == 4 + 7
        assert place.server.requests == []


# --- a shop's page ------------------------------------------------------------------------


def shop(inventory: Inventory, url: str, more: str = "") -> dict[str, bytes]:
    loader = inventory.loader
    body = (
        f'<script src="{url}/checkout/v1/{loader.file}" integrity="{loader.sha384}" crossorigin>'
        f'</script><script src="/app.js?v=1"></script>{more}'
    )
    policy = f"{POLICY}: script-src 'self' {url}; frame-src {url}"
    return {
        "/pay?cart=1": reply(body.encode(), "Content-Type: text/html", policy),
        "/app.js?v=1": reply(b"app()"),
    }


@pytest.mark.guards("T-55")
async def test_a_shops_page_is_compared_with_how_it_was(
    built: BuiltFolder, certificates: Certificates, tmp_path: Path
) -> None:
    inventory, pages = built.load(), dict[str, bytes]()
    baseline = tmp_path / "baseline.json"
    async with behind_a_proxy(built, certificates, pages=pages) as place:
        options = ("--page", f"{place.url}/pay?cart=1", "--baseline", str(baseline))
        pages |= shop(inventory, place.url)
        ended = await place.check(*options)
        assert (ended.code, "written: look at" in ended.out) == (0, True)
        assert (await place.check("--json", *options)).wrong == []

        async def wrong() -> list[tuple[str, str, str]]:
            return await place.wrong(page="/pay?cart=1", baseline=baseline)

        pages["/app.js?v=1"] = reply(b"evil()")
        assert await wrong() == [("changed", "page", "script")]
        pages |= shop(inventory, place.url, "<script>evil()</script>")
        assert await wrong() == [("added", "page", "script")]
        kept = baseline.read_bytes()
        pages["/pay?cart=1"] = pages["/pay?cart=1"].replace(b"integrity", b"data-hash")
        assert await wrong() == [
            ("changed", "page", f"script {inventory.loader.file}"),
            ("added", "page", "script"),
        ]
        assert baseline.read_bytes() == kept


async def test_a_page_is_looked_at_without_a_baseline_too(
    built: BuiltFolder, certificates: Certificates
) -> None:
    pages = {"/pay": reply(b"<p>", "Content-Type: text/html")}
    async with behind_a_proxy(built, certificates, pages=pages) as place:
        assert await place.wrong(page="/pay") == [
            ("missing", "page", "header content-security-policy"),
            ("missing", "page", "script panward.js"),
        ]


async def test_a_page_that_leads_elsewhere_is_not_followed(
    built: BuiltFolder, certificates: Certificates
) -> None:
    elsewhere = reply(b"", "Location: https://evil.example/", status="302 Found")
    async with behind_a_proxy(built, certificates, pages={"/pay": elsewhere}) as place:
        assert await place.wrong(page="/pay") == [("missing", "page", "answer")]


async def test_a_baseline_that_is_none_is_refused(
    built: BuiltFolder, certificates: Certificates, tmp_path: Path
) -> None:
    pages: dict[str, bytes] = {}
    async with behind_a_proxy(built, certificates, pages=pages) as place:
        pages |= shop(built.load(), place.url)
        file = tmp_path / "baseline.json"
        file.write_text("{}")
        page = ("--page", f"{place.url}/pay?cart=1")
        ended = await place.check(*page, "--baseline", str(file))
        assert (ended.code, "Traceback" in ended.err) == (2, False)
        assert file.read_text() == "{}"
        with pytest.raises(typer.BadParameter):
            await place.wrong(page="/pay?cart=1", baseline=tmp_path / "no" / "folder.json")


# --- options ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ("http://pay.example",),
        ("https://pay.example/path",),
        ("https://10.0.0.1",),
        ("https://pay.example", "--address-allow", "0.0.0.0/0"),
        ("https://pay.example", "--origin", "https://shop.example/"),
        ("https://pay.example", "--origin", "shop.example"),
        ("https://pay.example", "--key", "pwpk_test_x"),
        ("https://pay.example", "--page", "shop.example"),
        ("https://pay.example", "--baseline", "x.json"),
    ],
)
def test_options_are_checked_before_anything_is_sent(arguments: tuple[str, ...]) -> None:
    given = {"--origin": SHOP, "--key": KEY}
    more = [word for pair in given.items() for word in pair if pair[0] not in arguments]
    app = typer.Typer()
    app.command()(page_check)
    assert CliRunner().invoke(app, [*arguments, *more]).exit_code == 2
