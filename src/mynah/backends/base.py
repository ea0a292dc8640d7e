"""What a backend must provide: network calls, and nothing else.

Prompt layout, sampling, guidance, the solver, chunk sizes and stop rules live above, once.
Time is axis 0 of every array here; there is no batch axis unless one is named.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

import numpy as np
import numpy.typing as npt

from mynah.types import FloatArray, TokenArray

__all__ = [
    "NO_IDS",
    "SOS_MARKER",
    "TASK_MARKER",
    "Backend",
    "BatchedFlowNetwork",
    "BatchedVocoderNetwork",
    "CropArray",
    "Cursor",
    "DeviceArray",
    "FloatArray",
    "FlowNetwork",
    "IncrementalVocoderNetwork",
    "RegulatedFlowNetwork",
    "Segment",
    "SpeakerEncoder",
    "SpeechLM",
    "SpeechTokenizer",
    "State",
    "StorableFlowNetwork",
    "StoredArray",
    "TokenArray",
    "VocoderNetwork",
    "joined_text",
]

DeviceArray: TypeAlias = Any  # np.ndarray or torch.Tensor; shared code uses only + - * on it
StoredArray: TypeAlias = npt.NDArray[Any]
CropArray: TypeAlias = npt.NDArray[np.int64]
State: TypeAlias = Any  # made by a backend, held by one session, opaque to everyone else

SOS_MARKER = 0
"""Marker id that opens a language model sequence."""
TASK_MARKER = 1
"""Marker id after the text: speech follows."""

NO_IDS: TokenArray = np.zeros(0, dtype=np.int64)
NO_IDS.setflags(write=False)


@dataclass(frozen=True)
class Cursor:
    """Where a pointer model stands in the text, for the token about to be made."""

    position: int
    """Index of the text position being spoken."""
    dwell: int
    """Tokens already made on this position."""


@dataclass(frozen=True, eq=False)
class Segment:
    """A run of positions of one kind in the language model's input.

    ``ids`` is (T,): text ids, speech ids, or marker ids (0 = sos, 1 = task). A ``speaker`` segment
    has no ids but a ``vector`` (speaker_dim,) and is one position long.
    """

    kind: Literal["text", "speech", "marker", "speaker"]
    ids: TokenArray
    vector: FloatArray | None = None

    def __len__(self) -> int:
        return 1 if self.kind == "speaker" else len(self.ids)


def joined_text(segments: Sequence[Segment]) -> list[Segment]:
    """The same input with neighbouring text segments made one.

    A text encoder must read a transcript and the text that follows it in one run.
    """
    joined: list[Segment] = []
    for segment in segments:
        if joined and segment.kind == joined[-1].kind == "text":
            segment = Segment("text", np.concatenate([joined.pop().ids, segment.ids]))
        joined.append(segment)
    return joined


class SpeechLM(Protocol):
    """The language model: text and speech in, scores of the next speech token out."""

    def prefill(
        self,
        segments: Sequence[Segment],
        state: State | None = None,
        cursor: Cursor | None = None,
    ) -> tuple[FloatArray, State]:
        """Read segments; return logits (V,) at the last position, and the state.

        Text segments that follow each other are read as one, whatever reads the text.
        With ``state`` the segments are appended to it. ``cursor`` applies to the last position
        only (the task marker of a pointer model).
        """
        ...

    def step(
        self,
        tokens: TokenArray,
        states: Sequence[State],
        cursors: Sequence[Cursor] | None = None,
    ) -> FloatArray:
        """Advance B sequences by one speech token each, (B,) -> (B, V). States change in place."""
        ...

    def advance_logits(self, tokens: TokenArray, states: Sequence[State]) -> FloatArray:
        """Score pointer moves after choosing ``tokens`` (B,) at the last position.

        Returns (B, max_advance + 2): move by 0 .. max_advance, then "speech ends". Only for models
        with ``config.lm.pointer``.
        """
        ...

    def fork(self, state: State) -> State:
        """Copy a state, for example a voice read once and used by many requests."""
        ...


class FlowNetwork(Protocol):
    """The flow matching decoder's networks: token encoder and velocity."""

    def to_device(self, array: FloatArray) -> DeviceArray:
        """Move an array to where the network runs."""
        ...

    def to_numpy(self, array: DeviceArray) -> FloatArray:
        """Bring an array back."""
        ...

    def speaker(self, embedding: FloatArray) -> DeviceArray:
        """Normalise and project a speaker embedding, (192,) -> (80,)."""
        ...

    def new_encoder_state(self) -> State:
        """State of a token encoder that has read nothing."""
        ...

    def new_velocity_state(self, *, guided: bool = True) -> State:
        """State of a velocity network (one Euler step) that has seen no frames.

        Without ``guided`` the unconditional velocity is not needed and need not be computed.
        """
        ...

    def fork(self, state: State) -> State:
        """Copy either state."""
        ...

    def trim(self, state: State, keep_frames: int) -> None:
        """Forget all but the last ``keep_frames`` frames a velocity state attends to."""
        ...

    def encode(self, tokens: TokenArray, lookahead: TokenArray | None, state: State) -> DeviceArray:
        """Encode tokens (T,) to mu at the mel rate, (2T, n_mels) where a token is two frames.

        ``lookahead`` holds the tokens that follow; None = the utterance ends here.
        """
        ...

    def velocity(
        self,
        x: DeviceArray,
        t: float,
        mu: DeviceArray,
        speaker: DeviceArray,
        cond: DeviceArray,
        state: State,
    ) -> tuple[DeviceArray, DeviceArray]:
        """Conditional and unconditional velocity (F, 80) at x, mu, cond (F, 80).

        The state holds both branches and advances by F frames.
        """
        ...


@runtime_checkable
class BatchedFlowNetwork(FlowNetwork, Protocol):
    """A flow that computes several streams in one call, which pays where rows are cheap.

    N streams are padded at the end to the longest of them, and what is there is undefined. Each
    gets what it gets alone, but for the rounding that a matrix product of another shape has:
    within 1e-5 in float32. Values of one stream that are not finite stay its own.
    """

    def stack(self, arrays: Sequence[DeviceArray]) -> DeviceArray:
        """N arrays of one shape as one, (N, ...)."""
        ...

    def encode_many(
        self,
        tokens: Sequence[TokenArray],
        lookaheads: Sequence[TokenArray | None],
        states: Sequence[State],
    ) -> DeviceArray:
        """As ``encode`` for N streams, of any length each: mu (N, F, n_mels)."""
        ...

    def velocity_many(
        self,
        x: DeviceArray,
        t: float,
        mu: DeviceArray,
        speakers: DeviceArray,
        cond: DeviceArray,
        lengths: Sequence[int],
        states: Sequence[State],
    ) -> tuple[DeviceArray, DeviceArray]:
        """As ``velocity`` for N streams at the same time t and with the same branches.

        x, mu, cond (N, F, n_mels), speakers (N, n_mels), ``lengths`` N frames each.
        """
        ...


@runtime_checkable
class StorableFlowNetwork(FlowNetwork, Protocol):
    """A flow whose states can be written down, so that a voice is read once and not once a start.

    Arrays come and go by name. Those that are given back may be views of a file; nobody writes.
    """

    def pack(self, state: State) -> dict[str, StoredArray]:
        """Everything that either state holds."""
        ...

    def unpack_encoder(self, arrays: Mapping[str, StoredArray]) -> State:
        """The encoder state that was packed.

        Raises:
            ModelFormatError: if the arrays are of another model or backend.
        """
        ...

    def unpack_velocity(self, arrays: Mapping[str, StoredArray], *, guided: bool = True) -> State:
        """The velocity state that was packed, made with the same ``guided``.

        Raises:
            ModelFormatError: as ``unpack_encoder``, or if it was made otherwise.
        """
        ...


class RegulatedFlowNetwork(FlowNetwork, Protocol):
    """A flow whose frames are no whole multiple of its tokens (CosyVoice 1); it keeps no state.

    ``encode`` gives one frame for each token, which the pipeline resizes to the mel rate.
    """

    def regulate(self, frames: DeviceArray) -> DeviceArray:
        """Smooth resized frames (F, n_mels) to mu (F, n_mels); every frame sees every other."""
        ...


class VocoderNetwork(Protocol):
    """The vocoder's networks: F0 predictor, source filter, waveform decoder."""

    def f0(self, mel: FloatArray) -> FloatArray:
        """Fundamental frequency in Hz, (F, 80) -> (F,)."""
        ...

    def excitation(self, harmonics: FloatArray) -> FloatArray:
        """Mix harmonics to one source signal, (N, num_harmonics + 1) -> (N,)."""
        ...

    def decode(
        self, mel: FloatArray, source: FloatArray, crops: CropArray | None = None
    ) -> FloatArray:
        """Waveform from mel (F, 80) and source (N,), -> (N,) in [-1, 1].

        ``crops`` (stages - 1, 2) int64 says which positions the up-sampling stages but the first
        read: from, and up to. The waveform is then only as long as the last one of them makes it.
        """
        ...


@runtime_checkable
class BatchedVocoderNetwork(VocoderNetwork, Protocol):
    """A vocoder that computes windows of several streams in one call where their shapes agree.

    Each gets what it gets alone, but for the rounding of another shape.
    """

    def f0_many(self, mels: Sequence[FloatArray]) -> list[FloatArray]:
        """As ``f0`` for each of several mels."""
        ...

    def excitation_many(self, harmonics: Sequence[FloatArray]) -> list[FloatArray]:
        """As ``excitation`` for each of several signals."""
        ...

    def decode_many(
        self, windows: Sequence[tuple[FloatArray, FloatArray, CropArray]]
    ) -> list[FloatArray]:
        """As ``decode`` for each of several windows of mel, source and crops."""
        ...


@runtime_checkable
class IncrementalVocoderNetwork(VocoderNetwork, Protocol):
    """A vocoder that decodes every frame once, and keeps what later ones need of it."""

    def new_decoder_state(self) -> State:
        """State of an utterance of which nothing is decoded."""
        ...

    def decode_next(
        self, mel: FloatArray, source: FloatArray, state: State, *, final: bool
    ) -> FloatArray:
        """Append mel (F, 80) and source (N,) to an utterance; return what is certain now.

        They need not be of the same frames: whole frames of audio come out, in order, as soon as
        the mel and the source that they depend on are there. With ``final`` both end here, at the
        same frame, and the rest comes out. All that is returned for an utterance is what
        ``decode`` makes of the whole.
        """
        ...


class SpeechTokenizer(Protocol):
    """Turns prompt audio features into speech tokens."""

    def tokens(self, log_mel: FloatArray) -> TokenArray:
        """Speech tokens of a log-mel, (T, 128) -> (T // 4,)."""
        ...


class SpeakerEncoder(Protocol):
    """Turns prompt audio features into a speaker embedding."""

    def embed(self, fbank: FloatArray) -> FloatArray:
        """Speaker embedding of a mean-free filter bank, (T, 80) -> (192,)."""
        ...


@dataclass(frozen=True)
class Backend:
    """One loaded model on one device."""

    name: str
    device: str
    lm: SpeechLM
    flow: FlowNetwork
    vocoder: VocoderNetwork
    parallel_calls: int = 1
    """Calls from different threads that do not take each other's processor cores."""
    batches_rendering: bool = False
    """Whether several streams should share the calls of flow and vocoder: it pays where the
    device computes more rows in about the same time."""
    overlaps_stages: bool = False
    """Whether the language model beside the flow or the vocoder, in two threads, takes less time
    than one after the other."""
    splits_guidance: bool = False
    """Whether the flow computes one guidance branch in about half the time of both, and to the bit
    as beside the other: then one that is known need not be computed."""
    reason: str = ""
    """Why these networks run the model, in words; ``mynah bench`` shows it."""
