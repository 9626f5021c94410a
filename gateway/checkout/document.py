"""The page of the hosted fields, byte for byte. Pure.

What lives here: what the page says, and how it is read back by a monitor. What never may: a value
that is not of a closed form, and markup that a request can add to.

The same inputs make the same bytes, so a monitor can render the page that it received once more,
and any difference at all is a change.
"""

import re
from dataclasses import dataclass
from html import escape
from typing import Final, Literal, get_args

from gateway.checkout.inventory import Inventory
from gateway.checkout.policy import ROOT

FieldName = Literal["card", "number", "expiry", "cvc"]
FIELD_NAMES: Final[tuple[FieldName, ...]] = get_args(FieldName)

TITLES: Final[dict[FieldName, str]] = {
    "card": "Card details",
    "number": "Card number",
    "expiry": "Expiry date",
    "cvc": "Security code",
}
"""What a screen reader says of the frame before the script has set the shopper's language."""

KEY_ID: Final = re.compile("k_[0-9a-hjkmnp-tv-z]{16}")

_FACTS: Final = {
    "tenant": re.compile("t_[0-9A-Za-z_-]{1,64}"),
    "env": re.compile("test|live"),
    "ledger": re.compile("[a-z0-9.-]+(/[A-Za-z0-9._-]+)*"),
}


@dataclass(frozen=True, slots=True)
class FieldPage:
    """What differs between one page and another."""

    field: FieldName
    origin: str
    tenant: str
    env: str
    ledger: str

    def render(self, inventory: Inventory) -> bytes:
        """Write the page."""
        sealing = inventory.sealing
        metas = {
            "origin": self.origin,
            "tenant": self.tenant,
            "env": self.env,
            "ledger": self.ledger,
            "sealing": f"{ROOT}{sealing.file} {sealing.sha384}",
        }
        lines = [
            "<!doctype html>",
            f'<html lang="en" data-field="{self.field}">',
            "<head>",
            '<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{TITLES[self.field]}</title>",
            *(_meta(name, value) for name, value in metas.items()),
            f"<style>{inventory.styles.decode()}</style>",
            _script(f"{ROOT}{inventory.fields.file}", inventory.fields.sha384),
            "</head>",
            '<body><main id="field"></main></body>',
            "</html>",
        ]
        return ("\n".join(lines) + "\n").encode()


def read_page(body: bytes, field: FieldName, origin: str) -> FieldPage | None:
    """Take from a page what is its own; None if that is not there once, in its form."""
    text = body.decode("utf-8", "replace")
    found: dict[str, str] = {}
    for name, form in _FACTS.items():
        values = re.findall(f'<meta name="panward-{name}" content="([^"<>]*)">', text)
        if len(values) != 1 or form.fullmatch(values[0]) is None:
            return None
        found[name] = values[0]
    return FieldPage(field, origin, found["tenant"], found["env"], found["ledger"])


def _meta(name: str, value: str) -> str:
    return f'<meta name="panward-{name}" content="{escape(value, quote=True)}">'


def _script(address: str, integrity: str) -> str:
    return f'<script defer src="{address}" integrity="{integrity}"></script>'


_REFUSAL: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>These card fields cannot be shown here</title>
</head>
<body>
<main>
<h1>These card fields cannot be shown here</h1>
<p>{0}</p>
<p>{1}</p>
</main>
</body>
</html>
"""


def refusal_page(what: str, remedy: str) -> bytes:
    """Write a page for a developer who opens the frame's address; both are words of ours."""
    return _REFUSAL.format(escape(what), escape(remedy)).encode()
