"""Rank files: merges by rank, Whisper's special tokens, damaged files."""

import base64
from pathlib import Path

import pytest

from mynah.errors import MarkupError, ModelFormatError
from mynah.text.bpe_tokenizer import whisper_tokenizer
from mynah.text.special_tokens import WHISPER
from mynah.text.vocabularies import RANK_FILE, RankVocabulary

MERGES = (b"he", b"ll", b"hell", b"hello", b" hello", "你".encode()[:2], "你".encode(), b"aa")


def write_ranks(folder: Path, *, damage: bytes = b"") -> Path:
    tokens = [bytes([value]) for value in range(256)] + list(MERGES)
    lines = [base64.b64encode(t) + f" {rank}".encode() for rank, t in enumerate(tokens)]
    path = folder / RANK_FILE
    path.write_bytes(b"\n".join([*lines, f"= {len(tokens)}".encode(), damage]))
    return path


def test_merges_by_rank(tmp_path: Path) -> None:
    vocabulary = RankVocabulary(write_ranks(tmp_path))
    assert vocabulary.size == 256 + 8 + 1
    assert vocabulary.encode("hello hello, 你") == [259, 260, 44, 32, 262]
    assert vocabulary.encode("helloo") == [259, 111]
    assert vocabulary.encode("aaa") == [263, 97]
    assert vocabulary.encode("") == []
    assert vocabulary.decode(262) == "你"
    assert vocabulary.decode(261) == "\ufffd"


def test_special_tokens_of_whisper(tmp_path: Path) -> None:
    write_ranks(tmp_path)
    tokenizer = whisper_tokenizer(tmp_path)
    ranks, real = 265, 50257
    assert tokenizer.vocab_size - ranks + real == 51866
    places = {"<|endoftext|>": 50257, "<|zh|>": 50260, "<|yue|>": 50358, "<|transcribe|>": 50360}
    for name, index in {**places, "<|0.00|>": 50365, "<|30.00|>": 51865}.items():
        assert tokenizer.special_id(name) == index - real + ranks
    assert len(WHISPER) == 1609


def test_tags_and_markers_of_cosyvoice1(tmp_path: Path) -> None:
    write_ranks(tmp_path)
    tokenizer = whisper_tokenizer(tmp_path)
    spelled = [ord(c) for c in "[breath]"]
    assert tokenizer.encode("hello[breath]").tolist() == [259, 46, *spelled]
    with pytest.raises(MarkupError, match=r"this model knows \[laughter\]"):
        tokenizer.check("[cough] hello")
    assert tokenizer.language_ids("yue").tolist() == [tokenizer.special_id("<|yue|>")]
    assert len(tokenizer.language_ids("ja")) == len("<|jp|>")
    assert len(tokenizer.language_ids("other")) == 0
    # The marker of an instruction is no token of Whisper: the model reads it spelled.
    ids = tokenizer.encode_template("{text}<|endofprompt|>", "hello").tolist()
    assert ids == [259, *(ord(c) for c in "<|"), *ids[3:-2], *(ord(c) for c in "|>")]


@pytest.mark.parametrize("damage", [b"no rank", b"aGVsbG8= 7", b"!!!! x", b"aGVsbG8= 999999"])
def test_damaged_files(tmp_path: Path, damage: bytes) -> None:
    with pytest.raises(ModelFormatError, match="text vocabulary"):
        RankVocabulary(write_ranks(tmp_path, damage=damage))
    with pytest.raises(ModelFormatError, match="cannot read"):
        RankVocabulary(tmp_path / "nowhere")
