"""The vocoder's networks on the native kernels, every frame computed once."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mynah.backends.base import CropArray
from mynah.backends.native.kernels import Guard, Threads
from mynah.backends.native.row_convolutions import MOST_DISTANCE
from mynah.backends.native.row_operations import MOST_JOINED
from mynah.backends.native.row_program import Counts, Piece
from mynah.backends.native.vocoder_f0 import NativeF0
from mynah.backends.native.vocoder_program import DecoderProgram, hann
from mynah.backends.native.vocoder_weights import (
    decode_names,
    decode_weights,
    f0_names,
    f0_weights,
)
from mynah.backends.onnx.tensors import map_tensors
from mynah.config import VocoderConfig
from mynah.errors import BackendError, ModelFormatError
from mynah.types import FloatArray

FRAMES_AT_ONCE = 50
"""New frames of one run of the program, as many as the flow makes at once; bounds its memory."""
_FAR = 1000  # frames: far from the start of an utterance


def vocoder_obstacle(folder: Path, config: VocoderConfig) -> str | None:
    """Why the vocoder of a model folder cannot run here; None if it can.

    Raises:
        ModelNotFoundError: if a graph is missing.
        ModelFormatError: if one is damaged.
    """
    dilations = [*config.resblock_dilations, *config.source_resblock_dilations]
    if max(max(each) for each in dilations) > MOST_DISTANCE:
        return f"a dilation is larger than {MOST_DISTANCE}"
    if len(config.resblock_dilations) > MOST_JOINED:
        count = len(config.resblock_dilations)
        return f"there are {count} residual blocks in a stage, more than {MOST_JOINED}"
    for weights, names in (
        (decode_weights(folder, config), decode_names(config)),
        (f0_weights(folder, config), f0_names(config)),
    ):
        missing = next((name for name in names if name not in weights), None)
        if missing is not None:
            return f"the graph has no weight {missing} (convert the model again)"
    return None


def load_native_vocoder(folder: Path, config: VocoderConfig, threads: Threads) -> NativeVocoder:
    """Load from a model folder for which ``vocoder_obstacle`` knows none.

    Raises:
        ModelNotFoundError: if a file is missing.
        ModelFormatError: if one is damaged, or has other weights than ``config`` says.
    """
    return NativeVocoder(folder, config, threads)


@dataclass(eq=False)
class DecoderState:
    """What one utterance keeps between calls of ``decode_next``."""

    kept: FloatArray
    """Rows of the network that are read again."""
    counts: list[int]
    """Rows of every sequence so far."""
    mel: FloatArray
    """Frames that have not entered the network, (frames, n_mels)."""
    source: FloatArray
    """Samples likewise, and half a window of those that have, (N, signals)."""
    sums: FloatArray
    """Overlapping pieces of the signal that are not complete, (parts - 1, hop)."""
    powers: FloatArray
    """Squares of the window, added up likewise."""
    frames: int = 0
    """Mel frames received."""
    samples: int = 0
    """Source samples received."""
    decoded: int = 0
    """Frames of audio that are done."""
    given: int = 0
    """Samples that have come out."""
    pending: FloatArray = field(default_factory=lambda: np.zeros(0, np.float32))
    """Those of a frame that is not complete."""
    skipped: int = 0
    """Samples before the first one that have been left out."""
    finished: bool = False


class NativeVocoder:
    """``IncrementalVocoderNetwork`` on the weights of the ONNX graphs."""

    def __init__(self, folder: Path, config: VocoderConfig, threads: Threads) -> None:
        """See ``load_native_vocoder``."""
        self._config, self._threads = config, threads
        self._guard = Guard()
        self._f0 = NativeF0(f0_weights(folder, config), config, threads)
        self._program = DecoderProgram(config, decode_weights(folder, config))
        self._ahead = self._look_ahead()
        self._program.build(self._extremes())
        self._window_power = np.square(hann(config.n_fft)).astype(np.float32)
        self._mix = _read_source(folder / "vocoder_source.safetensors")

    def f0(self, mel: FloatArray) -> FloatArray:
        """Fundamental frequency in Hz, (F, n_mels) -> (F,)."""
        return self._f0(mel)

    def excitation(self, harmonics: FloatArray) -> FloatArray:
        """Mix harmonics to one source signal, (N, num_harmonics + 1) -> (N,).

        Where the model keeps pulses and noise apart, (N, 2) is returned as it is.
        """
        if self._mix is None:
            return harmonics
        weight, bias = self._mix
        source: FloatArray = np.tanh(harmonics @ weight + bias)
        return source

    def decode(
        self, mel: FloatArray, source: FloatArray, crops: CropArray | None = None
    ) -> FloatArray:
        """Waveform from mel (F, n_mels) and source (N,), or (N, 2); see ``VocoderNetwork``."""
        audio = self.decode_next(mel, source, self.new_decoder_state(), final=True)
        if crops is None or not len(crops):
            return audio
        size = self._config.upsample_rates[-1] * self._config.hop_length
        return audio[crops[-1, 0] * size : crops[-1, 1] * size]

    def new_decoder_state(self) -> DecoderState:
        """State of an utterance of which nothing is decoded."""
        config, program = self._config, self._program
        overlap = (config.n_fft // config.hop_length - 1, config.hop_length)
        return DecoderState(
            kept=np.zeros(program.state_floats, np.float32),
            counts=[0] * len(program.sequences),
            mel=np.zeros((0, config.n_mels), np.float32),
            source=np.zeros((0, len(program.signals)), np.float32),
            sums=np.zeros(overlap, np.float32),
            powers=np.zeros(overlap, np.float32),
        )

    def decode_next(
        self, mel: FloatArray, source: FloatArray, state: DecoderState, *, final: bool
    ) -> FloatArray:
        """Append mel frames (F, n_mels) and source (N,), or (N, 2); see the protocol.

        Raises:
            BackendError: if a shape is wrong.
        """
        if state.finished:
            raise ValueError("the utterance has ended; start a new state")
        size = self._config.samples_per_frame
        self._receive(mel, source, state)
        sourced = state.samples // size
        made, (mel_ahead, source_ahead) = [state.pending], self._ahead
        certain = min(state.frames - mel_ahead, sourced - source_ahead)
        while state.decoded < certain:
            done = min(state.decoded + FRAMES_AT_ONCE, certain)
            made.append(self._run(state, done + mel_ahead, done + source_ahead, final=False))
            state.decoded = done
        if final:
            if state.frames * size != state.samples:
                raise BackendError(f"{state.frames} mel frames with {state.samples} samples")
            state.finished, state.decoded = True, state.frames
            if state.frames:
                made.append(self._run(state, state.frames, state.frames, final=True))
        samples = np.concatenate(made)
        whole = state.decoded * size - state.given
        state.given += whole
        state.pending = samples[whole:].copy()
        limit = self._config.audio_limit
        return np.clip(samples[:whole], -limit, limit)

    def _receive(self, mel: FloatArray, source: FloatArray, state: DecoderState) -> None:
        source = source.reshape(len(source), -1) if len(source) else state.source[:0]
        mels, signals = self._config.n_mels, len(self._program.signals)
        if mel.ndim != 2 or mel.shape[1] != mels or source.shape[1] != signals:
            raise BackendError(
                f"mel has shape {mel.shape} and source {source.shape}, "
                f"not (frames, {mels}) and (samples, {signals})"
            )
        state.frames += len(mel)
        state.samples += len(source)
        if len(mel):
            state.mel = np.concatenate([state.mel, mel])
        if len(source):
            state.source = np.concatenate([state.source, source])

    def _run(self, state: DecoderState, frames: int, sourced: int, *, final: bool) -> FloatArray:
        """Decode as far as so many frames of mel and source allow; returns new samples."""
        program, config = self._program, self._config
        after = program.advance(self._lengths(frames, sourced, final=final), final=final)
        piece = program.piece(state.counts, after, final=final)
        before = state.counts
        mel, entered = program.mel, frames - before[program.mel.index]
        rows = (state.mel[:entered] - np.float32(config.mel_mean)) / np.float32(config.mel_std)
        signals = self._reflected(state, before, after)
        columns = after[program.frames.index] - before[program.frames.index]
        with self._guard:
            at = before[mel.index] - piece.bases[mel.index]
            mel.rows(at, entered)[:, : config.n_mels] = rows
            for signal, values in zip(program.signals, signals.T, strict=True):
                at = before[signal.index] - piece.bases[signal.index]
                signal.rows(at, len(values))[:, 0] = values
            program.run(self._threads, piece, state.kept)
            made = program.frames.rows(0, columns)[:, : config.n_fft].copy()
        state.counts = after
        state.mel = state.mel[entered:].copy()
        return self._overlapped(made, state, final=final)

    def _reflected(self, state: DecoderState, before: Counts, after: Counts) -> FloatArray:
        """Samples that enter now, (N, signals); both ends are reflected by half a window."""
        index, half = self._program.signals[0].index, self._config.n_fft // 2
        first = state.samples - len(state.source)
        places = np.abs(np.arange(before[index], after[index]) - half)
        places = np.where(places < state.samples, places, 2 * (state.samples - 1) - places)
        entering: FloatArray = state.source[places - first]
        keep = max(min(after[index] - half, state.samples) - half - 1, first)
        state.source = state.source[keep - first :].copy()
        return entering

    def _overlapped(self, frames: FloatArray, state: DecoderState, *, final: bool) -> FloatArray:
        """Add windowed frames (columns, n_fft) to what is not complete; returns what is."""
        half, count = self._config.n_fft // 2, len(frames)
        sums = _overlap(state.sums, frames)
        powers = _overlap(state.powers, np.broadcast_to(self._window_power, frames.shape))
        whole = len(sums) if final else count
        first = min(half - state.skipped, whole * sums.shape[1])
        stop = whole * sums.shape[1] - (half if final else 0)
        state.sums, state.powers = sums[whole:], powers[whole:]
        state.skipped += first
        made: FloatArray = sums[:whole].reshape(-1)[first:stop]
        return made / powers[:whole].reshape(-1)[first:stop]

    def _lengths(self, frames: int, sourced: int, *, final: bool) -> list[int]:
        """Rows of the program's inputs for so many frames of mel and source."""
        half = self._config.n_fft // 2
        samples = sourced * self._config.samples_per_frame
        padded = samples + (2 * half if final else half)
        # reflection reads as many samples as half a window has, beside the first one
        signal = padded if final or samples > half else 0
        return [frames, *[signal] * len(self._program.signals)]

    def _certain(self, frames: int, sourced: int) -> int:
        """Samples that so many frames of mel and source make certain."""
        counts = self._program.advance(self._lengths(frames, sourced, final=False), final=False)
        config = self._config
        columns = counts[self._program.frames.index]
        return columns * config.hop_length - config.n_fft // 2

    def _look_ahead(self) -> tuple[int, int]:
        """Frames of mel, and of source, beyond one whose samples are certain."""
        samples = _FAR * self._config.samples_per_frame
        ahead = range(_FAR)
        mel = next(a for a in ahead if self._certain(_FAR + a, 2 * _FAR) >= samples)
        source = next(a for a in ahead if self._certain(2 * _FAR, _FAR + a) >= samples)
        return mel, source

    def _extremes(self) -> list[Piece]:
        """Runs that need the most memory: the longest one, and the last one, at any place."""
        program, (mel, source), last = self._program, self._ahead, max(self._ahead)

        def counts(done: int, ahead: tuple[int, int], *, final: bool = False) -> list[int]:
            lengths = self._lengths(done + ahead[0], done + ahead[1], final=final)
            return program.advance(lengths, final=final)

        pieces, nothing = [], [0] * len(program.sequences)
        for done in (0, *range(1, last + 2), _FAR):
            before = counts(done, (mel, source)) if done else nothing
            following = counts(done + FRAMES_AT_ONCE, (mel, source))
            pieces.append(program.piece(before, following, final=False))
            ends = counts(done, (max(last, 1),) * 2, final=True)
            pieces.append(program.piece(before, ends, final=True))
        return pieces


def _overlap(before: FloatArray, frames: FloatArray) -> FloatArray:
    """Sums of overlapping frames (columns, parts * hop), (columns + parts - 1, hop)."""
    parts, hop = len(before) + 1, before.shape[1]
    sums = np.zeros((len(frames) + parts - 1, hop), np.float32)
    sums[: parts - 1] = before
    for part in range(parts):
        sums[part : part + len(frames)] += frames[:, part * hop : (part + 1) * hop]
    return sums


def _read_source(path: Path) -> tuple[FloatArray, FloatArray] | None:
    """Weight (num_harmonics + 1,) and bias (1,) of the mix of harmonics, if the model has one."""
    tensors = map_tensors(path)
    if not tensors:
        return None
    if set(tensors) != {"weight", "bias"}:
        raise ModelFormatError(f"{path} holds {sorted(tensors)}, not weight and bias")
    # copies: a handful of numbers, and no file stays mapped
    return np.array(tensors["weight"][0], np.float32), np.array(tensors["bias"], np.float32)
