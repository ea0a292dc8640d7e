"""Which reading of an English word fits its neighbours: homographs and function words.

No part-of-speech tagger: short rules on the words before and after, used only where they are safe;
otherwise the commoner reading is taken.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from mynah.text.lexicon import Lexicon, Pronunciation


@dataclass(frozen=True)
class Context:
    """One word and its neighbours inside a phrase, lower case; empty strings at pauses."""

    word: str
    before: str = ""
    after: str = ""
    capitalised: bool = False
    """Whether the word has a capital that the start of a sentence does not explain."""
    earlier: tuple[str, ...] = ()
    """All earlier words of the sentence."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_MODALS: Final = _words(
    "to will would can could shall should may might must cannot can't couldn't won't wouldn't "
    "shouldn't don't didn't doesn't do did does please let's let i'll you'll he'll she'll it'll "
    "we'll they'll that'll i'd you'd he'd she'd we'd they'd gonna wanna helps"
)
_PLURAL_SUBJECTS: Final = _words("i you we they who people")
_SINGULAR_SUBJECTS: Final = _words("he she it who which that everyone nobody somebody")
_BE: Final = _words(
    "is are was were be been being am isn't aren't wasn't weren't i'm you're he's she's it's "
    "we're they're get gets got"
)
_HAVE: Final = _words(
    "have has had having haven't hasn't hadn't i've you've we've they've who've he's she's"
)
_DETERMINERS: Final = _words(
    "a an the my your his its our their this these those no some any each every another of in "
    "for with without on by at from new old good bad first last best own great many few several "
    "all more most other such public same world's today's"
)
_EMPHASIS: Final = _words("so very too as quite really that this fairly pretty how not be stay")


def _after_verb_marker(context: Context) -> bool:
    return context.before in _MODALS or context.before in _PLURAL_SUBJECTS


# word -> (as a noun or adjective, as a verb, which one without evidence)
_STRESS_PAIRS: Final[Mapping[str, tuple[str, str, str]]] = MappingProxyType(
    {
        "abuse": ("AH0 B Y UW1 S", "AH0 B Y UW1 Z", "noun"),
        "combat": ("K AA1 M B AE0 T", "K AH0 M B AE1 T", "noun"),
        "compound": ("K AA1 M P AW0 N D", "K AH0 M P AW1 N D", "noun"),
        "conduct": ("K AA1 N D AH0 K T", "K AH0 N D AH1 K T", "noun"),
        "conflict": ("K AA1 N F L IH0 K T", "K AH0 N F L IH1 K T", "noun"),
        "console": ("K AA1 N S OW0 L", "K AH0 N S OW1 L", "noun"),
        "content": ("K AA1 N T EH0 N T", "K AH0 N T EH1 N T", "noun"),
        "contest": ("K AA1 N T EH0 S T", "K AH0 N T EH1 S T", "noun"),
        "contract": ("K AA1 N T R AE0 K T", "K AH0 N T R AE1 K T", "noun"),
        "contrast": ("K AA1 N T R AE0 S T", "K AH0 N T R AE1 S T", "noun"),
        "converse": ("K AA1 N V ER0 S", "K AH0 N V ER1 S", "verb"),
        "convert": ("K AA1 N V ER0 T", "K AH0 N V ER1 T", "verb"),
        "convict": ("K AA1 N V IH0 K T", "K AH0 N V IH1 K T", "noun"),
        "decrease": ("D IY1 K R IY0 S", "D IH0 K R IY1 S", "verb"),
        "defect": ("D IY1 F EH0 K T", "D IH0 F EH1 K T", "noun"),
        "desert": ("D EH1 Z ER0 T", "D IH0 Z ER1 T", "noun"),
        "digest": ("D AY1 JH EH0 S T", "D AY0 JH EH1 S T", "verb"),
        "discount": ("D IH1 S K AW0 N T", "D IH0 S K AW1 N T", "noun"),
        "escort": ("EH1 S K AO0 R T", "EH0 S K AO1 R T", "noun"),
        "excuse": ("IH0 K S K Y UW1 S", "IH0 K S K Y UW1 Z", "verb"),
        "exploit": ("EH1 K S P L OY0 T", "IH0 K S P L OY1 T", "verb"),
        "export": ("EH1 K S P AO0 R T", "IH0 K S P AO1 R T", "noun"),
        "extract": ("EH1 K S T R AE0 K T", "IH0 K S T R AE1 K T", "verb"),
        "house": ("HH AW1 S", "HH AW1 Z", "noun"),
        "import": ("IH1 M P AO0 R T", "IH0 M P AO1 R T", "noun"),
        "incline": ("IH1 N K L AY0 N", "IH0 N K L AY1 N", "noun"),
        "increase": ("IH1 N K R IY0 S", "IH0 N K R IY1 S", "noun"),
        "insult": ("IH1 N S AH0 L T", "IH0 N S AH1 L T", "noun"),
        "object": ("AA1 B JH EH0 K T", "AH0 B JH EH1 K T", "noun"),
        "perfect": ("P ER1 F IH0 K T", "P ER0 F EH1 K T", "noun"),
        "perfume": ("P ER1 F Y UW0 M", "P ER0 F Y UW1 M", "noun"),
        "permit": ("P ER1 M IH0 T", "P ER0 M IH1 T", "verb"),
        "present": ("P R EH1 Z AH0 N T", "P R IY0 Z EH1 N T", "noun"),
        "produce": ("P R OW1 D UW0 S", "P R AH0 D UW1 S", "verb"),
        "progress": ("P R AA1 G R EH0 S", "P R AH0 G R EH1 S", "noun"),
        "project": ("P R AA1 JH EH0 K T", "P R AH0 JH EH1 K T", "noun"),
        "protest": ("P R OW1 T EH0 S T", "P R AH0 T EH1 S T", "noun"),
        "rebel": ("R EH1 B AH0 L", "R IH0 B EH1 L", "noun"),
        "record": ("R EH1 K ER0 D", "R IH0 K AO1 R D", "noun"),
        "refuse": ("R EH1 F Y UW0 Z", "R AH0 F Y UW1 Z", "verb"),
        "reject": ("R IY1 JH EH0 K T", "R IH0 JH EH1 K T", "verb"),
        "subject": ("S AH1 B JH IH0 K T", "S AH0 B JH EH1 K T", "noun"),
        "survey": ("S ER1 V EY0", "S ER0 V EY1", "noun"),
        "suspect": ("S AH1 S P EH0 K T", "S AH0 S P EH1 K T", "verb"),
        "torment": ("T AO1 R M EH0 N T", "T AO0 R M EH1 N T", "noun"),
        "transfer": ("T R AE1 N S F ER0", "T R AE0 N S F ER1", "noun"),
        "transport": ("T R AE1 N S P AO0 R T", "T R AE0 N S P AO1 R T", "noun"),
        "upset": ("AH1 P S EH0 T", "AH0 P S EH1 T", "verb"),
        "use": ("Y UW1 S", "Y UW1 Z", "verb"),
    }
)
_PLURAL_ENDINGS: Final = {"S": "IH0 Z", "Z": "IH0 Z", "T": "S", "K": "S", "P": "S", "F": "S"}


def _plural(phonemes: str) -> str:
    return f"{phonemes} {_PLURAL_ENDINGS.get(phonemes.split()[-1], 'Z')}"


def _stress_pair(context: Context) -> str | None:
    pair = _STRESS_PAIRS.get(context.word)
    if pair is not None:
        noun, verb, default = pair
        if context.before in _DETERMINERS:
            return noun
        if _after_verb_marker(context):
            return verb
        if context.word == "use" and context.after in {"", "of"}:  # for business use
            return noun
        return noun if default == "noun" else verb
    if not context.word.endswith("s") or context.word[:-1] not in _STRESS_PAIRS:
        return None
    noun, verb, default = _STRESS_PAIRS[context.word[:-1]]
    if context.word == "houses":
        return "HH AW1 Z IH0 Z"
    if context.before in _SINGULAR_SUBJECTS or (
        default == "verb" and context.before not in _DETERMINERS
    ):
        return _plural(verb)
    return _plural(noun)


def _read(context: Context) -> str:
    present, past = "R IY1 D", "R EH1 D"
    if context.before in _MODALS:
        return present
    if context.before in _HAVE | _BE | _SINGULAR_SUBJECTS or context.before == "already":
        return past
    if any(word.endswith("ed") or word in {"yesterday", "ago", "was"} for word in context.earlier):
        return past
    return present


def _live(context: Context) -> str:
    adjective = context.before in {"a", "the", "streamed", "recorded", "broadcast", "go", "going"}
    things = _words("music show shows stream broadcast concert audience performance wire coverage")
    return "L AY1 V" if adjective or context.after in things else "L IH1 V"


def _lives(context: Context) -> str:
    noun = context.before in _DETERMINERS | _words("human save saved their her lost")
    return "L AY1 V Z" if noun and context.before not in {"that", "this"} else "L IH1 V Z"


def _lead(context: Context) -> str:
    metal = context.after in _words("pipe pipes paint poisoning acid bullet bullets pencil ore")
    return "L EH1 D" if metal or context.before in {"molten", "of"} else "L IY1 D"


def _wind(context: Context) -> str:
    verb = context.before in _MODALS or (
        context.after in {"up", "down"} and context.before not in _DETERMINERS
    )
    return "W AY1 N D" if verb else "W IH1 N D"


def _tear(context: Context) -> str:
    verb = context.before in _MODALS or context.after in {"apart", "up", "down", "off", "away"}
    return "T EH1 R" if verb else "T IH1 R"


def _close(context: Context) -> str:
    if context.after == "to" or context.before in _BE | _EMPHASIS:
        return "K L OW1 S"
    verb = _after_verb_marker(context) or context.after in {"the", "your", "of", "this"}
    return "K L OW1 Z" if verb or (not context.before and not context.after) else "K L OW1 S"


def _wound(context: Context) -> str:
    turned = context.after in _words("up around down through round along")
    return "W AW1 N D" if turned or context.before in {"river", "road", "path"} else "W UW1 N D"


def _bass(context: Context) -> str:
    fish = context.before in {"sea", "striped", "largemouth"} or context.after == "fishing"
    return "B AE1 S" if fish else "B EY1 S"


def _bow(context: Context) -> str:
    return "B OW1" if context.after in {"and", "tie", "ties"} else "B AW1"


def _resume(context: Context) -> str:
    noun = context.before in _DETERMINERS and context.before != "the"
    return "R EH1 Z AH0 M EY0" if noun else "R IH0 Z UW1 M"


def _used(context: Context) -> str:
    habit = context.after == "to" and context.before not in _BE | _HAVE
    return "Y UW1 S T" if habit else "Y UW1 Z D"


def _polish(context: Context) -> str:
    return "P OW1 L IH0 SH" if context.capitalised else "P AA1 L IH0 SH"


_RULES: Final[Mapping[str, Callable[[Context], str]]] = MappingProxyType(
    {
        "read": _read,
        "live": _live,
        "lives": _lives,
        "lead": _lead,
        "wind": _wind,
        "tear": _tear,
        "close": _close,
        "wound": _wound,
        "bass": _bass,
        "bow": _bow,
        "resume": _resume,
        "used": _used,
        "polish": _polish,
    }
)
# Readings better than the first one of the dictionary.
_FIXED: Final[Mapping[str, str]] = MappingProxyType(
    {
        "august": "AO1 G AH0 S T",
        "minute": "M IH1 N AH0 T",
        "dove": "D AH1 V",
        "aged": "EY1 JH D",
        "winds": "W IH1 N D Z",
        "tears": "T IH1 R Z",
        "with": "W IH0 DH",
    }
)


def _ate(context: Context, lexicon: Lexicon) -> str | None:
    """Words in -ate that are both verb (EY1 T) and adjective or noun (AH0 T)."""
    if not context.word.endswith("ate"):
        return None
    readings = lexicon.pronunciations(context.word)
    verbs = [reading for reading in readings if reading[-2] == "EY1"]
    others = [reading for reading in readings if reading[-2] in {"AH0", "IH0"}]
    if not verbs or not others:
        return None
    return " ".join(verbs[0] if _after_verb_marker(context) else others[0])


def reading(context: Context, lexicon: Lexicon) -> Pronunciation | None:
    """Pronunciation of a homograph in its context; None for every other word."""
    rule = _RULES.get(context.word)
    phonemes = (
        rule(context)
        if rule is not None
        else _FIXED.get(context.word) or _stress_pair(context) or _ate(context, lexicon)
    )
    return tuple(phonemes.split()) if phonemes else None
