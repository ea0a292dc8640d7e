"""The embedded voice beside other small local voices: words understood, DNSMOS, speed.

    python benchmarks/voices.py --count 40

Protocol: every engine speaks the same sentences in the same run; the programs are timed as a
process per sentence, mynah as a loaded model; the recogniser is pocketsphinx with its default
English model. flite and espeak-ng are called as programs and skipped where they are missing.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import tempfile
from functools import partial
from pathlib import Path

from mynah import TTS, Audio
from mynah.audio.io import read_audio
from mynah.evaluation.dnsmos import Dnsmos
from mynah.evaluation.recognizer import Recognizer
from mynah.evaluation.report import Judges, judge, summarise
from mynah.evaluation.sentences import everyday_sentences

PROGRAMS = {
    "flite slt": ["flite", "-voice", "slt", "-t", "{text}", "-o", "{path}"],
    "flite kal": ["flite", "-voice", "kal", "-t", "{text}", "-o", "{path}"],
    "espeak-ng en-us": ["espeak-ng", "-v", "en-us", "-s", "150", "-w", "{path}", "{text}"],
}


def run_program(command: list[str], text: str, seed: int) -> Audio:
    """Speak with another program; the seed has no meaning there."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "speech.wav"
        subprocess.run(
            [part.format(text=text, path=path) for part in command], check=True, capture_output=True
        )
        return read_audio(path)


def main() -> None:
    """Print one row per engine as Markdown, everything as JSON with --json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--json", type=Path, help="write all figures here")
    options = parser.parse_args()
    sentences = everyday_sentences()
    sentences = sentences[:: max(1, len(sentences) // options.count)][: options.count]
    judges = Judges(Recognizer(), Dnsmos())
    rows = {}
    with TTS.load(options.model) as tts:
        tts.synthesize("Warm up.", seed=0)
        speakers = {
            "mynah nano": lambda text, seed: tts.synthesize(text, seed=seed),
            **{name: partial(run_program, command) for name, command in PROGRAMS.items()},
        }
        for name, speak in speakers.items():
            if name in PROGRAMS and shutil.which(PROGRAMS[name][0]) is None:
                continue
            rows[name] = summarise(list(judge(sentences, speak, judges)))
    print(f"{len(sentences)} sentences\n")
    print("| engine | WER | DNSMOS | real-time factor |\n|---|---|---|---|")
    for name, row in rows.items():
        print(
            f"| {name} | {row['word_error_rate']:.3f} | {row['dnsmos_overall']:.2f} "
            f"| {row['real_time_factor']:.3f} |"
        )
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
