"""The phoneme symbols of the embedded model, with ids that never change.

The order of the table is part of every trained model: append at the end, never insert.

* ``<pad>`` 0, ``<s>`` 1, ``</s>`` 2, then the pauses ``,`` ``.`` ``?`` ``!``.
* English: ARPAbet, vowels with stress 0 or 1 (``AH0``, ``AH1``), consonants without.
* Mandarin: pinyin initials (``zh``) and finals with tone 1-5 (``uang3``; 5 is neutral). The finals
  ``ii`` and ``iii`` are the vowels of *zi* and *zhi*.
* Every phoneme exists twice: plain, and with the prefix ``_`` when it begins a word.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from mynah.errors import InvalidRequestError
from mynah.text.rules import words

PAD: Final = "<pad>"
START: Final = "<s>"
END: Final = "</s>"
WORD_INITIAL: Final = "_"

PAUSES: Final[tuple[str, ...]] = (",", ".", "?", "!")
ENGLISH_VOWELS: Final[tuple[str, ...]] = words("AA AE AH AO AW AY EH ER EY IH IY OW OY UH UW")
ENGLISH_CONSONANTS: Final[tuple[str, ...]] = words(
    "B CH D DH F G HH JH K L M N NG P R S SH T TH V W Y Z ZH"
)
PINYIN_INITIALS: Final[tuple[str, ...]] = words("b p m f d t n l g k h j q x zh ch sh r z c s")
PINYIN_FINALS: Final[tuple[str, ...]] = words(
    "a o e eh ai ei ao ou an en ang eng ong er i ii iii ia ie io iao iou ian in iang ing iong "
    "u ua uo uai uei uan uen uang ueng v ve van vn"
)

ENGLISH_PHONEMES: Final[tuple[str, ...]] = (
    *(f"{vowel}{stress}" for vowel in ENGLISH_VOWELS for stress in "01"),
    *ENGLISH_CONSONANTS,
)
MANDARIN_PHONEMES: Final[tuple[str, ...]] = (
    *PINYIN_INITIALS,
    *(f"{final}{tone}" for final in PINYIN_FINALS for tone in "12345"),
)


def _twice(phonemes: tuple[str, ...]) -> tuple[str, ...]:
    return (*phonemes, *(WORD_INITIAL + phoneme for phoneme in phonemes))


SYMBOLS: Final[tuple[str, ...]] = (
    PAD,
    START,
    END,
    *PAUSES,
    *_twice(ENGLISH_PHONEMES),
    *_twice(MANDARIN_PHONEMES),
)
SYMBOL_IDS: Final[Mapping[str, int]] = MappingProxyType(
    {symbol: index for index, symbol in enumerate(SYMBOLS)}
)
NUM_SYMBOLS: Final = len(SYMBOLS)
PAD_ID: Final = SYMBOL_IDS[PAD]
START_ID: Final = SYMBOL_IDS[START]
END_ID: Final = SYMBOL_IDS[END]
PAUSE_IDS: Final = frozenset(SYMBOL_IDS[symbol] for symbol in (START, END, *PAUSES))

_PAUSE_OF_CHARACTER: Final[Mapping[str, str]] = MappingProxyType(
    {
        **dict.fromkeys(",;:、，；：()[]{}（）【】《》〈〉「」『』–—―", ","),
        **dict.fromkeys(".。．｡…", "."),
        **dict.fromkeys("?？؟", "?"),
        **dict.fromkeys("!！¡", "!"),
    }
)


def symbol_id(symbol: str) -> int:
    """Id of a symbol.

    Raises:
        InvalidRequestError: if there is no such symbol.
    """
    try:
        return SYMBOL_IDS[symbol]
    except KeyError:
        raise InvalidRequestError(
            f"{symbol!r} is no phoneme symbol",
            hint="use ARPAbet with stress 0 or 1 on vowels (AH0, K) or pinyin parts (zh, ang1)",
        ) from None


def is_pause(symbol: int) -> bool:
    """Whether the symbol with this id is silence or punctuation."""
    return symbol in PAUSE_IDS


def pause_symbol(character: str) -> str | None:
    """The pause that a punctuation character stands for; None if it is not spoken as a pause."""
    return _PAUSE_OF_CHARACTER.get(character)


def plain(symbol: str) -> str:
    """The symbol without the word-initial mark."""
    return symbol.removeprefix(WORD_INITIAL)


def is_english_vowel(phoneme: str) -> bool:
    """Whether a (plain or word-initial) English phoneme is a vowel."""
    return phoneme[-1] in "01" and plain(phoneme)[:-1] in ENGLISH_VOWELS
