"""Control markers that official scripts write by hand, taken off again.

Here the engine owns the prompt templates, so the markers that the official examples put around a
transcript, a text or an instruction are recognised and removed, and the engine puts its own. Any
other marker stays where it is; the engine then refuses it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import chain

from mynah.config import PromptTemplates
from mynah.errors import InvalidRequestError

LANGUAGE_TAGS = {f"<|{code}|>": code for code in ("zh", "en", "ja", "yue", "ko")} | {"<|jp|>": "ja"}
"""Language tags at the beginning of a text, as in the examples of CosyVoice 1."""
_FIELD = "{text}"


def strip_transcript(text: str, templates: PromptTemplates) -> str:
    """Return the words of a transcript without the model's template around them."""
    return _strip(text, templates.transcript)


def strip_instruction(text: str, templates: PromptTemplates) -> str:
    """Return an instruction without the model's template around it; its end marker is optional.

    Raises:
        InvalidRequestError: if nothing but the template is there.
    """
    words = _strip(text, templates.instruction).strip()
    if not words:
        raise InvalidRequestError(
            f"instruct_text {text!r} holds no instruction",
            hint="say how to speak, for example 'Please speak slowly.', "
            "or call inference_cross_lingual",
        )
    return words


def open_text(
    text: str | Iterable[str], templates: PromptTemplates
) -> tuple[str | None, str | Iterator[str]]:
    """Take template and language tag off the beginning of a text.

    Args:
        text: whole, or in pieces that may cut a marker anywhere. Of pieces, as many are taken now
            as are needed to know how the text begins.
        templates: of the model.

    Returns:
        the language of the tag, if there is one, and the text in the form in which it came.
    """
    heads = [_squeezed(templates.no_transcript), *LANGUAGE_TAGS]
    if isinstance(text, str):
        return _take_heads(text, heads)
    pieces, begin = iter(text), ""
    while _is_undecided(_squeezed(begin), heads):
        piece = next(pieces, None)
        if piece is None:
            break
        begin += piece
    language, begin = _take_heads(begin, heads)
    return language, chain([begin] if begin else [], pieces)


def _is_undecided(begin: str, heads: list[str]) -> bool:
    """Whether more text could still complete a template or tag."""
    template, tags = heads[0], heads[1:]
    if template and begin.startswith(template):
        begin = begin[len(template) :]
    elif template.startswith(begin):
        return True
    return any(tag.startswith(begin) and tag != begin for tag in tags)


def _take_heads(text: str, heads: list[str]) -> tuple[str | None, str]:
    for head in heads:
        rest = _without_head(text, head)
        if rest is None:
            continue
        if head in LANGUAGE_TAGS:
            return LANGUAGE_TAGS[head], rest
        text = rest
    return None, text


def _strip(text: str, template: str) -> str:
    """Take what surrounds the user's words in a template off both ends, as far as it is there."""
    head, _, tail = template.partition(_FIELD)
    rest = _without_head(text, _squeezed(head))
    text = text if rest is None else rest
    tail = _squeezed(tail)
    stripped = text.rstrip()
    return stripped.removesuffix(tail) if tail else text


def _without_head(text: str, head: str) -> str | None:
    """The text after ``head``, with any blanks in between; None if it begins otherwise."""
    if not head:
        return None
    match = re.match(r"\s*" + r"\s*".join(map(re.escape, head)), text)
    return None if match is None else text[match.end() :].lstrip()


def _squeezed(text: str) -> str:
    return "".join(text.split())
