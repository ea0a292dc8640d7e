"""Byte-pair encoding by ranks, against the plain definition."""

import base64
import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from mynah.text.vocabularies import RankVocabulary

TOKENS = (
    [bytes([value]) for value in range(256)]
    + [b"ab", b"bc", b"abc", b"aa", b"aaa", b"aaaa", b" a", b"cab", b"bcab"]
    + ["好".encode()[:2], "好".encode(), "你".encode()[:2], "你".encode(), "你好".encode()]
)
RANKS = {token: rank for rank, token in enumerate(TOKENS)}


def _vocabulary() -> RankVocabulary:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ranks"
        lines = (base64.b64encode(t) + f" {rank}\n".encode() for t, rank in RANKS.items())
        path.write_bytes(b"".join(lines))
        return RankVocabulary(path)


VOCABULARY = _vocabulary()


def join_lowest_first(word: bytes) -> list[int]:
    parts = [bytes([value]) for value in word]
    while True:
        ranked = [(RANKS.get(a + b), i) for i, (a, b) in enumerate(zip(parts, parts[1:]))]  # noqa: B905, RUF007
        known = [(rank, i) for rank, i in ranked if rank is not None]
        if not known:
            return [RANKS[part] for part in parts]
        _, place = min(known)
        parts[place : place + 2] = [parts[place] + parts[place + 1]]


@given(st.text(alphabet="abc好你", max_size=40))
def test_one_word(word: str) -> None:
    assert VOCABULARY.encode(word) == join_lowest_first(word.encode())


@given(st.text())
def test_nothing_is_lost(text: str) -> None:
    try:
        encoded = text.encode()
    except UnicodeEncodeError:
        return
    assert b"".join(TOKENS[i] for i in VOCABULARY.encode(text)) == encoded
