"""Plain text to ids and back by byte-pair encoding: the vocabulary files of the released models.

``Qwen2Vocabulary`` reads ``vocab.json`` with ``merges.txt`` (or ``tokenizer.json``),
``RankVocabulary`` a file of ranks as Whisper has it: a token in base64 and its rank in each line.
No text ever becomes a special token here.
"""

from __future__ import annotations

import base64
import binascii
import heapq
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from mynah.errors import ModelFormatError

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from tokenizers.pre_tokenizers import PreTokenizer

_QWEN2_WORDS: Final = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_WHISPER_WORDS: Final = (
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
)
RANK_FILE: Final = "multilingual.tiktoken"
"""Name of Whisper's vocabulary file."""


class Vocabulary(Protocol):
    """Byte-pair encoding without special tokens."""

    @property
    def size(self) -> int:
        """Number of ids; special tokens are numbered on from here."""

    def encode(self, text: str) -> list[int]:
        """Ids of a text as it stands."""

    def decode(self, token: int) -> str:
        """The text of one id; an incomplete character is U+FFFD."""


class Qwen2Vocabulary:
    """The vocabulary of Qwen2 from its folder."""

    def __init__(self, folder: Path, special_tokens: Sequence[str]) -> None:
        """Read the files.

        Raises:
            ModelFormatError: if they are missing or damaged, or have other added tokens than
                ``special_tokens`` (a stock Qwen2.5 tokenizer does: its ids would be wrong).
        """
        self._tokenizer = _load_qwen2(folder)
        self.size = self._tokenizer.get_vocab_size(with_added_tokens=False)
        for index, added in self._tokenizer.get_added_tokens_decoder().items():
            place = index - self.size
            if not 0 <= place < len(special_tokens) or special_tokens[place] != added.content:
                raise ModelFormatError(
                    f"the tokenizer in {folder} has other added tokens than the model: "
                    f"{added.content!r} is {index}",
                    hint="use the folder CosyVoice-BlankEN of the model",
                )
        self._tokenizer.encode_special_tokens = True

    def encode(self, text: str) -> list[int]:
        """See ``Vocabulary``."""
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def decode(self, token: int) -> str:
        """See ``Vocabulary``."""
        return self._tokenizer.decode([token])


class RankVocabulary:
    """Byte-pair encoding by ranks: of two neighbours the pair with the lowest rank is joined."""

    def __init__(self, path: Path) -> None:
        """Read a rank file.

        Raises:
            ModelFormatError: if it is missing or damaged.
        """
        self._ranks = _read_ranks(path)
        self._tokens = {rank: token for token, rank in self._ranks.items()}
        self.size = max(self._ranks.values()) + 1
        self._words = _whisper_words()

    def encode(self, text: str) -> list[int]:
        """See ``Vocabulary``."""
        return [
            token
            for word, _ in self._words.pre_tokenize_str(text)
            for token in self._merge(word.encode("utf-8"))
        ]

    def decode(self, token: int) -> str:
        """See ``Vocabulary``."""
        return self._tokens.get(token, b"").decode("utf-8", errors="replace")

    def _merge(self, word: bytes) -> list[int]:
        """Ids of one word. O(n log n): a heap of pairs over a linked list of tokens."""
        whole = self._ranks.get(word)
        if whole is not None:
            return [whole]
        ranks, size = self._ranks, len(word)
        ends = list(range(1, size + 1))
        before = list(range(-1, size - 1))
        pairs = [
            (rank, start, start + 2)
            for start in range(size - 1)
            if (rank := ranks.get(word[start : start + 2])) is not None
        ]
        heapq.heapify(pairs)
        while pairs:
            _, start, end = heapq.heappop(pairs)
            middle = ends[start]
            if middle == 0 or middle == size or ends[middle] != end:
                continue  # one of the two was joined with another meanwhile
            ends[start], ends[middle] = end, 0
            if end < size:
                before[end] = start
                self._push(pairs, word, start, ends[end])
            if before[start] >= 0:
                self._push(pairs, word, before[start], end)
        return [ranks[word[start : ends[start]]] for start in range(size) if ends[start]]

    def _push(self, pairs: list[tuple[int, int, int]], word: bytes, start: int, end: int) -> None:
        rank = self._ranks.get(word[start:end])
        if rank is not None:
            heapq.heappush(pairs, (rank, start, end))


def _read_ranks(path: Path) -> dict[bytes, int]:
    ranks: dict[bytes, int] = {}
    try:
        for line in path.read_bytes().splitlines():
            if line.strip():
                token, rank = line.split()
                # Whisper's last line is padding without a token, which b64decode reads as nothing
                ranks[base64.b64decode(token)] = int(rank)
    except (OSError, ValueError, binascii.Error) as error:
        raise ModelFormatError(
            f"cannot read the text vocabulary {path}: {error}",
            hint="each line holds a token in base64 and its rank; download it again",
        ) from error
    missing = sum(bytes([value]) not in ranks for value in range(256))
    if missing or sorted(ranks.values()) != list(range(len(ranks))):
        raise ModelFormatError(
            f"the text vocabulary {path} is damaged: {len(ranks)} tokens, {missing} bytes missing",
            hint="download it again",
        )
    return ranks


def _whisper_words() -> PreTokenizer:
    from tokenizers import Regex
    from tokenizers.pre_tokenizers import Split

    return Split(Regex(_WHISPER_WORDS), behavior="isolated")


def _load_qwen2(folder: Path) -> Tokenizer:
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

    vocab, merges, whole = folder / "vocab.json", folder / "merges.txt", folder / "tokenizer.json"
    try:
        if not vocab.exists():
            return Tokenizer.from_file(str(whole))
        tokenizer = Tokenizer(models.BPE.from_file(str(vocab), str(merges)))
    except Exception as error:  # the library raises bare Exception
        raise ModelFormatError(
            f"cannot read the text tokenizer in {folder}: {error}",
            hint="vocab.json and merges.txt, or tokenizer.json, must be there; download again",
        ) from error
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_QWEN2_WORDS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer
