"""The official models by name: where they are published, and which of their files are needed."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from mynah.errors import InvalidRequestError, ModelNotFoundError

Source: TypeAlias = Literal["hf", "modelscope"]
SOURCES: tuple[Source, ...] = get_args(Source)

LM_WEIGHTS = "llm.pt"
LM_WEIGHTS_RL = "llm.rl.pt"
WHISPER_VOCABULARY = "multilingual.tiktoken"

_COMMON = ("flow.pt", "hift.pt", "campplus.onnx")
_SPEAKERS = "spk2info.pt"
_QWEN = tuple(
    f"CosyVoice-BlankEN/{name}"
    for name in ("config.json", "vocab.json", "merges.txt", "tokenizer_config.json")
)


@dataclass(frozen=True)
class PinnedFile:
    """A file of a public GitHub repository at one commit."""

    repository: str
    commit: str
    path: str
    size: int
    """In bytes."""
    sha256: str


@dataclass(frozen=True)
class OfficialModel:
    """A released model."""

    name: str
    repositories: Mapping[Source, str]
    required: tuple[str, ...]
    """Files without which the model cannot be converted, but for the language model's weights."""
    optional: tuple[str, ...] = ()
    pinned: Mapping[str, PinnedFile] | None = None
    """Files that the release leaves to a Python package: name -> where it is published."""
    has_rl: bool = False
    """Whether weights of the language model after reinforcement learning are published."""
    licence: str = "Apache-2.0"

    def weights(self, *, rl: bool) -> str:
        """Return the file of the language model's weights.

        Raises:
            InvalidRequestError: if the variant is not published.
        """
        if rl and not self.has_rl:
            raise InvalidRequestError(
                f"{self.name} has no weights after reinforcement learning",
                hint=f"only {', '.join(m.name for m in MODELS.values() if m.has_rl)} has",
            )
        return LM_WEIGHTS_RL if rl else LM_WEIGHTS


VOCABULARY = PinnedFile(
    repository="openai/whisper",
    commit="839639a223b92ad61851baae9ad8a695ccb41ce5",
    path="whisper/assets/multilingual.tiktoken",
    size=816730,
    sha256="b34b360dbb493e781e479794586d661700670d65564001f23024971d1f2fa126",
)
"""Vocabulary of the first generation: its configuration names the Whisper package's."""


def _first_generation(name: str, repository: str) -> OfficialModel:
    return OfficialModel(
        name=name,
        repositories={"hf": f"FunAudioLLM/{repository}", "modelscope": f"iic/{repository}"},
        required=("cosyvoice.yaml", *_COMMON, "speech_tokenizer_v1.onnx"),
        optional=(_SPEAKERS,),
        pinned={WHISPER_VOCABULARY: VOCABULARY},
    )


MODELS: Mapping[str, OfficialModel] = {
    model.name: model
    for model in (
        _first_generation("cosyvoice-300m", "CosyVoice-300M"),
        _first_generation("cosyvoice-300m-sft", "CosyVoice-300M-SFT"),
        _first_generation("cosyvoice-300m-instruct", "CosyVoice-300M-Instruct"),
        OfficialModel(
            name="cosyvoice2-0.5b",
            repositories={
                "hf": "FunAudioLLM/CosyVoice2-0.5B",
                "modelscope": "iic/CosyVoice2-0.5B",
            },
            required=("cosyvoice2.yaml", *_COMMON, "speech_tokenizer_v2.onnx", *_QWEN),
            optional=(_SPEAKERS,),
        ),
        OfficialModel(
            name="cosyvoice3-0.5b",
            repositories={
                "hf": "FunAudioLLM/Fun-CosyVoice3-0.5B-2512",
                "modelscope": "FunAudioLLM/Fun-CosyVoice3-0.5B-2512",
            },
            required=("cosyvoice3.yaml", *_COMMON, "speech_tokenizer_v3.onnx", *_QWEN),
            optional=(_SPEAKERS,),
            has_rl=True,
        ),
    )
}


def official_model(name: str) -> OfficialModel:
    """Look a model up; capitals and the repository's name are understood, too.

    Raises:
        ModelNotFoundError: with the names that exist.
    """
    wanted = name.lower()
    for model in MODELS.values():
        if wanted == model.name or wanted in map(str.lower, model.repositories.values()):
            return model
    close = difflib.get_close_matches(wanted, MODELS, n=1)
    cure = f"did you mean {close[0]}? " if close else ""
    raise ModelNotFoundError(
        f"there is no official model {name!r}", hint=f"{cure}known: {', '.join(MODELS)}"
    )
