"""`panward callbacks`: URLs for processors, and the secrets that prove what comes there."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from typer.testing import CliRunner

from gateway.commands import callbacks as module
from gateway.commands.callbacks import callbacks
from gateway.config import Config, Route
from gateway.config_file import CallbacksConfig, ListenerConfig
from gateway.reporting import callback_url
from tests.gateway.commands.conftest import Command
from tests.vault.keyrings import tokenize_keys
from tests.vault.places import place_of_openbao
from vault.embedded.bootstrap import EmbeddedParts
from vault.tenant_table import Tenant

URL = re.compile(r"https://127\.0\.0\.1:[0-9]+/callbacks/(cbe_[0-9a-hjkmnp-tv-z]{32})\n")


async def stored(embedded: EmbeddedParts, tenant: Tenant) -> Mapping[str, str] | None:
    async with place_of_openbao(embedded).transit("tokenize") as transit:
        keys = tokenize_keys(transit)
        found = await keys.callback_secrets(tenant.id, "stripe")
        await keys.close()
    return found


# --- endpoints ------------------------------------------------------------------------------


@pytest.mark.embedded
async def test_an_endpoint_from_its_making_to_its_end(command: Command, tenant: Tenant) -> None:
    ended = await command("callbacks", "endpoints", "add", "shop", "stripe")
    assert ended.status == 0, ended.err
    assert "public_url" in ended.err
    match = URL.fullmatch(ended.out)
    assert match is not None
    first = match[1]
    words = ("callbacks", "endpoints", "rotate", first, "--overlap-hours", "1", "--json")
    ended = await command(*words)
    assert ended.status == 0, ended.err
    second = json.loads(ended.out)
    assert second["url"].endswith(f"/callbacks/{second['id']}")
    assert (second["tenant"], second["route"], second["scheme"], second["state"]) == (
        tenant.id,
        "stripe",
        "stripe",
        "in force",
    )
    ended = await command("callbacks", "endpoints", "rotate", first)
    assert (ended.status, ended.out) == (1, "")
    assert (await command("callbacks", "endpoints", "end", second["id"])).status == 0
    assert (await command("callbacks", "endpoints", "end", second["id"])).status == 1
    listed = await command("callbacks", "endpoints", "list", "--tenant", "shop", "--json")
    rows = [json.loads(line) for line in listed.out.splitlines()]
    assert [(row["id"], row["state"]) for row in rows] == [
        (first, "ending"),
        (second["id"], "ended"),
    ]
    plain = await command("callbacks", "endpoints", "list")
    assert f"/callbacks/{first}" in plain.out


@pytest.mark.embedded
async def test_what_does_not_exist_is_said(command: Command, tenant: Tenant) -> None:
    for words, word in (
        (("endpoints", "add", "nobody", "stripe"), "no tenant"),
        (("endpoints", "add", tenant.id, "nothing"), "no route"),
        (("endpoints", "add", "shop", "stripe", "--scheme", "adyen_item"), "schemes of stripe"),
        (("endpoints", "list", "--tenant", "nobody"), "no tenant"),
        (("secrets", "set", "shop", "nothing", "key.1"), "no route"),
        (("secrets", "remove", "shop", "stripe", "key.1"), "no secret"),
    ):
        ended = await command("callbacks", *words, stdin=b"canary")
        assert ended.status == 1, (words, ended.err)
        assert word in ended.err
        assert "canary" not in ended.err + ended.out


def config(public_url: str | None, **listener: object) -> Config:
    """As much of a configuration as a URL is made of."""
    plain = ListenerConfig(8443, "c.pem", "k.pem", **listener)  # type: ignore[arg-type]
    listeners = SimpleNamespace(public=plain)
    made = SimpleNamespace(callbacks=CallbacksConfig(public_url), listeners=listeners)
    return cast(Config, made)


def test_the_url_is_the_one_by_which_processors_reach_us() -> None:
    for found, base in (
        (config("https://pay.example/in/"), "https://pay.example/in"),
        (config("https://pay.example", names=("other.example",)), "https://pay.example"),
        (config(None, host="10.0.0.1", names=("a.example",)), "https://a.example:8443"),
        (config(None), "https://127.0.0.1:8443"),
        (config(None, host="::1"), "https://[::1]:8443"),
    ):
        assert callback_url(found, "cbe_1") == f"{base}/callbacks/cbe_1"


def test_a_scheme_is_one_of_the_preset_s() -> None:
    def route(*schemes: str, credential: str = "injected") -> Route:
        rules = SimpleNamespace(schemes=schemes) if schemes else None
        preset = SimpleNamespace(callbacks=rules)
        return cast(Route, SimpleNamespace(name="r", preset=preset, credential=credential))

    assert module._scheme(route("adyen_item", "adyen_header"), None) == "adyen_item"
    assert module._scheme(route("adyen_item", "adyen_header"), "adyen_header") == "adyen_header"
    both = ("mollie_nextgen", "mollie_classic")
    assert module._scheme(route(*both), "mollie_classic") == "mollie_classic"
    assert module._scheme(route(*both, credential="own"), None) == "mollie_nextgen"
    for found, wanted in (
        (route(), None),
        (route(), "stripe"),
        (route("stripe"), "square"),
        (route(*both, credential="own"), "mollie_classic"),  # nobody could ask
        (route("mollie_classic", credential="own"), None),
    ):
        with pytest.raises(SystemExit):
            module._scheme(found, wanted)


# --- secrets --------------------------------------------------------------------------------


@pytest.mark.embedded
async def test_secrets_stand_side_by_side_and_are_never_shown(
    command: Command, embedded: EmbeddedParts, tenant: Tenant
) -> None:
    assert (await command("callbacks", "secrets", "list", "shop", "stripe")).out == ""
    given = (("key.1", b"whsec_canary1\n"), ("key.2", b"whsec_canary2"), ("key.1", b"x"))
    for version, (name, text) in enumerate(given, start=1):
        ended = await command("callbacks", "secrets", "set", "shop", "stripe", name, stdin=text)
        assert ended.status == 0, ended.err
        assert f"version {version}" in ended.err
        assert "canary" not in ended.out + ended.err
    assert await stored(embedded, tenant) == {"key.1": "x", "key.2": "whsec_canary2"}
    listed = await command("callbacks", "secrets", "list", "shop", "stripe", "--json")
    assert [json.loads(line) for line in listed.out.splitlines()] == [
        {"tenant": tenant.id, "route": "stripe", "name": name} for name in ("key.1", "key.2")
    ]
    ended = await command("callbacks", "secrets", "remove", "shop", "stripe", "key.1")
    assert ended.status == 0, ended.err
    assert await stored(embedded, tenant) == {"key.2": "whsec_canary2"}
    assert (await command("callbacks", "secrets", "list", tenant.id, "stripe")).out == "key.2\n"


@pytest.mark.embedded
async def test_a_route_has_only_so_many_secrets(
    command: Command, embedded: EmbeddedParts, tenant: Tenant
) -> None:
    async with place_of_openbao(embedded).transit("credentials") as transit:
        some = {f"key.{n}": "x" for n in range(16)}
        await transit.patch_secret(f"callback/{tenant.id}/stripe", some)
    words = ("callbacks", "secrets", "set", "shop", "stripe")
    ended = await command(*words, "key.16", stdin=b"x")
    assert ended.status == 1
    assert "remove one" in ended.err
    assert (await command(*words, "key.3", stdin=b"y")).status == 0  # one that is there already
    assert await stored(embedded, tenant) == some | {"key.3": "y"}


def test_what_could_not_be_a_secret_is_refused_and_never_quoted(tmp_path: Path) -> None:
    """Before anything is connected to."""
    for name, text, word in (
        ("key.1", "", "one line"),
        ("key.1", "canary\nx", "one line"),
        ("key.1", "canary\u00e9", "one line"),
        ("key.1", "canary" * 1000, "one line"),
        ("key.1", "canary" * 20_000, "too long"),
        ("key.", "canary", "name must be"),
        ("key.a b", "canary", "name must be"),
        ("key." + "a" * 129, "canary", "name must be"),
        ("other", "canary", "name must be"),
        ("webhook_id\n", "canary", "name must be"),
    ):
        nowhere = str(tmp_path / "nowhere.toml")
        command = ["secrets", "set", "shop", "stripe", name, "--config", nowhere]
        ended = CliRunner().invoke(callbacks, command, input=text)
        assert ended.exit_code == 2, (name, ended.output)
        assert word in " ".join(ended.output.split())
        assert "canary" not in ended.output
