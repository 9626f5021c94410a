"""HashiCorp Vault as the rest of custody sees it: encrypt, decrypt, hmac, keys and secrets.

Here lives the story of a call: get the token, send, look after a 403, halve a batch that was
refused as a whole, hand each item its own outcome. How a node is reached (transit_nodes), what
travels (transit_items), what an answer means (transit_answers), the token's life (transit_login)
and what the KV engine is asked (transit_secrets) live beside it. No card, record or context is
known here, and no exception of a library below us gets out.
"""

import asyncio
import base64
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Final, Protocol

import msgspec

from vault.errors import CustodyError, KeysError, KeysMisconfigured, KeysTimedOut, StartRefused
from vault.observer import Observer
from vault.transit_answers import TOO_NEW, Answer, Verdict, data_of
from vault.transit_batches import MISMATCH, Batch
from vault.transit_items import (
    Decrypt,
    DecryptItem,
    Encrypt,
    Encrypted,
    EncryptItem,
    Hmac,
    HmacItem,
    Item,
    Operation,
    Request,
    Unprintable,
    Value,
    is_name,
    path_of,
)
from vault.transit_login import Credentials, Login
from vault.transit_nodes import Nodes, Pins
from vault.transit_secrets import Secret, StoredSecrets

__all__ = ["KeyDescription", "Opener", "Sealer", "Secret", "Transit", "VaultAccess"]

OPERATION_SECONDS_MAX: Final = 4.0  # with second tries, a login and all halves of a batch
THREADS: Final = 8  # more calls in flight make HashiCorp Vault slower, not faster


@dataclass(frozen=True, slots=True)
class VaultAccess:
    """Where HashiCorp Vault is, whom we trust there and as whom we come."""

    addresses: tuple[str, ...]
    ca_file: str
    role_id: str
    secret_id: str | None = field(default=None, repr=False)
    secret_id_file: str | None = None  # read at each login
    client_cert_file: str | None = None
    client_key_file: str | None = None
    transit_mount: str = "transit"
    kv_mount: str = "kv"

    def __post_init__(self) -> None:
        if not self.addresses or not all(a.startswith("https://") for a in self.addresses):
            raise StartRefused("vault addresses: at least one, each beginning with https://")
        if (self.secret_id is None) == (self.secret_id_file is None):
            raise StartRefused("vault login: either secret_id or secret_id_file")
        if (self.client_cert_file is None) != (self.client_key_file is None):
            raise StartRefused("vault client certificate: give both certificate and key, or none")
        if not is_name(self.transit_mount) or not is_name(self.kv_mount):
            raise StartRefused("vault mounts: names of a-z, 0-9, - and _")


class KeyDescription(msgspec.Struct, frozen=True):
    """The settings of a transit key, as far as the self-test at start compares them."""

    type: str
    latest_version: int
    min_decryption_version: int
    min_encryption_version: int
    derived: bool
    exportable: bool
    allow_plaintext_backup: bool
    deletion_allowed: bool
    auto_rotate_period: int  # seconds; 0: never
    min_available_version: int = 0


class Sealer(Protocol):
    """The part of the door that the public side is given."""

    async def encrypt(
        self, key: str, items: Sequence[EncryptItem]
    ) -> list[Encrypted | CustodyError]: ...
    async def hmac(
        self, key: str, key_version: int, items: Sequence[HmacItem]
    ) -> list[bytes | CustodyError]: ...
    async def read_secret(self, path: str) -> Secret | None: ...


class Opener(Sealer, Protocol):
    """What the side that sends cards is given beyond it."""

    async def decrypt(
        self, key: str, items: Sequence[DecryptItem]
    ) -> list[bytes | CustodyError]: ...
    async def last_version(self, path: str) -> int: ...
    async def write_secret(self, path: str, data: Mapping[str, str], *, cas: int) -> int | None: ...
    async def destroy_before(self, path: str, version: int) -> None: ...


class Transit(StoredSecrets):
    """The one door to HashiCorp Vault, under one login."""

    def __init__(
        self,
        access: VaultAccess,
        *,
        observer: Observer,
        threads: int = THREADS,
        chance: Callable[[], float] = lambda: secrets.randbelow(1000) / 1000,
    ) -> None:
        """Open nothing yet. `chance` gives numbers from 0 to 1, for pauses that must differ."""
        super().__init__(access.kv_mount)
        self._access = access
        self._observer = observer
        pins = Pins(access.ca_file, access.client_cert_file, access.client_key_file)
        self._nodes = Nodes(
            access.addresses, pins, observer=observer, threads=threads, chance=chance
        )
        credentials = Credentials(access.role_id, access.secret_id, access.secret_id_file)
        self._login = Login(credentials, self._nodes.send, chance=chance)
        self._numbers = count()

    async def start(self) -> None:
        """Log in. Refused credentials stop the start; a HashiCorp Vault that is away does not."""
        access = self._access
        for file in (access.ca_file, access.client_cert_file, access.client_key_file):
            if file is not None and not await asyncio.to_thread(Path(file).is_file):
                raise StartRefused(f"vault: there is no file {file}")
        await self._login.start()

    async def close(self) -> None:
        await self._login.close()
        self._nodes.close()

    # --- transit ----------------------------------------------------------------------------

    async def encrypt(
        self, key: str, items: Sequence[EncryptItem]
    ) -> list[Encrypted | CustodyError]:
        return await self._carry_out(Encrypt(key), items)

    async def decrypt(self, key: str, items: Sequence[DecryptItem]) -> list[bytes | CustodyError]:
        return await self._carry_out(Decrypt(key), items)

    async def hmac(
        self, key: str, key_version: int, items: Sequence[HmacItem]
    ) -> list[bytes | CustodyError]:
        return await self._carry_out(Hmac(key, key_version), items)

    async def read_key(self, key: str) -> KeyDescription:
        """Read a key's settings. A key that does not exist is a misconfiguration."""
        path = path_of(self._access.transit_mount, "keys", key)
        answer = await self.ask(Request("read_key", "GET", path))
        return data_of(answer, KeyDescription)

    async def public_key(self, key: str) -> bytes:
        """Read the 32 bytes by which the latest version's Ed25519 signatures are checked."""
        versions = await self.public_keys(key)
        return versions[max(versions)]

    async def public_keys(self, key: str) -> Mapping[int, bytes]:
        """Read the 32 bytes of each version that can still sign; the latest is among them."""
        path = path_of(self._access.transit_mount, "keys", key)
        signing = data_of(await self.ask(Request("read_key", "GET", path)), _SigningKey)
        if str(signing.latest_version) not in signing.keys:
            raise KeysMisconfigured
        return {int(version): one.public_key for version, one in signing.keys.items()}

    async def sign(self, key: str, version: int, message: bytes) -> bytes:
        """Return the 64 bytes of a version's Ed25519 signature; the caller verifies them."""
        path = path_of(self._access.transit_mount, "sign", key)
        body = msgspec.json.encode({"input": message, "key_version": version, "prehashed": False})
        answer = await self.ask(Request("sign", "POST", path, body))
        text = data_of(answer, _Signature).signature
        encoded = text.removeprefix(f"vault:v{version}:")
        try:
            return base64.b64decode(encoded, validate=True)
        except ValueError:
            pass
        raise KeysMisconfigured

    async def rotate_key(self, key: str) -> None:
        """Make a new version of a key, once: a lost answer may have made it."""
        path = path_of(self._access.transit_mount, "keys", key, "rotate")
        answer = await self.ask(Request("rotate_key", "POST", path, b"{}", repeatable=False))
        if answer.verdict is not Verdict.ANSWERED:
            raise answer.failure

    # --- what we are and may ----------------------------------------------------------------

    async def capabilities(self, paths: Sequence[str]) -> dict[str, frozenset[str]]:
        """Say what our login may do at each path."""
        body = msgspec.json.encode({"paths": paths})
        request = Request("capabilities", "POST", "/v1/sys/capabilities-self", body)
        return data_of(await self.ask(request), dict[str, frozenset[str]])

    async def seal_status(self) -> bool:
        """Whether HashiCorp Vault is sealed: no node open, at least one sealed."""
        health = "/v1/sys/health?standbyok=true&perfstandbyok=true&sealedcode=501"
        request = Request("health", "GET", health)
        answers = await self._nodes.send_to_each(request)
        verdicts = {answer.verdict for answer in answers}
        if Verdict.ANSWERED not in verdicts and Verdict.SEALED not in verdicts:
            raise answers[0].failure
        return Verdict.ANSWERED not in verdicts

    # --- the story of a call ----------------------------------------------------------------

    async def _carry_out(
        self, operation: Operation[Item, Value], items: Sequence[Item]
    ) -> list[Value | CustodyError]:
        """Give each item its own outcome, in the order of the items; raise nothing of custody.

        A batch that one item made fail is halved until that item is alone: its neighbors belong
        to other requests, of other tenants.
        """
        batch = Batch(operation, items, self._numbers)
        failure: type[CustodyError] = KeysTimedOut
        try:
            async with asyncio.timeout(OPERATION_SECONDS_MAX):
                failure = await self._send_all(operation, batch)
        except TimeoutError:
            pass
        except KeysError as error:  # our own: a name that is none, or no token to be had
            failure = type(error)
        return batch.outcomes(failure)

    async def _send_all(
        self, operation: Operation[Item, Value], batch: Batch[Item, Value]
    ) -> type[CustodyError]:
        """Send part after part; give what the items that are left over then fail with."""
        path = operation.path(self._access.transit_mount)
        while (part := batch.next_part()) is not None:
            body = operation.body(part.items, part.references)
            answer = await self.ask(
                Request(operation.name, "POST", path, body, items=len(part.items))
            )
            if answer.verdict is Verdict.ANSWERED:
                self._report(operation.name, batch.settle(part, answer))
            elif answer.verdict is not Verdict.POISONED:
                batch.fail(part, answer.failure)
                return answer.failure
            elif not batch.halve(part):
                batch.fail(part, answer.failure)
        return KeysError

    def _report(self, operation: str, kinds: Sequence[str]) -> None:
        for kind in kinds:
            if kind == MISMATCH:
                self._observer.transit_mismatched()
            else:
                self._observer.transit_item_failed(operation, kind)
        if TOO_NEW in kinds:
            self._nodes.prefer_another()  # a standby that lags; one of the others is the leader

    async def ask(self, request: Request) -> Answer:
        """Send with our token; after a 403, and if the token is dead, once more with a new one.

        For the engines that have a module of their own (`authority`). Raises any KeysError when
        no token is to be had.
        """
        token = await self._login.token()
        answer = await self._nodes.send(request, token)
        if answer.verdict is Verdict.FORBIDDEN and await self._login.found_dead(token):
            answer = await self._nodes.send(request, await self._login.token())
        return answer


class _Signature(Unprintable):
    """`data` of a signature: `vault:v<version>:<base64>`."""

    signature: str


class _SigningKeyVersion(Unprintable):
    """One version of an Ed25519 key: base64 of the raw 32 bytes."""

    public_key: bytes


class _SigningKey(Unprintable):
    """`data` of an Ed25519 key."""

    latest_version: int
    keys: dict[str, _SigningKeyVersion]
