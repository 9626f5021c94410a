"""OpenBao as one of its logins sees it: plain requests, status and body."""

from types import TracebackType
from typing import Self

import requests

from vault.embedded.bootstrap import EmbeddedParts, Login


class BaoClient:
    """A logged-in session; `parts` tell where and with which certificate."""

    def __init__(self, parts: EmbeddedParts, login: Login) -> None:
        self._address = parts.vault_address
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.verify = str(parts.vault_ca_file)
        self._session.cert = (str(parts.vault_client_cert_file), str(parts.vault_client_key_file))
        role_id = login.role_id_file.read_text()
        body = {"role_id": role_id, "secret_id": login.secret_id_file.read_text()}
        try:
            status, answer = self.call("POST", "auth/approle/login", body)
            assert status == 200, answer
        except BaseException:
            self._session.close()
            raise
        self.auth = answer["auth"]
        self._session.headers["X-Vault-Token"] = str(self.auth["client_token"])

    def call(
        self, method: str, path: str, body: object = None
    ) -> tuple[int, dict[str, dict[str, object]]]:
        answer = self._session.request(
            method, f"{self._address}/v1/{path}", json=body, timeout=10, allow_redirects=False
        )
        return answer.status_code, answer.json() if answer.content else {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._session.close()
