"""The official Stripe SDK in a process of its own: a JSON line in, a call, a JSON line out.

Started with the file of the certificate authority it shall trust; needs nothing of this project.
"""

import functools
import json
import sys

import stripe


@functools.cache
def client(key: str, url: str, retries: int) -> stripe.StripeClient:
    return stripe.StripeClient(key, base_addresses={"api": url}, max_network_retries=retries)


def reply(order: dict[str, object]) -> dict[str, object]:
    key, url, retries = order["key"], order["url"], order["retries"]
    assert isinstance(key, str)
    assert isinstance(url, str)
    assert isinstance(retries, int)
    method: object = client(key, url, retries)
    for name in str(order["call"]).split("."):
        method = getattr(method, name)
    assert callable(method)
    ids = order["ids"]
    assert isinstance(ids, list)
    try:
        answer = method(*ids, params=order["params"], options=order["options"])
    except stripe.StripeError as error:
        body = error.json_body if isinstance(error.json_body, dict) else {}
        return {
            "error": type(error).__name__,
            "status": error.http_status,
            "body": body.get("error"),
            "request_id": error.request_id,
        }
    return {
        "object": answer.to_dict(),
        "headers": {name.lower(): value for name, value in answer.last_response.headers.items()},
    }


def main() -> None:
    stripe.ca_bundle_path = sys.argv[1]
    for line in sys.stdin:
        sys.stdout.write(json.dumps(reply(json.loads(line)), default=str) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
