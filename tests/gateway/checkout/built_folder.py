"""A small build of the hosted fields, for tests that change one thing in it."""

import json
from dataclasses import dataclass, field
from pathlib import Path

from gateway.checkout.inventory import Inventory, hash_of, load_inventory

PARTS = {
    "loader": "panward-000000000001.js",
    "module": "panward-000000000002.mjs",
    "seal": "seal-000000000003.mjs",
    "fields": "fields-000000000004.js",
    "sealing": "sealing-000000000005.js",
}
OLDER = "panward-00000000000f.js"
STYLES = b"input{border:0}\n"


@dataclass
class BuiltFolder:
    """Files and lists as a build leaves them."""

    folder: Path
    manifest: dict[str, str] = field(default_factory=dict)
    lines: list[dict[str, object]] = field(default_factory=list)

    @property
    def built(self) -> Path:
        return self.folder / "built"

    def write(self) -> None:
        (self.built / "manifest.json").write_text(json.dumps(self.manifest))
        (self.folder / "scripts.json").write_text(json.dumps(self.lines))

    def add(self, file: str, body: bytes) -> None:
        (self.built / file).write_bytes(body)
        self.lines.append(
            {
                "file": file,
                "sha384": hash_of(body),
                "owner": "checkout",
                "reason": f"what {file} is for",
                "approved_by": "a reviewer",
            }
        )

    def load(self) -> Inventory:
        return load_inventory(self.folder)


def built_folder(folder: Path) -> BuiltFolder:
    made = BuiltFolder(folder)
    made.built.mkdir(parents=True)
    for part, file in PARTS.items():
        made.add(file, f"'{part}';".encode() * 20)
    made.add(OLDER, b"'older';")
    (made.built / "fields.css").write_bytes(STYLES)
    (made.built / "panward.d.ts").write_bytes(b"export {};\n")
    made.manifest = {**PARTS, "styles": "fields.css", "types": "panward.d.ts"}
    made.write()
    return made
