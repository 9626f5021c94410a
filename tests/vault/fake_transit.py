"""A HashiCorp Vault for tests: real HTTPS, real cryptography, and faults on demand.

It keeps the promises of the real one that custody relies on: a ciphertext opens only in its own
context, a mixed batch gives each item its own outcome, an all-failed one is a 400 whose body still
holds results, one poisonous item spoils all, old key versions can be refused, tokens end, and a
sealed server says so. Texts and shapes are OpenBao 2.7.2's.

`FakeVault` is the state behind all nodes; `FakeNode` is one server of it, with faults of its own.
"""

import base64
import hmac
import json
import re
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

STRINGS_MAX = 1000
TOO_OLD = "ciphertext or signature version is disallowed by policy (too old)"

Json = dict[str, Any]


class Refused(Exception):
    """A request that is answered with an error status."""

    def __init__(self, status: int, *errors: str) -> None:
        super().__init__(status)
        self.status = status
        self.errors = list(errors)


class ItemRefused(Exception):
    """An item of a batch that is answered with an error text."""


@dataclass
class FakeKey:
    """A transit key with all its versions."""

    kind: str = "aes256-gcm96"
    period_seconds: int = 0
    versions: list[bytes] = field(default_factory=lambda: [secrets.token_bytes(32)])
    min_decryption: int = 1
    min_encryption: int = 0

    @property
    def latest(self) -> int:
        return len(self.versions)

    def rotate(self) -> None:
        self.versions.append(secrets.token_bytes(32))

    def derived(self, version: int, context: bytes) -> AESGCM:
        kdf = HKDF(hashes.SHA256(), 32, salt=None, info=context)
        return AESGCM(kdf.derive(self.versions[version - 1]))


@dataclass
class FakeRole:
    """An AppRole: its secret-ids with the uses they have left, and what its tokens may do."""

    role_id: str
    allowed: Sequence[str]
    secret_ids: dict[str, float] = field(default_factory=dict)
    period_seconds: int = 1200
    renewable: bool = True


@dataclass
class FakeToken:
    role: FakeRole
    ends_at: float


@dataclass(frozen=True)
class Audited:
    """One item as the audit log shows it."""

    path: str
    reference: str


ANY_TOKEN = (
    r"(GET auth/token/lookup-self|POST auth/token/(renew|revoke)-self"
    r"|POST sys/capabilities-self|GET transit/keys/[a-z-]+)"
)
TOKENIZE = (
    ANY_TOKEN,
    "POST transit/encrypt/(pan|cvc)",
    "POST transit/hmac/(fingerprint|digest)/sha2-256",
    "GET kv/data/callback/.*",
)
REVEAL = (
    ANY_TOKEN,
    "POST transit/decrypt/(pan|cvc|reply)",
    "POST transit/encrypt/reply",
    "POST transit/hmac/digest/sha2-256",
    "GET kv/data/processor/.*",
    "(GET|POST) kv/data/webhook/.*",
    "PUT kv/destroy/webhook/.*",
    "POST transit/keys/(pan|cvc|reply)/rotate",
    "POST transit/keys/(cvc|reply)/config",
)
CREDENTIALS = (
    ANY_TOKEN,
    "POST kv/data/(processor|callback)/.*",
    "PATCH kv/data/callback/.*",
    "PUT kv/destroy/callback/.*",
    "GET kv/subkeys/callback/.*",
    "GET kv/metadata/(processor|callback)(/.*)?",
)
EVERYTHING = (".*",)


class FakeVault:
    """What all nodes of one HashiCorp Vault know. Test code turns its knobs directly."""

    def __init__(self) -> None:
        self.keys = {
            "pan": FakeKey(period_seconds=7_776_000),
            "cvc": FakeKey(period_seconds=3600),
            "reply": FakeKey(period_seconds=7_776_000),
            "fingerprint": FakeKey("hmac"),
            "digest": FakeKey("hmac"),
            "ledger": FakeKey("ed25519"),
        }
        self.roles = {
            name: FakeRole(f"role-{name}", allowed, {f"secret-{name}": float("inf")})
            for name, allowed in (
                ("tokenize", TOKENIZE),
                ("reveal", REVEAL),
                ("credentials", CREDENTIALS),
                ("test", EVERYTHING),
            )
        }
        self.tokens: dict[str, FakeToken] = {}
        self.secrets: dict[str, list[Json | None]] = {}
        self._writing = threading.Lock()
        self.audit: list[Audited] = []
        self.requests: list[tuple[str, str]] = []
        self.sealed = False
        self.initialized = True
        self.audit_disk_full = False
        self.forbidden: set[str] = set()  # paths that no policy grants
        self.rearrange: Callable[[list[Json]], list[Json]] = list  # results before they leave
        self.poison: bytes | None = None  # a plaintext or ciphertext that spoils its batch

    def count(self, path: str) -> int:
        return sum(1 for _, requested in self.requests if requested == path)

    def expire_tokens(self) -> None:
        self.tokens.clear()

    def answer(self, method: str, path: str, token: str, body: Json, *, lag: int = 0) -> Json:
        """Answer one request; `lag` is how many key versions the asked node does not know yet."""
        self.requests.append((method, path))
        if path == "sys/health":
            return self._health()
        if self.sealed:
            raise Refused(503, "Vault is sealed")
        if self.audit_disk_full:
            raise Refused(500, "internal error")
        if path == "auth/approle/login":
            return self._log_in(body)
        if path in self.forbidden or not self._may(token, f"{method} {path}"):
            raise Refused(403, "permission denied")
        return self._route(method, path.split("/"), token, body, lag)

    def _route(self, method: str, path: list[str], token: str, body: Json, lag: int) -> Json:
        match path:
            case ["auth", "token", verb]:
                return self._token_self(verb, token)
            case ["sys", "capabilities-self"]:
                return {"data": {p: self._capabilities(token, p) for p in body["paths"]}}
            case ["transit", "encrypt" | "decrypt" | "hmac", *_]:
                return self._crypto(path[1], path[2], body, lag)
            case ["transit", "keys", name, *verb]:
                return self._manage(self._key(name, 400 if verb else 404), verb, body)
            case ["kv", what, *rest]:
                return self._kv(method, what, "/".join(rest), body)
            case _:
                pass
        raise Refused(404, f'no handler for route "{"/".join(path)}". route entry not found.')

    # --- tokens -----------------------------------------------------------------------------

    def _log_in(self, body: Json) -> Json:
        for role in self.roles.values():
            left = role.secret_ids.get(body["secret_id"], 0)
            if role.role_id == body["role_id"] and left:
                role.secret_ids[body["secret_id"]] = left - 1
                text = "s." + secrets.token_urlsafe(18)
                self.tokens[text] = FakeToken(role, time.monotonic() + role.period_seconds)
                return self._auth(text, role)
        raise Refused(400, "invalid role or secret ID")

    def _auth(self, text: str, role: FakeRole) -> Json:
        return {
            "data": None,
            "auth": {
                "client_token": text,
                "lease_duration": role.period_seconds,
                "renewable": role.renewable,
            },
        }

    def _may(self, token: str, act: str) -> bool:
        known = self.tokens.get(token)
        if known is None or known.ends_at < time.monotonic():
            return False
        return any(re.fullmatch(pattern, act) for pattern in known.role.allowed)

    def _capabilities(self, token: str, path: str) -> list[str]:
        words = {"GET": "read", "POST": "update"}
        return [w for verb, w in words.items() if self._may(token, f"{verb} {path}")] or ["deny"]

    def _token_self(self, verb: str, token: str) -> Json:
        known = self.tokens[token]
        if verb == "renew-self":
            known.ends_at = time.monotonic() + known.role.period_seconds
            return self._auth(token, known.role)
        if verb == "revoke-self":
            del self.tokens[token]
            return {}
        return {"data": {"ttl": int(known.ends_at - time.monotonic())}}

    def _health(self) -> Json:
        if not self.initialized:
            raise Refused(501)
        if self.sealed:
            raise Refused(501)  # `sealedcode` of the query
        return {"initialized": True, "sealed": False, "standby": False, "version": "2.7.2"}

    # --- transit ----------------------------------------------------------------------------

    def _key(self, name: str, status: int = 400) -> FakeKey:
        if name not in self.keys:
            raise Refused(status, *(["encryption key not found"] if status == 400 else []))
        return self.keys[name]

    def _manage(self, key: FakeKey, verb: list[str], body: Json) -> Json:
        if verb == ["rotate"]:
            key.rotate()
        if verb == ["config"]:
            key.min_decryption = body["min_decryption_version"]
            key.min_encryption = body["min_encryption_version"]
        return {"data": self._describe(key)}

    def _describe(self, key: FakeKey) -> Json:
        pairs = {str(n + 1): self._public(version) for n, version in enumerate(key.versions)}
        return {
            "keys": pairs if key.kind == "ed25519" else {},
            "type": key.kind,
            "latest_version": key.latest,
            "min_decryption_version": key.min_decryption,
            "min_encryption_version": key.min_encryption,
            "min_available_version": 0,
            "derived": key.kind == "aes256-gcm96",
            "exportable": False,
            "allow_plaintext_backup": False,
            "deletion_allowed": False,
            "auto_rotate_period": key.period_seconds,
        }

    def _public(self, private: bytes) -> Json:
        public = Ed25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()
        return {"public_key": base64.b64encode(public).decode()}

    def _crypto(self, operation: str, name: str, body: Json, lag: int) -> Json:
        items = body["batch_input"]
        if sum(2 * len(item) for item in items) > STRINGS_MAX:
            raise Refused(
                400,
                "refused JSON input due to high complexity: exceeded maximum number of strings",
            )
        key = self._key(name)
        latest = max(1, key.latest - lag)
        self._check_batch(operation, items)
        if operation == "hmac":
            self._check_hmac_version(key, latest, body["key_version"])
        results = []
        for item in items:
            self.audit.append(Audited(f"transit/{operation}/{name}", item["reference"]))
            try:
                result = self._one(operation, key, item, latest, body)
            except ItemRefused as refusal:
                result = {"error": str(refusal)}
                if operation == "decrypt":
                    result["plaintext"] = ""
            results.append({**result, "reference": item["reference"]})
        failed = sum("error" in result for result in results)
        answer: Json = {"data": {"batch_results": self.rearrange(results)}}
        if failed and operation != "hmac":
            code = body.get("partial_failure_response_code", 400)
            answer["status"] = 400 if failed == len(results) else code
        return answer

    def _check_batch(self, operation: str, items: list[Json]) -> None:
        for n, item in enumerate(items):
            if not all(isinstance(value, str) for value in item.values()):
                raise Refused(500, f"1 error occurred:\n\t* failed to parse batch input: '[{n}]'")
        contexts = [bool(item.get("context")) for item in items]
        if any(contexts) and not all(contexts):
            raise Refused(400, "context should be set either in all the request blocks or in none")
        if self.poison is not None:
            spoils = {self.poison.decode(), base64.b64encode(self.poison).decode()}
            if any(spoils & set(item.values()) for item in items):
                raise Refused(500, "1 error occurred:\n\t* failed to parse batch input: '[0]'")

    def _check_hmac_version(self, key: FakeKey, latest: int, version: int) -> None:
        if version > latest:
            raise Refused(400, f"key version does not exist; latest key version is {latest}")
        if version < max(key.min_decryption, key.min_encryption):
            raise Refused(400, "cannot generate HMAC: version is too old (disallowed by policy)")

    def _one(self, operation: str, key: FakeKey, item: Json, latest: int, body: Json) -> Json:
        if operation == "hmac":
            version = body["key_version"]
            mac = hmac.digest(key.versions[version - 1], base64.b64decode(item["input"]), "sha256")
            return {"hmac": f"vault:v{version}:{base64.b64encode(mac).decode()}"}
        context = base64.b64decode(item["context"])
        if not context:
            raise ItemRefused("missing 'context' for key derivation; the key was created ...")
        if operation == "encrypt":
            nonce = secrets.token_bytes(12)
            sealed = nonce + key.derived(latest, context).encrypt(
                nonce, base64.b64decode(item["plaintext"]), None
            )
            text = f"vault:v{latest}:{base64.b64encode(sealed).decode()}"
            return {"ciphertext": text, "key_version": latest}
        return {"plaintext": base64.b64encode(self._open(key, item, latest, context)).decode()}

    def _open(self, key: FakeKey, item: Json, latest: int, context: bytes) -> bytes:
        match = re.fullmatch(r"vault:v(\d+):(.*)", item["ciphertext"])
        if match is None:
            raise ItemRefused("invalid ciphertext: no prefix")
        version = int(match[1])
        if version > latest:
            raise ItemRefused("invalid ciphertext: version is too new")
        if version < key.min_decryption:
            raise ItemRefused(TOO_OLD)
        try:
            sealed = base64.b64decode(match[2], validate=True)
        except ValueError:
            raise ItemRefused("invalid ciphertext: could not decode base64") from None
        if len(sealed) < 12 + 16:
            raise ItemRefused("invalid ciphertext length")
        try:
            return key.derived(version, context).decrypt(sealed[:12], sealed[12:], None)
        except InvalidTag:
            raise ItemRefused("cipher: message authentication failed") from None

    # --- kv ---------------------------------------------------------------------------------

    def _kv(self, method: str, what: str, path: str, body: Json) -> Json:
        match method, what:
            case _, "metadata":
                return self._history(path, body)
            case "GET", "data":
                return self._read(path)
            case "GET", "subkeys":
                return {"data": {"subkeys": dict.fromkeys(self._read(path)["data"]["data"])}}
            case "PATCH", "data":
                return self._patch(path, body)
            case "POST", "data":
                return self._write(path, body)
            case "PUT", "destroy":
                return self._destroy(path, body)
            case _:
                pass
        raise Refused(405, "unsupported operation")

    def _read(self, path: str) -> Json:
        versions = self.secrets.get(path)
        if not versions:
            raise Refused(404)
        answer: Json = {"data": {"data": versions[-1], "metadata": {"version": len(versions)}}}
        if versions[-1] is None:  # deleted
            answer["status"] = 404
        return answer

    def _history(self, path: str, body: Json) -> Json:
        if path in self.secrets and "list" not in body:
            return {"data": {"current_version": len(self.secrets[path])}}
        below = [known.removeprefix(path + "/") for known in self.secrets]
        names = {re.sub("/.*", "/", name) for name in below if name not in self.secrets}
        if "list" not in body or not names:
            raise Refused(404)
        return {"data": {"keys": sorted(names)}}

    def _patch(self, path: str, body: Json) -> Json:
        whole = {**self._read(path)["data"]["data"], **body["data"]}
        kept = {name: text for name, text in whole.items() if text is not None}
        return self._write(path, {**body, "data": kept})

    def _write(self, path: str, body: Json) -> Json:
        versions = self.secrets.setdefault(path, [])
        if "cas" not in body.get("options", {}):
            raise Refused(400, "check-and-set parameter required for this call")
        with self._writing:  # nodes answer in threads
            if body["options"]["cas"] != len(versions):
                raise Refused(400, "check-and-set parameter did not match the current version")
            versions.append(body["data"])
            return {"data": {"version": len(versions)}}

    def _destroy(self, path: str, body: Json) -> Json:
        versions = self.secrets.get(path, [])
        for one in body["versions"]:
            if 0 < one <= len(versions):
                versions[one - 1] = None
        return {}


def as_json(answer: Json) -> bytes:
    return json.dumps({"request_id": "r", "auth": None, **answer}).encode()
