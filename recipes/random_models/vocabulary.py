"""Byte-pair vocabularies in the two official formats, made here instead of downloaded.

A few thousand merges learned from this project's own word list make English words one or two ids,
and every Chinese character is one id; what is missing to the official size are unreachable entries.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from mynah.text.lexicon import Lexicon

QWEN_BASE = 151643
WHISPER_BASE = 50257
TINY_BASE = 290
_TINY_TEXT = "the of and to in is that hello there world speak mynah one two three voice "
_CJK = range(0x4E00, 0xA000)
_LEARNED = 8000
_EVERY = 4  # of 126,000 words


def byte_characters() -> list[str]:
    """The printable character that stands for each byte (GPT-2's table)."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in plain]
    table = {byte: chr(byte) for byte in plain}
    table |= {byte: chr(256 + index) for index, byte in enumerate(others)}
    return [table[byte] for byte in range(256)]


def build(size: int, *, tiny: bool) -> tuple[list[str], list[tuple[str, str]]]:
    """Entries in the order of their ids, written with ``byte_characters``, and the merges."""
    characters = byte_characters()
    merges = list(_learned(tiny))
    if not tiny:
        merges += _ideographs(characters)
    entries = dict.fromkeys(characters)
    entries.update(dict.fromkeys(a + b for a, b in merges))
    kept = list(entries)[:size]
    known = set(kept)
    merges = [pair for pair in dict.fromkeys(merges) if pair[0] + pair[1] in known]
    kept += [f"\u0120unreachable{index}" for index in range(size - len(kept))]
    return kept, merges


def write_qwen(folder: Path, *, tiny: bool, sizes: Mapping[str, int]) -> int:
    """Write a Hugging Face Qwen2 folder without weights; return the size of the vocabulary."""
    folder.mkdir()
    entries, merges = build(TINY_BASE if tiny else QWEN_BASE, tiny=tiny)
    vocabulary = {entry: index for index, entry in enumerate(entries)}
    _json(folder / "vocab.json", vocabulary)
    text = "#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges)
    (folder / "merges.txt").write_text(text, encoding="utf-8")
    markers = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    added = {
        str(len(entries) + index): {"content": marker, "special": True, "normalized": False}
        for index, marker in enumerate(markers)
    }
    _json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "Qwen2Tokenizer",
            "added_tokens_decoder": added,
            "additional_special_tokens": markers[1:],
            "eos_token": "<|endoftext|>",
            "pad_token": "<|endoftext|>",
            "model_max_length": 32768,
        },
    )
    _json(
        folder / "config.json",
        {
            "architectures": ["Qwen2ForCausalLM"],
            "model_type": "qwen2",
            **sizes,
            "hidden_act": "silu",
            "max_position_embeddings": 32768,
            "rms_norm_eps": 1e-06,
            "rope_theta": 1000000.0,
            "tie_word_embeddings": True,
            "torch_dtype": "bfloat16",
        },
    )
    return len(entries)


def write_whisper(path: Path, *, tiny: bool) -> None:
    """Write a tiktoken file: base64 of the bytes and the rank, one entry a line."""
    entries, _ = build(TINY_BASE if tiny else WHISPER_BASE, tiny=tiny)
    values = {character: byte for byte, character in enumerate(byte_characters())}
    with open(path, "w", encoding="ascii", newline="\n") as file:
        for rank, entry in enumerate(entries):
            data = bytes(values[character] for character in entry)
            file.write(f"{base64.b64encode(data).decode()} {rank}\n")


def _learned(tiny: bool) -> Iterator[tuple[str, str]]:
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    words = _TINY_TEXT.split() if tiny else list(Lexicon.english())[::_EVERY]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    trainer = trainers.BpeTrainer(
        vocab_size=TINY_BASE if tiny else _LEARNED,
        initial_alphabet=sorted(byte_characters()),
        show_progress=False,
        min_frequency=1,
    )
    tokenizer.train_from_iterator(words, trainer)
    for first, second in json.loads(tokenizer.to_str())["model"]["merges"]:
        yield str(first), str(second)


def _ideographs(characters: list[str]) -> list[tuple[str, str]]:
    pairs: dict[tuple[str, str], None] = {}
    wholes = []
    for code in _CJK:
        a, b, c = (characters[byte] for byte in chr(code).encode())
        pairs[a, b] = None
        wholes.append((a + b, c))
    return [*pairs, *wholes]


def _json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
