"""Which runs `python -m bench.inbound` has, and what is said of several rounds of them. Pure."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import median, median_low
from typing import Final

from msgspec import Struct

from bench.figures import Run

GATEWAY: Final = "gateway"
PEERS: Final = {"proxy": "bare aiohttp proxy", "nginx": "nginx, passing on"}


class Asking(StrEnum):
    """What a request asks for."""

    TOKENIZE = "tokenize"  # `POST /v1/tokens`: what storing a card costs without a form around it
    FORM = "form"  # 1 KB, one card
    CODE = "code"  # the same with a code, which is kept for a while
    ORDER = "order"  # 1 KB of JSON, no card, no filter
    PAGE = "page"  # a GET with 100 KB of HTML


TITLES: Final = {
    Asking.TOKENIZE: "POST /v1/tokens",
    Asking.FORM: "1 KB form, one card",
    Asking.CODE: "1 KB form, one card and its code",
    Asking.ORDER: "1 KB of JSON, no filter",
    Asking.PAGE: "100 KB of HTML",
}
OFTEN: Final = {
    Asking.TOKENIZE: (1, 64),
    Asking.FORM: (1, 64),
    Asking.CODE: (64,),
    Asking.ORDER: (1, 64),
    Asking.PAGE: (1, 64),
}
OURS_ALONE: Final = frozenset({Asking.TOKENIZE, Asking.CODE})


@dataclass(frozen=True, slots=True)
class Asked:
    """One run: who is asked for what, by how many connections."""

    server: str
    asking: Asking
    connections: int

    @property
    def name(self) -> str:
        return f"{self.asking}.{self.connections}.{self.server}"

    @property
    def title(self) -> str:
        return TITLES[self.asking]

    @property
    def who(self) -> str:
        return PEERS.get(self.server, "panward")

    @property
    def how(self) -> str:
        return f"{self.connections} connection{'s' if self.connections > 1 else ''}"


def all_asked() -> list[Asked]:
    """Each run of ours right after the same of its peers."""
    return [
        Asked(server, asking, connections)
        for asking, often in OFTEN.items()
        for connections in often
        for server in (*(() if asking in OURS_ALONE else PEERS), GATEWAY)
    ]


# --- several rounds -----------------------------------------------------------------------


class Uploaded(Struct, frozen=True, kw_only=True):
    """One long upload, and what it did to the memory of who passed it on."""

    server: str
    content: str
    megabytes: int
    mb_per_second: float
    before_mib: float
    peak_mib: float
    after_mib: float

    @property
    def growth_mib(self) -> float:
        return self.peak_mib - self.before_mib


Rounds = Sequence[Mapping[str, Run]]


def middle(rounds: Rounds, name: str) -> Run:
    """The run whose rate is the median's."""
    return sorted((each[name] for each in rounds), key=_rate)[(len(rounds) - 1) // 2]


def ratio(rounds: Rounds, of: str, to: str, figure: Callable[[Run], float]) -> float | None:
    """The median of each round's own ratio; None if one of them was not run."""
    if not all(of in each and to in each for each in rounds):
        return None
    return median(figure(each[of]) / figure(each[to]) for each in rounds)


def rate_ratio(rounds: Rounds, of: str, to: str) -> float | None:
    return ratio(rounds, of, to, _rate)


def cpu_ratio(rounds: Rounds, of: str, to: str) -> float | None:
    return ratio(rounds, of, to, lambda run: run.cpu_ms_per_request)


def middle_upload(uploads: Sequence[Uploaded], server: str, content: str) -> Uploaded | None:
    """The one whose speed is the median's, with the largest growth that was seen."""
    found = [each for each in uploads if (each.server, each.content) == (server, content)]
    if not found:
        return None
    speed = median_low(each.mb_per_second for each in found)
    return next(each for each in found if each.mb_per_second == speed)


def largest_growth(uploads: Sequence[Uploaded], server: str) -> float | None:
    """MiB, of all uploads through a server."""
    return max((each.growth_mib for each in uploads if each.server == server), default=None)


def _rate(run: Run) -> float:
    return run.load.rate
