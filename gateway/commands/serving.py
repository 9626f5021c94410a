"""`panward up`, `panward check-config`: the gateway itself."""

import asyncio
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Final

import msgspec
import typer

from gateway import preset as presets
from gateway.app import running
from gateway.commands.options import (
    EX_CONFIG,
    ConfigOption,
    EmbeddedOption,
    console,
    require_one,
    run,
    spare_the_collector,
)
from gateway.config import Config, load_config
from gateway.custody import utc_now
from gateway.embedded import LISTENERS, SandboxMemory, embedded_deployment
from gateway.metrics import Metrics
from gateway.preset import Preset
from gateway.preset_rules import problems_of, remarks_on
from gateway.request_event import EventLog, quiet_logging
from vault.embedded.bootstrap import StartOptions

NOT_READY_SECONDS: Final = 5.0

_PRESET_TABLES: Final = frozenset({"hosts", "credential", "operations"})

PortBaseOption = Annotated[
    int | None, typer.Option(metavar="N", help="Use ports from N on, instead of any free ones.")
]
RememberOption = Annotated[bool, typer.Option(hidden=True)]


def up(
    config: ConfigOption = None,
    embedded: EmbeddedOption = None,
    port_base: PortBaseOption = None,
    *,
    unsafe_sandbox_remembers: RememberOption = False,
) -> None:
    """Start the gateway, and serve until Ctrl-C."""
    require_one(config, embedded)
    if embedded is not None:
        memory = SandboxMemory.ON_DISK if unsafe_sandbox_remembers else SandboxMemory.NOTHING
        run(serve_embedded(embedded, port_base, memory=memory))
    elif config is not None:
        if port_base is not None:
            raise typer.BadParameter("--port-base goes with --embedded: else the file says it")
        run(serve(load_config(config)))


def check_config(
    file: Annotated[
        Path, typer.Argument(metavar="F", help="A panward.toml, or a preset file of your own.")
    ],
) -> None:
    """Check a configuration file, or a preset file, and say what to change."""
    preset = _preset_file(file)
    if preset is None:
        config = load_config(file)
        for route in config.routes:
            for remark in remarks_on(route.preset):
                _say(f"route {route.name}: {remark}", style="yellow")
        _say(f"{file}: good ({len(config.routes)} routes, env = {config.env})")
        return
    problems = problems_of(preset)
    for problem in problems:
        _say(f"{file}: {problem}", style="red")
    if problems:
        sys.exit(EX_CONFIG)
    for remark in remarks_on(preset):
        _say(remark, style="yellow")
    _say(f"{file}: good (a preset with {len(preset.operations)} operations)")


def _preset_file(file: Path) -> Preset | None:
    """Read a preset file; None for anything else. Raises StartRefused for one that is broken."""
    try:
        content = file.read_bytes()
        tables = msgspec.toml.decode(content, type=dict[str, object])
    except (OSError, ValueError):
        return None
    return presets.parse(content) if tables.keys() >= _PRESET_TABLES else None


def _say(text: str, *, style: str = "") -> None:
    """Tell an operator; what is quoted of a file may have brackets, which are no markup."""
    console.print(text, style=style, markup=False, soft_wrap=True)


async def serve_embedded(
    folder: Path, port_base: int | None, *, memory: SandboxMemory = SandboxMemory.NOTHING
) -> None:
    """Serve an embedded deployment until a signal, and end its children with it."""
    options = StartOptions(
        port_base=port_base,
        listeners=LISTENERS,
        progress=lambda step: console.print(f"[dim]· {step}[/]"),
        given_up=lambda child: console.print(f"[red]{child} died too often to be restarted[/]"),
    )
    async with embedded_deployment(
        folder, at=utc_now(), options=options, memory=memory
    ) as deployment:
        await serve(deployment.config)


async def serve(config: Config) -> None:
    """Serve until SIGINT or SIGTERM; then end what is under way.

    SIGTERM comes from what also routes requests here: readiness says no for a while first, so
    that they go elsewhere. A person's Ctrl-C, or a second signal, waits for nothing.
    """
    asked, now = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def interrupted() -> None:
        asked.set()
        now.set()

    def terminated() -> None:
        if asked.is_set() or config.embedded is not None:
            now.set()
        asked.set()

    loop.add_signal_handler(signal.SIGINT, interrupted)
    loop.add_signal_handler(signal.SIGTERM, terminated)
    metrics = Metrics(processor_routes=[route.name for route in config.routes])
    log = EventLog(sys.stdout.buffer, now=utc_now, watch=metrics)
    with quiet_logging(log):
        async with running(config, log, metrics) as gateway:
            for name, url in gateway.urls().items():
                console.print(f"{name:<8} {url}")
            if config.embedded is not None:
                console.print(f"keys     {config.embedded / 'credentials.json'}")
            spare_the_collector()
            console.print("ready: Ctrl-C ends it")
            await asked.wait()
            gateway.health.drain()
            with suppress(TimeoutError):
                await asyncio.wait_for(now.wait(), NOT_READY_SECONDS)
            console.print("ending what is under way …")
