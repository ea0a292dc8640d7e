"""Which words a listener has heard: utterances by their place in the audio."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(eq=False)
class SpokenText:
    """The finished utterances of one session, in order."""

    sample_rate: int
    num_characters: int = 0
    _texts: list[str] = field(default_factory=list)
    _ends: list[int] = field(default_factory=list)
    """Sample at which each one ends."""

    def add(self, text: str, end: int) -> None:
        """Note that an utterance is finished; its audio ends at the sample ``end``."""
        self._texts.append(text)
        self._ends.append(end)
        self.num_characters += len(text)

    def until(self, seconds: float, made: int, text: str, share: float) -> str:
        """Text of the first ``seconds``.

        Args:
            seconds: of the audio.
            made: samples made in all.
            text: of the utterance being spoken, "" = none.
            share: of that text that the samples made so far are.
        """
        heard, start = round(seconds * self.sample_rate), 0
        parts: list[str] = []
        for known, end in zip(self._texts, self._ends, strict=True):
            if heard < end:
                return "".join(parts) + _words(known, (heard - start) / max(end - start, 1))
            parts.append(known)
            start = end
        reached = min((heard - start) / max(made - start, 1), 1.0)
        return "".join(parts) + _words(text, share * reached)


def _words(text: str, share: float) -> str:
    """The beginning of a text, without the word that the share ends in."""
    size = int(len(text) * max(share, 0.0))
    if size >= len(text):
        return text
    # a script without blanks is cut between its characters
    while size and text[size - 1].isalnum() and text[size].isalnum() and ord(text[size]) < 0x3000:
        size -= 1
    return text[:size]
