"""Write the table of Chinese homophones, ``src/mynah/text/data/homophones_zh.txt``, from pypinyin.

For each syllable the character that has this reading nearly always and is common: it is counted in
the words of pypinyin's phrase dictionary, and only simplified characters of the first level of
GB 2312 (the 3,755 most used) are taken, or failing that a frequent one of the second level.
Syllables without such a character stand alone in a line.

python scripts/make_homophones.py
"""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path

from pypinyin import Style, lazy_pinyin, pinyin
from pypinyin.constants import PHRASES_DICT
from pypinyin.contrib.tone_convert import to_tone3

TABLE = Path(__file__).parent.parent / "src/mynah/text/data/homophones_zh.txt"
DOMINANCE = (0.97, 0.85, 0.7)
"""Least share of the reading among all words with the character: the first that finds one."""


def characters(first_row: int, last_row: int) -> list[str]:
    """Characters of GB 2312; level 1 is in rows 16 to 55, level 2 in rows 56 to 87."""
    rows = (
        bytes([0xA0 + row, 0xA0 + cell])
        for row in range(first_row, last_row + 1)
        for cell in range(1, 95)
    )
    return [text for code in rows if (text := code.decode("gb2312", errors="ignore"))]


def tone3(reading: str) -> str:
    """``háng`` -> ``hang2``; the neutral tone is 5, ü is v."""
    return to_tone3(reading, neutral_tone_with_five=True).replace("ü", "v")


def count_readings() -> dict[str, Counter[str]]:
    """How often each character has each reading in the phrase dictionary."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for phrase, readings in PHRASES_DICT.items():
        if len(phrase) == len(readings):
            for character, reading in zip(phrase, readings, strict=True):
                counts[character][tone3(reading[0])] += 1
    return counts


def usual_reading(character: str) -> str:
    """What pypinyin reads without context."""
    reading = lazy_pinyin(character, style=Style.TONE3, neutral_tone_with_five=True)[0]
    return str(reading).replace("ü", "v")


def main() -> None:
    """Write the table."""
    counts = count_readings()
    best: dict[str, tuple[int, float, str]] = {}
    syllables = set()
    for level, character in (
        *((1, c) for c in characters(16, 55)),
        *((2, c) for c in characters(56, 87)),
    ):
        readings = pinyin(character, style=Style.TONE3, heteronym=True, neutral_tone_with_five=True)
        known = [str(reading).replace("ü", "v") for reading in readings[0]]
        if level == 1:
            syllables.update(known)
        usual, seen = usual_reading(character), counts[character]
        share = seen[usual] / seen.total() if seen else float(known == [usual])
        tier = next((index for index, least in enumerate(DOMINANCE) if share >= least), None)
        if tier is None or (level == 2 and (known != [usual] or seen[usual] < 3)):
            continue
        rank = -tier - (2 * len(DOMINANCE) if level == 2 else 0)
        score = seen[usual] * (2.0 if known == [usual] else 1.0)
        best[usual] = max(best.get(usual, (-99, 0.0, "")), (rank, score, character))
    lines = [f"{s} {best[s][2]}" if s in best else s for s in sorted(syllables)]
    TABLE.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"{len(lines)} syllables, {len(best)} with a homophone")


if __name__ == "__main__":
    main()
