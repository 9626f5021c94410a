"""Which numbers of a callback are a processor's ids, though they look like cards. Pure.

One is where a preset has an id of the processor's, and is all that stands there, in digits alone.
Where the preset has the merchant's own reference none is: anything may stand there, a card too, and
a reference that looks like one was never put on record, so that no payment is found by it.

What never lives here: whose card a number is, and what is written instead.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Final

from gateway.inbound.looking import Located
from gateway.preset_callbacks import CallbackEvents
from vault.pan import Pan

DOUBTFUL_MAX: Final = 64
"""Of one post. What is beyond is masked: no processor has so many ids that look like cards."""

_FREE_TEXT: Final = re.compile(r'(?i)(?:^|[.\["])(?:metadata|description)(?:$|[.\["])')


class Ids:
    """Numbers in the places of ids: which are known for cards, and which may be."""

    def __init__(self, cards: Sequence[Pan]) -> None:
        self._cards = cards
        self.doubtful: list[Pan] = []

    def has_one(self, found: Located, text: bytes) -> bool:
        """Whether a find is all that an id's place holds, bare, and not known for a card."""
        bare = text.strip()
        is_all = bare.isdigit() and bare == text[found.start : found.end]
        return is_all and not any(map(self._is_card, found.hit.numbers))

    def _is_card(self, number: Pan) -> bool:
        if number in self._cards:
            return True
        if number not in self.doubtful:
            if len(self.doubtful) == DOUBTFUL_MAX:
                return True
            self.doubtful.append(number)
        return False


def id_selectors(rules: CallbackEvents) -> Iterator[str]:
    """Yield the paths of the processor's ids; where a post has items, below each of them."""
    for places in (
        *(rules.id, *rules.id_parts, rules.numbers),
        *(rules.action_reference, rules.payment_reference),
    ):
        for each in places:
            if _FREE_TEXT.search(each):
                continue
            yield each
            if rules.items is not None and not each.startswith(("$", "/")):
                yield f"{rules.items}{'' if each.startswith('[') else '.'}{each}"
