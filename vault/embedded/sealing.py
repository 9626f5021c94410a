"""Sealing an embedded OpenBao, as an operator does in an emergency: under the break-glass login.

From then on it answers nothing until it is restarted (`OpenBao.restart`): a static seal is read
at start only. Nothing of a running gateway uses this; what it may seal has `env = "test"`.
"""

import asyncio
from typing import Final

from vault.embedded.bootstrap import EmbeddedParts
from vault.errors import KeysTimedOut
from vault.observer import Silent
from vault.transit_answers import MAY_HAVE_HAPPENED, Verdict
from vault.transit_items import Request
from vault.transit_login import Credentials, Login
from vault.transit_nodes import Nodes, Pins

LOGIN: Final = "break-glass"
SEALED_SECONDS_MAX: Final = 15.0  # it lets go of raft first, which takes about one
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
        answer = await nodes.send(_SEAL, await login.token())
        if answer.verdict is not Verdict.ANSWERED and answer.verdict not in MAY_HAVE_HAPPENED:
            raise answer.failure
        await _until_sealed(nodes)
    finally:
        nodes.close()  # the token is not given back: what is sealed takes nothing back


async def _until_sealed(nodes: Nodes) -> None:
    """Its answer may take longer than we wait for any: so ask until it says that it is sealed."""
    try:
        async with asyncio.timeout(SEALED_SECONDS_MAX):
            while True:
                answer = await nodes.send(_HEALTH, None)
                if answer.verdict is Verdict.SEALED:
                    return
                await asyncio.sleep(POLL_SECONDS)
    except TimeoutError:
        pass
    raise KeysTimedOut


def _no_chance() -> float:
    return 0.0
