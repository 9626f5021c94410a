"""`panward witness`: a witness of somebody's log, to be run where the log's operator is not.

It needs a folder, a certificate and the keys of the logs; no database, no HashiCorp Vault.
"""

import asyncio
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from gateway.addresses import PORT_MAX
from gateway.commands.options import console, run
from gateway.custody import utc_now
from gateway.metrics import Metrics
from gateway.request_event import EventLog, quiet_logging
from gateway.witness.service import WitnessSettings, logs_of, running_witness


def witness(  # noqa: PLR0913 - the options of one command
    *,
    folder: Annotated[
        Path, typer.Option(metavar="DIR", help="Its key and what it holds. Never copy or restore.")
    ],
    name: Annotated[
        str, typer.Option(metavar="NAME", help="Of its key, for ever: such as example.com/w1.")
    ],
    listen: Annotated[str, typer.Option(metavar="HOST:PORT", help="An address of this machine.")],
    certificate_file: Annotated[Path, typer.Option(metavar="FILE", help="Its TLS chain, in PEM.")],
    private_key_file: Annotated[Path, typer.Option(metavar="FILE", help="The key of that.")],
    log: Annotated[
        list[str],
        typer.Option(metavar="VKEY", help="Key of a log: name+id+key; repeatable."),
    ],
    host: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A further name that it is called by; repeatable."),
    ] = None,
) -> None:
    """Cosign the checkpoints of logs that extend what was cosigned before, until Ctrl-C."""
    settings = WitnessSettings(
        folder=folder,
        name=name,
        address=_address(listen),
        certificate=certificate_file,
        private_key=private_key_file,
        logs=logs_of(log),
        hosts=frozenset(each.lower() for each in host or ()),
    )
    run(_serve(settings))


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or int(port) > PORT_MAX:
        raise typer.BadParameter("--listen: an address and a port, such as 127.0.0.1:8500")
    return host.removeprefix("[").removesuffix("]"), int(port)


async def _serve(settings: WitnessSettings) -> None:
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, asked.set)
    metrics = Metrics()
    log = EventLog(sys.stdout.buffer, now=utc_now, watch=metrics)
    with quiet_logging(log):
        async with running_witness(settings, log, metrics, now=utc_now) as running:
            host = settings.address[0]
            address = f"[{host}]" if ":" in host else host
            _say(f"listening on https://{address}:{running.port}")
            _say("for the policy of auditors, with the address by which others reach it:")
            _say(f"witness {running.key.name} {running.key.text}")
            await asked.wait()


def _say(text: str) -> None:
    console.print(text, markup=False, soft_wrap=True)
