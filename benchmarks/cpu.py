"""CosyVoice2-0.5B and the embedded voice on this CPU, beside the official code in the same run.

    python -m recipes.random_models --generation 2 --size full /tmp/official
    mynah convert /tmp/official --out /tmp/cosyvoice2
    python benchmarks/cpu.py --model /tmp/cosyvoice2 --official ~/CosyVoice --official-python \
        ~/CosyVoice/.venv/bin/python --json cpu.json

Speed does not depend on the weights, so any converted CosyVoice2 folder will do. Without
``--official`` no ratio is printed, without ``--model`` only the embedded voice is measured.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mynah import TTS
from mynah.cli.bench import run_once
from mynah.cli.checks import environment

PROTOCOL = """\
One utterance of {tokens} tokens ({seconds:.0f} s), {text_ids} text ids, a saved voice of
{prompt_tokens} tokens that is prepared before, {threads} threads, medians of {runs} fresh
processes (least and greatest in brackets), the second utterance of that length in each. Streams
go to a listener who takes each chunk at once. First audio: from the request to the first samples.
RTF: time until the last samples / length of the audio. Ready: from starting Python to being able to
speak. Memory: peak resident size up to the end of the second {seconds:.0f} s stream. The official
code runs on the same inputs, in one process that has spoken 2 s before, medians of {official_runs}:
"fixed" with its chunk size set back before each request, "as shipped" after it has grown."""
HERE = Path(__file__).parent


def main() -> None:
    """Measure, print Markdown, write JSON where asked."""
    options = _options()
    job = {
        "model": options.model, "threads": options.threads, "tokens": options.tokens,
        "text_ids": 60, "prompt_text_ids": 17, "prompt_tokens": 75,
        "options": json.loads(options.options), "backend": "auto",
    }  # fmt: skip
    report: dict[str, Any] = {
        "date": datetime.now(UTC).date().isoformat(),
        "command": "python " + " ".join(sys.argv),
        "environment": environment(),
        "protocol": PROTOCOL.format(
            **job | {"seconds": options.tokens / 25}, runs=options.runs,
            official_runs=options.official_runs,
        ),
    }  # fmt: skip
    if options.model:
        report |= _full_size(options, job)
    if not options.skip_embedded:
        report["embedded"] = _embedded(options.runs)
    if options.json:
        Path(options.json).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(_markdown(report))


def _full_size(options: argparse.Namespace, job: dict[str, Any]) -> dict[str, Any]:
    ours = []
    for number in range(options.runs):
        _progress(f"mynah, process {number + 1} of {options.runs}")
        ours.append(_measure("cpu_worker.py", sys.executable, job | {"more": True}))
    report: dict[str, Any] = {"mynah": _median(ours), "mynah_runs": ours}
    if options.onnx_runs:
        runs = []
        for number in range(options.onnx_runs):
            _progress(f"mynah by ONNX Runtime, process {number + 1} of {options.onnx_runs}")
            plain = job | {"backend": "onnx", "more": False}
            runs.append(_measure("cpu_worker.py", sys.executable, plain))
        report["onnx"] = _median(runs)
    if options.official:
        report["official"] = _official(options, job)
    return report


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--model", help="folder of a converted CosyVoice2 model; without it the embedded voice only"
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=250, help="25 make a second")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--options", default="{}", help="JSON, passed on to build_model")
    parser.add_argument("--official", help="folder of the official code")
    parser.add_argument("--official-python", default=sys.executable)
    parser.add_argument("--official-runs", type=int, default=2)
    parser.add_argument("--onnx-runs", type=int, default=0, help="the same by ONNX Runtime alone")
    parser.add_argument("--skip-embedded", action="store_true")
    parser.add_argument("--json", help="file for everything measured")
    return parser.parse_args()


def _measure(script: str, python: str, job: dict[str, Any], folder: str | None = None) -> Any:
    """Run a worker in a process of its own; its last line of output is the result."""
    environment = dict(os.environ, OMP_NUM_THREADS=str(job["threads"]))
    job = job | {"started": time.time()}
    done = subprocess.run(
        [python, str(HERE / script)], input=json.dumps(job), cwd=folder, env=environment,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"{script} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def _official(options: argparse.Namespace, job: dict[str, Any]) -> Any:
    _progress("the official code; this takes many minutes")
    path = str(Path(options.official).resolve())
    more = {"path": path, "runs": options.official_runs, "long": False}
    result = _measure("official_worker.py", options.official_python, job | more, path)
    return {
        key: _median(value) if isinstance(value, list) and value else value
        for key, value in result.items()
    }


def _embedded(runs: int) -> dict[str, Any]:
    job = {
        "model": "nano", "backend": "auto", "device": "cpu", "threads": None, "voice": None,
        "text": "The quickest way to the harbor is down the hill and across the old bridge. "
        "If it rains, wait under the roof of the market, and I will come to meet you there.",
    }  # fmt: skip
    _progress("the embedded voice")
    result: dict[str, Any] = _median([run_once(job) for _ in range(runs)])
    result["streams"] = {str(count): _underruns(count, job["text"]) for count in (4, 8)}
    return result


def _underruns(count: int, text: str) -> dict[str, float]:
    """Let ``count`` streams run at once, each played in real time from its first chunk on."""
    late, first, lock = [], [], threading.Lock()
    with TTS.load() as tts:
        tts.synthesize("Ready.", seed=0)

        def listen(seed: int) -> None:
            asked = time.perf_counter()
            start, heard, worst = 0.0, 0.0, 0.0
            for chunk in tts.stream(text, seed=seed):
                now = time.perf_counter()
                if not start:
                    start = now
                worst = max(worst, now - start - heard)
                heard += chunk.audio.duration_s
            with lock:
                late.append(worst)
                first.append(start - asked)

        threads = [threading.Thread(target=listen, args=(seed,)) for seed in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return {
        "streams_with_underrun": sum(seconds > 0 for seconds in late),
        "worst_gap_s": max(late),
        "slowest_first_audio_s": max(first),
    }


def _median(runs: list[Any]) -> Any:
    """Medians of equal structures of numbers."""
    if isinstance(runs[0], dict):
        return {key: _median([run[key] for run in runs]) for key in runs[0]}
    return statistics.median(runs)


def _markdown(report: dict[str, Any]) -> str:
    lines = [f"Measured {report['date']}: `{report['command']}`", ""]
    lines += [f"- {name}: {value}" for name, value in report["environment"].items()]
    if "mynah" in report:
        lines += _full_size_rows(report)
    if "embedded" in report:
        lines += _embedded_rows(report["embedded"])
    return "\n".join(lines)


def _growth(runs: list[dict[str, Any]], long: str, once: str) -> str:
    """Median, least and greatest of what each process found, as the hour changes between them."""
    found = sorted(run[long]["rtf"] / run[once]["rtf"] for run in runs)
    median, rtf = statistics.median(found), statistics.median(run[long]["rtf"] for run in runs)
    return f"{median:.2f} ({found[0]:.2f}-{found[-1]:.2f}); RTF {rtf:.2f}"


def _full_size_rows(report: dict[str, Any]) -> list[str]:
    ours, official, runs = report["mynah"], report.get("official"), report["mynah_runs"]
    stream, stages, whole = ours["stream"], ours["stages_s"], ours["whole"]
    rows = [
        ("first audio", f"{_spread(runs, 'stream', 'first_audio_s')} s", "<= 0.9 s",
         _pair(official, "first_audio_s", "s"), _ratio(official, "first_audio_s", stream)),
        ("streaming RTF", _spread(runs, "stream", "rtf"), "<= 0.75",
         _pair(official, "rtf", ""), _ratio(official, "rtf", stream)),
        ("the same, first utterance of a process",
         f"{ours['cold']['first_audio_s']:.2f} s, {ours['cold']['rtf']:.2f}", "", "", ""),
        ("silence in all for who plays from the first samples on",
         f"{_spread(runs, 'stream', 'silence_s')} s", "", "", ""),
        ("RTF, three times as long / once", _growth(runs, "long", "stream"), "<= 1.2", "", ""),
        ("the same, first utterance of each length", _growth(runs, "cold_long", "cold"),
         "", "", ""),
        ("offline RTF", _spread(runs, "whole", "rtf"), "<= 0.7",
         f"{official['offline']['rtf']:.2f}" if official else "",
         f"{official['offline']['rtf'] / whole['rtf']:.1f} x" if official else ""),
        ("offline RTF, a text of six utterances of 4 s", _spread(runs, "sentences", "rtf"),
         "", "", ""),
        ("the same, streamed", _spread(runs, "sentences_stream", "rtf"), "", "", ""),
        *(
            (f"LM tokens/s at context 200, batch {batch}", f"{speed:.0f}",
             {"1": ">= 80", "4": ">= 220"}.get(batch, ""),
             f"{official['lm_tokens_per_s']:.1f}" if official and batch == "1" else "",
             f"{speed / official['lm_tokens_per_s']:.1f} x" if official and batch == "1" else "")
            for batch, speed in ours["lm_tokens_per_s"].items()
        ),
        ("peak memory", f"{ours['peak_memory_bytes'] / 1e9:.2f} GB", "<= 1.6 GB",
         f"{official['peak_memory_bytes'] / 1e9:.2f} GB" if official else "",
         f"{official['peak_memory_bytes'] / ours['peak_memory_bytes']:.1f} x" if official else ""),
        ("ready", f"{ours['ready_s']:.2f} s", "<= 3 s",
         f"{official['ready_s']:.1f} s" if official else "",
         f"{official['ready_s'] / ours['ready_s']:.1f} x" if official else ""),
        ("files for synthesis", f"{ours['disk_bytes'] / 1e9:.2f} GB", "<= 0.75 GB", "", ""),
    ]  # fmt: skip
    lines = ["", report["protocol"], "", "## CosyVoice2-0.5B, random weights at full size", ""]
    lines += _table(("figure", "mynah", "target", "official (fixed / as shipped)", "ratio"), rows)
    beside = stages.pop("LM beside the audio")
    rest = stream["total_s"] - sum(stages.values())
    parts = [*stages.items(), ("Python and the rest", rest)]
    lines += ["", "## Where the time of the stream goes", ""]
    lines += _table(
        ("stage", "seconds", "share"),
        [(name, f"{s:.2f}", f"{s / stream['total_s']:.0%}") for name, s in parts]
        + [("whole", f"{stream['total_s']:.2f}", "100%")],
    )
    lines += ["", f"Tokens were made beside flow and vocoder for {beside:.2f} s of this time."]
    if "onnx" in report:
        lines += _onnx_rows(report["onnx"], ours)
    return lines


def _onnx_rows(onnx: dict[str, Any], ours: dict[str, Any]) -> list[str]:
    """The same stream without native kernels, and how many times as long it takes."""
    pairs = [
        ("first audio, s", onnx["stream"]["first_audio_s"], ours["stream"]["first_audio_s"]),
        ("streaming RTF", onnx["stream"]["rtf"], ours["stream"]["rtf"]),
        ("peak memory, GB", onnx["peak_memory_bytes"] / 1e9, ours["peak_memory_bytes"] / 1e9),
        ("ready, s", onnx["ready_s"], ours["ready_s"]),
    ]
    rows = [(name, f"{a:.2f}", f"{b:.2f}", f"{a / b:.1f} x") for name, a, b in pairs]
    head = ("figure", "ONNX Runtime", "mynah", "ratio")
    return ["", "## By ONNX Runtime alone", "", *_table(head, rows)]


def _embedded_rows(found: dict[str, Any]) -> list[str]:
    rows = [
        ("first audio", f"{1000 * found['first_audio_s']:.0f} ms", "<= 150 ms"),
        ("RTF", f"{found['real_time_factor']:.3f}", "<= 0.1"),
        ("ready", f"{found['start_up_s']:.2f} s", "<= 1 s"),
        ("peak memory", f"{found['peak_memory_bytes'] / 1e6:.0f} MB", "<= 250 MB"),
    ]
    for count, streams in found["streams"].items():
        late = int(streams["streams_with_underrun"])
        text = f"{late} with underrun, first audio at most {streams['slowest_first_audio_s']:.2f} s"
        rows.append((f"{count} streams at once", text, "no underrun" if count == "4" else ""))
    return ["", "## The embedded voice", "", *_table(("figure", "mynah", "target"), rows)]


def _spread(runs: list[dict[str, Any]], part: str, key: str) -> str:
    values = [run[part][key] for run in runs]
    return f"{statistics.median(values):.2f} ({min(values):.2f}-{max(values):.2f})"


def _pair(official: dict[str, Any] | None, key: str, unit: str) -> str:
    if official is None:
        return ""
    return f"{official['fixed'][key]:.1f} / {official['as_shipped'][key]:.1f} {unit}".rstrip()


def _ratio(official: dict[str, Any] | None, key: str, ours: dict[str, float]) -> str:
    if official is None:
        return ""
    return " / ".join(
        f"{official[kind][key] / ours[key]:.1f} x" for kind in ("fixed", "as_shipped")
    )


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    lines = [" | ".join(head), " | ".join("---" for _ in head), *(" | ".join(r) for r in rows)]
    return [f"| {line} |" for line in lines]


def _progress(text: str) -> None:
    print(text, file=sys.stderr)


if __name__ == "__main__":
    main()
