"""Whether a call to the simulated CyberSource is signed as its guide says. Pure.

Written after the processor's own description and with nothing of the gateway's: what one of them
gets wrong the other must notice. It believes no header that the signature does not cover.
"""

import base64
import hashlib
import hmac
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

from gateway.sandbox.wire import SandboxCredential, WireCall

DATE_AGE_MAX: Final = timedelta(minutes=5)
WITH_BODY: Final = ("POST", "PUT", "PATCH")

_SIGNATURE: Final = re.compile(
    r'keyid="(?P<key>[^"]+)", ?algorithm="HmacSHA256", ?headers="(?P<names>[^"]+)",'
    r' ?signature="(?P<signature>[^"]+)"'
)
_DATE_FORMAT: Final = "%a, %d %b %Y %H:%M:%S GMT"
_TARGETS: Final = ("request-target", "(request-target)")


def signed_by(
    call: WireCall, accounts: Mapping[str, SandboxCredential], *, now: datetime
) -> str | None:
    """Return the account whose key signed the call; None for anything less than that.

    The merchant id of a call must be the account's: a key of one merchant serves no other.
    """
    if "signature" in call.headers:
        return _by_signature(call, accounts, now)
    if call.headers.get("authorization", "").startswith("Bearer "):
        return _by_token(call, accounts, now)
    return None


def token_id(call: WireCall) -> str | None:
    """Return the id of the token that a call carries, by which a replay is known."""
    claims = _claims(call.headers.get("authorization", ""))
    return None if claims is None else str(claims.get("jti"))


def _target(call: WireCall) -> str:
    return f"{call.path}?{call.query}" if call.query else call.path


def _digest(body: bytes) -> str:
    return base64.b64encode(hashlib.sha256(body).digest()).decode()


def _account_of(key: str, accounts: Mapping[str, SandboxCredential]) -> str | None:
    return next((name for name, each in accounts.items() if each.user == key), None)


def _mac(credential: SandboxCredential, text: str) -> bytes:
    key = base64.b64decode(credential.secret)
    return hmac.new(key, text.encode("utf-8", "surrogateescape"), hashlib.sha256).digest()


# --- HTTP Signature -----------------------------------------------------------------------


def _by_signature(
    call: WireCall, accounts: Mapping[str, SandboxCredential], now: datetime
) -> str | None:
    found = _SIGNATURE.fullmatch(call.headers["signature"])
    account = None if found is None else _account_of(found["key"], accounts)
    if found is None or account is None:
        return None
    names = found["names"].split(" ")
    lines = [f"{name}: {_signed_value(call, name)}" for name in names]
    made = base64.b64encode(_mac(accounts[account], "\n".join(lines))).decode()
    right = (
        hmac.compare_digest(made.encode(), found["signature"].encode())
        and _covers(call, names)
        and _is_fresh(call.headers.get("date") or call.headers.get("v-c-date"), now)
        and call.headers.get("v-c-merchant-id") == account
    )
    return account if right else None


def _signed_value(call: WireCall, name: str) -> str:
    if name in _TARGETS:
        return f"{call.method.lower()} {_target(call)}"
    return call.headers.get(name, "")


def _covers(call: WireCall, names: list[str]) -> bool:
    wanted = {"host", "v-c-merchant-id"}
    if call.method in WITH_BODY or call.body:
        wanted.add("digest")
        if call.headers.get("digest") != f"SHA-256={_digest(call.body)}":
            return False
    dated = "date" in names or "v-c-date" in names
    return wanted <= set(names) and dated and any(target in names for target in _TARGETS)


def _is_fresh(date: str | None, now: datetime) -> bool:
    try:
        at = datetime.strptime(date or "", _DATE_FORMAT).replace(tzinfo=UTC)
    except ValueError:
        return False
    return abs(now - at) <= DATE_AGE_MAX


# --- JSON Web Token -----------------------------------------------------------------------


def _by_token(
    call: WireCall, accounts: Mapping[str, SandboxCredential], now: datetime
) -> str | None:
    text = call.headers["authorization"].removeprefix("Bearer ")
    head, claims = _part(text, 0), _claims(call.headers["authorization"])
    if head is None or claims is None or head.get("alg") != "HS256":
        return None
    account = _account_of(str(head.get("kid")), accounts)
    if account is None:
        return None
    signed, _, signature = text.rpartition(".")
    made = base64.urlsafe_b64encode(_mac(accounts[account], signed)).rstrip(b"=")
    right = hmac.compare_digest(made, signature.encode()) and _fits(claims, call, account, now)
    return account if right else None


def _fits(claims: Mapping[str, object], call: WireCall, account: str, now: datetime) -> bool:
    wanted: dict[str, object] = {
        "request-method": call.method,
        "request-host": call.headers.get("host"),
        "request-resource-path": _target(call),
        "v-c-jwt-version": "2",
        "v-c-merchant-id": account,
        "iss": account,
    }
    if call.method in WITH_BODY or call.body:
        wanted |= {"digest": _digest(call.body), "digestAlgorithm": "SHA-256"}
    issued, ends = claims.get("iat"), claims.get("exp")
    if not isinstance(issued, int) or not isinstance(ends, int) or not claims.get("jti"):
        return False
    in_time = issued - 1 <= now.timestamp() <= ends
    return in_time and all(claims.get(name) == value for name, value in wanted.items())


def _claims(authorization: str) -> dict[str, object] | None:
    return _part(authorization.removeprefix("Bearer "), 1)


def _part(token: str, place: int) -> dict[str, object] | None:
    try:
        text = token.split(".")[place]
        found: object = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except (ValueError, IndexError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
