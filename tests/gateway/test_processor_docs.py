"""What docs/processors and docs/explain.md say is what the presets and the code say."""

import re
from pathlib import Path
from typing import get_args

import msgspec
import pytest

from gateway.call import Refusal
from gateway.codecs.splice import Format
from gateway.explain import Becomes, ExplainedField, Explanation, Holds, Role
from gateway.preset import Preset
from tests.gateway.preset_bodies import PRESETS
from vault.api_keys import AliasForm

DOCS = Path(__file__).parents[2] / "docs"
PAGES = DOCS / "processors"
INDEX = (PAGES / "README.md").read_text()
ALL = pytest.mark.parametrize("preset", PRESETS.values(), ids=lambda preset: preset.name)


class Block(msgspec.Struct):
    """What a page shows of panward.toml."""

    routes: list[dict[str, str]]


def page_of(preset: Preset) -> str:
    return (PAGES / f"{preset.name}.md").read_text()


def row_of(preset: Preset) -> list[str]:
    """Give the processor's line of the one table."""
    (line,) = (each for each in INDEX.splitlines() if f"({preset.name}.md)" in each)
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_there_is_a_page_a_processor() -> None:
    assert {path.stem for path in PAGES.glob("*.md")} == {*PRESETS, "README"}


@ALL
def test_a_page_says_at_its_top_that_its_preset_is_unverified(preset: Preset) -> None:
    title, _, text = page_of(preset).partition("\n\n")
    assert title.startswith(f"# {preset.title.split()[0]}")
    assert text.startswith("**Unverified**") is not preset.verified
    assert row_of(preset)[1:3] == [f"`{preset.name}`", "yes" if preset.verified else "**no**"]


@ALL
def test_a_page_s_route_is_one_that_the_preset_takes(preset: Preset) -> None:
    block = re.findall(r"```toml\n(.*?)```", page_of(preset), re.DOTALL)[0]
    (route,) = msgspec.toml.decode(block, type=Block).routes
    assert route["preset"] == preset.name
    host = route["host"].replace("PREFIX", "shop")
    assert preset.hosts.are_test(host) or preset.hosts.are_live(host)
    assert route.get("credential", "injected") in preset.credential.modes


@ALL
def test_the_table_says_what_the_preset_says(preset: Preset) -> None:
    _, _, _, _, _, modes, key, number, idempotency, unknown = row_of(preset)
    assert modes == ", ".join(f"`{mode}`" for mode in preset.credential.modes)
    place = preset.idempotency.header or preset.idempotency.field
    named = re.findall("`([^`]+)`", idempotency)
    assert [name.lower() for name in named] == ([] if place is None else [place])
    hours = re.findall(r"([0-9]+) h", unknown)
    seconds = preset.idempotency.replay_seconds
    assert hours == ([str(seconds // 3600)] if seconds else [])
    assert ("alias" in key) is (preset.credential.alias is not None)
    has_cards = any(operation.cards for operation in preset.operations)
    assert number.startswith("no card") is not has_cards


@ALL
def test_a_page_says_how_long_is_waited_and_what_is_text(preset: Preset) -> None:
    page = re.sub(r"\s+", " ", page_of(preset))
    assert f"time limit is {preset.timeout_seconds:g} s" in page
    header = preset.idempotency.header
    assert header is None or header in page.lower()
    if preset.credential.alias is not None:
        assert f"--form {preset.credential.alias}" in page
        assert preset.credential.alias in get_args(AliasForm)


EXPLAINED = set(Format) - {Format.FIXED_WIDTH}  # of files, and no processor's


def test_explain_s_names_are_all_told() -> None:
    page = (DOCS / "explain.md").read_text()
    names = [*Explanation.__struct_fields__, *ExplainedField.__struct_fields__]
    words = [each for of in (Role, Holds, Becomes) for each in get_args(of)]
    for name in (*names, *words, *(each.value for each in EXPLAINED)):
        assert f"`{name}`" in page, name


def test_codes_that_are_named_exist() -> None:
    codes = {each.value for each in Refusal}
    for name in ("raw_card_number", "raw_cvc", "token_undeclared"):
        assert name in codes
        assert name in INDEX
