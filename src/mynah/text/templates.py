"""Prompt templates: what stands around the user's words, control markers included.

``You are a helpful assistant.<|endofprompt|>{text}``: the markers of a template become special
tokens; text between two markers is encoded in one go with the user's words in it, as the models
read it in training. A marker that the model has no token for is ordinary text (CosyVoice 1). The
user's words are refused if they hold a marker, and are never read as one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final

from mynah.errors import ModelFormatError
from mynah.text.markup import refuse_control_markers

MARKER: Final = re.compile(r"<\|[^|<>]+\|>")
_PLACE: Final = "{text}"


def fill(
    template: str,
    text: str | list[int],
    special: Mapping[str, int],
    encode: Callable[[str], list[int]],
) -> list[int]:
    """Ids of a filled template.

    Args:
        template: With ``{text}`` at most once.
        text: The user's words as they stand, or their ids.
        special: Ids of the special tokens.
        encode: Ids of plain text.

    Raises:
        MarkupError: for a control marker in the text.
        ModelFormatError: for a template with more than one place for the text.
    """
    if template.count(_PLACE) > 1:
        raise ModelFormatError(
            f"the prompt template {template!r} has more than one {_PLACE}",
            hint="convert or download the model again",
        )
    if isinstance(text, str):
        refuse_control_markers(text)
    ids: list[int] = []
    for part in _cut_at_markers(template, special):
        if part in special:
            ids.append(special[part])
        elif isinstance(text, str):
            ids += encode(part.replace(_PLACE, text))
        else:
            before, place, after = part.partition(_PLACE)
            ids += [*encode(before), *(text if place else ()), *encode(after)]
    return ids


def _cut_at_markers(template: str, special: Mapping[str, int]) -> list[str]:
    parts, start = [], 0
    for match in MARKER.finditer(template):
        if match[0] in special:
            parts += [template[start : match.start()], match[0]]
            start = match.end()
    return [part for part in (*parts, template[start:]) if part]
