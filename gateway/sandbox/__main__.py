"""`python -m gateway.sandbox`: the simulated processors as a process of their own.

The wiring: owns the clock, reads the files, listens until it is told to stop. When it is ready it
writes one line of JSON with its address.
"""

import argparse
import asyncio
import contextlib
import os
import signal
import ssl
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from gateway.sandbox.calling_back import Destination
from gateway.sandbox.control import serve_control
from gateway.sandbox.processor import Processor, Running
from gateway.sandbox.wire import SandboxCredential


class Arguments(argparse.Namespace):
    """The command line."""

    port: int
    cert: Path
    key: Path
    api_key_file: Path
    credentials_file: Path | None
    control_socket: Path | None
    callbacks_file: Path | None
    unsafe_remember_numbers: bool
    arrivals: Path | None
    state: Path | None


def parse(arguments: list[str]) -> Arguments:
    parser = argparse.ArgumentParser(prog="python -m gateway.sandbox", description=__doc__)
    add = parser.add_argument
    add("--port", type=int, default=0, help="on 127.0.0.1; 0 takes a free one")
    add("--cert", type=Path, required=True, help="certificate chain, PEM")
    add("--key", type=Path, required=True, help="private key of the certificate, PEM")
    add("--api-key-file", type=Path, required=True, help="API keys, one a line: an account each")
    add(
        "--credentials-file", type=Path, help="JSON: other credentials by account, acct_1 the first"
    )
    add("--control-socket", type=Path, help="where to take commands; its folder must be private")
    add("--callbacks-file", type=Path, help="JSON: where callbacks go, a list of destinations")
    add("--unsafe-remember-numbers", action="store_true", help="keep card numbers: tests only")
    add("--arrivals", type=Path, help="where to write down what comes: only with the last")
    add("--state", type=Path, help="where to keep charges and keys over a kill: only with the same")
    parsed = parser.parse_args(arguments, namespace=Arguments())
    if (parsed.arrivals or parsed.state) and not parsed.unsafe_remember_numbers:
        parser.error("--arrivals and --state need --unsafe-remember-numbers")
    return parsed


def main() -> None:
    os.umask(0o077)  # the control socket is for this user alone
    asyncio.run(run(parse(sys.argv[1:]), announce=_announce))


async def run(arguments: Arguments, *, announce: Callable[[Running], None]) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(arguments.cert, arguments.key)
    processor = Processor(
        arguments.api_key_file.read_text().split(),
        credentials=_credentials(arguments.credentials_file),
        now=lambda: datetime.now(UTC),  # noqa: TID251 - the wiring owns the clock
        remember_numbers=arguments.unsafe_remember_numbers,
        arrivals=arguments.arrivals,
        state=arguments.state,
    )
    for destination in _destinations(arguments.callbacks_file):
        processor.callbacks.call_back_to(destination)
    stop = _stop_signal()
    async with contextlib.AsyncExitStack() as parts:
        running = await parts.enter_async_context(processor.serve(context, port=arguments.port))
        if arguments.control_socket is not None:
            await parts.enter_async_context(serve_control(processor, arguments.control_socket))
        announce(running)
        await stop.wait()


def _credentials(file: Path | None) -> dict[str, SandboxCredential]:
    if file is None:
        return {}
    return msgspec.json.decode(file.read_bytes(), type=dict[str, SandboxCredential])


def _destinations(file: Path | None) -> list[Destination]:
    return [] if file is None else msgspec.json.decode(file.read_bytes(), type=list[Destination])


def _announce(running: Running) -> None:
    ready = msgspec.json.encode({"url": running.url, "port": running.port}).decode()
    sys.stdout.write(f"{ready}\n")
    sys.stdout.flush()


def _stop_signal() -> asyncio.Event:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


if __name__ == "__main__":
    main()
