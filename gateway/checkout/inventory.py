"""The scripts of the hosted fields, each with its hash and its reason (PCI DSS 6.4.3).

What lives here: reading the inventory once, at start, and refusing to start with a script that is
not as it was approved. What never may: a file that is read while requests are served.

`scripts.json` says which scripts there are, what for, and who approved them; `built/` holds them,
with a manifest of which one plays which part. An older loader may stay listed, for shops that
have pinned it by its hash.
"""

import base64
import gzip
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Annotated, Final, TypeVar

import msgspec

from vault.errors import StartRefused

FILE: Final = "[a-z]+(-[0-9a-f]{12})?[.](js|mjs)"
SCRIPT_BYTES_MAX: Final = 2_097_152
NOT_APPROVED: Final = "nobody yet"
"""Of one file: the sealing library is the largest, below half of it."""

_LIST: Final = "scripts.json"
_MANIFEST: Final = "manifest.json"
_SCRIPT_ENDINGS: Final = (".js", ".mjs", ".cjs", ".wasm", ".html", ".svg")
_GZIP_LEVEL: Final = 9

T = TypeVar("T")

Words = Annotated[str, msgspec.Meta(min_length=1, max_length=500, pattern=r"\S")]


class _Listed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A line of the inventory."""

    file: Annotated[str, msgspec.Meta(pattern=f"^{FILE}$")]
    sha384: Annotated[str, msgspec.Meta(pattern="^sha384-[A-Za-z0-9+/]{64}$")]
    owner: Words
    reason: Words
    approved_by: Words


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which file plays which part."""

    loader: str
    module: str
    seal: str
    fields: str
    sealing: str
    styles: str
    types: str

    @property
    def scripts(self) -> tuple[str, ...]:
        return self.loader, self.module, self.seal, self.fields, self.sealing


@dataclass(frozen=True, slots=True)
class Script:
    """A script as it was approved: it is what its hash says, or there is no such object."""

    file: str
    sha384: str
    """As `integrity` and a CSP have it: `sha384-` and base64."""
    owner: str
    reason: str
    approved_by: str
    body: bytes = field(repr=False)
    packed: bytes = field(repr=False)
    """The same, gzipped."""


@dataclass(frozen=True, slots=True)
class Inventory:
    """All that is served to browsers, in memory."""

    scripts: Mapping[str, Script]
    manifest: Manifest
    styles: bytes = field(repr=False)
    style_hash: str
    types: bytes = field(repr=False)

    @property
    def fields(self) -> Script:
        """The script of the frame."""
        return self.scripts[self.manifest.fields]

    @property
    def sealing(self) -> Script:
        """What the frame loads when a card is to be sealed."""
        return self.scripts[self.manifest.sealing]

    @property
    def loader(self) -> Script:
        """What a shop's page loads."""
        return self.scripts[self.manifest.loader]

    def is_for_pages(self, file: str) -> bool:
        """Whether a shop's page loads this one, of this release or an older one."""
        own = {_part(name) for name in (self.manifest.fields, self.manifest.sealing)}
        return _part(file) not in own


def load_inventory(folder: Traversable | None = None) -> Inventory:
    """Read the inventory and every script of it. Raises StartRefused for whatever differs."""
    folder = files("gateway") / "checkout" if folder is None else folder
    built = folder / "built"
    listed = _decoded(_read(folder / _LIST), list[_Listed], _LIST)
    manifest = _decoded(_read(built / _MANIFEST), Manifest, _MANIFEST)
    scripts: dict[str, Script] = {}
    for line in listed:
        if line.file in scripts:
            raise StartRefused(f"the script inventory lists {line.file} twice")
        scripts[line.file] = _script(line, _read(built / line.file))
    _refuse_unlisted(built, scripts, manifest)
    styles = _read(built / manifest.styles)
    if b"<" in styles or b"\r" in styles or not styles.isascii():  # it is put into the page
        raise StartRefused(f"{manifest.styles} must be ASCII, without < and carriage returns")
    return Inventory(
        scripts, manifest, styles, hash_of(styles, "sha256"), _read(built / manifest.types)
    )


def hash_of(body: bytes, algorithm: str = "sha384") -> str:
    """Name bytes as Subresource Integrity and CSP do."""
    digest = hashlib.new(algorithm, body).digest()
    return f"{algorithm}-{base64.b64encode(digest).decode('ascii')}"


def _script(line: _Listed, body: bytes) -> Script:
    if line.approved_by == NOT_APPROVED:
        raise StartRefused(
            f"{line.file} is approved by nobody: look at what changed, then"
            " node checkout/build.mjs --approve NAME"
        )
    if hash_of(body) != line.sha384:
        raise StartRefused(
            f"{line.file} is not the script that was approved: its hash is not the inventory's"
        )
    packed = gzip.compress(body, _GZIP_LEVEL, mtime=0)  # the same bytes at each start
    return Script(line.file, line.sha384, line.owner, line.reason, line.approved_by, body, packed)


def _refuse_unlisted(built: Traversable, scripts: Mapping[str, Script], manifest: Manifest) -> None:
    there = {each.name for each in built.iterdir() if each.name.endswith(_SCRIPT_ENDINGS)}
    for name in sorted(there.union(manifest.scripts) - scripts.keys()):
        raise StartRefused(
            f"{name} is in no line of the script inventory: list it with its reason, or remove it"
        )


def _read(file: Traversable) -> bytes:
    try:
        with file.open("rb") as stream:
            body = stream.read(SCRIPT_BYTES_MAX + 1)
    except OSError:
        body = None
    if body is None:
        raise StartRefused(f"{file.name} of the hosted fields is missing: run their build")
    if len(body) > SCRIPT_BYTES_MAX:
        raise StartRefused(f"{file.name} is larger than {SCRIPT_BYTES_MAX} bytes")
    return body


def _decoded(raw: bytes, kind: type[T], name: str) -> T:
    try:
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        problem = str(error)  # our own file: its words tell whoever writes it what is wrong
    raise StartRefused(f"{name} of the hosted fields: {problem}")


def _part(file: str) -> str:
    return file.partition(".")[0].partition("-")[0]
