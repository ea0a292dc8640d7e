"""Which bit rate a connection can carry."""

from __future__ import annotations

LOWEST = 8_000
"""In bits per second."""

_SHARE = 0.6
"""Of what a client reports; the rest is for headers and for other traffic."""
_DOWN, _UP = 0.6, 1.25
_SLACK = 0.1
"""Share of an utterance's length for which sending may be held up without meaning anything."""


class BitRate:
    """Follows what a client reports and how fast it reads; asked between utterances."""

    def __init__(self, wanted: int) -> None:
        """Begin with ``wanted`` bits per second, which is also the most there will be."""
        self._most = wanted
        self._value = wanted
        self._reported: int | None = None
        self._blocked_s = self._sent_s = 0.0

    def report(self, kbps: float) -> None:
        """Note what a client says its connection carries, in 1000 bits per second."""
        self._reported = int(kbps * 1000 * _SHARE)

    def sent(self, audio_s: float, blocked_s: float) -> None:
        """Note so much audio that was sent, and for how long sending was held up."""
        self._sent_s += audio_s
        self._blocked_s += blocked_s

    def next(self) -> int:
        """The bit rate of the next utterance."""
        sent_s, blocked_s = self._sent_s, self._blocked_s
        self._sent_s = self._blocked_s = 0.0
        if self._reported is not None:
            self._value = self._reported
        elif blocked_s > sent_s:  # the client takes less than it plays
            self._value = int(self._value * _DOWN)
        elif sent_s and blocked_s <= _SLACK * sent_s:
            self._value = int(self._value * _UP)
        self._value = min(max(self._value, LOWEST), self._most)
        return self._value
