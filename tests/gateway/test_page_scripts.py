"""Scripts in a page, found also where a tree would not have them."""

import pytest

from gateway.page_scripts import elements_of, printable, scripts_of

URL = "https://shop.example/x"


def inline(body: bytes) -> list[str]:
    return [tag.text for tag in scripts_of(URL, body)]


@pytest.mark.guards("T-55")
@pytest.mark.parametrize(
    "body",
    [
        b"<script>evil()</script>",
        b"<!doctype html><html><head></head><body><p>x</body></html>\n<script>evil()</script>",
        b"<p>x</html>y</html><SCRIPT>evil()</SCRIPT>",
        b"<p><!--><script>evil()</script>-->",
        b"<!--x--!><script>evil()</script>-->",
        b"<![CDATA[><script>evil()</script>]]>",
        b"<? ><script>evil()</script>?>",
        b"<frameset><script>evil()</script>",
        b'<noscript><p title="</noscript><script>evil()</script>">',
        b"<noscript><!-- </noscript><script>evil()</script>-->",
        b"<noscript><style></noscript><script>evil()</script>",
        b"<template><script>evil()</script></template>",
        b"<svg><script>evil()</script></svg>",
        b"<svg:script>evil()</svg:script>",
        b"<script>evil()",
        b"\xff<script>evil()</script>",
        b"<script type=' MODULE '>evil()</script>",
        b"<table><tr><script>evil()</script>",
    ],
)
def test_a_script_is_found(body: bytes) -> None:
    assert "evil()" in inline(body)


@pytest.mark.guards("T-55")
@pytest.mark.parametrize(
    "body",
    [
        b"<svg><style><script>evil()</script></style></svg>",
        b"<math><mtext><style><img src=x onerror=evil()></style>",
        b"<svg><title><script>evil()</script></title>",
        b"<img src=x OnError=evil()>",
        b"<body onload=evil()>",
        b"<a href='\n java\nscript:evil()'>x</a>",
        b"<iframe srcdoc='<script>evil()</script>'></iframe>",
    ],
)
def test_what_may_run_is_found_too(body: bytes) -> None:
    assert any("evil()" in text for text in inline(body))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"words",
        b"<!-- <script>x</script> -->",
        b"<title><script>x</script></title>",
        b"<textarea><script>x</script></textarea>",
        b"<style>a>b{}</style><svg><style>a{}</style></svg>",
        b"<script type='application/ld+json'>{}</script>",
        b"<a href='https://javascript.example'>x</a>",
    ],
)
def test_what_no_browser_runs_is_none(body: bytes) -> None:
    assert inline(body) == []


def test_addresses_of_scripts_are_as_a_browser_resolves_them() -> None:
    body = b'<base href="//cdn.example/a/"><script src=" b.js "></script><script>1</script>'
    assert [tag.url for tag in scripts_of(URL, body)] == ["https://cdn.example/a/b.js", None]
    assert [tag.url for tag in scripts_of(URL, b"<svg><script href=x></svg>")] == [
        "https://shop.example/x"
    ]
    assert [tag.url for tag in scripts_of(URL, b"<script src='https://[x'></script>")] == [
        "https://[x"
    ]


def test_attributes_are_read() -> None:
    (tag,) = scripts_of(URL, b"<script src=a INTEGRITY=sha384-x crossorigin></script>")
    assert (tag.integrity, tag.crossorigin) == ("sha384-x", "")
    assert [element.name for element in elements_of(b"<p><B x=y>z</B>")][-1] == "b"


def test_what_came_in_cannot_write_on_a_terminal() -> None:
    assert printable("a\x1b[2Jb\r\n\u202e") == "a?[2Jb???"
    assert len(printable("x" * 1000)) < 300
    (tag,) = scripts_of(URL, b"<script>\x1b[2J</script>")
    assert "\x1b" not in tag.shown
