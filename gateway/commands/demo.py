"""`panward demo`: the promises, shown on real parts, and held against what was seen."""

import asyncio
import shlex
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console

from gateway.commands.options import EX_FAILED, JsonOption, console, fail, run
from gateway.custody import utc_now
from gateway.demo.clients import typed_in
from gateway.demo.program import scenes
from gateway.demo.scene import StoryBroke, closing, reason
from gateway.demo.stage import Stage, set_up
from gateway.demo.storefront.trust import spki_hash
from gateway.demo.telling import Telling, ToMachines, ToPeople
from gateway.embedded import LISTENERS
from vault.embedded.bootstrap import StartOptions
from vault.private_files import write_private

OnceOption = Annotated[bool, typer.Option("--once", help="End after the story.")]
FolderOption = Annotated[
    Path | None,
    typer.Option(
        "--embedded",
        metavar="DIR",
        help="Play in this folder and keep it. Default: a temporary one, removed at the end.",
    ),
]


def demo(
    embedded: FolderOption = None, *, once: OnceOption = False, as_json: JsonOption = False
) -> None:
    """Tell the story of a card, with a real Vault, a real database and Stripe's own SDK."""
    out = Console(highlight=False)
    telling: Telling = ToMachines(out) if as_json else ToPeople(out)
    reasons: list[str | None] = []

    async def work() -> None:
        reasons.append(await _perform(folder, telling, console if as_json else out, once=once))

    with _folder(embedded) as folder:
        kept = "kept" if embedded is not None else "removed at the end"
        console.print(f"[dim]· everything is in {folder} ({kept})[/]", soft_wrap=True)
        run(work())
    if reasons[0] is not None:
        fail(reasons[0], EX_FAILED)


@contextmanager
def _folder(embedded: Path | None) -> Iterator[Path]:
    if embedded is not None:
        yield embedded.resolve()
        return
    made = Path(tempfile.mkdtemp(prefix="panward-demo-"))  # 0700
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


class _Interruption:
    """Ctrl-C: breaks the story off, or ends the serving after it. A second one changes nothing."""

    def __init__(self) -> None:
        self._task = asyncio.current_task()
        self._asked = asyncio.Event()
        self._serving = False
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, self._happened)

    @property
    def happened(self) -> bool:
        return self._asked.is_set()

    async def awaited(self) -> None:
        self._serving = True
        await self._asked.wait()

    def _happened(self) -> None:
        if not self._serving and not self.happened and self._task is not None:
            self._task.cancel()
        self._asked.set()


async def _perform(folder: Path, telling: Telling, out: Console, *, once: bool) -> str | None:
    """Set everything up, tell the story, serve. Return what was not as it should be, if any."""
    interruption = _Interruption()
    options = StartOptions(
        listeners=LISTENERS,
        progress=lambda step: console.print(f"[dim]· {step}[/]"),
        given_up=lambda child: console.print(f"[red]{child} died too often to be restarted[/]"),
    )
    try:
        async with set_up(folder, options, at=utc_now()) as stage:
            _card_file(stage).unlink(missing_ok=True)  # of a demo that was killed
            why = await _tell(stage, telling)
            if not once:
                await _serve(stage, out, interruption, why)
            return why
    except ExceptionGroup as group:  # so it comes out of the gateway's task group
        broken = group.subgroup(StoryBroke)
        if broken is None:
            raise
        return str(broken.exceptions[0])
    except asyncio.CancelledError:
        if not interruption.happened:
            raise
    return "interrupted"


async def _tell(stage: Stage, telling: Telling) -> str | None:
    told = []
    async for scene in scenes(stage):
        telling.scene(scene)
        told.append(scene)
    end = closing(told)
    telling.closing(end)
    return reason(told, end)


async def _serve(stage: Stage, out: Console, interruption: _Interruption, why: str | None) -> None:
    """Go on until Ctrl-C, with what somebody needs to try things by hand."""
    if why is not None:
        console.print(f"[bold red]NOT as promised:[/] {why}")
    try:
        async with stage.reports.called_back():
            _invite(stage, out)
            await interruption.awaited()
            console.print("ending what is under way …")
    finally:
        _card_file(stage).unlink(missing_ok=True)


def _card_file(stage: Stage) -> Path:
    return stage.folder / "card.json"


def _invite(stage: Stage, out: Console) -> None:
    """Say where everything listens, where to buy, and how to make a token by hand."""
    folder, credentials = stage.folder, stage.credentials
    card, settings = _card_file(stage), folder / "shop.curl"
    write_private(card, msgspec.json.encode({"card": typed_in(stage.cards["visa"])}))
    write_private(
        settings,
        f"cacert = {_quoted(credentials.ca_file)}\n"
        f'header = "Authorization: Bearer {credentials.secret_key}"\n'.encode(),
    )
    ca_file = shlex.quote(credentials.ca_file)
    for line in (
        f"shop     {stage.shop_url}/",
        f"old shop {stage.old_shop_url}/",
        f"public   {credentials.public_url}",
        f"private  {credentials.private_url}",
        f"ops      {credentials.ops_url}",
        f"keys     {folder / 'credentials.json'}",
        f"CA       {credentials.ca_file}",
        "",
        *_browser(stage),
        "",
        "A token, as the checkout page makes one (the file has a published test card in it):",
        "",
        f"curl --cacert {ca_file} -H 'Authorization: Bearer {credentials.publishable_key}' \\",
        "  -H 'Content-Type: application/json' \\",
        f"  --data @{shlex.quote(str(card))} {credentials.public_url}/v1/tokens",
        "",
        "The payments of the story, as the back office sees them (its key is in the file):",
        "",
        f"curl --config {shlex.quote(str(settings))} {credentials.private_url}/v1/authorizations",
        "",
        "ready: Ctrl-C ends it",
    ):
        out.print(line, soft_wrap=True, markup=False)


def _browser(stage: Stage) -> Iterator[str]:
    """Say how a browser comes to trust the shop's certificate, which is the gateway's, too."""
    certificate = stage.deployment.parts.tls_cert_file
    profile = shlex.quote(str(stage.folder / "browser"))
    yield "Buy a print in the shop: accept its certificate once (the gateway's is the same; Firefox"
    yield "also asks at the public address), or import the authority, or start a Chromium that"
    yield "knows it:"
    yield ""
    yield f"chromium --user-data-dir={profile} --no-first-run \\"
    yield f"  --ignore-certificate-errors-spki-list={spki_hash(certificate)} \\"
    yield f"  {stage.shop_url}/"


def _quoted(text: str) -> str:
    """Quote as curl's configuration files do."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
