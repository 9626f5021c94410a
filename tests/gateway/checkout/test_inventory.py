"""The inventory of scripts: what differs from what was approved stops the start."""

import gzip
from pathlib import Path

import pytest

from gateway.checkout.inventory import hash_of, load_inventory
from tests.gateway.checkout.built_folder import OLDER, PARTS, STYLES, BuiltFolder, built_folder
from vault.errors import StartRefused


@pytest.fixture
def built(tmp_path: Path) -> BuiltFolder:
    return built_folder(tmp_path)


def test_it_is_read(built: BuiltFolder) -> None:
    inventory = built.load()
    assert set(inventory.scripts) == {*PARTS.values(), OLDER}
    assert inventory.fields.file == PARTS["fields"]
    assert inventory.sealing.body.startswith(b"'sealing'")
    assert inventory.loader.reason == f"what {PARTS['loader']} is for"
    assert gzip.decompress(inventory.loader.packed) == inventory.loader.body
    assert (inventory.styles, inventory.style_hash) == (STYLES, hash_of(STYLES, "sha256"))
    assert inventory.types == b"export {};\n"


def test_only_the_frames_own_scripts_are_not_for_pages(built: BuiltFolder) -> None:
    inventory = built.load()
    for_pages = {file for file in inventory.scripts if inventory.is_for_pages(file)}
    assert for_pages == {PARTS["loader"], PARTS["module"], PARTS["seal"], OLDER}


def test_the_hash_is_that_of_subresource_integrity() -> None:
    # The example of the recommendation (W3C SRI, section 3.1): printf "alert('Hello, world.');"
    assert hash_of(b"alert('Hello, world.');") == (
        "sha384-H8BRh8j48O9oYatfu5AZzq6A9RINhZO5H16dQZngK7T62em8MUt1FLm52t+eX6xO"
    )


@pytest.mark.guards("T-55")
@pytest.mark.parametrize("file", [*PARTS.values(), OLDER])
def test_a_script_that_changed_by_a_byte_stops_the_start(built: BuiltFolder, file: str) -> None:
    path = built.built / file
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(StartRefused, match=f"{file} is not the script that was approved"):
        built.load()


@pytest.mark.guards("T-55")
@pytest.mark.parametrize("file", [*PARTS.values(), "fields.css", "panward.d.ts", "manifest.json"])
def test_a_file_that_is_missing_stops_the_start(built: BuiltFolder, file: str) -> None:
    (built.built / file).unlink()
    with pytest.raises(StartRefused, match=f"{file} of the hosted fields is missing"):
        built.load()


@pytest.mark.guards("T-55")
@pytest.mark.parametrize("file", ["extra.js", "extra-0.mjs", "more.cjs", "x.wasm", "frame.html"])
def test_a_script_that_is_not_listed_stops_the_start(built: BuiltFolder, file: str) -> None:
    (built.built / file).write_bytes(b"")
    with pytest.raises(StartRefused, match=f"{file} is in no line of the script inventory"):
        built.load()


@pytest.mark.guards("T-55")
def test_a_part_that_is_not_listed_stops_the_start(built: BuiltFolder) -> None:
    built.lines = [line for line in built.lines if line["file"] != PARTS["sealing"]]
    built.write()
    with pytest.raises(StartRefused, match="is in no line"):
        built.load()
    built.manifest["sealing"] = "elsewhere.js"
    built.write()
    with pytest.raises(StartRefused, match="is in no line"):
        built.load()


@pytest.mark.guards("T-55")
def test_a_script_that_is_listed_twice_stops_the_start(built: BuiltFolder) -> None:
    built.lines.append(built.lines[0])
    built.write()
    with pytest.raises(StartRefused, match="twice"):
        built.load()


@pytest.mark.guards("T-55")
@pytest.mark.parametrize("name", ["owner", "reason", "approved_by"])
@pytest.mark.parametrize("value", ["", "  ", None, 1])
def test_a_script_without_a_reason_stops_the_start(
    built: BuiltFolder, name: str, value: object
) -> None:
    built.lines[0][name] = value
    built.write()
    with pytest.raises(StartRefused, match="scripts"):
        built.load()


@pytest.mark.guards("T-55")
def test_a_script_that_nobody_approved_stops_the_start(built: BuiltFolder) -> None:
    built.lines[0]["approved_by"] = "nobody yet"
    built.write()
    with pytest.raises(StartRefused, match="approved by nobody"):
        built.load()


@pytest.mark.parametrize("name", ["reason", "sha384", "file"])
def test_a_line_that_lacks_a_column_stops_the_start(built: BuiltFolder, name: str) -> None:
    del built.lines[0][name]
    built.write()
    with pytest.raises(StartRefused, match="scripts"):
        built.load()


@pytest.mark.parametrize(
    "file", ["../scripts.js", "a/b.js", "panward.js.map", "manifest.json", "Panward.js", ".js", ""]
)
def test_a_name_is_that_of_a_script(built: BuiltFolder, file: str) -> None:
    built.lines[0]["file"] = file
    built.write()
    with pytest.raises(StartRefused, match="scripts"):
        built.load()


@pytest.mark.parametrize("styles", [b"</style><script>", b"a{}\r\n", "a{content:'é'}".encode()])
def test_styles_that_a_page_cannot_carry_stop_the_start(built: BuiltFolder, styles: bytes) -> None:
    (built.built / "fields.css").write_bytes(styles)
    with pytest.raises(StartRefused, match="must be ASCII"):
        built.load()


def test_a_script_of_no_end_is_not_read(built: BuiltFolder) -> None:
    (built.built / PARTS["seal"]).write_bytes(bytes(2_097_153))
    with pytest.raises(StartRefused, match="larger"):
        built.load()


@pytest.mark.guards("T-55")
def test_what_this_release_ships_is_as_it_was_approved() -> None:
    inventory = load_inventory()
    assert set(inventory.manifest.scripts) <= set(inventory.scripts)
