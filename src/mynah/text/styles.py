"""Emotions, dialects and styles by name: the instruction sentence that a model knows.

``resolve_style("cosyvoice3", dialect="yue")`` is ``请用广东话表达。``; names are English, with
language codes and Chinese words as aliases. A name that a model was not trained on is refused with
the list of those it knows, because a model does not follow just any sentence.
"""

from __future__ import annotations

import difflib
from typing import Final, Literal

from mynah.errors import UnsupportedFeatureError
from mynah.text.markup import refuse_control_markers
from mynah.text.style_tables import ALIASES, CATALOGUES, Catalogue, Sentences

Kind = Literal["emotion", "dialect", "style"]
_KINDS: Final[tuple[Kind, ...]] = ("emotion", "dialect", "style")


def catalogue(name: str) -> dict[Kind, tuple[str, ...]]:
    """The names that a catalogue knows, by kind.

    Raises:
        UnsupportedFeatureError: if there is no such catalogue.
    """
    return {kind: tuple(_sentences(_catalogue(name), kind)) for kind in _KINDS}


def resolve_style(
    name: str,
    *,
    emotion: str | None = None,
    dialect: str | None = None,
    style: str | None = None,
    instruction: str | None = None,
) -> str:
    """The instruction for named wishes; empty if nothing needs to be said.

    Args:
        name: The model's catalogue (``InstructConfig.styles``).
        emotion: For example ``happy``.
        dialect: For example ``cantonese`` or ``yue``.
        style: For example ``fast``; several with commas where the model can.
        instruction: A sentence of the caller's own, taken as it is; then no names.

    Raises:
        UnsupportedFeatureError: for a name that the model does not know (with the known ones),
            or names that it cannot combine.
        MarkupError: for a control marker in the instruction.
    """
    chosen = _catalogue(name)
    asked: list[tuple[Kind, str]] = []
    if emotion is not None:
        asked.append(("emotion", emotion))
    if dialect is not None:
        asked.append(("dialect", dialect))
    if style is not None:
        asked.extend(("style", part) for part in style.split(","))
    if instruction is not None:
        refuse_control_markers(instruction)
        if asked:
            raise UnsupportedFeatureError(
                f"an instruction of its own and {_listed(asked)} exclude each other",
                hint="say everything in the instruction, or give names only",
            )
        return instruction.strip()
    sentences = [_sentence(name, chosen, kind, wish) for kind, wish in asked]
    spoken = [sentence for sentence in sentences if sentence]
    if not spoken:
        return ""
    if chosen.sentence is not None:
        return chosen.sentence.format(_enumerated(spoken))
    if len(spoken) > 1:
        raise UnsupportedFeatureError(
            f"{name} follows one instruction at a time, but got {_listed(asked)}",
            hint="choose one of them; for an attempt at more, write a sentence as instruction",
        )
    return spoken[0]


def _catalogue(name: str) -> Catalogue:
    try:
        return CATALOGUES[name]
    except KeyError:
        raise UnsupportedFeatureError(
            f"there is no style catalogue {name!r}", hint=f"known: {', '.join(CATALOGUES)}"
        ) from None


def _sentences(chosen: Catalogue, kind: Kind) -> Sentences:
    tables = {"emotion": chosen.emotions, "dialect": chosen.dialects, "style": chosen.styles}
    return tables[kind]


def _sentence(name: str, chosen: Catalogue, kind: Kind, wish: str) -> str:
    known = _sentences(chosen, kind)
    folded = wish.strip().casefold()
    if folded in known:
        return known[folded]
    for canonical in known:
        if folded in ALIASES.get(canonical, ()):
            return known[canonical]
    words = {alias: n for n in known for alias in (n, *ALIASES.get(n, ()))}
    close = dict.fromkeys(words[w] for w in difflib.get_close_matches(folded, words, n=3))
    meant = f"did you mean {' or '.join(close)}? " if close else ""
    others = next((k for k in _KINDS if k != kind and folded in _sentences(chosen, k)), None)
    elsewhere = f"{folded} is one of its {others}s; " if others else ""
    raise UnsupportedFeatureError(
        f"{name} has no {kind} {wish!r}",
        hint=f"{meant}{elsewhere}its {kind}s are {', '.join(known)}",
    )


def _enumerated(parts: list[str]) -> str:
    if len(parts) < 3:
        return " and ".join(parts)
    return f"{', '.join(parts[:-1])}, and {parts[-1]}"


def _listed(asked: list[tuple[Kind, str]]) -> str:
    return " and ".join(f"{kind}={wish.strip()!r}" for kind, wish in asked)
