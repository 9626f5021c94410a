"""A merchant's side of webhooks: endpoints by the API, a receiver, the SDKs that check posts."""

import asyncio
import base64
import json
import ssl
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import trustme

from tests.flows.called_back import Counter
from tests.flows.deployment import Deployment
from tests.flows.merchant import JSON
from tests.flows.receiver import Arrival, Receiver
from tests.flows.wire import Reply
from tests.sdks.driver import confined, in_step, python_of

ENDPOINTS = "/v1/webhook-endpoints"


class _TheirAuthority:
    """Stands in for an authority: the deployment's own, which it takes webhook endpoints of."""

    def __init__(self, deployment: Deployment) -> None:
        self._parts = deployment.parts
        self.cert_pem = self

    def issue_cert(self, *_names: str) -> "_TheirAuthority":
        return self

    def configure_cert(self, context: ssl.SSLContext) -> None:
        context.load_cert_chain(self._parts.tls_cert_file, self._parts.tls_key_file)

    def write_to_path(self, path: str) -> None:
        Path(path).write_bytes(self._parts.tls_ca_file.read_bytes())


@contextmanager
def receiving(deployment: Deployment, folder: Path) -> Iterator[Receiver]:
    """Run a receiver that the deployment's gateway trusts."""
    with Receiver.started(folder, cast(trustme.CA, _TheirAuthority(deployment))) as receiver:
        yield receiver


@dataclass(frozen=True)
class Hook:
    """A webhook endpoint of a seller's, and what has come there."""

    counter: Counter
    receiver: Receiver
    id: str
    path: str
    secrets: list[dict[str, str]]

    def secret(self, at: int = 0) -> str:
        """The text of a secret in the processor's scheme, in the order of their making."""
        return [one for one in self.secrets if one["scheme"] != "standard_webhooks"][at]["secret"]

    async def add_secret(self) -> None:
        reply = await asked(
            self.counter, "POST", f"{ENDPOINTS}/{self.id}/secrets", {"kind": "callback"}
        )
        assert reply.status == 201, reply.body
        self.secrets.append(json.loads(reply.body))

    async def remove_secret(self, at: int) -> None:
        name = [one for one in self.secrets if one["scheme"] != "standard_webhooks"][at]["name"]
        reply = await asked(self.counter, "DELETE", f"{ENDPOINTS}/{self.id}/secrets/{name}", None)
        assert reply.status == 204, reply.body

    async def arrived(self, times: int = 1) -> Arrival:
        """Give the last of so many."""
        return (await self.receiver.arrived(times, self.path, seconds=20))[-1]


async def new_hook(counter: Counter, receiver: Receiver, route: str, **more: object) -> Hook:
    """Make an endpoint for the callbacks of a route, at a path of its own."""
    path = f"/{route}/{len(receiver.arrivals())}/{'-'.join(map(str, more.values()))}"
    wanted = {"url": receiver.url(path), "form": "callbacks", "route": route} | more
    reply = await asked(counter, "POST", ENDPOINTS, wanted)
    assert reply.status == 201, reply.body
    made = json.loads(reply.body)
    return Hook(counter, receiver, made["id"], path, made["secrets"])


async def asked(counter: Counter, verb: str, path: str, document: object) -> Reply:
    headers = {"Authorization": f"Bearer {counter.seller.key.text}", "Content-Type": JSON}
    body = b"" if document is None else json.dumps(document).encode()
    return await counter.wire(verb, counter.merchant.urls.private + path, body, headers=headers)


async def taken(folder: Path, sdk: str, *posts: tuple[Arrival, str]) -> Sequence[str | None]:
    """Give what the official SDK reads of posts with a secret each; None: it refuses one."""
    orders = [
        {
            "sdk": sdk,
            "body": base64.b64encode(post.body).decode(),
            "headers": {name.lower(): value for name, value in post.headers},
            "secret": secret,
        }
        for post, secret in posts
    ]
    return await asyncio.to_thread(_verified, folder, orders)


def _verified(folder: Path, orders: Sequence[Mapping[str, Any]]) -> Sequence[str | None]:
    done = subprocess.run(  # noqa: S603 - our own program
        in_step(python_of("shared"), "-W", "ignore", "-m", "tests.sdks.clients.verifier"),
        input=json.dumps(orders),
        capture_output=True,
        text=True,
        cwd=folder,
        env=confined(folder),
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    verdicts: Sequence[str | None] = json.loads(done.stdout)
    return verdicts
