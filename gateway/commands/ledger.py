"""`panward ledger verify`: check the record, without having to trust who keeps it.

What lives here: what an auditor says on the command line, and what is said back. What never may:
how it is checked.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Final
from urllib.parse import urlsplit

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from typer.models import OptionInfo

from gateway.addresses import AddressAllow, HostRefused
from gateway.commands.options import (
    EX_FAILED,
    ConfigOption,
    EmbeddedOption,
    JsonOption,
    console,
    deployment_of,
    fail,
    require_one,
    run,
    show,
)
from gateway.commands.verdict import document, tell
from gateway.commands.verifying import (
    Progress as Told,
)
from gateway.commands.verifying import (
    Terms,
    Verdict,
    check_log,
    verify_log,
)
from gateway.config import Config
from gateway.https_client import HttpsClient, HttpsUrl, Unwatched, UrlRefused
from gateway.log_origin import ExportFolder, HttpOrigin, LogFiles, OriginFailed, TiledLog
from vault.embedded.layout import Layout
from vault.errors import StartRefused
from vault.ledger.check import TIMEOUT_SECONDS, LogCheck
from vault.ledger.held import SignedHead, Source, Trust
from vault.ledger.note import NoteRefused, VerifierKey
from vault.ledger.policy import Policy, parse_policy

__all__ = ["Verdict", "check_log", "document", "ledger", "verify"]

ORIGIN_TIMEOUT_SECONDS: Final = 30.0

ledger = typer.Typer(help="The record of every authorization.", no_args_is_help=True)


def _file(name: str, what: str) -> OptionInfo:
    option: OptionInfo = typer.Option(name, metavar="FILE", exists=True, dir_okay=False, help=what)
    return option


AuditOption = Annotated[
    list[Path] | None,
    _file(
        "--vault-audit",
        "HashiCorp Vault's audit log: every decrypt must have an earlier intent. Repeatable.",
    ),
]
DsnOption = Annotated[
    Path | None,
    typer.Option("--dsn-file", metavar="FILE", help="Check a copy at the address in this file."),
]
OriginOption = Annotated[
    str | None,
    typer.Option("--origin", metavar="URL", help="Check what is published below this address."),
]
ExportOption = Annotated[
    Path | None,
    typer.Option(
        "--export", metavar="DIR", exists=True, file_okay=False, help="Check an exported log."
    ),
]
AuditorKeyOption = Annotated[
    Path | None, _file("--auditor-key-file", "The key that the origin asks for.")
]
AuthorityOption = Annotated[
    Path | None, _file("--ca-file", "Who issued the origin's certificate, if none of the system's.")
]
AllowOption = Annotated[
    list[str] | None,
    typer.Option(
        "--address-allow", metavar="NET", help="A private network the origin may be in. Repeatable."
    ),
]
KeyOption = Annotated[
    list[str] | None,
    typer.Option(
        "--vkey", metavar="TEXT|FILE", help="The log's key, as you were given it. Repeatable."
    ),
]
PolicyOption = Annotated[
    Path | None, _file("--policy", "Which logs, and how many of which witnesses, are believed.")
]
HeldOption = Annotated[
    list[Path] | None,
    _file("--held", "A checkpoint that you kept: the log must still begin with it. Repeatable."),
]
HoldOption = Annotated[
    Path | None,
    typer.Option(
        "--hold", metavar="FILE", dir_okay=False, help="Keep the newest checkpoint, if all is good."
    ),
]
TimeoutOption = Annotated[
    float,
    typer.Option("--timeout-seconds", min=0, help="The longest that a processor is waited for."),
]
SkipDetailsOption = Annotated[
    bool,
    typer.Option("--skip-details", help="Leave out the details that entries commit to: faster."),
]


@dataclass(frozen=True, slots=True)
class _Place:
    """Where the log is: exactly one of them."""

    config: Path | None
    embedded: Path | None
    dsn_file: Path | None
    origin: str | None
    export: Path | None


@ledger.command("verify")
def verify(  # noqa: PLR0913, PLR0917 - the options of the command
    config: ConfigOption = None,
    embedded: EmbeddedOption = None,
    dsn_file: DsnOption = None,
    origin: OriginOption = None,
    auditor_key_file: AuditorKeyOption = None,
    ca_file: AuthorityOption = None,
    address_allow: AllowOption = None,
    export: ExportOption = None,
    vkey: KeyOption = None,
    policy: PolicyOption = None,
    held: HeldOption = None,
    hold: HoldOption = None,
    vault_audit: AuditOption = None,
    timeout_seconds: TimeoutOption = TIMEOUT_SECONDS,
    *,
    skip_details: SkipDetailsOption = False,
    as_json: JsonOption = False,
) -> None:
    """Recompute every leaf and the root, and check every rule that an auditor would.

    The log is a deployment's (--config, --embedded), a database (--dsn-file), what is published
    (--origin) or exported (--export). Exit code 1: not good, the first entry concerned first.
    """
    place = _Place(config, embedded, dsn_file, origin, export)
    _require_one(place)
    terms = Terms(
        trust=_trust(vkey or [], policy),
        held=[_held(path) for path in held or []],
        audits=vault_audit or [],
        timeout_seconds=timeout_seconds,
        details=not skip_details,
        is_live=export is None,
    )
    verdict = _verdict(place, terms, _reach(origin, auditor_key_file, ca_file, address_allow))
    if hold is not None and verdict.is_good:
        _keep(hold, verdict.latest)
    if as_json:
        show(document(verdict))
    else:
        tell(verdict)
    if not verdict.is_good:
        raise typer.Exit(EX_FAILED)


# --- where the log is -----------------------------------------------------------------------

Reach = Callable[[], HttpsClient]


def _require_one(place: _Place) -> None:
    given = [place.dsn_file, place.origin, place.export]
    if not any(given):
        require_one(place.config, place.embedded)
    elif sum(one is not None for one in (*given, place.config, place.embedded)) > 1:
        raise typer.BadParameter("give one of --config, --embedded, --dsn-file, --origin, --export")


def _verdict(place: _Place, terms: Terms, reach: Reach | None) -> Verdict:
    verdicts: list[Verdict] = []
    problem: str | None = None

    async def work() -> None:
        with _progress() as told:
            verdicts.append(await _verified(place, terms, reach, told))

    try:
        run(work())
    except OriginFailed as failed:
        problem = str(failed)
    if problem is not None:
        fail(problem)
    return verdicts[0]


async def _verified(place: _Place, terms: Terms, reach: Reach | None, told: Told) -> Verdict:
    if place.export is not None:
        return await _verified_files(ExportFolder(place.export), terms, told)
    if reach is not None:
        client = reach()
        try:
            return await _verified_files(HttpOrigin(client), terms, told)
        finally:
            await client.close()
    if place.dsn_file is not None:
        dsn = _text_of(place.dsn_file)
        return await check_log(dsn, terms.audits, terms=terms, progress=told)
    async with deployment_of(place.config, place.embedded) as found:
        dsn = found.secret(found.database.runtime_dsn_file)
        audits = terms.audits or _own_audit(found)
        return await check_log(dsn, audits, terms=terms, progress=told)


async def _verified_files(files: LogFiles, terms: Terms, told: Told) -> Verdict:
    check = LogCheck(terms.trust())
    return await verify_log(TiledLog(files, check), check, terms, progress=told)


def _reach(
    origin: str | None, key_file: Path | None, ca_file: Path | None, networks: Sequence[str] | None
) -> Reach | None:
    """Say how the origin is called: a private address only if somebody has named it."""
    if origin is None:
        return None
    headers = []
    if key_file is not None:
        headers.append(("Authorization", f"Bearer {_text_of(key_file)}"))
    allow = _allow(origin, networks or ())

    def reach() -> HttpsClient:
        return HttpsClient(
            origin,
            Unwatched(),
            name="origin",
            ca_file=ca_file,
            address_allow=allow,
            headers=headers,
            timeout_seconds=ORIGIN_TIMEOUT_SECONDS,
        )

    return reach


def _allow(origin: str, networks: Sequence[str]) -> AddressAllow:
    """Return which private networks the origin may be in; its own address if it is one."""
    named = [*networks]
    with suppress(ValueError):
        address = ip_address(urlsplit(origin).hostname or "")
        named += [] if address.is_global else [str(address)]
    try:
        allow = AddressAllow.parse(named)
        HttpsUrl.parse(origin, allow)
    except UrlRefused:
        problem = "--origin: https://host[:port][/path] of a host that may be called"
    except HostRefused:
        problem = "--address-allow: private networks only"
    else:
        return allow
    raise typer.BadParameter(problem)


def _own_audit(config: Config) -> list[Path]:
    """An embedded deployment's audit log is at hand."""
    if config.embedded is None:
        return []
    path = Layout(config.embedded.resolve()).audit_log
    return [path] if path.is_file() else []


# --- what the auditor brings ------------------------------------------------------------------


def _trust(keys: Sequence[str], policy_file: Path | None) -> Callable[[], Trust]:
    parsed = [key for text in keys for key in _keys(text)]
    policy = None if policy_file is None else _policy(policy_file)
    return lambda: Trust(parsed, policy)


def _keys(text: str) -> list[VerifierKey]:
    """Read a key, or a file with one a line."""
    file = Path(text)
    lines = _text_of(file).splitlines() if file.is_file() else [text]
    try:
        return [VerifierKey.parse(line.strip()) for line in lines if line.strip()]
    except NoteRefused as refused:
        problem = str(refused)
    raise typer.BadParameter(f"--vkey: {problem}")


def _policy(file: Path) -> Policy:
    try:
        return parse_policy(file.read_text("utf-8"))
    except (OSError, UnicodeError):
        problem = f"{file} cannot be read"
    except NoteRefused as refused:
        problem = str(refused)
    raise typer.BadParameter(f"--policy: {problem}")


def _held(file: Path) -> SignedHead:
    try:
        return SignedHead.parse(file.read_bytes(), Source.HELD)
    except OSError:
        problem = f"{file} cannot be read"
    except NoteRefused as refused:
        problem = f"{file}: {refused}"
    raise typer.BadParameter(f"--held: {problem}")


def _keep(file: Path, note: bytes) -> None:
    """Write the checkpoint for next time: whole, or not at all."""
    if not note:
        fail("the log has no checkpoint to hold")
    fresh = file.with_name(f"{file.name}.new")
    try:
        with fresh.open("wb") as stream:
            stream.write(note)
            stream.flush()
            os.fsync(stream.fileno())
        fresh.replace(file)
    except OSError:
        problem = f"{file} cannot be written"
    else:
        return
    fail(problem)


def _text_of(file: Path) -> str:
    try:
        return file.read_text("ascii").strip()
    except (OSError, UnicodeError):
        pass
    raise StartRefused(f"{file} cannot be read")


@contextmanager
def _progress() -> Iterator[Told]:
    """A bar on a terminal, nothing elsewhere."""
    if not console.is_terminal:
        yield lambda _done, _of: None
        return
    columns = (TextColumn("checking"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("entries", total=None)
        yield lambda done, of: bar.update(task, completed=done, total=of)
