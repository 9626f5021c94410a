"""A configuration is complete, or refused with what to change."""

from pathlib import Path

import pytest
import trustme

from gateway.config import load_config, vault_access
from vault.errors import StartRefused

SOCKET_DSN = "postgresql://panward_runtime@/panward?host=/run/postgres"
TCP_DSN = "postgresql://panward_runtime@db.example/panward"


def written(folder: Path, text: str, *, dsn: str = SOCKET_DSN) -> Path:
    """Write a configuration and the files that it names."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    for name in ("server.pem", "server.key", "role-id", "secret-id"):
        (folder / name).write_text("content")
    (folder / "runtime.dsn").write_text(f"{dsn}\n")
    path = folder / "panward.toml"
    path.write_text(text)
    return path


def sample(**changed: str) -> str:
    """A complete configuration; `changed` replaces whole lines by what they begin with."""
    lines = GOOD.splitlines()
    for start, line in changed.items():
        position = next(n for n, each in enumerate(lines) if each.startswith(f"{start} ="))
        lines[position] = line
    return "\n".join(lines)


GOOD = """\
env = "test"
state_folder = "state"
[listeners.public]
port = 8443
certificate_file = "server.pem"
private_key_file = "server.key"
[listeners.private]
port = 8444
certificate_file = "server.pem"
private_key_file = "server.key"
[listeners.ops]
port = 8445
certificate_file = "server.pem"
private_key_file = "server.key"
[vault]
addresses = ["https://vault.example:8200"]
ca_file = "ca.pem"
[vault.tokenize]
role_id_file = "role-id"
secret_id_file = "secret-id"
[vault.reveal]
role_id_file = "role-id"
secret_id_file = "secret-id"
[database]
runtime_dsn_file = "runtime.dsn"
[ledger]
origin = "ledger.example/gateway-1"
[[routes]]
name = "stripe"
preset = "stripe"
host = "api.stripe.com"
"""


def test_a_complete_one_is_taken(tmp_path: Path) -> None:
    config = load_config(written(tmp_path, GOOD))
    assert config.env == "test"
    assert config.state_folder == tmp_path / "state"
    assert config.embedded is None
    (route,) = config.routes
    assert (route.host, route.port, route.credential) == ("api.stripe.com", 443, "injected")
    assert route.preset.title == "Stripe"
    access = vault_access(config, config.vault.tokenize)
    assert access.role_id == "content"
    assert access.secret_id_file == str(tmp_path / "secret-id")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (sample(env='env = "staging"'), "env"),
        (sample(env='env = "test"\ndebug = true'), "debug"),
        (sample(port="port = 0"), "port"),
        (sample(port="port = 8444"), "same port"),
        (sample(addresses='addresses = ["http://vault.example:8200"]'), "https"),
        (sample(addresses='addresses = ["https://vault.example:8200/v1"]'), "without a path"),
        (sample(addresses='addresses = ["https://root@vault.example"]'), "nothing else"),
        (sample(addresses="addresses = []"), "addresses"),
        (sample(ca_file='ca_file = "missing.pem"'), "vault.ca_file"),
        (sample(certificate_file='certificate_file = "gone.pem"'), "certificate_file"),
        (sample(origin='origin = "https://ledger.example/"'), "origin"),
        (sample(name='name = "Stripe"'), "name"),
        (sample(preset='preset = "nobody"'), "preset"),
        (sample(preset='preset = "mine.toml"'), "cannot be read"),
        (sample(host='host = "evil.example"'), "no such host"),
        (sample(host='host = "127.0.0.1:9000"'), "stripe"),
        (sample(host='host = "api.stripe.com"\naddress_allow = ["anything"]'), "stripe"),
        (sample(host='host = "api.stripe.com"\nca_file = "server.pem"'), "authority"),
        (sample(host='host = "api.stripe.com"\nredirects = true'), "redirects"),
        (GOOD + '[embedded]\nfolder = "."\n', "live processor"),
        (
            sample(env='env = "live"', host='host = "127.0.0.1:9"\naddress_allow=["127.0.0.1/32"]')
            + '\n[embedded]\nfolder = "."\n',
            'env must be "test"',
        ),
        (GOOD + GOOD[GOOD.index("[[routes]]") :], "same name"),
        ("env = ", "configuration"),
    ],
)
@pytest.mark.guards("T-43")
def test_anything_else_is_refused_with_what_to_change(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(StartRefused) as refused:
        load_config(written(tmp_path, text))
    assert said in str(refused.value)


CALLED_BACK = """
[listeners.callbacks]
port = 8450
certificate_file = "server.pem"
private_key_file = "server.pem"
client_ca_file = "server.pem"
"""


def test_processors_may_show_certificates_at_a_listener_of_their_own(tmp_path: Path) -> None:
    config = load_config(written(tmp_path, GOOD + CALLED_BACK))
    assert config.listeners.callbacks is not None
    assert config.listeners.callbacks.client_ca_file == "server.pem"
    with pytest.raises(StartRefused, match="same port"):
        load_config(written(tmp_path, GOOD + CALLED_BACK.replace("8450", "8443")))
    with pytest.raises(StartRefused, match="client_ca_file"):
        load_config(written(tmp_path, GOOD + CALLED_BACK.replace('ca_file = "s', 'ca_file = "g')))
    at_public = GOOD.replace(
        "[listeners.private]", 'client_ca_file = "server.pem"\n[listeners.private]'
    )
    with pytest.raises(StartRefused, match=r"listeners\.public: client_ca_file"):
        load_config(written(tmp_path, at_public))


def test_a_private_processor_must_be_listed(tmp_path: Path) -> None:
    text = sample(host='host = "127.0.0.1:9000"\naddress_allow = ["127.0.0.1/32"]')
    (route,) = load_config(written(tmp_path, text)).routes
    assert (route.host, route.port) == ("127.0.0.1", 9000)


@pytest.mark.parametrize(
    ("dsn", "accepted"),
    [
        (SOCKET_DSN, True),
        (f"{TCP_DSN}?sslmode=verify-full&sslrootcert=/ca.pem", True),
        (TCP_DSN, False),
        (f"{TCP_DSN}?sslmode=require", False),
        ("mysql://db.example/panward", False),
        ("", False),
    ],
)
def test_the_database_is_reached_by_socket_or_verified_tls(
    tmp_path: Path, dsn: str, *, accepted: bool
) -> None:
    path = written(tmp_path, GOOD, dsn=dsn)
    if accepted:
        load_config(path)
    else:
        with pytest.raises(StartRefused, match=r"runtime[_.]dsn"):
            load_config(path)


def test_a_file_that_is_not_there_or_too_large_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StartRefused, match="cannot be read"):
        load_config(tmp_path / "nothing.toml")
    with pytest.raises(StartRefused, match="too large"):
        load_config(written(tmp_path, GOOD + "#" * (1 << 20)))


def test_a_preset_of_ones_own_is_checked(tmp_path: Path) -> None:
    path = written(tmp_path, sample(preset='preset = "mine.toml"'))
    (tmp_path / "mine.toml").write_text("name = 1")
    with pytest.raises(StartRefused, match="preset"):
        load_config(path)
