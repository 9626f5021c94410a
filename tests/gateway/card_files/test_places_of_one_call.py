"""No file of a call is written over another of the same call."""

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from gateway.cli import app
from tests.cards import VISA


def called(*words: str | Path) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def command(name: str, folder: Path) -> list[str | Path]:
    if name == "redact":
        return ["redact"]
    return ["import", "--config", folder / "none.toml", "--tenant", "shop", "--number", "pan"]


@pytest.mark.parametrize("name", ["import", "redact"])
@pytest.mark.parametrize("suffix", [".part", ".journal"])
@pytest.mark.parametrize("link", ["", "symbolic", "hard"])
def test_an_input_that_has_the_name_of_what_is_begun_is_not_written_over(
    tmp_path: Path, name: str, suffix: str, link: str
) -> None:
    begun = tmp_path / f"out.csv{suffix}"
    begun.write_text(f"pan\n{VISA}\n")
    file = tmp_path / "in.csv" if link else begun
    if link == "hard":
        file.hardlink_to(begun)
    elif link:
        file.symlink_to(begun)
    options: list[str | Path] = ["--format", "csv", "--out", tmp_path / "out.csv"]
    made = called(*command(name, tmp_path), file, *options)
    assert made.exit_code == 2
    assert "written over" in made.output
    assert begun.read_text() == f"pan\n{VISA}\n"


@pytest.mark.parametrize("name", ["import", "redact"])
@pytest.mark.parametrize("report", ["in.csv", "out.csv", "out.csv.part", "out.csv.journal"])
def test_a_report_has_a_file_of_its_own(tmp_path: Path, name: str, report: str) -> None:
    file = tmp_path / "in.csv"
    file.write_text(f"pan\n{VISA}\n")
    options: list[str | Path] = ["--out", tmp_path / "out.csv", "--report", tmp_path / "." / report]
    made = called(*command(name, tmp_path), file, *options)
    assert made.exit_code == 2
    assert "file of its own" in made.output
    assert {each.name for each in tmp_path.iterdir()} == {"in.csv"}
