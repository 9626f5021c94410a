"""What the simulated Adyen says about a payment: by holder name or acquirer code. Pure.

As on Adyen's page of result codes for testing: a holder's name, or a code under `additionalData`,
asks for a result; every other card that is one is authorised. A second part of the name
(`DECLINED : 05 : Do not honor`) is the issuer's own wording.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from gateway.sandbox.json_body import JsonBody

Challenge = Literal["RedirectShopper", "ChallengeShopper"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """The end of a payment."""

    result_code: str
    code: str | None = None
    reason: str | None = None
    raw: str = "AUTHORISED"


AUTHORISED: Final = Verdict("Authorised")


def _refused(code: int, reason: str, result_code: str = "Refused") -> Verdict:
    return Verdict(result_code, str(code), reason, raw=f"{code:02d} : {reason}")


NOT_AUTHENTICATED: Final = _refused(11, "3D Not Authenticated")

_VERDICTS: Final[Mapping[str, tuple[int, Verdict]]] = {
    "UNKNOWN": (0, _refused(0, "Unknown", "Error")),
    "APPROVED": (1, AUTHORISED),
    "DECLINED": (2, _refused(2, "Refused")),
    "REFERRAL": (3, _refused(3, "Referral")),
    "ERROR": (4, _refused(4, "Acquirer Error", "Error")),
    "BLOCK_CARD": (5, _refused(5, "Blocked Card")),
    "CARD_EXPIRED": (6, _refused(6, "Expired Card")),
    "INVALID_AMOUNT": (7, _refused(7, "Invalid Amount")),
    "INVALID_CARD_NUMBER": (8, _refused(8, "Invalid Card Number")),
    "ISSUER_UNAVAILABLE": (9, _refused(9, "Issuer Unavailable")),
    "NOT_SUPPORTED": (10, _refused(10, "Not supported")),
    "NOT_3D_AUTHENTICATED": (11, NOT_AUTHENTICATED),
    "NOT_ENOUGH_BALANCE": (12, _refused(12, "Not enough balance")),
    "PENDING": (13, Verdict("Received", raw="PENDING")),
    "ACQUIRER_FRAUD": (14, _refused(14, "Acquirer Fraud")),
    "CANCELLED": (15, _refused(15, "Cancelled")),
    "SHOPPER_CANCELLED": (16, _refused(16, "Shopper Cancelled")),
    "FRAUD": (20, _refused(20, "FRAUD")),
    "CVC_DECLINED": (24, _refused(24, "CVC Declined")),
}
_BY_CODE: Final[Mapping[str, Verdict]] = {
    str(code): verdict for code, verdict in _VERDICTS.values()
}

_CHALLENGES: Final[Mapping[str, Challenge]] = {  # by holder name, in the simulation's own words
    "REDIRECT_SHOPPER": "RedirectShopper",
    "CHALLENGE_SHOPPER": "ChallengeShopper",
}
_CHALLENGED: Final[Mapping[tuple[str, str], Challenge]] = {  # published cards, by their parts
    ("421234567890", "1237"): "RedirectShopper",
    ("491761000000", "0000"): "ChallengeShopper",
    ("545454545454", "5454"): "ChallengeShopper",
}


def verdict_on(body: JsonBody, holder: str | None) -> Verdict:
    asked = body.at("additionalData.RequestedTestAcquirerResponseCode")
    if isinstance(asked, str | int):
        return _BY_CODE.get(str(asked), AUTHORISED)
    name, _, raw = (holder or "").partition(":")
    _, verdict = _VERDICTS.get(name.strip(), (1, AUTHORISED))
    if raw.strip() and verdict.code is not None:
        return Verdict(verdict.result_code, verdict.code, verdict.reason, raw=raw.strip())
    return verdict


def challenge_for(body: JsonBody, number: str | None, holder: str | None) -> Challenge | None:
    """Say how the shopper must prove who they are first (3-D Secure); None: they need not."""
    named = _CHALLENGES.get(holder or "")
    if named is not None:
        return named
    if body.text("authenticationData.attemptAuthentication") == "always":
        native = body.text("authenticationData.threeDSRequestData.nativeThreeDS") == "preferred"
        return "ChallengeShopper" if native else "RedirectShopper"
    if body.text("additionalData.executeThreeD") == "true":
        return "RedirectShopper"
    return _CHALLENGED.get((number[:-4], number[-4:])) if number is not None else None
