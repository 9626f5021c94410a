"""`panward check-config`: a deployment's file or a preset's, and what it says of them."""

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from gateway.cli import app
from vault.errors import StartRefused

PACKAGED = Path("gateway/processors")
LISTENER = '{{ port = {}, certificate_file = "a.pem", private_key_file = "a.pem" }}'
LOGIN = '{ role_id_file = "a.pem", secret_id_file = "a.pem" }'


def checked(file: Path) -> Result:
    return CliRunner().invoke(app, ["check-config", str(file)])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a.pem").write_text("something")
    (tmp_path / "dsn").write_text("postgresql://runtime@/panward?host=/run/postgresql")
    return tmp_path


def deployment(folder: Path, *routes: tuple[str, str, str]) -> Path:
    """Write a complete configuration with these routes: preset, host, credential mode."""
    text = f"""
env = "test"
state_folder = "state"
listeners.public = {LISTENER.format(8443)}
listeners.private = {LISTENER.format(8444)}
listeners.ops = {LISTENER.format(8445)}
[vault]
addresses = ["https://127.0.0.1:8200"]
ca_file = "a.pem"
tokenize = {LOGIN}
reveal = {LOGIN}
[database]
runtime_dsn_file = "dsn"
[ledger]
origin = "shop.example/log"
"""
    for number, (preset, host, mode) in enumerate(routes):
        text += f'[[routes]]\nname = "r{number}"\npreset = "{preset}"\n'
        text += f'host = "{host}"\ncredential = "{mode}"\n'
    file = folder / "panward.toml"
    file.write_text(text)
    return file


def test_routes_of_unverified_presets_are_said_aloud(folder: Path) -> None:
    file = deployment(
        folder,
        ("stripe", "api.stripe.com", "injected"),
        ("razorpay", "api.razorpay.com", "injected"),
        ("mollie", "api.mollie.com", "own"),
    )
    result = checked(file)
    assert result.exit_code == 0, result.exception
    assert "route r1: Razorpay is unverified: prove it in its sandbox" in result.output
    assert "route r2: Mollie is unverified" in result.output
    assert "route r0" not in result.output
    assert "good (3 routes, env = test)" in result.output


def test_a_route_may_have_a_preset_file_of_its_own(folder: Path) -> None:
    own = (PACKAGED / "stripe.toml").read_text().replace("verified = true", "verified = false", 1)
    (folder / "own.toml").write_text(own)
    file = deployment(folder, ("own.toml", "api.stripe.com", "own"))
    result = checked(file)
    assert result.exit_code == 0, result.exception
    assert "route r0: Stripe is unverified" in result.output
    (folder / "own.toml").write_text(own.replace("[401, 403, 429]", "[500]", 1))
    refused = checked(file).exception
    assert isinstance(refused, StartRefused)
    assert "not_executed_statuses: 500 is no refusal" in str(refused)


@pytest.mark.parametrize("name", ["stripe", "worldpay_wpg", "braintree"])
def test_a_preset_file_is_checked_by_itself(name: str) -> None:
    result = checked(PACKAGED / f"{name}.toml")
    assert result.exit_code == 0, result.exception
    assert "good (a preset with" in result.output
    assert ("is unverified" in result.output) is (name == "worldpay_wpg")


def test_all_that_is_wrong_with_a_preset_file_is_told_at_once(tmp_path: Path) -> None:
    text = (PACKAGED / "stripe.toml").read_text()
    for old, new in (
        ("timeout_seconds = 75", "timeout_seconds = 0"),
        ('cvc = "card[cvc]"', 'cvc = "card[number]"'),
    ):
        text = text.replace(old, new, 1)
    file = tmp_path / "own.toml"
    file.write_text(text)
    result = checked(file)
    assert result.exit_code == 78
    words = result.output.replace("\n", " ")
    assert "timeout_seconds: more than 0" in words
    assert "cards: card[number] is given twice" in words  # with its brackets
    file.write_text(text + "\nsurprise = 1\n")
    assert isinstance(checked(file).exception, StartRefused)


def test_what_is_neither_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "panward.toml"
    for text in ("", "= no toml", 'env = "test"'):
        file.write_text(text)
        assert isinstance(checked(file).exception, StartRefused)
    assert isinstance(checked(tmp_path / "nowhere.toml").exception, StartRefused)
