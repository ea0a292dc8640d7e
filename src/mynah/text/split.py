"""Cut text into utterances that fit a model, losing no character.

The splitter works online: text is cut into atoms (a word with what follows it, one Chinese
character with its punctuation), each boundary between atoms gets a strength (sentence, clause,
word), and an utterance ends at the first sentence boundary after ``minimum`` units, or at the best
boundary before ``budget`` units. An atom counts as read only when the next one has begun, so any
way of feeding the same text gives the same utterances. Time is linear in the length of the text.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from mynah.errors import InvalidRequestError
from mynah.text.abbreviations import BEFORE_NUMBER, GENERAL, NEVER_END_SENTENCE

MAX_CHARACTERS: Final = 1_000_000
_LONGEST_ATOM: Final = 200
_BRACKET_REACH: Final = 64
_HAN: Final = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_WIDE: Final = (
    "\u3000-\u3004\u3008-\u303f\uff00-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65\u2026"
)
_ATOM: Final = re.compile(
    rf"(?:[{_HAN}][^\s\w\[<(\u201c\u2018\u300c\u300e\u300a\uff08]{{0,64}}"
    rf"|[^\s{_HAN}{_WIDE}]{{1,{_LONGEST_ATOM}}}[{_WIDE}]{{0,64}}"
    rf"|[{_WIDE}]{{1,64}})?\s{{0,64}}"
)
_CLOSERS: Final = "\"')]}\u201d\u2019\u300d\u300f\u300b\u3011\uff09>"
_OPENERS: Final = "([{<\u201c\u2018\u300c\u300e\u300a\u3010\uff08\u3008\"'"
_REACH: Final = 256
_SENTENCE_END: Final = re.compile(r"[.?!\u2026\u3002\uff1f\uff01\uff61]+\Z")
_CLAUSE_END: Final = re.compile(r"[,;:\u2013\u2014\uff0c\uff1b\uff1a\u3001)\uff09]+\Z|--?\Z")
_ABBREVIATION: Final = re.compile(r"(?:\A|[^\w.])((?:\w+\.)*\w+)\.\Z")
_ALNUM: Final = re.compile(r"[^\W_]")


class _Strength(enum.IntEnum):
    """How well two atoms can be separated."""

    INSIDE = 0
    WORD = 1
    CLAUSE = 2
    SENTENCE = 3


@dataclass
class _Atom:
    parts: list[str]
    spoken: bool
    """Whether there is a letter or a digit in it."""
    units: int = 0
    strength: _Strength = _Strength.INSIDE
    """Strength of the boundary after the atom."""

    @property
    def text(self) -> str:
        return "".join(self.parts)


@dataclass
class _Brackets:
    """Whether the text is inside ``[...]`` or ``[...](...)``, where no cut is wanted."""

    opened: int = 0
    closing: str = ""

    def update(self, text: str) -> None:
        for index, character in enumerate(text):
            if self.closing:
                self.opened += 1
                if self.opened > _BRACKET_REACH or character == "\n":
                    self.closing = ""
                elif character == self.closing:
                    hint = character == "]" and text[index + 1 : index + 2] == "("
                    self.closing = ")" if hint else ""
                    self.opened = 0
            elif character == "[":
                self.closing, self.opened = "]", 0


@dataclass
class Splitter:
    """Incremental splitter: ``feed`` text as it comes, ``finish`` at its end.

    Attributes:
        count: Units of a short text; called once per word.
        budget: Most units of an utterance. Only a single character may exceed it.
        minimum: Units after which an utterance may end at a sentence boundary.
        max_characters: Longest text accepted.
    """

    count: Callable[[str], int]
    budget: int
    minimum: int = 1
    max_characters: int = MAX_CHARACTERS
    _buffer: str = ""
    _fed: int = 0
    _pending: _Atom | None = None
    _openers: list[str] = field(default_factory=list)
    _atoms: list[_Atom] = field(default_factory=list)
    _units: int = 0
    _brackets: _Brackets = field(default_factory=_Brackets)

    def feed(self, text: str) -> list[str]:
        """Add text; the utterances that are now certain.

        Raises:
            InvalidRequestError: if more than ``max_characters`` were fed.
        """
        self._fed += len(text)
        check_length(self._fed, self.max_characters)
        return self._advance(text, final=False)

    def finish(self) -> list[str]:
        """The remaining utterances; afterwards the splitter is as new."""
        utterances = self._advance("", final=True)
        if self._openers:
            self._attach("".join(self._openers))
        if self._pending is not None:
            self._push(self._pending, _Strength.SENTENCE, utterances)
        self._pending, self._openers = None, []
        self._emit(len(self._atoms), utterances)
        self._fed = 0
        self._brackets = _Brackets()
        return utterances

    def _advance(self, text: str, *, final: bool) -> list[str]:
        utterances: list[str] = []
        self._buffer += text
        position, length = 0, len(self._buffer)
        while position < length:
            match = _ATOM.match(self._buffer, position)
            end = match.end() if match and match.end() > position else position + 1
            if end == length and not final:
                self._foresee(self._buffer[position:end], utterances)
                break
            self._read(self._buffer[position:end], utterances)
            position = end
        self._buffer = self._buffer[position:]
        return utterances

    def _read(self, text: str, utterances: list[str]) -> None:
        """Take one more atom.

        What holds no letter or digit joins the atom before it; opening brackets and quotes wait
        for the atom after them.
        """
        spoken = _ALNUM.search(text) is not None
        if not spoken and (self._openers or text[0] in _OPENERS):
            self._openers.append(text)
            return
        if spoken and self._openers:
            text = "".join((*self._openers, text))
            self._openers = []
        pending = self._pending
        if pending is None or not pending.spoken or not spoken:
            self._attach(text)
        else:
            self._push(pending, _judge(pending.text[-_REACH:], text), utterances)
            self._pending = _Atom([text], spoken)

    def _foresee(self, beginning: str, utterances: list[str]) -> None:
        """Finish the pending atom once the first letter of the next one is known."""
        pending = self._pending
        if pending is not None and pending.spoken and _ALNUM.search(beginning):
            self._push(pending, _judge(pending.text[-_REACH:], beginning), utterances)
            self._pending = None

    def _attach(self, text: str) -> None:
        if self._pending is None:
            self._pending = _Atom([], spoken=False)
        self._pending.parts.append(text)
        self._pending.spoken = self._pending.spoken or _ALNUM.search(text) is not None

    def _push(self, atom: _Atom, strength: _Strength, utterances: list[str]) -> None:
        """Add a finished atom and emit what is complete."""
        text = atom.text
        self._brackets.update(text)
        if self._brackets.closing:
            strength = _Strength.INSIDE
        sized = self._fit(text)
        sized[-1].strength = strength
        for part in sized:
            self._atoms.append(part)
            self._units += part.units
            while self._units > self.budget and len(self._atoms) > 1:
                self._emit(self._best_cut(), utterances)
        if strength is _Strength.SENTENCE and self._units >= self.minimum:
            self._emit(len(self._atoms), utterances)

    def _fit(self, text: str) -> list[_Atom]:
        """Atoms of at most ``budget`` units, cut anywhere if need be."""
        units = max(1, self.count(text))
        if units <= self.budget or len(text) == 1:
            return [_Atom([text], spoken=True, units=units)]
        half = len(text) // 2
        return self._fit(text[:half]) + self._fit(text[half:])

    def _best_cut(self) -> int:
        """Number of atoms before the best boundary: the strongest, among these the last."""
        best, strongest, units = len(self._atoms) - 1, -1, 0
        for index, atom in enumerate(self._atoms[:-1]):
            units += atom.units
            strength = atom.strength
            if strength is _Strength.CLAUSE and 3 * units < self.budget:
                strength = _Strength.WORD  # too early to be worth a break
            if strength >= strongest:
                best, strongest = index + 1, strength
        return best

    def _emit(self, count: int, utterances: list[str]) -> None:
        if count == 0:
            return
        utterances.append("".join(atom.text for atom in self._atoms[:count]))
        self._units -= sum(atom.units for atom in self._atoms[:count])
        del self._atoms[:count]


def check_length(characters: int, limit: int = MAX_CHARACTERS) -> None:
    """Refuse a text that is too long.

    Raises:
        InvalidRequestError: naming the length and the limit.
    """
    if characters > limit:
        raise InvalidRequestError(
            f"the text has {characters:,} characters, the limit is {limit:,}",
            hint="send it in parts, or raise max_characters",
        )


def split_text(
    text: str,
    count: Callable[[str], int],
    budget: int,
    minimum: int = 1,
    max_characters: int = MAX_CHARACTERS,
) -> list[str]:
    """Utterances of a whole text; joined they are the text.

    Raises:
        InvalidRequestError: if the text is longer than ``max_characters``.
    """
    check_length(len(text), max_characters)
    splitter = Splitter(count, budget, minimum, max_characters)
    return splitter.feed(text) + splitter.finish()


def _judge(before: str, after: str) -> _Strength:
    """Strength of the boundary between two atoms (``before``: its last characters)."""
    stripped = before.rstrip()
    if "\n" in before[len(stripped) :]:
        return _Strength.SENTENCE
    core = stripped.rstrip(_CLOSERS)
    quoted = len(core) < len(stripped)
    if _SENTENCE_END.search(core):
        following = _ALNUM.search(after)
        return _judge_sentence_end(core, following[0] if following else "", quoted=quoted)
    if _CLAUSE_END.search(core) or stripped.endswith((")", "\uff09")):
        return _Strength.CLAUSE
    return _Strength.WORD


def _judge_sentence_end(core: str, following: str, *, quoted: bool) -> _Strength:
    """Whether ``.?!`` and the like end a sentence, given the first letter or digit after them."""
    if core[-1] in "\u3002\uff1f\uff01\uff61":
        return _Strength.SENTENCE
    if quoted and following.islower():  # "Really?" he said
        return _Strength.CLAUSE
    if core.endswith(("..", "\u2026")):
        return _Strength.CLAUSE if following.islower() else _Strength.SENTENCE
    abbreviation = _ABBREVIATION.search(core)
    if abbreviation is None:
        return _Strength.SENTENCE
    word = abbreviation[1]
    if word in BEFORE_NUMBER:
        return _Strength.WORD if following.isdigit() else _Strength.SENTENCE
    if word in NEVER_END_SENTENCE or (len(word) == 1 and word.isalpha() and word != "I"):
        return _Strength.WORD
    if word in GENERAL or "." in word:
        ends = following.isupper() and ("." not in word or word.lower() in {"a.m", "p.m"})
        return _Strength.SENTENCE if ends else _Strength.WORD
    return _Strength.SENTENCE
