"""Sealing an embedded OpenBao, as an operator does in an emergency: under the break-glass login.

From then on it answers nothing until it is restarted (`OpenBao.restart`): a static seal is read
at start only. Nothing of a running gateway uses this; what it may seal has `env = "test"`.
"""

import asyncio
from typing import Final

from vault.embedded.bootstrap import EmbeddedParts
from vault.errors import KeysError, KeysTimedOut
from vault.observer import Silent
from vault.transit_answers import Verdict
from vault.transit_items import Request
from vault.transit_login import Credentials, Login
from vault.transit_nodes import Nodes, Pins

LOGIN: Final = "break-glass"
SEALED_SECONDS_MAX: Final = 20.0  # it lets go of raft first, which takes about one
POLL_SECONDS: Final = 0.05

_SEAL: Final = Request("seal", "POST", "/v1/sys/seal", repeatable=False)
_HEALTH: Final = Request("health", "GET", "/v1/sys/health?standbyok=true&sealedcode=501")


async def seal(parts: EmbeddedParts) -> None:
    """Seal it: when this returns it opens nothing any more. Raises any KeysError."""
    pins = Pins(
        str(parts.vault_ca_file),
        str(parts.vault_client_cert_file),
        str(parts.vault_client_key_file),
    )
    nodes = Nodes((parts.vault_address,), pins, observer=Silent(), threads=1, chance=_no_chance)
    files = parts.logins[LOGIN]
    credentials = Credentials(
        files.role_id_file.read_text("ascii"), None, str(files.secret_id_file)
    )
    login = Login(credentials, nodes.send, chance=_no_chance)
    try:
        async with asyncio.timeout(SEALED_SECONDS_MAX):
            await _until_sealed(nodes, login)
            return
    except TimeoutError:
        pass
    finally:
        nodes.close()  # the token is not given back: what is sealed takes nothing back
    raise KeysTimedOut


async def _until_sealed(nodes: Nodes, login: Login) -> None:
    """Ask for it, and ask whether it is: on a busy machine an answer comes later than we wait."""
    while True:
        if (await nodes.send(_HEALTH, None)).verdict is Verdict.SEALED:
            return
        try:
            answer = await nodes.send(_SEAL, await login.token())
        except KeysError as error:
            if not error.retryable:
                raise
        else:
            if answer.verdict is Verdict.FORBIDDEN:
                raise answer.failure
        await asyncio.sleep(POLL_SECONDS)


def _no_chance() -> float:
    return 0.0
