"""Which speech tokens may be turned into frames now: a pure function of counts.

Tokens are counted from the start of the prompt. Chunks lie on a fixed grid from there, because
the networks' streaming masks do; only whole chunks are committed, each with a few look-ahead
tokens that are known but not committed.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Span:
    """Tokens ``start`` (inclusive) to ``stop`` (exclusive) of one chunk."""

    start: int
    stop: int


@dataclass(frozen=True)
class ChunkSchedule:
    """Chunk grid, and how many chunks make one hop (the audio handed out at once).

    The first hop ends at the first grid point after the prompt, for the earliest audio. Later
    hops hold 1, ``growth``, ``growth`` ** 2 ... chunks, at most ``max_hop_chunks``. Growing hops
    change when frames are made, never which: every chunk is still computed alone.
    """

    chunk_tokens: int = 25
    lookahead_tokens: int = 3
    growth: int = 1
    max_hop_chunks: int = 4

    def spans(
        self, committed: int, prompt: int, available: int, *, final: bool
    ) -> tuple[Span, ...]:
        """Chunks that can be computed now, in order.

        Args:
            committed: tokens computed so far; on the grid.
            prompt: tokens of the prompt.
            available: tokens known so far, the prompt included.
            final: whether no token will follow: what is left is flushed, on the grid or not.
        """
        stop = available if final else self.commit_limit(prompt, available)
        size = self.chunk_tokens
        starts = range(committed, stop, size)
        return tuple(Span(start, min(start + size, stop)) for start in starts)

    def commit_limit(self, prompt: int, available: int) -> int:
        """Tokens that may be committed before the end of the utterance is known."""
        size = self.chunk_tokens
        ready = max(available - self.lookahead_tokens, 0) // size * size
        boundary = self._first_boundary(prompt)
        if ready <= boundary or self.growth == 1:
            return ready
        chunks = 1
        while boundary + chunks * size <= ready:
            boundary += chunks * size
            chunks = min(chunks * self.growth, self.max_hop_chunks)
        return boundary

    def tokens_until_first_audio(self, prompt: int) -> int:
        """Generated tokens needed before the first frames of an unfinished utterance."""
        return self._first_boundary(prompt) + self.lookahead_tokens - prompt

    def best_prompt_length(self, available: int) -> int:
        """Largest prompt, at most ``available`` tokens, whose prefix is as reusable as it can be.

        The last tokens of such a prompt are the look-ahead of its last whole chunk, so every
        whole chunk can be computed before a request is known. Shorter prompts are kept whole.
        """
        beyond = available - self.lookahead_tokens
        if beyond < self.chunk_tokens:
            return available
        return beyond // self.chunk_tokens * self.chunk_tokens + self.lookahead_tokens

    def _first_boundary(self, prompt: int) -> int:
        return (prompt // self.chunk_tokens + 1) * self.chunk_tokens
