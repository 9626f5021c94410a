"""A secret that was removed or replaced is gone, from every version that OpenBao keeps."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.vault.embedded.bao_client import BaoClient
from tests.vault.embedded.test_openbao import _auditor, _parts, _running
from tests.vault.places import Place, place_of_openbao
from vault.embedded.bootstrap import EmbeddedParts, Login
from vault.embedded.layout import LOGINS, Layout
from vault.errors import KeysMisconfigured
from vault.secret_shelves import changed
from vault.transit import Transit

pytestmark = [pytest.mark.embedded, pytest.mark.guards("T-63")]

CALLBACK, WEBHOOK = "callback/t_01/stripe", "webhook/t_01/we_1"


@dataclass(frozen=True)
class Store:
    """An OpenBao with one login more than any deployment has: it may do everything."""

    place: Place
    parts: EmbeddedParts
    administrator: BaoClient

    def held(self, path: str) -> set[str]:
        """Every text that any version of a secret still gives to whoever may read everything."""
        _, answer = self.administrator.call("GET", f"kv/metadata/{path}")
        versions = answer["data"]["versions"]
        assert isinstance(versions, dict)
        return {text for one in versions for text in self._texts(path, one)}

    def _texts(self, path: str, version: str) -> Sequence[str]:
        """Also of what was deleted only: that can be brought back."""
        self.administrator.call("POST", f"kv/undelete/{path}", {"versions": [int(version)]})
        status, answer = self.administrator.call("GET", f"kv/data/{path}?version={version}")
        if status == 404:
            return ()
        data = answer["data"]["data"]
        assert isinstance(data, dict)
        return list(data.values())


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[Store]:
    layout = Layout(folder)
    layout.make_folders()
    login = Login(folder / "auditor", folder / "auditor")
    async with _running(folder, *_auditor(layout)) as server:
        logins = {one: Login(layout.role_id(one), layout.secret_id(one)) for one in LOGINS}
        parts = replace(_parts(layout, server.address), logins=logins)
        with BaoClient(parts, login) as administrator:
            yield Store(place_of_openbao(parts), parts, administrator)


async def test_of_what_was_taken_away_no_version_is_left(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        async with store.place.transit("credentials") as transit:
            await _callbacks(store, transit)
        async with store.place.transit("reveal") as transit:
            await _webhooks(store, transit)
        _no_login_reads(store)


async def _callbacks(store: Store, transit: Transit) -> None:
    for name, text in (("key.1", "one"), ("key.2", "two"), ("key.1", "other")):
        await transit.patch_secret(CALLBACK, {name: text})
    assert store.held(CALLBACK) == {"two", "other"}  # one was replaced
    await transit.patch_secret(CALLBACK, {"key.2": None})
    assert store.held(CALLBACK) == {"other"}
    await transit.patch_secret(CALLBACK, {"key.1": None})
    assert store.held(CALLBACK) == set()
    await transit.patch_secret(CALLBACK, {"key.3": "three"})
    assert store.held(CALLBACK) == {"three"}


async def _webhooks(store: Store, transit: Transit) -> None:
    for name, text in (("standard.1", "one"), ("standard.2", "two"), ("callback.k", "own")):
        assert await changed(transit, WEBHOOK, {name: text})
    assert store.held(WEBHOOK) == {"one", "two", "own"}
    assert await changed(transit, WEBHOOK, {"standard.1": None})
    assert store.held(WEBHOOK) == {"two", "own"}
    await transit.write_secret(WEBHOOK, {"callback.k": "own"}, cas=4)  # cut off before the rest
    assert store.held(WEBHOOK) == {"two", "own"}
    assert await changed(transit, WEBHOOK, {"standard.2": None})
    assert store.held(WEBHOOK) == {"own"}
    assert await transit.last_version(WEBHOOK) == 5  # nothing had to be written
    assert await changed(transit, WEBHOOK, {"callback.k": None})
    assert store.held(WEBHOOK) == set()
    assert await changed(transit, WEBHOOK + "_never", {})


def _no_login_reads(store: Store) -> None:
    """Neither by a version's number, nor after bringing it back."""
    for login in LOGINS:
        with BaoClient(store.parts, store.parts.logins[login]) as client:
            for path in (CALLBACK, WEBHOOK):
                for version in (1, 2, 3):
                    undeleted = client.call("POST", f"kv/undelete/{path}", {"versions": [version]})
                    assert undeleted[0] == 403
                    status, _ = client.call("GET", f"kv/data/{path}?version={version}")
                    assert status in (403, 404)


async def test_nobody_destroys_what_is_another_login_s(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        async with store.place.transit("credentials") as transit:
            await transit.patch_secret(CALLBACK, {"key.1": "one"})
            with pytest.raises(KeysMisconfigured):
                await transit.destroy_secret(WEBHOOK, [1])
            with pytest.raises(KeysMisconfigured):
                await transit.destroy_secret("processor/t_01/stripe", [1])
        for login in ("reveal", "tokenize"):
            async with store.place.transit(login) as transit:
                with pytest.raises(KeysMisconfigured):
                    await transit.destroy_secret(CALLBACK, [1])
        assert store.held(CALLBACK) == {"one"}
