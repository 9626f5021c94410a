"""Reads a recorded call: a raw HTTP/1.1 request, a curl command, or a HAR file's entries. Pure.

Records have been through editors: a byte order mark in front, other line ends, a Content-Length
that is no longer true are taken as they come. What is wrong with one is told in fixed words, for
a record holds card numbers. What never lives here: sending it anywhere, and keeping it.
"""

import base64
import binascii
import re
import shlex
from collections.abc import Iterator
from typing import Final
from urllib.parse import quote, urlencode

import msgspec

from gateway.call import Call
from gateway.codecs.splice import BOM
from vault.errors import StartRefused

RECORD_BYTES_MAX: Final = 32 * 1_048_576

_SAMPLE: Final = (
    "a raw request (POST /v1/payment_methods HTTP/1.1, headers, an empty line, the body),"
    " a curl command or a HAR file"
)
_FORM: Final = "application/x-www-form-urlencoded"
_UTF_16: Final = (b"\xff\xfe", b"\xfe\xff")
_EMPTY_LINE: Final = re.compile(rb"\r?\n\r?\n")
_REQUEST_LINE: Final = re.compile(r"([A-Za-z]+) +(\S+) +HTTP/[0-9.]+")
_ABSOLUTE: Final = re.compile(r"https?://([^/?#]*)", re.IGNORECASE)
_OUT: Final = re.compile("/out/[^/?#]*")


def recorded_calls(data: bytes) -> list[Call]:
    """Read the calls of a record. Raises StartRefused with what to change."""
    if data.startswith(_UTF_16):
        raise StartRefused("the record is in UTF-16: save it as UTF-8")
    text = data.removeprefix(BOM).lstrip()
    if text.startswith(b"{"):
        return _of_har(text)
    if re.match(rb"(?:\$ +)?curl\s", text):
        return [_of_curl(text)]
    if text.startswith((b"* ", b"> ")):
        return [_of_curl_log(text)]
    return [_of_http(text)]


def _refused() -> StartRefused:
    return StartRefused(f"this is no recorded request: it must be {_SAMPLE}")


# --- a raw request ------------------------------------------------------------------------


def _of_http(data: bytes) -> Call:
    """Read a raw request; line ends may be LF, as an editor leaves them."""
    found = _EMPTY_LINE.search(data)
    head, body = (data[: found.start()], data[found.end() :]) if found else (data, b"")
    first, *rest = head.decode("latin-1").replace("\r\n", "\n").rstrip("\n").split("\n")
    line = _REQUEST_LINE.fullmatch(first.strip())
    if line is None or not all(":" in each for each in rest):
        raise _refused()
    headers = [_header(each) for each in rest]
    for name in ("content-encoding", "transfer-encoding"):
        if _said(headers, name).lower() not in {"", "identity"}:
            raise StartRefused(
                f"the record's body is compressed or in chunks ({name}): record it as it is"
            )
    body = _without_last_line_end(body, headers)
    if _said(headers, "content-type").lower().startswith("multipart/") and b"\r\n" not in body:
        body = body.replace(b"\n", b"\r\n")  # an editor's doing: parts end with CRLF (RFC 2046)
    return _call(line[1], line[2], headers, body)


def _header(line: str) -> tuple[str, str]:
    name, _, value = line.partition(":")
    return name.strip(), value.strip()


def _said(headers: list[tuple[str, str]], wanted: str) -> str:
    return next((value for name, value in headers if name.lower() == wanted), "")


def _without_last_line_end(body: bytes, headers: list[tuple[str, str]]) -> bytes:
    """Drop the line end that an editor adds, which is no part of a form or of JSON.

    A length that leaves out more than that is from before the record was changed.
    """
    said = _said(headers, "content-length")
    length = int(said) if said.isdecimal() and said.isascii() else 0
    if 0 < length <= len(body) and not body[length:].strip(b"\r\n"):
        return body[:length]
    return body.rstrip(b"\r\n")


# --- curl ---------------------------------------------------------------------------------

_WITH_DATA: Final = {
    "-d": "data",
    "--data": "data",
    "--data-ascii": "data",
    "--data-raw": "raw",
    "--data-binary": "raw",
    "--data-urlencode": "urlencode",
    "--json": "json",
}
_WITH_WORD: Final = frozenset(
    [
        "-A",
        "-b",
        "-e",
        "-E",
        "-m",
        "-o",
        "-w",
        "-x",
        "--cacert",
        "--cert",
        "--connect-timeout",
        "--cookie",
        "--key",
        "--max-time",
        "--output",
        "--proxy",
        "--proxy-user",
        "--resolve",
        "--user-agent",
        "--write-out",
    ]
)
_ALONE: Final = frozenset(
    [
        "-f",
        "-i",
        "-k",
        "-L",
        "-s",
        "-S",
        "-v",
        "-sS",
        "--compressed",
        "--fail",
        "--fail-with-body",
        "--globoff",
        "--http1.1",
        "--http2",
        "--include",
        "--insecure",
        "--location",
        "--show-error",
        "--silent",
        "--tlsv1.2",
        "--verbose",
    ]
)
_LINE_GOES_ON: Final = re.compile(r"\\\r?\n")


class _Curl:
    """What a curl command says, word by word."""

    def __init__(self) -> None:
        self.method = ""
        self.url = ""
        self.headers: list[tuple[str, str]] = []
        self.data: list[str] = []
        self.type = ""
        self.in_query = False

    def take(self, words: Iterator[str]) -> None:
        for word in words:
            option, equals, rest = word.partition("=") if word.startswith("--") else (word, "", "")
            if option.startswith("-d") and option != "-d":
                self._data("data", option.removeprefix("-d"))
            elif option in _WITH_DATA:
                self._data(_WITH_DATA[option], rest if equals else next(words, ""))
            elif option in _ALONE:
                continue
            elif option in {"-G", "--get"}:
                self.in_query = True
            elif option in _WITH_WORD:
                next(words, "")
            else:
                self._word(option, rest if equals else None, words)

    def _word(self, option: str, given: str | None, words: Iterator[str]) -> None:
        for short in ("-X", "-H", "-u"):
            if option.startswith(short) and option != short:
                option, given = short, option.removeprefix(short)
        if not option.startswith("-"):
            self.url = option
            return
        value = next(words, "") if given is None else given
        if option in {"-X", "--request"}:
            self.method = value
        elif option in {"-H", "--header"}:
            self.headers.append(_header(value))
        elif option in {"-u", "--user"}:
            self.headers.append(("Authorization", "Basic"))
        elif option == "--url":
            self.url = value
        else:
            raise StartRefused("an option of this curl command is not read here: try a raw request")

    def _data(self, kind: str, value: str) -> None:
        name, equals, text = value.partition("=")
        in_file = "@" in name if kind == "urlencode" else value.startswith("@") and kind != "raw"
        if in_file or (value.startswith("@") and kind == "raw" and "\n" not in value):
            raise StartRefused("this curl command takes its data from a file: put the data into it")
        if kind == "urlencode":
            value = f"{name}={quote(text)}" if equals else quote(name)
        self.type = "application/json" if kind == "json" else self.type or _FORM
        self.data.append(value)


def _of_curl(data: bytes) -> Call:
    """Read a curl command, as documentation has it and as browsers copy it."""
    text = _LINE_GOES_ON.sub(" ", data.decode("utf-8", "surrogateescape")).removeprefix("$")
    try:
        words = shlex.split(text)
    except ValueError:
        words = []
    said = _Curl()
    said.take(iter(words[1:]))
    if not said.url:
        raise _refused()
    url = said.url if "://" in said.url else f"https://{said.url}"
    joined = ("" if said.type == "application/json" else "&").join(said.data)
    if said.in_query and said.data:
        return _call(said.method or "GET", f"{url}?{joined}", said.headers, b"")
    if said.data and not _said(said.headers, "content-type"):
        said.headers.append(("Content-Type", said.type))
    body = joined.encode("utf-8", "surrogateescape")
    return _call(said.method or ("POST" if said.data else "GET"), url, said.headers, body)


def _of_curl_log(data: bytes) -> Call:
    """Read what `curl -v` prints of a request, which is its head alone."""
    lines = [line for line in data.splitlines(keepends=True) if line.startswith(b">")]
    call = _of_http(b"".join(line[1:].lstrip(b" ") for line in lines))
    if _said(list(call.headers), "content-length") not in {"", "0"}:
        raise StartRefused("curl -v does not show the body: give the curl command itself instead")
    return call


# --- HTTP Archive 1.2 ---------------------------------------------------------------------


class _Named(msgspec.Struct):
    name: str
    value: str = ""


class _PostData(msgspec.Struct, rename="camel"):
    text: str = ""
    encoding: str | None = None
    mime_type: str = ""
    params: list[_Named] = []


class _Request(msgspec.Struct, rename="camel"):
    method: str
    url: str
    headers: list[_Named] = []
    post_data: _PostData | None = None


class _Entry(msgspec.Struct):
    request: _Request


class _Log(msgspec.Struct):
    entries: list[_Entry]


class _Har(msgspec.Struct):
    """HTTP Archive 1.2, as far as a request is told."""

    log: _Log


def _of_har(data: bytes) -> list[Call]:
    try:
        entries = msgspec.json.decode(data, type=_Har).log.entries
    except (msgspec.DecodeError, RecursionError):
        entries = []
    if not entries:
        raise StartRefused(f"this is no HAR file with requests; a record is {_SAMPLE}")
    return [_of_entry(entry.request) for entry in entries]


def _of_entry(request: _Request) -> Call:
    posted = request.post_data or _PostData()
    # In HTTP/2 `:authority` and its like stand for the request line.
    headers = [(each.name, each.value) for each in request.headers if each.name[:1] != ":"]
    if posted.mime_type and not _said(headers, "content-type"):
        headers.append(("Content-Type", posted.mime_type))
    return _call(request.method, request.url, headers, _posted(posted))


def _posted(posted: _PostData) -> bytes:
    if posted.encoding == "base64":
        try:
            return base64.b64decode(posted.text, validate=True)
        except (binascii.Error, ValueError):
            pass
        raise StartRefused("a body of this HAR file is not the base64 that it says it is")
    if not posted.text and posted.mime_type.startswith(_FORM):
        return urlencode([(each.name, each.value) for each in posted.params]).encode()
    return posted.text.encode("utf-8", "surrogateescape")


# --- what all of them have ----------------------------------------------------------------


def _call(method: str, target: str, headers: list[tuple[str, str]], body: bytes) -> Call:
    """Make a call as the gateway would see it: the path is the processor's."""
    absolute = _ABSOLUTE.match(target)
    path, _, query = target[absolute.end() if absolute else 0 :].partition("#")[0].partition("?")
    if _OUT.match(path):  # recorded on its way to a gateway, whose host says nothing
        path = _OUT.sub("", path, count=1)
        headers = [each for each in headers if each[0].lower() != "host"]
    elif absolute is not None and not _said(headers, "host"):
        headers = [("Host", absolute[1]), *headers]
    return Call(method.upper(), path or "/", query, headers, body)
