"""docs/checkout.md names every word that a page can use or hear, and none that is not there."""

import re
from pathlib import Path

import pytest

from gateway.config_file import CheckoutConfig
from gateway.errors import (
    CardTesting,
    EdgeKeysUnavailable,
    NotAuthenticated,
    OriginRefused,
    RateLimited,
)
from gateway.problems import PROBLEMS
from vault.errors import (
    CustodyError,
    EdgeKeyUnknown,
    InvalidCard,
    Overloaded,
    SealedRefused,
    SealedReplayed,
    TokenInUse,
    TokenUnknown,
)

ROOT = Path(__file__).parents[3]
DOCUMENT = (ROOT / "docs" / "checkout.md").read_text()
SOURCE = ROOT / "checkout" / "src"
TYPES = (SOURCE / "panward.d.ts").read_text()
SIDES = ("top", "right", "bottom", "left")
WORDS = set(re.findall(r"[\w-]+", " ".join(re.findall(r"`([^`\n]+)`", DOCUMENT))))


def between(text: str, start: str, end: str) -> str:
    return text.split(start, 1)[1].split(end, 1)[0]


def members(interface: str) -> set[str]:
    body = between(TYPES, f"interface {interface} ", "\n}")
    return set(re.findall(r"^  (?:readonly )?(\w+)(?:<[^>]*>)?\??[:(]", body, re.MULTILINE))


@pytest.mark.parametrize(
    "interface", ["PanwardOptions", "FieldsOptions", "Look", "Styles", "Fields", "FieldsEvents"]
)
def test_every_option_method_and_event_is_described(interface: str) -> None:
    named = members(interface)
    assert len(named) >= 2
    assert named <= WORDS


@pytest.mark.parametrize("union", ["ErrorCode", "FieldErrorCode"])
def test_every_error_of_a_page_is_described(union: str) -> None:
    codes = set(
        re.findall(r'^  \| "(\w+)"', between(TYPES, f"type {union} =", ";\n"), re.MULTILINE)
    )
    assert len(codes) >= 7
    assert codes <= WORDS


def test_every_style_is_listed() -> None:
    allowed = between((SOURCE / "fields" / "styles.ts").read_text(), "new Map([", "]);")
    names = set(re.findall(r'^  \["([a-z-]+)"', allowed, re.MULTILINE))
    sides = {f"{name}-{side}" for name in ("padding", "border") for side in SIDES}
    assert sides <= names
    told = between(DOCUMENT, "**Styles**", "of `placeholder`")
    assert set(re.findall(r"`([a-z-]+)`", told)) == names - sides


def test_every_language_is_listed() -> None:
    languages = {path.stem for path in (SOURCE / "fields" / "locales").glob("*.json")}
    (line,) = (line for line in DOCUMENT.splitlines() if line.startswith("| `locale` | `en`"))
    assert set(re.findall(r"`([a-z]{2})`", line)) == languages


@pytest.mark.parametrize(
    "error",
    [
        InvalidCard,
        SealedRefused,
        SealedReplayed,
        EdgeKeyUnknown,
        TokenInUse,
        TokenUnknown,
        NotAuthenticated,
        OriginRefused,
        RateLimited,
        CardTesting,
        EdgeKeysUnavailable,
        Overloaded,
    ],
)
def test_every_problem_stands_with_its_status(error: type[CustodyError]) -> None:
    row = next(PROBLEMS[each] for each in error.__mro__ if each in PROBLEMS)
    table = between(DOCUMENT, "### What can go wrong", "\n## ")
    (status,) = re.findall(rf"^\| [^|]*`{error.code}`[^|]*\| (.*?) \|", table, re.MULTILINE)
    assert status == str(row.status)


def test_every_reason_is_told() -> None:
    sources = [ROOT / "vault" / name for name in ("card.py", "pan.py", "card_vault.py")]
    raised = {
        reason
        for path in sources
        for reason in re.findall(r'InvalidCard\([^,]+, "(\w+)"\)', path.read_text())
    }
    sealed = (ROOT / "gateway" / "sealed.py").read_text()
    refused = set(re.findall(r'SealedRefused\("(\w+)"\)', sealed))
    assert len(raised) >= 6
    assert refused == {"form", "kid", "tenant", "origin", "expired", "token"}
    assert raised | refused <= WORDS


def test_figures_are_the_settings_of_a_deployment_that_says_nothing() -> None:
    usual = CheckoutConfig()
    assert f"An edge key is used for {usual.edge_key_hours} hours" in DOCUMENT
    assert f"opens for {usual.edge_key_overlap_hours} more" in DOCUMENT
    assert usual.address_per_second == 1
    assert f"One address: 1 call a second, {usual.address_burst} at once" in DOCUMENT
    assert f"One key: {usual.key_per_second:.0f} a second, {usual.key_burst} at once" in DOCUMENT
