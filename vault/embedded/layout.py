"""Where everything of an embedded deployment lies.

Paths and modes only: what the files hold is decided by the modules that own them.
The folder and all folders in it are 0700, every secret is 0600 from its first byte on.
The unseal key lies outside both data folders, so that a copy of those opens nothing.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

LOGINS: Final = ("tokenize", "reveal", "credentials", "break-glass")
"""The OpenBao logins. Each has a policy of its name in `policies/`, a role id and a secret id."""

OWNER: Final = "panward_owner"
RUNTIME: Final = "panward_runtime"
DATABASE_ROLES: Final = (OWNER, RUNTIME)

_PRIVATE_FOLDER: Final = 0o700


@dataclass(frozen=True, slots=True)
class Layout:
    """The paths inside one embedded deployment's folder, which is absolute."""

    folder: Path

    @property
    def lock(self) -> Path:
        return self.folder / "lock"

    @property
    def state(self) -> Path:
        return self.folder / "state"

    @property
    def ports(self) -> Path:
        return self.folder / "ports.json"

    @property
    def tls(self) -> Path:
        return self.folder / "tls"

    @property
    def secrets(self) -> Path:
        return self.folder / "secrets"

    @property
    def log(self) -> Path:
        return self.folder / "log"

    @property
    def audit_log(self) -> Path:
        return self.log / "vault-audit.log"

    @property
    def postgres(self) -> Path:
        return self.folder / "postgres"

    @property
    def postgres_data(self) -> Path:
        return self.postgres / "data"

    @property
    def openbao(self) -> Path:
        return self.folder / "openbao"

    @property
    def openbao_raft(self) -> Path:
        return self.openbao / "raft"

    @property
    def openbao_run(self) -> Path:
        return self.openbao / "run"

    @property
    def unseal_key(self) -> Path:
        return self.openbao / "keys" / "unseal.key"

    def role_id(self, login: str) -> Path:
        return self.secrets / f"{login}.role-id"

    def secret_id(self, login: str) -> Path:
        return self.secrets / f"{login}.secret-id"

    def password_file(self, role: str) -> Path:
        """In libpq's `passfile` form, so that no password is in a DSN or an argument list."""
        return self.secrets / f"{role}.pgpass"

    def made_by_first_start(self) -> Iterator[Path]:
        """List what a first start makes, and what may go when it did not end."""
        yield from (self.postgres, self.openbao, self.tls, self.secrets, self.log, self.ports)

    def make_folders(self) -> None:
        for folder in (
            self.tls,
            self.secrets,
            self.log,
            self.postgres,
            self.postgres_data,
            self.openbao,
            self.openbao_raft,
            self.openbao_run,
            self.unseal_key.parent,
        ):
            folder.mkdir(mode=_PRIVATE_FOLDER, exist_ok=True)
