"""Sealing a real OpenBao, and what its clients then hear."""

import dataclasses
from pathlib import Path

import pytest

from tests.embedded_process import EmbeddedProcess
from vault.embedded.bootstrap import EmbeddedParts, Login
from vault.embedded.sealing import seal
from vault.errors import KeysMisconfigured
from vault.observer import Silent
from vault.transit import Transit, VaultAccess

pytestmark = pytest.mark.embedded


async def test_when_it_returns_nothing_is_opened_any_more_until_the_restart(
    embedded_process: EmbeddedProcess,
) -> None:
    parts = embedded_process.parts
    try:
        await seal(parts)
        sealed = await is_sealed(parts)
    finally:
        embedded_process.do("restart openbao")
    assert sealed
    assert not await is_sealed(parts)


async def test_a_login_that_may_not_seal_does_not(embedded_process: EmbeddedProcess) -> None:
    parts = embedded_process.parts
    weaker = dataclasses.replace(
        parts, logins={**parts.logins, "break-glass": parts.logins["reveal"]}
    )
    with pytest.raises(KeysMisconfigured):
        await seal(weaker)
    assert not await is_sealed(parts)


async def test_nor_does_one_that_is_not_let_in(embedded: EmbeddedParts, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_text("nobody")
    strangers = dataclasses.replace(embedded, logins={"break-glass": Login(wrong, wrong)})
    with pytest.raises(KeysMisconfigured):
        await seal(strangers)
    assert not await is_sealed(embedded)


async def is_sealed(parts: EmbeddedParts) -> bool:
    login = parts.logins["reveal"]
    transit = Transit(
        VaultAccess(
            addresses=(parts.vault_address,),
            ca_file=str(parts.vault_ca_file),
            role_id=login.role_id_file.read_text(),
            secret_id_file=str(login.secret_id_file),
            client_cert_file=str(parts.vault_client_cert_file),
            client_key_file=str(parts.vault_client_key_file),
        ),
        observer=Silent(),
    )
    try:
        return await transit.seal_status()
    finally:
        await transit.close()
