"""A card number and a code are shown by no printer, copier or encoder that we know of."""

import copy
import dataclasses
import inspect
import io
import json
import logging
import marshal
import pickle
import pprint
import re
import reprlib
import traceback
from collections.abc import Callable
from typing import Final

import msgspec
import pytest
import rich.console
import rich.pretty
import structlog

from tests import cards
from vault.pan import Cvc, Pan

CODE: Final = "7392"
SECRETS: Final = {"Pan": Pan.parse(cards.VISA), "Cvc": Cvc.parse(CODE)}
DIGITS: Final = {"Pan": cards.VISA, "Cvc": CODE}


NAMED_TO_SHOW: Final = frozenset({"last4", "bin"})  # as much as a masked card shows


@dataclasses.dataclass
class Holder:
    """Anything with a secret among its fields."""

    held: Pan | Cvc


@pytest.fixture(params=SECRETS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def shows(text: str, digits: str) -> bool:
    """Whether the digits are in it, also grouped; a code's may be part of some longer number."""
    edge = "" if len(digits) > 4 else "[0-9a-f]"
    found = f"(?<!{edge}){digits}(?!{edge})" if edge else digits
    return re.search(found, re.sub(r"[ _-]", "", text)) is not None


def _raised_with(secret: object) -> BaseException:
    def inner(held: object) -> None:
        copied = [held]
        assert copied
        raise ValueError(held)

    try:
        inner(secret)
    except ValueError as error:
        return error
    raise AssertionError


def _structlog_traceback(secret: object) -> str:
    tell = structlog.processors.ExceptionRenderer(
        structlog.tracebacks.ExceptionDictTransformer(show_locals=True)
    )
    event = tell(None, "error", {"exc_info": _raised_with(secret)})
    return json.dumps(event)


def _rich_inspect(secret: object) -> str:
    out = io.StringIO()
    rich.inspect(secret, console=rich.console.Console(file=out), private=True, dunder=True)
    return out.getvalue()


def _console_renderer(secret: object) -> str:
    return str(
        structlog.dev.ConsoleRenderer(colors=False)(None, "info", {"event": "e", "x": secret})
    )


def _log_line(secret: object) -> str:
    record = logging.LogRecord("n", logging.ERROR, "p", 1, "%s %r", (secret, secret), None)
    return logging.Formatter("%(message)s %(args)s").format(record)


PRINTERS: Final[dict[str, Callable[[object], object]]] = {
    "repr": repr,
    "str": str,
    "ascii": ascii,
    "format": format,
    "format_with_spec": lambda secret: format(secret, ">40"),
    "format_as_number": lambda secret: format(secret, "d"),
    "f_string": lambda secret: f"{secret} {secret!r} {secret!s} {secret:>20}",
    "percent": lambda secret: "%s %r" % (secret, secret),  # noqa: UP031 - what is tested
    "str_format": "{0} {0!r}".format,
    "pprint": pprint.pformat,
    "reprlib": reprlib.repr,
    "in_a_list": lambda secret: repr([secret, (secret,), {"x": secret}]),
    "in_a_dataclass": lambda secret: repr(Holder(secret)),  # type: ignore[arg-type]
    "json_default_str": lambda secret: json.dumps({"x": secret}, default=str),
    "json_default_repr": lambda secret: json.dumps({"x": secret}, default=repr),
    "msgspec_enc_hook": lambda secret: msgspec.json.encode({"x": secret}, enc_hook=str).decode(),
    "structlog_json": lambda secret: structlog.processors.JSONRenderer()(
        None, "info", {"event": "e", "x": secret}
    ),
    "structlog_key_value": lambda secret: structlog.processors.KeyValueRenderer()(
        None, "info", {"event": "e", "x": secret}
    ),
    "structlog_console": _console_renderer,
    "structlog_traceback_with_locals": _structlog_traceback,
    "logging": _log_line,
    "traceback": lambda secret: "".join(traceback.format_exception(_raised_with(secret))),
    "traceback_with_locals": lambda secret: "".join(
        traceback.TracebackException.from_exception(
            _raised_with(secret), capture_locals=True
        ).format()
    ),
    "exception_arguments": lambda secret: repr(_raised_with(secret).args),
    "rich_pretty": lambda secret: rich.pretty.pretty_repr(Holder(secret)),  # type: ignore[arg-type]
    "rich_inspect": _rich_inspect,
    "inspect_members": lambda secret: repr(inspect.getmembers(secret)),
    "every_attribute": lambda secret: repr(
        {name: getattr(secret, name) for name in dir(secret) if name not in NAMED_TO_SHOW}
    ),
    "every_slot": lambda secret: repr(
        [getattr(secret, slot) for cls in type(secret).__mro__[:-1] for slot in cls.__slots__]  # type: ignore[attr-defined]
    ),
}

REFUSERS: Final[dict[str, Callable[[object], object]]] = {
    "pickle_0": lambda secret: pickle.dumps(secret, 0),
    "pickle_1": lambda secret: pickle.dumps(secret, 1),
    "pickle_2": lambda secret: pickle.dumps(secret, 2),
    "pickle_5": lambda secret: pickle.dumps(secret, 5),
    "pickle_in_a_dataclass": lambda secret: pickle.dumps(Holder(secret)),  # type: ignore[arg-type]
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "deepcopy_of_a_list": lambda secret: copy.deepcopy([secret]),
    "reduce": lambda secret: secret.__reduce__(),
    "reduce_ex": lambda secret: secret.__reduce_ex__(5),
    "getstate": lambda secret: secret.__getstate__(),
    "vars": vars,
    "asdict": lambda secret: dataclasses.asdict(Holder(secret)),  # type: ignore[arg-type]
    "astuple": lambda secret: dataclasses.astuple(Holder(secret)),  # type: ignore[arg-type]
    "json": json.dumps,
    "json_default_vars": lambda secret: json.dumps(secret, default=vars),
    "msgspec_json": msgspec.json.encode,
    "msgspec_msgpack": msgspec.msgpack.encode,
    "msgspec_builtins": msgspec.to_builtins,
    "msgspec_of_a_dataclass": lambda secret: msgspec.json.encode(Holder(secret)),  # type: ignore[arg-type]
    "marshal": marshal.dumps,  # type: ignore[dict-item]
    "hash": hash,
    "dict_key": lambda secret: {secret: 1},
    "int": int,  # type: ignore[dict-item]
    "bytes": bytes,  # type: ignore[dict-item]
    "iteration": list,  # type: ignore[dict-item]
    "index": lambda secret: secret[0],  # type: ignore[index]
    "membership": lambda secret: "4" in secret,  # type: ignore[operator]
    "concatenation": lambda secret: "" + secret,  # type: ignore[operator]
    "percent_d": lambda secret: "%d" % secret,  # type: ignore[str-format] # noqa: UP031 - what is tested
    "order": lambda secret: secret < secret,  # type: ignore[operator] # noqa: PLR0124 - what is tested
    "new_attribute": lambda secret: setattr(secret, "note", "x"),
}


@pytest.mark.guards("T-32")
@pytest.mark.parametrize("printer", PRINTERS)
def test_no_printer_shows_the_digits(kind: str, printer: str) -> None:
    shown = PRINTERS[printer](SECRETS[kind])
    assert isinstance(shown, str)
    assert not shows(shown, DIGITS[kind])


@pytest.mark.guards("T-32")
@pytest.mark.parametrize("refuser", REFUSERS)
def test_what_would_copy_or_encode_is_refused_without_the_digits(kind: str, refuser: str) -> None:
    with pytest.raises((TypeError, ValueError, AttributeError)) as refused:
        REFUSERS[refuser](SECRETS[kind])
    told = traceback.TracebackException.from_exception(refused.value, capture_locals=True)
    assert not shows("".join(told.format()), DIGITS[kind])


def test_it_prints_as_its_kind_alone(kind: str) -> None:
    assert {repr(SECRETS[kind]), str(SECRETS[kind]), f"{SECRETS[kind]:x<30}"} == {f"<{kind}>"}


class Naive:
    """What a number would be without its type's care."""

    __slots__ = ("digits",)

    def __init__(self, digits: str) -> None:
        self.digits = digits

    def __repr__(self) -> str:
        return f"Naive({self.digits})"

    def __format__(self, spec: str) -> str:
        return self.digits


def test_the_printers_would_show_a_naive_number() -> None:
    naive = Naive(cards.VISA)
    assert [
        name for name, show in PRINTERS.items() if not shows(str(show(naive)), cards.VISA)
    ] == []
