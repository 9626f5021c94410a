"""Whether a callback is the processor's: each scheme by its name, checked and signed. Pure.

A callback is proven over its raw bytes, before anything of it is believed; what a scrubbed one
loses is signed again with a secret that only the merchant shares, so that the processor's own SDK
still accepts it. What never lives here: where secrets come from, fetches, and what events mean.
"""

import hmac
from collections.abc import Mapping
from datetime import datetime
from typing import Final, assert_never

from gateway import signatures_paypal
from gateway.signatures_adyen import AdyenItems
from gateway.signatures_braintree import Braintree
from gateway.signatures_layouts import lines_of
from gateway.signatures_recipes import RECIPES
from gateway.signatures_terms import (
    CannotSign,
    Forged,
    Genuine,
    Headers,
    NeedsCertificate,
    NeedsSource,
    Posted,
    Random,
    Reply,
    Scheme,
    Secret,
    Secrets,
    Symmetric,
)

__all__ = [
    "SCHEMES",
    "CannotSign",
    "Forged",
    "Genuine",
    "NeedsCertificate",
    "NeedsSource",
    "Posted",
    "Reply",
    "Scheme",
    "Secret",
    "Secrets",
    "challenge_reply",
    "new_secret",
    "signed",
    "transmission_of",
    "verified",
]

_ACCEPTED: Final = Reply(body=b"[accepted]")  # satisfies Adyen's older rules and its newer ones
_FORM: Final = ("application/x-www-form-urlencoded",)
_WORLDPAY: Final = (".worldpay.com",)
_BRAINTREE: Final = Braintree()

_SYMMETRIC: Final[Mapping[str, Symmetric]] = {
    **RECIPES,
    "adyen_item": AdyenItems(),
    "braintree": _BRAINTREE,
}

SCHEMES: Final[Mapping[str, Scheme]] = {
    scheme.name: scheme
    for scheme in (
        Scheme("stripe"),
        Scheme("adyen_item", reply=_ACCEPTED),
        Scheme("adyen_header", reply=_ACCEPTED),
        Scheme("checkout"),
        Scheme("braintree", content_types=_FORM, challenge=True),
        Scheme("authorize_net"),
        Scheme("square"),
        Scheme("worldpay_access"),
        Scheme(
            "worldpay_wpg",
            kind="source",
            content_types=("text/xml", "application/xml"),
            reply=Reply(body=b"[OK]"),
        ),
        Scheme("cybersource", health_get=True),
        Scheme("razorpay"),
        Scheme("mollie_nextgen"),
        Scheme("mollie_classic", kind="fetch", content_types=_FORM, may_be_http_1_0=True),
        Scheme("paypal", kind="rsa"),
        Scheme("standard_webhooks"),
    )
}


def verified(
    scheme: Scheme,
    posted: Posted,
    secrets: Secrets,
    *,
    at: datetime,
    certificates: tuple[bytes, ...] = (),
    roots: tuple[bytes, ...] = (),
) -> Genuine | Forged | NeedsCertificate | NeedsSource:
    """Check a post. `certificates` are those of an earlier NeedsCertificate, the signer's first."""
    if not _is_authorized(posted.headers, secrets.authorization):
        return Forged("authorization_mismatch")
    match scheme.kind:
        case "hmac":
            return _SYMMETRIC[scheme.name].proven(posted, secrets, at=at)
        case "rsa":
            return signatures_paypal.proven(
                posted, secrets, at=at, certificates=certificates, roots=roots
            )
        case "source":
            return NeedsSource(_WORLDPAY)
        case "fetch":  # it names a payment, whose state is asked for: there is nothing to believe
            return Genuine(is_signed=False)
        case _ as unreachable:
            assert_never(unreachable)


def transmission_of(scheme: Scheme, posted: Posted) -> str | None:
    """Return what a genuine post is known by, if its signature alone does not fix its body.

    With it only the first body that came may ever come: whoever is given one has to remember.
    """
    return signatures_paypal.transmission_of(posted) if scheme.kind == "rsa" else None


def signed(  # noqa: PLR0913 - a post in its parts
    scheme: Scheme,
    headers: Headers,
    body: bytes,
    secret: Secret,
    *,
    at: datetime,
    url: str = "",
    keep: bool,
) -> tuple[tuple[tuple[str, str], ...], bytes]:
    """Sign a post with a merchant-facing secret. Raises CannotSign.

    With `keep`, beside the original signature where the scheme takes several; one whose time is
    about to run out is replaced all the same, as the merchant would refuse what stands beside it.
    """
    way = _SYMMETRIC.get(scheme.name)
    if way is None:
        raise CannotSign
    return way.signed(Posted(headers, body, url), secret, at=at, keep=keep)


def new_secret(scheme: Scheme, random: Random) -> Secret:
    """Make a merchant-facing secret in the scheme's form. Raises CannotSign."""
    way = _SYMMETRIC.get(scheme.name)
    if way is None:
        raise CannotSign
    return way.new_secret(random)


def challenge_reply(scheme: Scheme, query_value: str, secrets: Secrets) -> str | None:
    """Answer the question by which a processor tries an endpoint; None where it is none."""
    return _BRAINTREE.challenge_reply(query_value, secrets) if scheme.challenge else None


def _is_authorized(headers: Headers, expected: str | None) -> bool:
    """Whether the `Authorization` header is the one agreed on; an empty one is never agreed on."""
    if expected is None:
        return True
    lines = lines_of(headers, "authorization")
    if len(lines) != 1 or not expected:
        return False
    came, right = (text.encode("utf-8", "surrogatepass") for text in (lines[0], expected))
    return hmac.compare_digest(came, right)
