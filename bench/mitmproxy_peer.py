"""The peer that a merchant could have built in an afternoon: mitmproxy with a small addon.

It is there if `make bench-peers` made its environment; else its row is left out.
"""

from pathlib import Path
from typing import Final

from bench.processes import ROOT
from vault.embedded.bootstrap import EmbeddedParts
from vault.private_files import write_private

MITMDUMP: Final = ROOT / ".venv-sdks" / "mitmproxy" / "bin" / "mitmdump"
ADDON: Final = Path(__file__).with_name("mitmproxy_addon.py")


def mitmdump(port: int, upstream_port: int, parts: EmbeddedParts) -> tuple[str, ...]:
    """How it is started: TLS in and out like the other peers, HTTP/1.1, nothing printed."""
    folder = parts.folder / "mitmproxy"
    folder.mkdir(mode=0o700, exist_ok=True)
    pair = folder / "server.pem"
    write_private(pair, parts.tls_key_file.read_bytes() + parts.tls_cert_file.read_bytes())
    settings = (
        f"confdir={folder}",
        f"ssl_verify_upstream_trusted_ca={parts.tls_ca_file}",
        "http2=false",
        "flow_detail=0",
        "connection_strategy=lazy",
    )
    return (
        *(str(MITMDUMP), "--quiet", "--listen-host", "127.0.0.1"),
        *("--mode", f"reverse:https://127.0.0.1:{upstream_port}@{port}"),
        *("--certs", f"*={pair}", "--scripts", str(ADDON)),
        *(word for setting in settings for word in ("--set", setting)),
    )
