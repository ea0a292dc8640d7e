"""Making voices from recordings, and keeping each in one safetensors file."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors.numpy
from safetensors import SafetensorError

from mynah.audio import features
from mynah.audio.io import encode_audio, read_audio
from mynah.audio.pcm import float_to_int16, int16_to_float
from mynah.audio.quality import check_prompt, frame_levels_db, sound_span
from mynah.audio.resample import resample, sinc_resample
from mynah.backends.base import SpeakerEncoder, SpeechTokenizer
from mynah.config import ModelConfig
from mynah.errors import (
    GenerationError,
    InvalidRequestError,
    PromptAudioError,
    UnknownVoiceError,
    UnsupportedFeatureError,
)
from mynah.files import atomic_file
from mynah.types import Audio, TokenArray, Voice

FloatArray = npt.NDArray[np.float32]

VOICE_FORMAT = "mynah-voice"
VOICE_VERSION = 1
VOICE_SUFFIX = ".safetensors"
RECORDING_RATE = 24_000
"""Sample rate of the recordings that voices keep."""
_MAX_FILE_BYTES = 64 << 20
_TENSORS = ("mel", "speaker_embedding", "speech_tokens")
_RECORDING = "recording"
"""Optional: the bytes of a FLAC file."""
_TEXTS = ("name", "model_id", "transcript", "language", "licence", "consent", "created")


@dataclass(frozen=True, slots=True)
class VoiceEncoder:
    """Turns a recording and its words into a voice, with the two encoders of a model."""

    tokenizer: SpeechTokenizer
    speaker_encoder: SpeakerEncoder
    config: ModelConfig

    def encode(
        self,
        audio: Audio,
        *,
        name: str,
        transcript: str = "",
        language: str = "",
        licence: str = "",
        consent: str = "",
        source: str = "prompt audio",
        keep_recording: bool = True,
    ) -> Voice:
        """Make a voice.

        The silence at both ends is cut, then the length is brought to the grid on which the
        token encoder works (25 tokens), if it has one. Where the language model will read the
        tokens beside the transcript, the stretch is filled up with quiet, since a cut word would
        be spoken again; else the end is cut.

        Args:
            audio: 1 to 30 s of speech at 16 kHz or more.
            name: of the voice.
            transcript: the words; "" = cross-lingual use.
            language: BCP 47 code.
            licence: under which the recording may be used.
            consent: note on the speaker's consent.
            source: what to call the recording in messages.
            keep_recording: whether the voice carries its recording, so that another model can make
                the voice its own.

        Raises:
            PromptAudioError: if the recording is unsuitable, naming the measured value.
            GenerationError: if an encoder returns something unusable.
        """
        check_prompt(audio, name=source)
        samples = self._stretch(audio, fill=bool(transcript) and self.config.lm.reads_prompt_speech)
        narrow = sinc_resample(samples, audio.sample_rate, features.FEATURE_RATE)
        wide = sinc_resample(samples, audio.sample_rate, self.config.mel.sample_rate)
        mel = features.log_mel(wide, self.config.mel)
        tokens = read_tokens(self.tokenizer, narrow, self.config)
        embedding = np.asarray(self.speaker_encoder.embed(features.kaldi_fbank(narrow)))
        self._check(embedding)
        count = self._aligned(len(mel), len(tokens))
        if not count:
            raise PromptAudioError(f"{source} gave no speech tokens", hint="use a longer recording")
        return Voice(
            name=name,
            model_id=self.config.model_id,
            transcript=transcript.strip(),
            language=language,
            licence=licence,
            consent=consent,
            speech_tokens=tokens[:count],
            mel=mel[: self.config.num_frames(count)],
            speaker_embedding=embedding,
            version=VOICE_VERSION,
            created=datetime.now(UTC).date().isoformat(),
            recording=kept_recording(audio) if keep_recording else None,
        )

    def remake(self, voice: Voice) -> Voice:
        """Make a voice of another model again for this one, from the recording that it carries.

        Raises:
            UnsupportedFeatureError: if it carries none.
            GenerationError: if an encoder returns something unusable.
        """
        if voice.recording is None:
            raise foreign_voice(voice.name, voice.model_id, self.config.model_id)
        made = self.encode(
            voice.recording,
            name=voice.name,
            transcript=voice.transcript,
            language=voice.language,
            licence=voice.licence,
            consent=voice.consent,
            source=f"the recording of voice {voice.name!r}",
        )
        return replace(made, created=voice.created)

    @property
    def _grid(self) -> int:
        """Tokens of a chunk whose prefix can be computed ahead; 1 = the model has no chunks."""
        flow = self.config.flow
        return 1 if flow.token_mel_ratio is None else flow.encoder.chunk_tokens

    def _aligned(self, num_frames: int, num_tokens: int) -> int:
        """Tokens to keep: as many as have mel frames, whole chunks if there is one."""
        count = num_tokens
        while self.config.num_frames(count) > num_frames:
            count -= 1
        return count - count % self._grid if count >= self._grid else count

    def _stretch(self, audio: Audio, fill: bool) -> FloatArray:
        """Cut silence at the ends; with ``fill``, lengthen to whole chunks (num_samples,)."""
        start, end = sound_span(audio.samples, audio.sample_rate)
        if not fill:
            return audio.samples[start:end]
        chunk_s = self._grid / self.config.token_rate
        chunks = -(-(end - start) // (chunk_s * audio.sample_rate))
        wanted = int(np.ceil(chunks * chunk_s * audio.sample_rate))
        # The recording's own quiet comes first, made-up quiet only for what is missing.
        end = min(len(audio.samples), start + wanted)
        start = max(0, end - wanted)
        samples = audio.samples[start:end]
        quiet_db = np.percentile(frame_levels_db(samples, audio.sample_rate), 10)
        noise = np.random.default_rng(0).standard_normal(wanted - len(samples), dtype=np.float32)
        level = np.float32(10.0 ** (min(float(quiet_db), -50.0) / 20.0))
        return np.concatenate([samples, noise * level])

    def _check(self, embedding: npt.NDArray[Any]) -> None:
        expected = (self.config.flow.speaker_dim,)
        if embedding.shape != expected or not np.isfinite(embedding).all():
            raise GenerationError(
                f"the speaker encoder returned {embedding.shape} with "
                f"{int((~np.isfinite(embedding)).sum())} NaN, expected {expected}",
                hint="the model's files do not belong together; install it again",
            )


@dataclass(frozen=True, slots=True)
class VoiceInfo:
    """What can be said about a voice file without loading it."""

    name: str
    path: Path
    builtin: bool
    model_id: str = ""
    transcript: str = ""
    language: str = ""
    licence: str = ""
    consent: str = ""
    created: str = ""
    num_tokens: int = 0
    has_recording: bool = False
    """Whether other models can make it their own."""
    problem: str = ""
    """Why the file cannot be used; "" = it can."""


def read_tokens(tokenizer: SpeechTokenizer, samples: FloatArray, config: ModelConfig) -> TokenArray:
    """Speech tokens (T,) of samples (N,) at 16 kHz.

    Raises:
        GenerationError: if the tokenizer returns ids that the model does not know.
    """
    tokens = np.asarray(tokenizer.tokens(features.whisper_log_mel(samples)))
    vocabulary = config.lm.speech_vocab_size
    if tokens.size and not 0 <= tokens.min() <= tokens.max() < vocabulary:
        raise GenerationError(
            f"the speech tokenizer returned ids {tokens.min()} to {tokens.max()}, "
            f"the model knows 0 to {vocabulary - 1}",
            hint="the model's files do not belong together; install it again",
        )
    return tokens.astype(np.int64, copy=False)


def kept_recording(audio: Audio) -> Audio:
    """The recording as voices keep it: 24 kHz, rounded to 16 bit."""
    samples = resample(audio.samples, audio.sample_rate, RECORDING_RATE)
    return Audio(int16_to_float(float_to_int16(samples)), RECORDING_RATE)


def save_voice(voice: Voice, path: str | os.PathLike[str]) -> Path:
    """Write a voice file; it is complete or not there.

    Raises:
        OutputError: if it cannot be written.
    """
    texts = {key: str(getattr(voice, key)) for key in _TEXTS}
    metadata = {"format": VOICE_FORMAT, "version": str(voice.version), **texts}
    tensors = {key: np.ascontiguousarray(getattr(voice, key)) for key in _TENSORS}
    if voice.recording is not None:
        flac = encode_audio(kept_recording(voice.recording), "flac")
        tensors[_RECORDING] = np.frombuffer(flac, dtype=np.uint8)
    data = safetensors.numpy.save(tensors, metadata)
    with atomic_file(path) as stream:
        stream.write(data)
    return Path(path)


def load_voice(path: str | os.PathLike[str], *, model_id: str | None = None) -> Voice:
    """Read a voice file.

    Args:
        path: of the file.
        model_id: the model that will speak; None = any.

    Raises:
        UnknownVoiceError: if there is no such file.
        UnsupportedFeatureError: if it was made with another model, or by a newer version.
        InvalidRequestError: if it is damaged, truncated or no voice file.
    """
    path = Path(path)
    voice = _read(path)
    if model_id not in (None, voice.model_id):
        raise foreign_voice(path.stem, voice.model_id, model_id or "")
    return voice


def foreign_voice(name: str, made_with: str, model_id: str) -> UnsupportedFeatureError:
    """The error for a voice of another model that cannot be made again for this one."""
    return UnsupportedFeatureError(
        f"voice {name} was made with the model {made_with}, it cannot speak with {model_id}",
        hint=f"make it again from its recording with {model_id}, or load the model {made_with}",
    )


def read_voice_info(path: Path, *, builtin: bool, model_id: str | None = None) -> VoiceInfo:
    """Describe a voice file; what is wrong with it goes into ``problem`` instead of raising.

    A voice of another model than ``model_id`` is no problem if it carries its recording.
    """
    info = VoiceInfo(name=path.stem, path=path, builtin=builtin)
    try:
        voice = _read(path)
        info = replace(
            info,
            model_id=voice.model_id,
            transcript=voice.transcript,
            language=voice.language,
            licence=voice.licence,
            consent=voice.consent,
            created=voice.created,
            num_tokens=len(voice.speech_tokens),
            has_recording=voice.recording is not None,
        )
        if voice.recording is None and model_id not in (None, voice.model_id):
            raise foreign_voice(path.stem, voice.model_id, model_id or "")
    except InvalidRequestError as error:
        return replace(info, problem=str(error))
    return info


def _read(path: Path) -> Voice:
    try:
        with open(path, "rb") as stream:
            data = stream.read(_MAX_FILE_BYTES)
        arrays = safetensors.numpy.load(data)
        # The library gives metadata only for files; the header is 8 bytes of length, then JSON.
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    except FileNotFoundError as error:
        raise UnknownVoiceError(f"there is no voice file {path}", hint="check the path") from error
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise _damaged(path, str(error)) from error
    metadata: dict[str, str] = header.get("__metadata__") or {}
    if metadata.get("format") != VOICE_FORMAT:
        raise _damaged(path, "it is no voice file")
    version = metadata.get("version", "")
    if not (version.isascii() and version.isdecimal()):
        raise _damaged(path, f"it has the version {version!r}")
    if int(version) > VOICE_VERSION:
        raise UnsupportedFeatureError(
            f"voice file {path} has version {version}, this program knows up to {VOICE_VERSION}",
            hint="update mynah",
        )
    missing = sorted({*_TEXTS} - metadata.keys()) + sorted({*_TENSORS} - arrays.keys())
    if missing:
        raise _damaged(path, f"it lacks {', '.join(missing)}")
    try:
        return Voice(
            name=metadata["name"],
            model_id=metadata["model_id"],
            transcript=metadata["transcript"],
            language=metadata["language"],
            licence=metadata["licence"],
            consent=metadata["consent"],
            created=metadata["created"],
            version=int(version),
            speech_tokens=arrays["speech_tokens"],
            mel=arrays["mel"],
            speaker_embedding=arrays["speaker_embedding"],
            recording=_decoded(arrays.get(_RECORDING)),
        )
    except InvalidRequestError as error:
        raise _damaged(path, error.message) from error


def _decoded(flac: npt.NDArray[Any] | None) -> Audio | None:
    return None if flac is None else read_audio(flac.astype(np.uint8, copy=False).tobytes())


def _damaged(path: Path, reason: str) -> InvalidRequestError:
    return InvalidRequestError(
        f"cannot use the voice file {path}: {reason}",
        hint="export it again, or make the voice again from its recording",
    )
