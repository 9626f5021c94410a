"""The smallest log that shows every format, byte for byte as the ledger's reference has it.

The seeds are no secrets: they count up, so that anyone can make these keys again.
"""

from base64 import b64decode
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

LOG_SEED: Final = bytes(range(32))
LOG_PRIVATE_KEY: Final = Ed25519PrivateKey.from_private_bytes(LOG_SEED)
LOG_PUBLIC_KEY: Final = bytes.fromhex(
    "03a107bff3ce10be1d70dd18e74bc09967e4d6309ba50d5f1ddc8664125531b8"
)
ORIGIN: Final = "ledger.example/gateway-1"
ORIGIN_HASH: Final = "10f100c9defcf212350fb662f40d1e52b9cf6eb8349f3664eb4aa4b2731f9a7e"
LOG_KEY: Final = "ledger.example/gateway-1+0310466d+AQOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4"

ENTRIES: Final = (b'{"i":0}', b'{"i":1}', b'{"i":2}')
LEAVES: Final = tuple(
    bytes.fromhex(text)
    for text in (
        "d829edd0713a1bb05e3cd0616924a4c5bde21e36e537149a20239edafa8825f1",
        "c2d65499ad89a5ece71f927cc8395c8804bfbf61b2dac475187aa1696fa36047",
        "dedf1e96568c13a5827bbcb84d920adb21d989b5da4f61de6bd060e52792da91",
    )
)
ROOT_2: Final = bytes.fromhex("8d797bb58d61f678047fdf92a390117b16d8718b957303a9231a36cf6e0c5f75")
ROOT_3: Final = bytes.fromhex("00a70ab1951b3920e93bb731381741971d0960c1ae41ce64cb6d5fa330bffcc6")
BUNDLE: Final = bytes.fromhex("00077b2269223a307d00077b2269223a317d00077b2269223a327d")
BUNDLE_PATH: Final = "tile/entries/000.p/3"
TILE_PATH: Final = "tile/0/000.p/3"

CHECKPOINT_3: Final = """\
ledger.example/gateway-1
3
AKcKsZUbOSDpO7cxOBdBlx0JYMGuQc5ky21fozC//MY=
"""
SIGNATURE_3: Final = (
    "AxBGberNqP53Ox8yxdbBZKEYmPFyUSYkPlfuXRRDF74hQAG4L5oWEEvTMgrO8phhX6Zj/FODI9WyNMjjZYjYd3lvlw8="
)
SIGNATURE_2: Final = (
    "AxBGbf7cNNGpUwbjYRJJQuNSgkmFtBL0U0w1iF13QoJxc6U/lFmQXBMPPovTfIymblyzQB6uJh7FaB+AWnDfmQlQcAg="
)
NOTE_3: Final = f"{CHECKPOINT_3}\n\u2014 {ORIGIN} {SIGNATURE_3}\n".encode()
NOTE_3_SHA256: Final = "2bfcdc8e2368fe56c769d2acaea6a9b3610db22f6430ac4a9775237695290891"

_LEAF_0 = "2Cnt0HE6G7BePNBhaSSkxb3iHjblNxSaICOe2vqIJfE="
_LEAF_1 = "wtZUma2JpeznH5J8yDlciAS/v2Gy2sR1GHqhaW+jYEc="
_LEAF_2 = "3t8ellaME6WCe7y4TZIK2yHZibXaT2Hea9Bg5SeS2pE="
INCLUSION_1_IN_3: Final = (b64decode(_LEAF_0), b64decode(_LEAF_2))
CONSISTENCY_2_TO_3: Final = (b64decode(_LEAF_2),)
CONSISTENCY_1_TO_3: Final = (b64decode(_LEAF_1), b64decode(_LEAF_2))
WITNESS_REQUEST: Final = f"old 2\n{_LEAF_2}\n\n".encode() + NOTE_3
TLOG_PROOF_1: Final = f"c2sp.org/tlog-proof@v1\nindex 1\n{_LEAF_0}\n{_LEAF_2}\n\n".encode() + NOTE_3

WITNESS_SEED: Final = bytes(range(32, 64))
WITNESS_PRIVATE_KEY: Final = Ed25519PrivateKey.from_private_bytes(WITNESS_SEED)
WITNESS_NAME: Final = "witness.example/w1"
WITNESS_KEY: Final = "witness.example/w1+20324abe+BCmsuuFBvMrwsi4alNNNC8c2HlJtC/4SyJeUvJMilm3X"
COSIGNED_AT: Final = 1_767_000_000
COSIGNATURE_3: Final = (
    "\u2014 witness.example/w1 IDJKvgAAAABpUkfATaYB0n/7W3Z7Np0cslkDrLNcBR0kmSLywXWv5H"
    "+AV7iyf6qeR92F3dswvPinTzP5g8ifcg8S0sFHSJqhuw+4BA==\n"
)

# The example of the signed-note specification itself.
SPECIFICATION_KEY: Final = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
SPECIFICATION_NOTE: Final = (
    "This is an example message.\n\n\u2014 example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq"
    "6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n"
).encode()
