"""What lists are narrowed by: values of a query, checked, and public ids as rows have them.

Each raises BadField, naming the parameter and never repeating it.
"""

import re
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Final

import msgspec

from gateway.api.paging import Page, Place
from gateway.errors import BadField
from vault.ids import intent_of

NAME: Final = re.compile("[a-z0-9_.-]{1,64}")
TEXT: Final = re.compile("[\x20-\x7e]{1,255}")

_UUID: Final = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def matching(query: Mapping[str, str], name: str, form: re.Pattern[str]) -> str | None:
    """Return a parameter of this form; None where it is not given."""
    text = query.get(name)
    if text is not None and not form.fullmatch(text):
        raise BadField(name, "format")
    return text


def one_of(query: Mapping[str, str], name: str, words: Collection[str]) -> str | None:
    """Return a parameter that is one of these words."""
    text = query.get(name)
    if text is not None and text not in words:
        raise BadField(name, "unknown_value")
    return text


def time_of(query: Mapping[str, str], name: str) -> datetime | None:
    """Return a parameter that is a time with its zone (RFC 3339)."""
    text = query.get(name)
    if text is None:
        return None
    try:
        at = msgspec.convert(text, datetime)
    except msgspec.ValidationError:
        at = None
    if at is None or at.tzinfo is None:
        raise BadField(name, "format")
    return at


def uuid_of(prefix: str, public: str) -> str | None:
    """Give what `<prefix>_…` stands for, as UUID text; None for what is no such id."""
    start = f"{prefix}_"
    return intent_of(f"aut_{public[len(start) :]}") if public.startswith(start) else None


def place_of(page: Page) -> Place | None:
    """Return where a page of rows that UUIDs identify begins."""
    if page.after is not None and not _UUID.fullmatch(page.after[1]):
        raise BadField("cursor", "format")
    return page.after
