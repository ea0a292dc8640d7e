"""Audio and text -> features with phone timing.

    python -m recipes.nano.prepare human DATA_FOLDER CACHE --lexicon cmudict.dict
    python -m recipes.nano.prepare flite AUDIO.s16 SEGMENTS.tsv CACHE --name flite_a

Human recordings are aligned by pocketsphinx (BSD) with its default English model; flite tells its
own timing. Both give one symbol sequence of `mynah.text.symbols` per clip with end times.
"""

from __future__ import annotations

import argparse
import csv
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile
import soxr
from rich.progress import track

from mynah.audio.features import kaldi_fbank, log_mel, whisper_log_mel
from mynah.config import MelConfig
from mynah.text.symbols import ENGLISH_VOWELS, SYMBOL_IDS
from recipes.nano.store import Clip, Writer

MEL = MelConfig(fmax=None)
VOWELS = {*ENGLISH_VOWELS}
LEADING_S, TRAILING_S = 0.10, 0.16
PUNCTUATION = {",": ",", ";": ",", ":": ",", ".": ".", "?": "?", "!": "!", "-": ","}
Timed = tuple[str, float]  # symbol, end in ms


def read_lexicon(path: Path) -> dict[str, list[list[str]]]:
    """Words to pronunciations with stress, from the CMU dictionary's text format."""
    words: dict[str, list[list[str]]] = {}
    for line in path.read_text(encoding="utf-8", errors="ignore").splitlines():
        word, *phones = line.split("#")[0].split()
        words.setdefault(word.split("(")[0].lower(), []).append(phones)
    return words


def stressed(word: str, phones: list[str], lexicon: dict[str, list[list[str]]]) -> list[str]:
    """Add stress marks to an aligned pronunciation from the matching dictionary entry."""
    for variant in lexicon.get(word, []):
        if [re.sub(r"\d", "", phone) for phone in variant] == phones:
            return [re.sub("2", "1", phone) for phone in variant]
    result, placed = [], len(phones) < 3
    for phone in phones:
        if phone not in VOWELS:
            result.append(phone)
        else:
            result.append(phone + ("0" if placed else "1"))
            placed = True
    return result


def layout(words: list[tuple[list[Timed], str]], lead_ms: float, total_ms: float) -> list[Timed]:
    """Words (phones with end times, punctuation after) -> symbols with end times.

    A silence after a word belongs to its punctuation, or to an added comma; the last one to
    the end-of-speech symbol.
    """
    out: list[Timed] = [("<s>", lead_ms)]
    for index, (phones, punctuation) in enumerate(words):
        mark = next((PUNCTUATION[c] for c in reversed(punctuation) if c in PUNCTUATION), "")
        for number, (phone, end) in enumerate(p for p in phones if p[0] != "SIL"):
            out.append((("_" if number == 0 else "") + phone, end))
        silence = phones[-1][1] if phones and phones[-1][0] == "SIL" else None
        if index == len(words) - 1:
            out.append((mark or ".", out[-1][1]))
        elif mark or (silence is not None and silence - out[-1][1] > 50):
            out.append((mark or ",", silence or out[-1][1]))
        elif silence is not None:
            out[-1] = (out[-1][0], silence)
    out.append(("</s>", total_ms))
    return out


def add(writer: Writer, clip: Clip, samples: np.ndarray, rate: int, timed: list[Timed]) -> None:
    """Trim or pad the edges, compute the features, store the clip."""
    peak = float(np.abs(samples).max())
    if peak < 1e-3:
        return
    samples = samples * (0.7 / peak)
    if timed:
        lead = timed[0][1] / 1000
        speech_end = timed[-3][1] / 1000 if len(timed) > 3 else len(samples) / rate
    else:
        loud = np.flatnonzero(np.abs(samples) > 0.02)
        lead, speech_end = loud[0] / rate, loud[-1] / rate
    first = round((lead - LEADING_S) * rate)
    last = round((speech_end + TRAILING_S) * rate)
    samples = samples[max(first, 0) : last]
    ramp = np.linspace(0, 1, rate // 200)
    samples[: len(ramp)] *= ramp
    samples[-len(ramp) :] *= ramp[::-1]
    samples = np.pad(samples, (max(-first, 0), max(0, round(0.04 * rate))))
    shift_ms = 1000 * first / rate
    at16 = samples if rate == 16000 else soxr.resample(samples, rate, 16000)
    clip.num_tokens = len(at16) // 640
    if not timed:  # nothing is said about the words, so a part will do
        clip.num_tokens = min(clip.num_tokens, 300)
    if clip.num_tokens < 15 or clip.num_tokens > 300:
        return
    noise = np.random.default_rng(clip.num_tokens).standard_normal(len(at16)) * 3e-5
    at16 = (at16 + noise).astype(np.float32)[: clip.num_tokens * 640]
    at24 = samples if rate == 24000 else soxr.resample(samples, rate, 24000)
    at24 = np.pad(at24, (0, 960)).astype(np.float32)[: clip.num_tokens * 960]
    clip.symbols = [SYMBOL_IDS[symbol] for symbol, _ in timed]
    clip.ends_ms = [round(end - shift_ms, 1) for _, end in timed]
    arrays = {
        "whisper": whisper_log_mel(at16),
        "fbank": kaldi_fbank(at16),
        "mel": log_mel(at24, MEL),
    }
    if clip.corpus in ("kathleen", "ljspeech"):
        arrays["samples"] = np.round(at24 * 32767)
    writer.add(clip, **arrays)


def align(decoder: object, text: str, samples16: np.ndarray, lexicon: dict) -> list[Timed]:
    """Force-align a transcript; empty when it fails."""
    tokens = re.findall(r"[A-Za-z']+|[^A-Za-z'\s]+", text)
    words: list[tuple[str, str]] = []
    for token in tokens:
        if re.match(r"[A-Za-z]", token):
            words.append((token.lower(), ""))
        elif words:
            words[-1] = (words[-1][0], token)
    pcm = (samples16 * 32767).astype(np.int16).tobytes()
    words = [(word.strip("'"), mark) for word, mark in words if word.strip("'")]
    if not words or any(decoder.lookup_word(word) is None for word, _ in words):
        return []
    decoder.set_align_text(" ".join(word for word, _ in words))
    for second_pass in (False, True):
        if second_pass:
            decoder.set_alignment()
        decoder.start_utt()
        decoder.process_raw(pcm, full_utt=True)
        decoder.end_utt()
        # asking the second, state-level search for a hypothesis crashes pocketsphinx 5.1
        if not second_pass and decoder.hyp() is None:
            return []
    aligned: list[tuple[list[Timed], str]] = []
    lead, at = 0.0, 0
    for word in decoder.get_alignment():
        end = 10.0 * (word.start + word.duration)
        if word.name in ("<sil>", "<s>", "</s>", "[NOISE]", "[SPEECH]"):
            if aligned:
                aligned[-1][0].append(("SIL", end))
            else:
                lead = end
            continue
        name = re.sub(r"\(\d+\)", "", word.name)
        phones = [phone.name for phone in word]
        marks = stressed(name, phones, lexicon)
        ends = [10.0 * (phone.start + phone.duration) for phone in word]
        aligned.append(
            (list(zip(marks, ends, strict=True)), words[at][1] if at < len(words) else "")
        )
        at += 1
    return layout(aligned, lead, 1000 * len(samples16) / 16000) if at == len(words) else []


def human(options: argparse.Namespace) -> None:
    """Prepare the recorded corpora listed in DATA_FOLDER/manifest.tsv (English only)."""
    from pocketsphinx import Decoder

    decoder = Decoder(loglevel="FATAL")
    lexicon = read_lexicon(options.lexicon)
    with (options.data / "manifest.tsv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file, delimiter="\t") if row["lang"] == "en"]
    for name in options.only or sorted({row["path"].split("/")[0] for row in rows}):
        writer, failed = Writer(options.cache, name), 0
        for row in track([r for r in rows if r["path"].startswith(name)], name):
            samples, rate = soundfile.read(options.data / row["path"], dtype="float32")
            if int(row["sr"]) == 16000:  # narrow content stored at a higher rate
                samples, rate = soxr.resample(samples, rate, 16000), 16000
            timed: list[Timed] = []
            if row["text"]:
                at16 = samples if rate == 16000 else soxr.resample(samples, rate, 16000)
                try:
                    timed = align(decoder, row["text"], at16, lexicon)
                except RuntimeError:  # alignment failed and left the decoder unusable
                    decoder = Decoder(loglevel="FATAL")
                failed += not timed
            clip = Clip(name, row["speaker"], row["split"], row["text"], 0)
            if timed or not row["text"] or row["split"] == "test":
                add(writer, clip, samples, rate, timed)
        writer.close()
        total = sum(clip.num_tokens for clip in writer.clips) / 25 / 3600
        print(f"{name}: {len(writer.clips)} clips, {total:.2f} h, {failed} not aligned", flush=True)


FLITE = {"ax": "AH0", "axr": "ER0", "ix": "IH0", "pau": "SIL"}


def flite_words(fields: list[str]) -> Iterator[tuple[list[Timed], str]]:
    """Group the phone fields of flite_corpus into words; a pause ends its word."""
    phones: list[Timed] = []
    punctuation = ""
    for entry in fields:
        name, stress, initial, end, punc = entry.split(":", 4)
        if initial == "1" and phones:
            yield phones, punctuation
            phones = []
        symbol = FLITE.get(name) or name.upper() + (stress if name.upper() in VOWELS else "")
        if symbol != "SIL":
            punctuation = punc
        phones.append((symbol, float(end)))
    yield phones, punctuation


def flite(options: argparse.Namespace) -> None:
    """Prepare the output of flite_corpus."""
    audio = np.memmap(options.audio, np.int16, "r")
    writer = Writer(options.cache, options.name)
    lines = options.segments.read_text(encoding="utf-8", errors="ignore").splitlines()
    for line in track(lines[options.first : options.last], options.name):
        voice, rate, start, size, text, *fields = line.split("\t")
        if len(fields) < 8 or not fields[0].startswith("pau"):
            continue
        samples = audio[int(start) : int(start) + int(size)].astype(np.float32) / 32768
        lead = float(fields[0].split(":")[3])
        try:
            words = list(flite_words(fields[1:]))
            timed = layout(words, lead, 1000 * len(samples) / int(rate))
            add(writer, Clip("flite", voice, "train", text, 0), samples, int(rate), timed)
        except (KeyError, ValueError) as error:
            print(f"skipped: {error!r}: {text}")
    writer.close()
    total = sum(clip.num_tokens for clip in writer.clips) / 25 / 3600
    print(f"{options.name}: {len(writer.clips)} clips, {total:.2f} h", flush=True)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("human")
    command.add_argument("data", type=Path)
    command.add_argument("cache", type=Path)
    command.add_argument("--lexicon", type=Path, required=True)
    command.add_argument("--only", nargs="*", help="corpora to prepare, default all")
    command.set_defaults(run=human)
    command = commands.add_parser("flite")
    command.add_argument("audio", type=Path)
    command.add_argument("segments", type=Path)
    command.add_argument("cache", type=Path)
    command.add_argument("--name", required=True)
    command.add_argument("--first", type=int, default=0)
    command.add_argument("--last", type=int, default=None)
    command.set_defaults(run=flite)
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()
