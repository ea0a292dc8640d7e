"""Rewriting rules: a regular expression and what replaces its matches, applied in order."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

Rule = tuple[re.Pattern[str], Callable[[re.Match[str]], str]]


def rule(
    pattern: str, action: Callable[[re.Match[str]], str] | str, flags: re.RegexFlag = re.NOFLAG
) -> Rule:
    """A rule from a pattern and a function or a replacement template (``\\1``)."""
    if isinstance(action, str):
        template = action
        return re.compile(pattern, flags), lambda match: match.expand(template)
    return re.compile(pattern, flags), action


def words(text: str) -> tuple[str, ...]:
    """The words of a list that is written as one string, for readability."""
    return tuple(text.split())


def apply_rules(rules: Iterable[Rule], text: str) -> str:
    """The text after every rule, one after the other."""
    for pattern, action in rules:
        text = pattern.sub(action, text)
    return text
