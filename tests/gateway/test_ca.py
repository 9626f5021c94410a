"""`panward ca`, as an operator runs it."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from vault.embedded.bootstrap import EmbeddedParts

pytestmark = pytest.mark.embedded

_PANWARD = (sys.executable, "-c", "from gateway.cli import main; main()")


def panward(*words: str) -> tuple[int, str, str]:
    environment = {"PATH": os.environ["PATH"], "COLUMNS": "200"}
    process = subprocess.run(  # noqa: S603 - our own words
        [*_PANWARD, *words], capture_output=True, check=False, env=environment
    )
    return process.returncode, process.stdout.decode(), process.stderr.decode()


def written(parts: EmbeddedParts, folder: Path, more: str = "") -> str:
    """Write a configuration for the deployment, and give its name."""
    (folder / "runtime.dsn").write_text(parts.runtime_dsn)
    tls = f'certificate_file = "{parts.tls_cert_file}"\nprivate_key_file = "{parts.tls_key_file}"\n'
    listeners = "".join(
        f"[listeners.{name}]\nport = {port}\n{tls}"
        for port, name in enumerate(("public", "private", "ops"), start=20_001)
    )
    logins = "".join(
        f'[vault.{name}]\nrole_id_file = "{parts.logins[name].role_id_file}"\n'
        f'secret_id_file = "{parts.logins[name].secret_id_file}"\n'
        for name in ("tokenize", "reveal")
    )
    file = folder / "panward.toml"
    file.write_text(
        f'env = "test"\nstate_folder = "state"\n{listeners}'
        f'[vault]\naddresses = ["{parts.vault_address}"]\nca_file = "{parts.vault_ca_file}"\n'
        f'client_certificate_file = "{parts.vault_client_cert_file}"\n'
        f'client_key_file = "{parts.vault_client_key_file}"\n{logins}'
        '[database]\nruntime_dsn_file = "runtime.dsn"\n[ledger]\norigin = "example.com/log"\n'
        f"{more}"
    )
    return str(file)


def test_it_prints_the_root_and_nothing_else(embedded: EmbeddedParts, tmp_path: Path) -> None:
    config = written(embedded, tmp_path)
    code, said, _ = panward("ca", "--config", config)
    assert code == 0
    (root,) = x509.load_pem_x509_certificates(said.encode())
    assert root.subject == root.issuer
    assert root.not_valid_after_utc > datetime.now(UTC) + timedelta(days=3600)

    out = tmp_path / "ca.pem"
    assert panward("ca", "--config", config, "--out", str(out))[:2] == (0, "")
    assert out.read_text() == said

    code, document, _ = panward("ca", "--config", config, "--json")
    (told,) = json.loads(document)["roots"]
    assert (code, told["pem"], told["in_force"]) == (0, said, True)


def test_during_a_replacement_it_prints_both(embedded: EmbeddedParts, tmp_path: Path) -> None:
    glass = embedded.logins["break-glass"]
    config = written(embedded, tmp_path)
    files = ["--role-id-file", str(glass.role_id_file)]
    files += ["--secret-id-file", str(glass.secret_id_file)]
    old = panward("ca", "--config", config)[1]

    code, _, why = panward("ca", "rotate", "--config", config)
    assert code == 78
    assert "give --role-id-file and --secret-id-file" in why
    code, _, why = panward("ca", "rotate", "--config", config, *files)
    assert code == 0, why
    assert "the bundle of 2" in why
    both = panward("ca", "--config", config)[1]
    assert both.endswith(old)
    code, _, why = panward("ca", "rotate", "--config", config, *files)
    assert (code, "panward ca rotate --activate" in why) == (1, True)
    assert panward("ca", "rotate", "--config", config, *files, "--activate")[0] == 0
    assert panward("ca", "--config", config)[1] == both
    assert panward("ca", "rotate", "--config", config, *files, "--activate", "--retire")[0] == 2
    assert panward("ca", "rotate", "--config", config, *files, "--retire")[0] == 0
    assert panward("ca", "--config", config)[1] == both.removesuffix(old)


def test_an_embedded_deployment_s_own_login_is_found(
    embedded: EmbeddedParts, tmp_path: Path
) -> None:
    config = written(embedded, tmp_path, f'[embedded]\nfolder = "{embedded.folder}"\n')
    code, _, why = panward("ca", "rotate", "--config", config, "--activate")
    assert (code, "There is no new authority to activate" in why) == (1, True)


def test_without_an_authority_it_says_what_to_do(embedded: EmbeddedParts, tmp_path: Path) -> None:
    config = Path(written(embedded, tmp_path))
    elsewhere = config.read_text().replace(embedded.vault_address, "https://127.0.0.1:9")
    config.write_text(elsewhere)
    code, _, why = panward("ca", "--config", str(config))
    assert code == 1
    assert "HashiCorp Vault cannot be reached" in why
    assert panward("ca")[0] == 2
