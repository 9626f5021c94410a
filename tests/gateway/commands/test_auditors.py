"""Auditors: who is let in by which key, and `panward auditors`, which makes and revokes them."""

import json
from base64 import b64encode
from collections import defaultdict
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

import pytest
from typer.testing import CliRunner

from gateway.auditors import Auditors, presented_key
from gateway.commands.auditors import auditors as command_group
from gateway.config import Config
from gateway.embedded import Sandbox, _provide_tenant
from gateway.errors import NotAuthenticated
from gateway.known_keys import CACHE_SECONDS
from tests.gateway.commands.conftest import Command
from tests.vault.rows import now
from tests.vault.stores import Store
from vault.api_keys import NewApiKey, new_api_key
from vault.auditor_table import AuditorKeyRow, AuditorTable
from vault.embedded.bootstrap import EmbeddedParts
from vault.errors import StoreUnavailable
from vault.tokens import Env

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@dataclass
class KnownAuditors(AuditorTable):
    """Keeps the promise of the table that matters here, and can be away."""

    rows: dict[str, AuditorKeyRow] = field(default_factory=dict)
    reads: int = 0
    away: bool = False

    async def key(self, key_id: str) -> AuditorKeyRow | None:
        self.reads += 1
        if self.away:
            raise StoreUnavailable
        return self.rows.get(key_id)

    def made(self, env: Env = "test", **changes: datetime) -> NewApiKey:
        key = new_api_key("auditor_key", env)
        ends, revoked = changes.get("expires_at"), changes.get("revoked_at")
        self.rows[key.id] = AuditorKeyRow(key.id, "big-four", key.digest, NOW, ends, revoked)
        return key


class Clock:
    """Seconds as the test sets them."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def known() -> KnownAuditors:
    return KnownAuditors()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def auditors(known: KnownAuditors, clock: Clock) -> Auditors:
    return Auditors(known, env="test", now=lambda: NOW, monotonic=clock)


def bearer(text: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {text}"}


def basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + b64encode(f"{user}:{password}".encode()).decode()}


async def test_a_key_in_force_is_let_in(auditors: Auditors, known: KnownAuditors) -> None:
    key = known.made(expires_at=NOW + timedelta(seconds=1))
    for headers in (bearer(key.text), basic("", key.text), basic("anybody", key.text)):
        auditor = await auditors.authenticate(headers)
        assert (auditor.key, auditor.name) == (key.id, "big-four")


@pytest.mark.guards("T-29")
async def test_all_others_look_the_same(auditors: Auditors, known: KnownAuditors) -> None:
    key = known.made()
    other = new_api_key("auditor_key", "test")
    mixed = key.text[: -len(other.text[26:])] + other.text[26:]  # a known id, another's secret
    tenants = new_api_key("secret_key", "test")
    refused = [
        {},
        bearer(""),
        bearer(mixed),
        bearer(other.text),
        bearer(tenants.text),
        bearer(tenants.text.replace("pwsk", "pwau")),
        bearer(known.made(revoked_at=NOW - timedelta(days=1)).text),
        bearer(known.made(expires_at=NOW).text),
        bearer(known.made("live").text),
        basic(key.text, ""),
        basic(key.text, "x"),
        basic("x", key.text + " "),
        {"Authorization": key.text},
        {"Panward-Key": key.text},
    ]
    for headers in refused:
        with pytest.raises(NotAuthenticated):
            await auditors.authenticate(headers)
    await auditors.authenticate(bearer(key.text))


async def test_a_look_up_counts_for_five_seconds_and_no_longer(
    auditors: Auditors, known: KnownAuditors, clock: Clock
) -> None:
    key = known.made()
    await auditors.authenticate(bearer(key.text))
    known.away = True
    clock.seconds = CACHE_SECONDS - 0.1
    await auditors.authenticate(bearer(key.text))
    assert known.reads == 1
    clock.seconds = CACHE_SECONDS
    with pytest.raises(StoreUnavailable):
        await auditors.authenticate(bearer(key.text))
    known.away = False
    known.rows.clear()
    with pytest.raises(NotAuthenticated):
        await auditors.authenticate(bearer(key.text))


async def test_what_is_not_a_key_asks_nobody(auditors: Auditors, known: KnownAuditors) -> None:
    for headers in ({}, bearer("x" * 40), bearer(new_api_key("secret_key", "test").text)):
        with pytest.raises(NotAuthenticated):
            await auditors.authenticate(headers)
    assert known.reads == 0


def test_the_name_of_a_basic_login_is_nobodys_key() -> None:
    assert presented_key(basic("user", "p" * 30)) == "p" * 30
    assert presented_key({"Authorization": "Basic !"}) is None
    assert presented_key({}) is None


# --- the command --------------------------------------------------------------------------


@pytest.fixture
def reader(store: Store) -> Auditors:
    table = AuditorTable(store.database)
    return Auditors(table, env="test", now=now, monotonic=lambda: 0.0)


def afresh(store: Store) -> Auditors:
    return Auditors(AuditorTable(store.database), env="test", now=now, monotonic=lambda: 0.0)


@pytest.mark.embedded
async def test_an_auditor_is_added_listed_and_revoked(
    command: Command, reader: Auditors, store: Store
) -> None:
    added = await command("auditors", "add", "big-four")
    assert added.status == 0, added.err
    key = added.out.strip()
    assert (await reader.authenticate(bearer(key))).name == "big-four"
    (row,) = await store.rows("SELECT auditor_key::text AS text FROM auditor_key")
    assert key not in row["text"]

    again = await command("auditors", "add", "big-four")
    assert (again.status, again.out) == (1, "")
    assert "already" in again.err

    ends = "2099-12-31T23:59:59Z"
    added = await command("auditors", "add", "second", "--expires", ends, "--json")
    said = json.loads(added.out)
    assert (said["name"], said["expires_at"]) == ("second", "2099-12-31T23:59:59.000Z")
    assert (await reader.authenticate(bearer(said["key"]))).key == said["id"]

    listed = await command("auditors", "list", "--json")
    rows = [json.loads(line) for line in listed.out.splitlines()]
    assert [each["name"] for each in rows] == ["big-four", "second"]
    assert key not in listed.out
    assert said["key"] not in listed.out

    revoked = await command("auditors", "revoke", "big-four")
    assert (revoked.status, revoked.out) == (0, "big-four revoked\n")
    with pytest.raises(NotAuthenticated):
        await afresh(store).authenticate(bearer(key))
    await afresh(store).authenticate(bearer(said["key"]))
    again = await command("auditors", "revoke", "big-four")
    assert again.status == 1
    shown = (await command("auditors", "list")).out
    assert "revoked" in shown
    assert "in force" in shown


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("add", "Big Four"), "a name has"),
        (("add", "x" * 65), "a name has"),
        (("add", "x", "--expires", "2020-01-01"), "past"),
        (("add", "x", "--expires", "tomorrow"), "not match"),
        (("revoke",), "NAME"),
    ],
)
def test_what_is_asked_for_wrongly_is_refused(
    words: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    ended = CliRunner().invoke(command_group, [*words, "--config", str(tmp_path / "x.toml")])
    assert ended.exit_code == 2
    assert said in ended.output


# --- credentials.json ---------------------------------------------------------------------


@pytest.mark.embedded
async def test_a_folder_of_an_earlier_version_gets_a_key_at_its_next_start(
    embedded: EmbeddedParts, store: Store, tmp_path: Path
) -> None:
    file = tmp_path / "credentials.json"
    urls = dict.fromkeys(("public_url", "private_url", "ops_url", "ca_file"), "")
    keys = {"tenant": "t_01", "publishable_key": "pwpk_test_x", "secret_key": "pwsk_test_x"}
    file.write_text(json.dumps({**urls, **keys, "proxy_url": None, "auditor_key": None}))
    parts = replace(
        embedded,
        folder=tmp_path,
        ports=defaultdict(int, embedded.ports),
        owner_dsn=store.dsns.owner_dsn,
        runtime_dsn=store.dsns.runtime_dsn,
    )
    for _ in range(2):  # and keeps it
        at = now()
        await _provide_tenant(parts, cast("Config", None), cast("Sandbox", None), at=at)
    after = json.loads(file.read_text())
    (row,) = await AuditorTable(store.database).list()
    assert (await afresh(store).authenticate(bearer(after["auditor_key"]))).name == row.name
    assert keys.items() <= after.items()
    assert file.stat().st_mode & 0o777 == 0o600
