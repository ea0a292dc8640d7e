"""``mynah bench``: first audio, real-time factor, memory and start-up on this machine."""

from __future__ import annotations

import json as json_module
import statistics
import subprocess
import sys
import time
from contextlib import suppress
from typing import Annotated, Any

import typer

from mynah.cli import options
from mynah.cli.failures import MISUSED, code_of
from mynah.errors import BackendError, InvalidRequestError, SynthesisError

TEXT = (
    "The quickest way to the harbor is down the hill and across the old bridge. "
    "If it rains, wait under the roof of the market, and I will come to meet you there."
)
PROTOCOL = (
    "Each run is a fresh process: start-up = from starting the process to the loaded model; then "
    "one short warm-up sentence; then the text is streamed: first audio = from the call to the "
    "first chunk, real-time factor = time for all chunks / length of the audio; memory = peak "
    "resident size of the process. Figures are medians over the runs."
)


def bench(
    runs: Annotated[int, typer.Option("--runs", "-n", min=1, help="Fresh processes.")] = 5,
    text: Annotated[str, typer.Option("--text", help="What is spoken.")] = TEXT,
    voice: Annotated[str | None, typer.Option("--voice", "-v", help="Name of a voice.")] = None,
    json: options.Json = False,
    model: options.Model = "nano",
    backend: options.Backend = "auto",
    device: options.Device = "cpu",
    threads: options.Threads = None,
    quality: options.Quality = "exact",
) -> None:
    """Measure speed and memory; says what the processor offers, and what runs and why.

    The protocol is printed with the figures.
    """
    from mynah.backends.processor import read_processor
    from mynah.cli.checks import environment
    from mynah.cli.console import note, show_facts, show_json

    job = {
        "model": model,
        "backend": backend,
        "device": device,
        "threads": threads,
        "quality": quality,
        "text": text,
        "voice": voice,
    }
    measured, chosen = [], dict[str, str]()
    for number in range(runs):
        if sys.stderr.isatty():
            note(f"run {number + 1} of {runs}")
        figures, chosen = measure_once(job)
        measured.append(figures)
    medians = {
        key: statistics.median([run[key] for run in measured if key in run]) for key in measured[0]
    }
    where, processor = environment(), read_processor()
    offers = {
        "cores": f"{processor.cores}; {processor.cores.usable} can be used",
        "instructions": processor.describe_features(),
    }
    if json:
        show_json(
            {
                "protocol": PROTOCOL,
                "environment": where | offers,
                "job": job,
                "chosen": chosen,
                "median": medians,
                "runs": measured,
            }
        )
        return
    typer.echo(PROTOCOL + "\n")
    show_facts(where | offers | {"model": model, "quality": quality, "runs": runs})
    typer.echo()
    show_facts(chosen)
    typer.echo()
    memory = medians.get("peak_memory_bytes")
    show_facts(
        {
            "start-up": f"{medians['start_up_s']:.2f} s",
            "first audio": f"{1000 * medians['first_audio_s']:.0f} ms",
            "real-time factor": f"{medians['real_time_factor']:.3f}",
            "audio": f"{medians['audio_s']:.2f} s",
            "peak memory": "unknown" if memory is None else f"{memory / 1e6:.0f} MB",
        }
    )


def run_once(job: dict[str, Any]) -> dict[str, float]:
    """The figures of ``measure_once``."""
    return measure_once(job)[0]


def measure_once(job: dict[str, Any]) -> tuple[dict[str, float], dict[str, str]]:
    """Measure in a fresh process; returns the figures, and what ran and why.

    Raises:
        InvalidRequestError: if the process refuses the job; what it said is in the message.
        BackendError: if it fails; likewise.
    """
    started = time.perf_counter()
    worker = subprocess.Popen(
        [sys.executable, "-m", "mynah.cli.bench"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )
    with worker:
        assert worker.stdin is not None, "a pipe was asked for"
        assert worker.stdout is not None, "a pipe was asked for"
        assert worker.stderr is not None, "a pipe was asked for"
        try:
            with suppress(BrokenPipeError):  # it died at once: its stderr tells why
                worker.stdin.write(json_module.dumps(job))
                worker.stdin.close()
            ready = worker.stdout.readline()
            start_up_s = time.perf_counter() - started
            answer = worker.stdout.readline()
            said = worker.stderr.read().strip()
        except BaseException:
            worker.kill()
            raise
    if worker.returncode or not ready or not answer:
        reason = said.splitlines()[-1] if said else "it said nothing"
        if worker.returncode == MISUSED:
            raise InvalidRequestError(reason)
        raise BackendError(f"the measured process failed: {reason}")
    result = json_module.loads(answer)
    return {"start_up_s": start_up_s, **result["figures"]}, result["chosen"]


def work() -> None:
    """The measured process: read the job, say when the model is loaded, speak, report."""
    from mynah.api import TTS
    from mynah.api.loading import load_parts
    from mynah.backends.processor import read_processor
    from mynah.cli.speed import chosen

    job = json_module.load(sys.stdin)
    try:
        folder = options.find(job["model"])
        parts = load_parts(
            folder,
            device=job["device"],
            backend=job["backend"],
            threads=job["threads"],
            left_chunks=None,
            quality=job.get("quality", "exact"),
        )
        backend = parts[0].backend
        with TTS(*parts) as tts:
            typer.echo("ready")
            sys.stdout.flush()
            tts.synthesize("Ready.", job["voice"], seed=0)
            started = time.perf_counter()
            first_audio_s, num_samples = 0.0, 0
            for chunk in tts.stream(job["text"], job["voice"], seed=0):
                if not num_samples and len(chunk.audio):
                    first_audio_s = time.perf_counter() - started
                num_samples += len(chunk.audio)
            audio_s = num_samples / tts.sample_rate
            factor = (time.perf_counter() - started) / audio_s
    except SynthesisError as error:
        typer.echo(str(error), err=True)
        raise SystemExit(code_of(error)) from error
    figures = {"first_audio_s": first_audio_s, "real_time_factor": factor, "audio_s": audio_s}
    if (peak := peak_memory()) is not None:
        figures["peak_memory_bytes"] = peak
    what = chosen(backend, folder, read_processor())
    typer.echo(json_module.dumps({"figures": figures, "chosen": what}))


def peak_memory() -> int | None:
    """Largest resident size of this process so far in bytes; None where the system hides it."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


if __name__ == "__main__":
    work()
