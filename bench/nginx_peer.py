"""The peer that most merchants have already: nginx, passing on what it gets, TLS in and out.

It is there if the distribution's nginx is installed; else its rows are left out. One process, as
the gateway is one; it looks at nothing, and keeps its connections to the endpoint.
"""

import os
import shutil
from pathlib import Path
from typing import Final

from vault.private_files import write_private

NGINX: Final = shutil.which(
    "nginx", path=os.pathsep.join(("/usr/sbin", "/usr/local/sbin", os.environ.get("PATH", "")))
)
SETTINGS: Final = """\
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  keepalive_requests 10000000;
  upstream shop {{
    server 127.0.0.1:{upstream_port};
    keepalive 128;
    keepalive_requests 10000000;
  }}
  server {{
    listen 127.0.0.1:{port} ssl backlog=512;
    ssl_certificate {certificate};
    ssl_certificate_key {private_key};
    ssl_protocols TLSv1.2 TLSv1.3;
    client_max_body_size 0;
    location / {{
      proxy_pass https://shop;
      proxy_http_version 1.1;
      proxy_request_buffering off;
      proxy_buffer_size 16k;
      proxy_buffers 16 16k;
      proxy_set_header Host $http_host;
      proxy_set_header Connection "";
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      proxy_ssl_name localhost;
      proxy_ssl_verify on;
      proxy_ssl_verify_depth 2;
      proxy_ssl_trusted_certificate {ca_file};
      proxy_ssl_protocols TLSv1.2 TLSv1.3;
    }}
  }}
}}
"""


def nginx(
    port: int,
    upstream_port: int,
    folder: Path,
    *,
    certificate: Path,
    private_key: Path,
    ca_file: Path,
) -> tuple[str, ...]:
    """How it is started, with a folder of its own; only where `NGINX` is one."""
    assert NGINX is not None
    folder.mkdir(mode=0o700, exist_ok=True)
    file = folder / "nginx.conf"
    settings = SETTINGS.format(
        folder=folder,
        port=port,
        upstream_port=upstream_port,
        certificate=certificate,
        private_key=private_key,
        ca_file=ca_file,
    )
    write_private(file, settings.encode())
    return (NGINX, "-p", str(folder), "-e", "stderr", "-c", str(file))
