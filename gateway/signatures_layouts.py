"""Where the headers of a callback have their signature, read and written. Pure.

What two readers could read in two ways is refused: a header on several lines where the scheme has
one, a time that stands there twice. What never lives here: secrets, and whether a signature fits.
"""

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol

from gateway.signatures_macs import BASE64, HEX, HEX_OR_BASE64, Claimed
from gateway.signatures_terms import CannotSign, Headers, Posted, Reason

HEADER_CHARACTERS_MAX: Final = 4096  # of all lines of one name, together
SIGNATURES_MAX: Final = 8

Written = tuple[tuple[str, str], ...]

_VALUE: Final = re.compile(r"[\x20-\x7e]+")
_SECONDS: Final = re.compile("[0-9]{1,12}")
_PART: Final = re.compile(r"([a-z][a-z0-9]{0,15})=([\x21-\x2b\x2d-\x7e]{1,512})")


@dataclass(frozen=True, slots=True, repr=False)
class Claim:
    """What a post says of itself: its signatures, and what is signed in front of the body."""

    claimed: tuple[Claimed, ...] = ()
    before: bytes = b""
    sent_at: float | None = None  # Unix seconds


class Layout(Protocol):
    """One form of signature header."""

    def read(self, posted: Posted) -> Claim | Reason: ...

    def fresh(self, posted: Posted, at: datetime) -> Claim:
        """Return what is signed in front of the body, if it is signed now. Raises CannotSign."""

    def written(
        self, headers: Headers, claim: Claim, made: Claimed, *, beside: bool
    ) -> Written: ...


def lines_of(headers: Headers, name: str) -> list[str]:
    return [text for each, text in headers if each.lower() == name]


def one(headers: Headers, name: str) -> str | None:
    """Return the value of a header that is there once, and short, and plain text."""
    lines = lines_of(headers, name)
    if len(lines) != 1 or len(lines[0]) > HEADER_CHARACTERS_MAX:
        return None
    return lines[0] if _VALUE.fullmatch(lines[0]) else None


def missing_or_malformed(headers: Headers, name: str) -> Reason:
    """Say what is wrong with a header that could not be read."""
    return "signature_malformed" if lines_of(headers, name) else "signature_missing"


def replaced(headers: Headers, name: str, value: str) -> Written:
    """Give a header this value where it stands, or behind the others, and no second line."""
    at = next((at for at, each in enumerate(headers) if each[0].lower() == name), len(headers))
    spelled = headers[at][0] if at < len(headers) else name
    rest = [each for each in headers[at:] if each[0].lower() != name]
    return (*headers[:at], (spelled, value), *rest)


@dataclass(frozen=True, slots=True)
class Bare:
    """The signature alone, behind a fixed word; on several lines where `several` may come."""

    header: str
    pattern: re.Pattern[str]
    word: str = ""
    several: bool = False
    signs_url: bool = False

    def read(self, posted: Posted) -> Claim | Reason:
        lines = lines_of(posted.headers, self.header)
        text = ",".join(
            lines
        )  # as RFC 9110 section 5.3 lets any hop do; no single code has a comma
        if not lines or len(text) > HEADER_CHARACTERS_MAX:
            return missing_or_malformed(posted.headers, self.header)
        pieces = re.split(", ?", text) if self.several else [text]
        codes = [each.removeprefix(self.word) for each in pieces if each.startswith(self.word)]
        fits = all(map(self.pattern.fullmatch, codes)) and len(codes) == len(pieces)
        if not fits or len(codes) > SIGNATURES_MAX:
            return "signature_malformed"
        return Claim(tuple(map(Claimed, codes)), self._before(posted))

    def fresh(self, posted: Posted, at: datetime) -> Claim:
        del at
        return Claim(before=self._before(posted))

    def written(self, headers: Headers, claim: Claim, made: Claimed, *, beside: bool) -> Written:
        del claim
        value = self.word + made.text
        if not (beside and self.several):
            return replaced(headers, self.header, value)
        last = max(at for at, each in enumerate(headers) if each[0].lower() == self.header)
        return (*headers[: last + 1], (headers[last][0], value), *headers[last + 1 :])

    def _before(self, posted: Posted) -> bytes:
        return posted.url.encode() if self.signs_url else b""


@dataclass(frozen=True, slots=True)
class Stripe:
    """`t=<seconds>,v1=<hex>,…`: anything but `v1` is not looked at, so none is weaker than it."""

    header: str = "stripe-signature"

    def read(self, posted: Posted) -> Claim | Reason:
        text = one(posted.headers, self.header)
        if text is None:
            return missing_or_malformed(posted.headers, self.header)
        parts = [_PART.fullmatch(each) for each in text.split(",")]
        found = [(part[1], part[2]) for part in parts if part is not None]
        times = [value for name, value in found if name == "t"]
        codes = [value for name, value in found if name == "v1"]
        if len(found) < len(parts) or len(times) != 1 or not 0 < len(codes) <= SIGNATURES_MAX:
            return "signature_malformed"
        if not _SECONDS.fullmatch(times[0]) or not all(map(HEX.fullmatch, codes)):
            return "signature_malformed"
        claimed = tuple(map(Claimed, codes))
        return Claim(claimed, f"{times[0]}.".encode("ascii"), float(times[0]))

    def fresh(self, posted: Posted, at: datetime) -> Claim:
        del posted
        return _timed(int(at.timestamp()), at)

    def written(self, headers: Headers, claim: Claim, made: Claimed, *, beside: bool) -> Written:
        if beside:
            value = f"{one(headers, self.header)},v1={made.text}"
        else:
            value = f"t={claim.before.decode('ascii')[:-1]},v1={made.text}"
        return replaced(headers, self.header, value)


@dataclass(frozen=True, slots=True)
class CyberSource:
    """`t=<milliseconds>;keyId=<id>;sig=<base64>`, each once, in any order."""

    header: str = "v-c-signature"

    def read(self, posted: Posted) -> Claim | Reason:
        text = one(posted.headers, self.header)
        if text is None:
            return missing_or_malformed(posted.headers, self.header)
        parts = [each.lstrip(" ").partition("=") for each in text.split(";")]
        found = {name: value for name, _, value in parts}
        if len(parts) != len(found) or found.keys() != {"t", "keyId", "sig"}:
            return "signature_malformed"
        time, key_id, code = found["t"], found["keyId"], found["sig"]
        if not re.fullmatch("[0-9]{1,15}", time) or not re.fullmatch("[A-Za-z0-9_-]{1,64}", key_id):
            return "signature_malformed"
        if not BASE64.fullmatch(code):
            return "signature_malformed"
        return Claim((Claimed(code, key_id),), f"{time}.".encode("ascii"), int(time) / 1000)

    def fresh(self, posted: Posted, at: datetime) -> Claim:
        del posted
        return _timed(int(at.timestamp() * 1000), at)

    def written(self, headers: Headers, claim: Claim, made: Claimed, *, beside: bool) -> Written:
        del beside  # its readers take one
        time = claim.before.decode("ascii")[:-1]
        return replaced(headers, self.header, f"t={time};keyId={made.key_id};sig={made.text}")


@dataclass(frozen=True, slots=True)
class WorldpayAccess:
    """`<key id>/SHA256/<code>,…` in any order: what names another hash counts for nothing."""

    header: str = "event-signature"

    def read(self, posted: Posted) -> Claim | Reason:
        text = one(posted.headers, self.header)
        if text is None:
            return missing_or_malformed(posted.headers, self.header)
        pieces = [each.split("/", 2) for each in re.split(", ?", text)]
        if any(len(piece) < 3 for piece in pieces):  # noqa: PLR2004 - id, hash, code
            return "signature_malformed"
        found = [(key_id, code) for key_id, hash_, code in pieces if hash_ == "SHA256"]
        fits = all(
            re.fullmatch("[A-Za-z0-9_-]{1,64}", key_id) and HEX_OR_BASE64.fullmatch(code)
            for key_id, code in found
        )
        if not fits or not 0 < len(found) <= SIGNATURES_MAX:
            return "signature_malformed"
        return Claim(tuple(Claimed(code, key_id) for key_id, code in found))

    def fresh(self, posted: Posted, at: datetime) -> Claim:
        del posted, at
        return Claim()

    def written(self, headers: Headers, claim: Claim, made: Claimed, *, beside: bool) -> Written:
        del claim
        value = f"{made.key_id}/SHA256/{made.text}"
        if beside:
            value = f"{one(headers, self.header)},{value}"
        return replaced(headers, self.header, value)


@dataclass(frozen=True, slots=True)
class StandardWebhooks:
    """Three headers of the Standard Webhooks specification; of the codes, `v1` alone counts."""

    header: str = "webhook-signature"
    id_header: str = "webhook-id"
    time_header: str = "webhook-timestamp"

    def read(self, posted: Posted) -> Claim | Reason:
        text = one(posted.headers, self.header)
        if text is None:
            return missing_or_malformed(posted.headers, self.header)
        id_, time = self._id(posted.headers), one(posted.headers, self.time_header)
        pieces = text.split(" ")
        codes = [each.removeprefix("v1,") for each in pieces if each.startswith("v1,")]
        fits = (
            all(pieces) and 0 < len(codes) <= SIGNATURES_MAX and all(map(BASE64.fullmatch, codes))
        )
        if id_ is None or time is None or not _SECONDS.fullmatch(time) or not fits:
            return "signature_malformed"
        claimed = tuple(map(Claimed, codes))
        return Claim(claimed, f"{id_}.{time}.".encode("ascii"), float(time))

    def fresh(self, posted: Posted, at: datetime) -> Claim:
        id_ = self._id(posted.headers)
        if id_ is None:
            raise CannotSign
        return Claim((), f"{id_}.{int(at.timestamp())}.".encode("ascii"), at.timestamp())

    def written(self, headers: Headers, claim: Claim, made: Claimed, *, beside: bool) -> Written:
        value = f"v1,{made.text}"
        if beside:
            return replaced(headers, self.header, f"{one(headers, self.header)} {value}")
        time = claim.before.decode("ascii").split(".")[1]
        return replaced(replaced(headers, self.time_header, time), self.header, value)

    def _id(self, headers: Headers) -> str | None:
        """Return the id; with a point in it, id and time could be cut in two ways."""
        id_ = one(headers, self.id_header)
        return (
            id_ if id_ is not None and re.fullmatch(r"[\x21-\x2d\x2f-\x7e]{1,255}", id_) else None
        )


def _timed(count: int, at: datetime) -> Claim:
    return Claim((), f"{count}.".encode("ascii"), at.timestamp())
