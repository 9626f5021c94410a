"""What of a request is kept while it is in doubt, on routes that send it again by themselves. Pure.

What never lives here: a login of any kind, and a request that could not be sent without its
caller's.
"""

from gateway.call import Call
from gateway.lanes import OWN_HEADERS, Lane
from vault.authorization import RepeatRules
from vault.doubts import KeptRequest


def request_to_keep(
    lane: Lane, call: Call, key: bytes | None, rules: RepeatRules
) -> KeptRequest | None:
    """Return what to keep; None where the gateway may or could not send it again."""
    credential = lane.preset.credential
    if not lane.replays_unknown or key is None or not rules.replay_seconds:
        return None
    if not lane.injects or credential.sent in {"body", "signature"}:
        return None
    headers = tuple(
        (str(header[0]), str(header[1]))  # aiohttp's names are of a type of its own
        for header in call.headers
        if (name := header[0].lower()) not in credential.headers
        and not name.startswith(OWN_HEADERS)
        and lane.preset.forwards(name)
    )
    return KeptRequest(call.method, call.path, call.query, headers, call.body, key)
