"""``AutoModel`` and the three classes of the official module, on ``mynah.TTS``.

Nothing of a request is kept on an object, so one object serves any number of threads.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar, NoReturn, TypeAlias, TypedDict, Unpack

from mynah.api import TTS
from mynah.compat.markers import strip_transcript
from mynah.compat.names import official_name
from mynah.compat.options import Options, check_chunk_size, read_options
from mynah.compat.prompts import PromptLike, read_prompt
from mynah.compat.requests import Output, Requests, SpeakExtras
from mynah.compat.speakers import Speakers
from mynah.errors import InvalidRequestError, ModelNotFoundError

Text: TypeAlias = str | Iterable[str]
ModelDir: TypeAlias = str | os.PathLike[str]


class LoadExtras(TypedDict, total=False):
    """Further options of every constructor, see docs/guides/coming-from-cosyvoice.md."""

    device: str | None
    backend: str | None
    threads: int | None
    left_chunks: int | None
    download: bool | None
    chunk_size: int | None
    num_decoding_left_chunks: int | None
    max_concurrent: int | None
    max_batch_size: int | None
    buffer_size: int | None
    enable_kv_cache: bool | None
    use_kv_cache: bool | None
    use_flow_cache: bool | None


class MissingPartError(InvalidRequestError, AttributeError):
    """An inner part of the official object that does not exist here."""

    code = "missing_part"


_PARTS = {
    "frontend": "speakers are listed by list_available_spks(); texts are normalised by the engine",
    "model": "the loaded model is the attribute tts, a mynah.TTS",
}


class CosyVoice:
    """A loaded model with the official methods; CosyVoice-300M and its variants.

    Example:
        >>> from mynah.compat import AutoModel
        >>> cosyvoice = AutoModel(model_dir="nano")
        >>> for i, j in enumerate(cosyvoice.inference_sft("Hello there.", "lj")):
        ...     print(i, j["tts_speech"].shape, cosyvoice.sample_rate)
    """

    families: ClassVar[tuple[str, ...]] = ("cosyvoice1", "nano")
    """Families of models that the official class of this name loads, and ours."""

    def __init__(
        self,
        model_dir: ModelDir,
        load_jit: bool = False,
        load_trt: bool = False,
        fp16: bool = False,
        trt_concurrent: int = 1,
        **options: Unpack[LoadExtras],
    ) -> None:
        """Load a model: an official folder, a converted one, or a name.

        Args:
            model_dir: folder or name, see ``mynah.TTS.load``.
            load_jit: without effect, as ``load_trt``, ``fp16`` and ``trt_concurrent``; the warning
                names what replaces them.
            load_trt: likewise.
            fp16: likewise.
            trt_concurrent: likewise.
            options: see docs/guides/coming-from-cosyvoice.md.

        Raises:
            ModelError: if there is no such model, or it cannot be downloaded or converted.
            InvalidRequestError: for a model of another class, or an option out of range.
        """
        accelerators = {
            "load_jit": load_jit,
            "load_trt": load_trt,
            "fp16": fp16,
            "trt_concurrent": trt_concurrent,
        }
        self._load(model_dir, accelerators | dict(options))

    def _load(self, model_dir: ModelDir, values: dict[str, Any]) -> None:
        options = read_options(values)
        self._adopt(model_dir, _load(model_dir, options), options)

    def _adopt(self, model_dir: ModelDir, tts: TTS, options: Options) -> None:
        """Speak with a model that is loaded."""
        family = tts.config.family
        if family not in self.families:
            tts.close()
            raise InvalidRequestError(
                f"{os.fspath(model_dir)} holds a model of the family {family}, "
                f"which {type(self).__name__} does not load",
                hint=f"use AutoModel, or {_class_of(family).__name__}",
            )
        check_chunk_size(options.chunk_size, tts.config.flow.encoder.chunk_tokens)
        self.model_dir = os.fspath(model_dir)
        self.sample_rate = tts.sample_rate
        self.tts = tts
        """The model behind this object."""
        self._speakers = Speakers(tts)
        self._requests = Requests(tts, self._speakers, options.max_concurrent)

    def list_available_spks(self) -> list[str]:
        """Return the ids of all speakers: the model's, the user's, those added."""
        return self._speakers.ids()

    def add_zero_shot_spk(
        self, prompt_text: str, prompt_wav: PromptLike, zero_shot_spk_id: str
    ) -> bool:
        """Make a speaker from a recording and its words; kept until ``save_spkinfo`` in memory.

        Raises:
            InvalidRequestError: if the id cannot be used.
            PromptAudioError: if the recording is unsuitable.
        """
        words = strip_transcript(prompt_text, self.tts.config.templates)
        voice = self._speakers.from_clip(read_prompt(prompt_wav), words.strip())
        self._speakers.add(zero_shot_spk_id, voice)
        return True

    def save_spkinfo(self) -> None:
        """Keep the added speakers on disk, as voices of the user (``mynah voices list``)."""
        self._speakers.save()

    def inference_sft(
        self,
        tts_text: Text,
        spk_id: str,
        stream: bool = False,
        speed: float = 1.0,
        text_frontend: bool = True,
        **extras: Unpack[SpeakExtras],
    ) -> Iterator[Output]:
        """Speak as one of ``list_available_spks``, by the speaker vector only."""
        return self._requests.speak(
            tts_text,
            "sft",
            speaker=spk_id,
            stream=stream,
            speed=speed,
            text_frontend=text_frontend,
            extras=extras,
        )

    def inference_zero_shot(
        self,
        tts_text: Text,
        prompt_text: str,
        prompt_wav: PromptLike = None,
        zero_shot_spk_id: str = "",
        stream: bool = False,
        speed: float = 1.0,
        text_frontend: bool = True,
        **extras: Unpack[SpeakExtras],
    ) -> Iterator[Output]:
        """Speak on from a recording and its words, or as a speaker that was added."""
        return self._requests.speak(
            tts_text,
            "zero_shot",
            prompt=prompt_wav,
            prompt_text=prompt_text,
            speaker=zero_shot_spk_id,
            stream=stream,
            speed=speed,
            text_frontend=text_frontend,
            extras=extras,
        )

    def inference_cross_lingual(
        self,
        tts_text: Text,
        prompt_wav: PromptLike = None,
        zero_shot_spk_id: str = "",
        stream: bool = False,
        speed: float = 1.0,
        text_frontend: bool = True,
        **extras: Unpack[SpeakExtras],
    ) -> Iterator[Output]:
        """Speak with the voice of a recording whose words do not matter."""
        return self._requests.speak(
            tts_text,
            "cross_lingual",
            prompt=prompt_wav,
            speaker=zero_shot_spk_id,
            stream=stream,
            speed=speed,
            text_frontend=text_frontend,
            extras=extras,
        )

    def inference_instruct(
        self,
        tts_text: Text,
        spk_id: str,
        instruct_text: str,
        stream: bool = False,
        speed: float = 1.0,
        text_frontend: bool = True,
        **extras: Unpack[SpeakExtras],
    ) -> Iterator[Output]:
        """Speak as one of ``list_available_spks``, in the manner that a text describes."""
        return self._requests.speak(
            tts_text,
            "instruct",
            speaker=spk_id,
            instruct_text=instruct_text,
            stream=stream,
            speed=speed,
            text_frontend=text_frontend,
            extras=extras,
        )

    def inference_instruct2(
        self,
        tts_text: Text,
        instruct_text: str,
        prompt_wav: PromptLike = None,
        zero_shot_spk_id: str = "",
        stream: bool = False,
        speed: float = 1.0,
        text_frontend: bool = True,
        **extras: Unpack[SpeakExtras],
    ) -> Iterator[Output]:
        """Speak with the voice of a recording, in the manner that a text describes."""
        return self._requests.speak(
            tts_text,
            "instruct",
            prompt=prompt_wav,
            speaker=zero_shot_spk_id,
            instruct_text=instruct_text,
            stream=stream,
            speed=speed,
            text_frontend=text_frontend,
            extras=extras,
        )

    def inference_vc(
        self,
        source_wav: PromptLike = None,
        prompt_wav: PromptLike = None,
        stream: bool = False,
        speed: float = 1.0,
        **extras: Unpack[SpeakExtras],
    ) -> Iterator[Output]:
        """Say what one recording says with the voice of another one."""
        return self._requests.convert(
            source_wav, prompt_wav, stream=stream, speed=speed, extras=extras
        )

    def close(self) -> None:
        """Stop everything and let go of the model. Harmless to repeat."""
        self.tts.close()

    def __getattr__(self, name: str) -> NoReturn:
        """Say where inner parts of the official object went."""
        if name in _PARTS:
            raise MissingPartError(
                f"{type(self).__name__} has no attribute {name!r} here", hint=_PARTS[name]
            )
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")


class CosyVoice2(CosyVoice):
    """A loaded model with the official methods; CosyVoice2-0.5B."""

    families = ("cosyvoice2", "nano")

    def __init__(
        self,
        model_dir: ModelDir,
        load_jit: bool = False,
        load_trt: bool = False,
        load_vllm: bool = False,
        fp16: bool = False,
        trt_concurrent: int = 1,
        **options: Unpack[LoadExtras],
    ) -> None:
        """Load a model; see ``CosyVoice``, and ``load_vllm`` is without effect likewise."""
        accelerators = {
            "load_jit": load_jit,
            "load_trt": load_trt,
            "load_vllm": load_vllm,
            "fp16": fp16,
            "trt_concurrent": trt_concurrent,
        }
        self._load(model_dir, accelerators | dict(options))


class CosyVoice3(CosyVoice2):
    """A loaded model with the official methods; Fun-CosyVoice3-0.5B."""

    families = ("cosyvoice3", "nano")

    def __init__(
        self,
        model_dir: ModelDir,
        load_trt: bool = False,
        load_vllm: bool = False,
        fp16: bool = False,
        trt_concurrent: int = 1,
        **options: Unpack[LoadExtras],
    ) -> None:
        """Load a model; see ``CosyVoice2``. There is no ``load_jit``, as in the official class."""
        accelerators = {
            "load_trt": load_trt,
            "load_vllm": load_vllm,
            "fp16": fp16,
            "trt_concurrent": trt_concurrent,
        }
        self._load(model_dir, accelerators | dict(options))


def AutoModel(model_dir: ModelDir, **options: Any) -> CosyVoice:  # noqa: N802 - the official name
    """Load a model and return the class that fits it.

    Args:
        model_dir: an official folder, a converted one, or a name, see ``mynah.TTS.load``.
        options: those of ``CosyVoice``, ``CosyVoice2`` and ``CosyVoice3``.

    Raises:
        ModelError: if there is no such model, or it cannot be downloaded or converted.
        InvalidRequestError: for an option that does not exist or is out of range.
    """
    understood = read_options(options)
    tts = _load(model_dir, understood)
    model = CosyVoice.__new__(_class_of(tts.config.family))
    model._adopt(model_dir, tts, understood)
    return model


def _load(model_dir: ModelDir, options: Options) -> TTS:
    try:
        return TTS.load(model_dir, **options.load)
    except ModelNotFoundError:
        name = official_name(os.fspath(model_dir))
        if name is None or name == model_dir:
            raise
    return TTS.load(name, **options.load)


def _class_of(family: str) -> type[CosyVoice]:
    """The official class of a family: here the class's name is the interface."""
    official = {"cosyvoice1": CosyVoice, "cosyvoice3": CosyVoice3}
    return official.get(family, CosyVoice2)
