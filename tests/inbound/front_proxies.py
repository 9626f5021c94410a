"""Reverse proxies of others in front of the inbound listener: nginx and HAProxy, as ops run them.

What lives here: their configuration, and starting and ending them as children, never as services
of the system. What never may: what is sent through them.

Each gives every request that it passes on a number of its own (`X-Front`): a request that arrives
without one, or with another's, was never a request to the proxy, and so was smuggled. Callers
come without TLS: it is what the proxy makes of the bytes that is looked at, and it is the same.
"""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

START_SECONDS: Final = 60.0
STOP_SECONDS: Final = 10.0
_PLACES: Final = os.pathsep.join(("/usr/sbin", "/usr/local/sbin", os.environ.get("PATH", "")))

NGINX: Final = """\
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 512; }}
http {{
  access_log {folder}/access.log;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  map $http_upgrade $connection_upgrade {{ default ""; websocket upgrade; }}
  upstream gateway {{
    server 127.0.0.1:{upstream_port};
    keepalive 16;
  }}
  server {{
    listen 127.0.0.1:{port};
    client_max_body_size 0;
    location / {{
      proxy_pass https://gateway;
      proxy_http_version 1.1;
      proxy_request_buffering off;
      proxy_buffering off;
      proxy_set_header Host $http_host;
      proxy_set_header Connection $connection_upgrade;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      proxy_set_header X-Forwarded-Proto https;
      proxy_set_header X-Front $request_id;
      proxy_ssl_server_name on;
      proxy_ssl_name {hostname};
      proxy_ssl_verify on;
      proxy_ssl_verify_depth 2;
      proxy_ssl_trusted_certificate {ca_file};
      proxy_ssl_protocols TLSv1.2 TLSv1.3;
      proxy_next_upstream off;
    }}
  }}
}}
"""
HAPROXY: Final = """\
global
  maxconn 512
  nbthread 1
  log stderr format raw local0 warning
defaults
  mode http
  log global
  timeout connect 5s
  timeout client 30s
  timeout server 30s
  timeout tunnel 60s
  retries 0
frontend clients
  bind 127.0.0.1:{port}
  option forwardfor
  http-request set-header X-Forwarded-Proto https
  http-request set-header X-Front %[uuid()]
  default_backend gateway
backend gateway
  http-reuse always
  server gateway 127.0.0.1:{upstream_port} ssl verify required verifyhost {hostname} \
sni str({hostname}) ca-file {ca_file} alpn http/1.1
"""


@dataclass(frozen=True)
class Kind:
    """A reverse proxy of the distribution's."""

    name: str
    configuration: str
    words: Callable[[Path], list[str]]
    """Its command line, with the file of its configuration."""
    version_words: tuple[str, ...]


FRONTS: Final = {
    "nginx": Kind(
        "nginx",
        NGINX,
        lambda file: ["-p", str(file.parent), "-e", "stderr", "-c", str(file)],
        ("-v",),
    ),
    "haproxy": Kind("haproxy", HAPROXY, lambda file: ["-db", "-f", str(file)], ("-v",)),
}


@dataclass(frozen=True)
class Front:
    """A running one."""

    kind: str
    port: int
    pid: int
    said: Path
    """What it wrote on its standard streams."""


def program(name: str) -> str:
    """Find the binary; `make system-packages` installs it."""
    found = shutil.which(name, path=_PLACES)
    assert found is not None, f"no {name}: make system-packages"
    return found


def version(name: str) -> str:
    """Ask the binary: its first line."""
    words = [program(name), *FRONTS[name].version_words]
    done = subprocess.run(words, capture_output=True, text=True, check=True)  # noqa: S603 - our own
    return (done.stdout + done.stderr).partition("\n")[0]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
    return port


@contextmanager
def running_front(
    name: str, folder: Path, *, upstream_port: int, hostname: str, ca_file: Path
) -> Iterator[Front]:
    """Run one in front of the listener at `upstream_port`, for as long as the block lasts."""
    kind, port = FRONTS[name], free_port()
    folder.mkdir(parents=True, exist_ok=True)
    file, said = folder / f"{name}.conf", folder / f"{name}.out"
    file.write_text(
        kind.configuration.format(
            folder=folder,
            port=port,
            upstream_port=upstream_port,
            hostname=hostname,
            ca_file=ca_file,
        )
    )
    with said.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603 - our own words
            [program(name), *kind.words(file)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        until_listening(process, port, said)
        yield Front(name, port, process.pid, said)
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def until_listening(process: "subprocess.Popen[bytes]", port: int, said: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while True:
        assert process.poll() is None, said.read_text()
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            assert time.monotonic() < end, said.read_text()
            time.sleep(0.02)
        else:
            return
