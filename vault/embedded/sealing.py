"""Sealing an embedded OpenBao, as an operator does in an emergency: under the break-glass login.

From then on it answers nothing until it is restarted (`OpenBao.restart`): a static seal is read
at start only. Nothing of a running gateway uses this; what it may seal has `env = "test"`.
"""

from typing import Final

from vault.embedded.bootstrap import EmbeddedParts
from vault.observer import Silent
from vault.transit_answers import Verdict
from vault.transit_items import Request
from vault.transit_login import Credentials, Login
from vault.transit_nodes import Nodes, Pins

LOGIN: Final = "break-glass"


async def seal(parts: EmbeddedParts) -> None:
    """Seal it: when this returns it opens nothing any more. Raises any KeysError."""
    pins = Pins(
        str(parts.vault_ca_file),
        str(parts.vault_client_cert_file),
        str(parts.vault_client_key_file),
    )
    nodes = Nodes((parts.vault_address,), pins, observer=Silent(), threads=1, chance=lambda: 0.0)
    files = parts.logins[LOGIN]
    credentials = Credentials(
        files.role_id_file.read_text("ascii"), None, str(files.secret_id_file)
    )
    login = Login(credentials, nodes.send, chance=lambda: 0.0)
    try:
        token = await login.token()
        answer = await nodes.send(Request("seal", "POST", "/v1/sys/seal", repeatable=False), token)
    finally:
        nodes.close()  # the token is not given back: whoever is sealed takes nothing back
    if answer.verdict is not Verdict.ANSWERED:
        raise answer.failure
