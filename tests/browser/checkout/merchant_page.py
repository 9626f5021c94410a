"""The merchant's pages of the tests, and a stranger's: one server under two names.

As `http://localhost` it is the shop, whose origin the key lists; as `http://127.0.0.1` it is
somebody else, whom no key lists. Two sites, so that the browser keeps them in processes of their
own. What never lives here: anything of the gateway's; a page gets the loader from its script tag.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import cast
from urllib.parse import parse_qs, urlsplit

SHOP_SCRIPT = """
window.heard = [];
window.violations = [];
addEventListener("message", (event) => window.heard.push([event.origin, event.data]));
document.addEventListener("securitypolicyviolation", (event) =>
  window.violations.push(event.effectiveDirective));
window.forms = {};
const plain = (error) => ({ ...error, message: error.message, name: error.name });
window.begin = (name, key, options, fieldsOptions, target) => {
  const fields = Panward(key, options).fields(fieldsOptions);
  const form = { fields, events: [], outcomes: [] };
  window.forms[name] = form;
  for (const event of ["ready", "change", "focus", "blur", "submit", "failure"])
    fields.on(event, (detail) =>
      form.events.push([event, event === "failure" ? plain(detail) : detail ?? null]));
  fields.mount(target);
};
window.follow = (name, call, ...words) => {
  const form = window.forms[name];
  form.fields[call](...words).then(
    (value) => form.outcomes.push({ value: value ?? null }),
    (error) => form.outcomes.push({ error: plain(error) }),
  );
};
"""
"""What a shop's own script does with the fields, and a record of all that the page ever heard."""

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Shop</title>
<link rel="stylesheet" href="/shop.css">
</head>
<body><main><h1>Pay</h1>
<div id="one"></div><div id="two"></div>
<div id="number"></div><div class="row"><div id="expiry"></div><div id="cvc"></div></div>
<button type="button" id="pay">Pay 19.99 €</button></main>
<script src="{loader}" integrity="{integrity}" crossorigin></script>
<script src="/shop.js"></script>
</body></html>"""

_STYLES = """
:root { color-scheme: light dark; }
body { margin: 0; padding: 16px; font: 16px/1.5 sans-serif; background: Canvas; color: CanvasText; }
main { max-inline-size: 440px; margin-inline: auto; }
.row { display: grid; grid-template-columns: 1fr 1fr; gap: 8px; }
button { font: inherit; padding: 10px 20px; }
"""

_ISOLATED = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
}
_EMPTY = '<!doctype html><html lang="en"><head><title>Another</title></head><body></body></html>'


class MerchantPages:
    """Where the pages are, and what has been asked for."""

    def __init__(self, port: int) -> None:
        self.shop = f"http://localhost:{port}"
        self.stranger = f"http://127.0.0.1:{port}"
        self.asked: list[str] = []
        self.gateways: Mapping[str, str] = {}
        """By the name that a page's address asks for: `/?gateway=name`."""
        self.loader_integrity = ""

    @property
    def stolen(self) -> list[str]:
        """What arrived where a page's or a frame's attacker would send it."""
        return [path for path in self.asked if path.startswith("/stolen")]

    def page(self, query: Mapping[str, list[str]]) -> tuple[str, str]:
        """Write a shop's page, and a policy as strict as such a page can have."""
        gateway = self.gateways[query.get("gateway", ["main"])[0]]
        body = _PAGE.format(
            loader=f"{gateway}/checkout/v1/panward.js", integrity=self.loader_integrity
        )
        policy = (
            f"default-src 'none'; script-src 'self' {gateway}; style-src 'self'; "
            f"frame-src {gateway} {self.stranger}; connect-src 'none'; "
            "require-trusted-types-for 'script'; trusted-types 'none'"
        )
        return body, policy


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        pages = cast("_Server", self.server).pages
        pages.asked.append(self.path)
        headers = {}
        if address.path in ("/", "/isolated"):
            text, policy = pages.page(parse_qs(address.query))
            kind = "text/html"
            headers["Content-Security-Policy"] = policy
            if address.path == "/isolated":
                headers |= _ISOLATED
        else:
            known = {
                "/shop.js": (SHOP_SCRIPT, "text/javascript"),
                "/shop.css": (_STYLES, "text/css"),
                "/empty": (_EMPTY, "text/html"),
            }
            text, kind = known.get(address.path, (json.dumps("nothing"), "application/json"))
        self._answer(text.encode(), kind, headers)

    do_POST = do_GET  # noqa: N815 - the base class calls it so

    def _answer(self, body: bytes, kind: str, headers: Mapping[str, str]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.send_header("Access-Control-Allow-Origin", "*")
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's
        """Say nothing."""


class _Server(ThreadingHTTPServer):
    pages: MerchantPages
    request_queue_size = 64


@contextmanager
def merchant_pages() -> Iterator[MerchantPages]:
    """Serve the pages for as long as the block lasts."""
    with _Server(("127.0.0.1", 0), _Handler) as server:
        server.pages = MerchantPages(server.server_address[1])
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server.pages
        finally:
            server.shutdown()
            thread.join()
