"""What the official SDKs make of a webhook: a list of posts on standard input, verdicts on output.

A post is `{"sdk", "body" (base64), "headers", "secret"}`, a verdict the type of the event that
the SDK took, or null where it refused the signature. Nothing of a body or a secret is shown.
"""

import base64
import json
import sys
from collections.abc import Callable
from typing import Any

from tests.sdks.clients.lines import Json, module

stripe, adyen = module("stripe"), module("Adyen.util")


def _by_stripe(post: Json, body: bytes) -> str | None:
    try:
        event: Any = stripe.Webhook.construct_event(
            body, post["headers"]["stripe-signature"], post["secret"]
        )
    except stripe.SignatureVerificationError:
        return None
    return str(event["type"])


def _by_adyen(post: Json, body: bytes) -> str | None:
    document = json.loads(body)
    if adyen.is_valid_hmac_notification(document, post["secret"]) is not True:
        return None
    return str(document["notificationItems"][0]["NotificationRequestItem"]["eventCode"])


BY: dict[str, Callable[[Json, bytes], str | None]] = {"stripe": _by_stripe, "adyen": _by_adyen}


def main() -> None:
    posts = json.load(sys.stdin)
    verdicts = [BY[post["sdk"]](post, base64.b64decode(post["body"])) for post in posts]
    json.dump(verdicts, sys.stdout)


if __name__ == "__main__":
    main()
