"""Key services for tests, the test Vault and OpenBao, and how to work with one."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from tests.vault.fake_node import FakeCluster
from vault.embedded.bootstrap import EmbeddedParts
from vault.observer import Observer, Silent
from vault.transit import Transit, VaultAccess
from vault.transit_items import DecryptItem, Encrypted, EncryptItem


@dataclass(frozen=True)
class Place:
    """A key service, and how to log in there under the name of a role."""

    access: Callable[[str], VaultAccess]

    @asynccontextmanager
    async def transit(self, role: str, observer: Observer | None = None) -> AsyncIterator[Transit]:
        transit = Transit(self.access(role), observer=observer or Silent())
        await transit.start()
        try:
            yield transit
        finally:
            await transit.close()


def place_of_cluster(cluster: FakeCluster) -> Place:
    return Place(cluster.access)


def place_of_openbao(embedded: EmbeddedParts) -> Place:
    def access(role: str) -> VaultAccess:
        login = embedded.logins[role]
        return VaultAccess(
            addresses=(embedded.vault_address,),
            ca_file=str(embedded.vault_ca_file),
            role_id=login.role_id_file.read_text().strip(),
            secret_id_file=str(login.secret_id_file),
            client_cert_file=str(embedded.vault_client_cert_file),
            client_key_file=str(embedded.vault_client_key_file),
        )

    return Place(access)


@asynccontextmanager
async def opened(cluster: FakeCluster, observer: Observer | None = None) -> AsyncIterator[Transit]:
    made = Transit(cluster.access(), observer=observer or Silent())
    await made.start()
    try:
        yield made
    finally:
        await made.close()


async def sealed(transit: Transit, number: int, text: bytes = b"plaintext") -> list[DecryptItem]:
    """Seal so many numbered plaintexts; give the items that open them."""
    rows = await transit.encrypt(
        "pan", [EncryptItem(b"%s of %d" % (text, n), b"context") for n in range(number)]
    )
    assert all(isinstance(row, Encrypted) for row in rows)
    return [
        DecryptItem(row.ciphertext, b"context", f"intent/{n}")
        for n, row in enumerate(rows)
        if isinstance(row, Encrypted)
    ]


def kinds(outcomes: Sequence[object]) -> set[type]:
    return {type(outcome) for outcome in outcomes}
