"""What a browser may do with the page of the hosted fields: its response headers. Pure.

What lives here: one policy, for whoever serves the page and for whoever checks from outside that it
arrives (PCI DSS 6.4.3, 11.6.1). What never may: a request, and which origins a key lists.

There is no `X-Frame-Options`: it cannot name an origin, and CSP's `frame-ancestors` goes before it
(CSP Level 3, 6.4.2.1).
"""

from collections.abc import Mapping
from typing import Final

from gateway.checkout.inventory import Inventory

ROOT: Final = "/checkout/v1/"
FIELDS_PATH: Final = f"{ROOT}fields"
REPORTS_PATH: Final = f"{ROOT}csp-reports"
CURRENT_LOADER: Final = "panward.js"
"""The loader of this release, whichever that is."""

DENIED_FEATURES: Final = (
    "accelerometer",
    "browsing-topics",
    "camera",
    "clipboard-read",
    "clipboard-write",
    "display-capture",
    "encrypted-media",
    "fullscreen",
    "gamepad",
    "geolocation",
    "gyroscope",
    "hid",
    "idle-detection",
    "local-fonts",
    "magnetometer",
    "microphone",
    "midi",
    "payment",
    "picture-in-picture",
    "publickey-credentials-create",
    "publickey-credentials-get",
    "screen-wake-lock",
    "serial",
    "storage-access",
    "sync-xhr",
    "usb",
    "window-management",
    "xr-spatial-tracking",
)
"""A card is typed, pasted or filled in by the browser: none of these is needed for it."""

DIRECTIVES: Final = frozenset(
    {
        "base-uri",
        "child-src",
        "connect-src",
        "default-src",
        "font-src",
        "form-action",
        "frame-ancestors",
        "frame-src",
        "img-src",
        "manifest-src",
        "media-src",
        "object-src",
        "require-trusted-types-for",
        "script-src",
        "script-src-attr",
        "script-src-elem",
        "style-src",
        "style-src-attr",
        "style-src-elem",
        "trusted-types",
        "worker-src",
    }
)
"""What a report can say was violated: a closed list, for a counter that anyone can raise."""

OTHER_DIRECTIVE: Final = "other"

_GROUP: Final = "panward"


def fields_headers(inventory: Inventory, ancestor: str) -> Mapping[str, str]:
    """Return the headers of the fields page that `ancestor`, an origin, may frame."""
    return {
        "Content-Security-Policy": _content_policy(inventory, ancestor),
        "Reporting-Endpoints": f'{_GROUP}="{REPORTS_PATH}"',
        **_CONFINED,
        # A shop that isolates itself (COEP require-corp) may frame only what has both of these.
        "Cross-Origin-Resource-Policy": "cross-origin",
        "Cross-Origin-Embedder-Policy": "require-corp",
    }


def refusal_headers() -> Mapping[str, str]:
    """Return the headers of a page that refuses: it runs nothing, and nobody frames it."""
    return {
        "Content-Security-Policy": (
            "default-src 'none'; frame-ancestors 'none'; form-action 'none'; base-uri 'none'"
        ),
        **_CONFINED,
        "Cross-Origin-Resource-Policy": "same-origin",
    }


_CONFINED: Final[Mapping[str, str]] = {
    "Permissions-Policy": ", ".join(f"{feature}=()" for feature in DENIED_FEATURES),
    "Referrer-Policy": "no-referrer",  # the address names a key and a shop
    "Cross-Origin-Opener-Policy": "same-origin",  # opened as a window, it has no opener
    "X-Content-Type-Options": "nosniff",
}


def _content_policy(inventory: Inventory, ancestor: str) -> str:
    """Write the CSP. A file matches a hash only if its element has `integrity` (CSP 3, 6.7.2.3)."""
    scripts = f"'{inventory.fields.sha384}' '{inventory.sealing.sha384}'"
    directives = (
        "default-src 'none'",
        f"script-src {scripts} 'wasm-unsafe-eval'",  # libsodium is WebAssembly; no eval of text
        f"style-src '{inventory.style_hash}'",
        "connect-src 'self'",
        f"frame-ancestors {ancestor}",
        "form-action 'none'",
        "base-uri 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types panward",
        f"report-uri {REPORTS_PATH}",  # for browsers that do not know report-to
        f"report-to {_GROUP}",
    )
    return "; ".join(directives)
