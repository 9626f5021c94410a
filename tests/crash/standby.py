"""A standby of a stage's PostgreSQL: streamed to, left behind, promoted in its place.

The embedded deployment has none, and no role that could replicate: that role is made here, in a
deployment of a test. What the standby has received when it is cut off is all that it has.
"""

import asyncio
import os
import shutil
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import asyncpg

from tests.crash.stage import Stage
from tests.flows.deployment import eventually
from vault.embedded.layout import RUNTIME, Layout
from vault.embedded.postgres import Postgres, binaries, dsn, identity

ROLE = "standby"
READY_SECONDS = 60.0


@dataclass
class Standby:
    """A second server, which follows the first one while both run."""

    stage: Stage
    layout: Layout
    server: Postgres

    @property
    def dsn(self) -> str:
        """Its own address, for the runtime role."""
        return dsn(self.layout, RUNTIME)

    async def start(self) -> None:
        await self.server.start()
        await eventually(self._answers, "the standby does not start", seconds=READY_SECONDS)

    async def _answers(self) -> bool:
        return await self.size() is not None

    async def size(self) -> int | None:
        """How large the ledger is there; None while it does not answer."""
        try:
            connection = await asyncpg.connect(self.dsn)
        except (OSError, asyncpg.PostgresError):
            return None
        try:
            size: int = await connection.fetchval("SELECT size FROM head")
        finally:
            await connection.close()
        return size

    async def has_caught_up(self, size: int) -> None:
        async def has_it() -> bool:
            found = await self.size()
            return found is not None and found >= size

        await eventually(has_it, "the standby does not follow", seconds=READY_SECONDS)

    async def promote(self) -> None:
        """Make it the primary, as `pg_ctl promote` does."""
        (self.layout.postgres_data / "promote").touch()
        pid = self.server.child.pid
        assert pid is not None
        os.kill(pid, signal.SIGUSR1)
        await eventually(self._leads, "it is not promoted", seconds=READY_SECONDS)

    async def _leads(self) -> bool:
        connection = await asyncpg.connect(self.dsn)
        try:
            return not await connection.fetchval("SELECT pg_is_in_recovery()")
        finally:
            await connection.close()

    def take_the_address(self) -> None:
        """Be found where the first one was: what a fail-over of an address comes to."""
        name = ".s.PGSQL.5432"
        there, here = (
            Path(parse_qs(urlsplit(each).query)["host"][0]) / name
            for each in (self.stage.deployment.parts.runtime_dsn, self.dsn)
        )
        there.unlink(missing_ok=True)
        there.symlink_to(here)


@asynccontextmanager
async def streaming(stage: Stage, folder: Path) -> AsyncIterator[Standby]:
    """Make a standby, and stop it at the end."""
    first = Layout(stage.deployment.parts.folder)
    stage.children.tell("stop postgres")
    stage.children.tell(f"alone CREATE ROLE {ROLE} REPLICATION LOGIN;")
    stage.children.tell("start postgres")
    hba = first.postgres / "pg_hba.conf"
    hba.write_text(f"{hba.read_text()}local replication {ROLE} trust\n")
    os.kill(stage.deployment.postgres, signal.SIGHUP)
    layout = _folders_beside(first, folder)
    host = parse_qs(urlsplit(stage.deployment.parts.runtime_dsn).query)["host"][0]
    await _base_backup(host, layout)
    server = Postgres(layout, await identity(first), given_up=_given_up)
    standby = Standby(stage, layout, server)
    try:
        await standby.start()
        yield standby
    finally:
        await server.stop()


def _folders_beside(first: Layout, folder: Path) -> Layout:
    """Make the standby's folders, with what the runtime role logs in with."""
    layout = Layout(folder)
    folder.mkdir(mode=0o700)
    layout.make_folders()
    shutil.copy2(first.password_file(RUNTIME), layout.password_file(RUNTIME))
    return layout


async def _base_backup(host: str, layout: Layout) -> None:
    """Copy the primary as it runs, with what makes the copy follow it."""
    copying = await asyncio.create_subprocess_exec(
        str(binaries() / "pg_basebackup"),
        *("-h", host, "-p", "5432", "-U", ROLE, "-w"),
        *("-D", str(layout.postgres_data), "-R", "-X", "stream", "-c", "fast"),
        stderr=asyncio.subprocess.PIPE,
        env={"PATH": os.environ["PATH"], "LC_ALL": "C", "HOME": str(layout.folder)},
    )
    _, said = await copying.communicate()
    assert copying.returncode == 0, said.decode()


def _given_up(name: str) -> None:
    raise AssertionError(f"{name} died too often")
