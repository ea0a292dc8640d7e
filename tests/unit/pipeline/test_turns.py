"""The rules of turns, with a network that prefers one token and notes what it reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from mynah.backends.base import Cursor, Segment
from mynah.config import LMConfig, SamplingConfig
from mynah.errors import GenerationError, ModelFormatError, UnsupportedFeatureError
from mynah.pipeline.prompt import LMPrompt
from mynah.pipeline.speech_lm import LMStageState, SpeechLMStage
from mynah.types import FloatArray, TokenArray
from tests.lm_models import tiny_config

GREEDY = SamplingConfig(
    top_k=1, repetition_window=0, min_token_text_ratio=1, max_token_text_ratio=4
)
CONFIG = tiny_config("plain").model_copy(update={"text_speech_mix": (2, 6)})
NO_TEXT = np.zeros(0, np.int64)
SPOKEN, OTHER = 5, 7


class NotingLM:
    """Prefers ``favourite``, then two speech tokens; keeps what it read as short words."""

    def __init__(self, config: LMConfig, favourite: int) -> None:
        self.config = config
        self.favourite = favourite
        self.read: list[str] = []
        self.num_scores = 0
        self.broken_at: int | None = None

    def _scores(self) -> FloatArray:
        scores = np.zeros(self.config.head_size, dtype=np.float32)
        scores[OTHER], scores[SPOKEN], scores[self.favourite] = 4.0, 5.0, 6.0
        self.num_scores += 1
        if self.broken_at is not None and self.num_scores >= self.broken_at:
            scores[3] = np.nan
        return scores

    def prefill(
        self, segments: Sequence[Segment], state: Any = None, cursor: Cursor | None = None
    ) -> tuple[FloatArray, Any]:
        assert (state is None) == (not self.read)
        self.read.append(" ".join(f"{one.kind}{one.ids.tolist()}" for one in segments))
        return self._scores(), {}

    def step(
        self, tokens: TokenArray, states: Sequence[Any], cursors: Sequence[Cursor] | None = None
    ) -> FloatArray:
        self.read.append(f"{tokens.tolist()}")
        return np.stack([self._scores() for _ in states])

    def advance_logits(self, tokens: TokenArray, states: Sequence[Any]) -> FloatArray:
        raise NotImplementedError

    def fork(self, state: Any) -> Any:
        return dict(state)


def begin(network: NotingLM, **values: Any) -> tuple[SpeechLMStage, LMStageState]:
    stage = SpeechLMStage(network, network.config, GREEDY)
    prompt = LMPrompt(values.pop("mode", "cross_lingual"), NO_TEXT, **values)
    return stage, stage.start_turns(prompt, np.random.default_rng(0))


def speak(stage: SpeechLMStage, state: LMStageState, limit: int = 200) -> list[int]:
    """Tokens until text is needed or speech is over."""
    made = []
    while not state.is_finished and not state.needs_text:
        token = stage.next_token(state)
        made += [] if token is None else [token]
        limit -= 1
        assert limit, "it never ends"
    return made


def feed(stage: SpeechLMStage, state: LMStageState, *ids: int) -> list[int]:
    stage.add_text(state, np.array(ids))
    return speak(stage, state)


def test_speech_begins_with_the_first_turn_and_waits_for_the_next() -> None:
    network = NotingLM(CONFIG, SPOKEN)
    stage, state = begin(network)
    assert state.needs_text
    assert feed(stage, state, 1) == []
    assert not network.read, "nothing is read before a turn is full"
    assert feed(stage, state, 2) == [SPOKEN] * 6
    assert state.needs_text
    assert network.read[0] == "marker[0] text[1, 2]"
    assert feed(stage, state, 3, 4, 5) == [SPOKEN] * 6
    assert network.read[7] == "text[3, 4]"
    stage.end_text(state)
    speak(stage, state)
    # the last token is read twice: the released models do
    assert network.read[14] == f"speech[{SPOKEN}] text[5] marker[1]"
    assert state.is_finished
    assert len(state.tokens) == 20
    assert state.hit_limit, "this network never ends by itself"


def test_fill_ends_a_turn_early_and_is_never_spoken() -> None:
    network = NotingLM(CONFIG, CONFIG.fill or 0)
    stage, state = begin(network)
    assert feed(stage, state, 1, 2, 3, 4) == []
    assert state.needs_text
    assert network.read == ["marker[0] text[1, 2]", "text[3, 4]"]
    stage.end_text(state)
    speak(stage, state)
    # no speech was read, so its last input was text
    assert network.read[2] == "text[3, 4] marker[1]"
    assert set(state.tokens) == {SPOKEN}, "there is no text left to ask for"
    assert state.turns is not None
    assert state.turns.history[:2] == [CONFIG.fill, CONFIG.fill]


@pytest.mark.parametrize("offset", [0, 1], ids=["end", "unused"])
def test_speech_cannot_end_before_the_text(offset: int) -> None:
    stage, state = begin(NotingLM(CONFIG, CONFIG.eos + offset))
    assert feed(stage, state, 1, 2) == [SPOKEN] * 6
    stage.end_text(state)
    assert speak(stage, state) == []
    assert state.is_finished
    assert not state.hit_limit


def test_the_end_waits_for_the_minimum_length() -> None:
    stage, state = begin(NotingLM(CONFIG, CONFIG.eos))
    stage.add_text(state, np.array([1]))
    stage.end_text(state)
    assert speak(stage, state) == [SPOKEN]


def test_a_recording_is_read_in_turns_with_its_words() -> None:
    network = NotingLM(CONFIG, SPOKEN)
    speech = np.arange(10, 18)
    stage, state = begin(
        network, mode="zero_shot", prompt_text=np.array([21, 22, 23]), prompt_speech=speech
    )
    # 2 words for 6 tokens, 2 for the other 2: then its last turn has 4 tokens to go
    assert feed(stage, state, 1) == [SPOKEN] * 4
    assert network.read[0] == (
        f"marker[0] text[21, 22] speech{speech[:6].tolist()} text[23, 1] speech[16, 17]"
    )
    assert feed(stage, state, 2, 3) == [SPOKEN] * 6


def test_a_short_text_reads_the_rest_of_the_recording_all_the_same() -> None:
    """The official code drops it, and the model speaks the words of the prompt again."""
    network = NotingLM(CONFIG, CONFIG.eos)
    stage, state = begin(
        network,
        mode="zero_shot",
        prompt_text=np.array([21, 22]),
        prompt_speech=np.arange(10, 18),
    )
    stage.add_text(state, np.array([1]))
    stage.end_text(state)
    speak(stage, state)
    assert network.read[0] == (
        "marker[0] text[21, 22] speech[10, 11, 12, 13, 14, 15] text[1] marker[1] speech[16, 17]"
    )


def test_an_instruction_is_read_before_anything_is_said() -> None:
    network = NotingLM(CONFIG, SPOKEN)
    stage, state = begin(
        network, mode="instruct", prompt_text=np.array([21, 22, 23, 24]), num_fixed=4
    )
    assert state.needs_text, "an instruction is no text to speak"
    feed(stage, state, 1, 2)
    assert network.read[0] == "marker[0] text[21, 22, 23, 24] text[1, 2]"


def test_the_whole_text_at_once_is_read_in_the_same_turns() -> None:
    reads = []
    for pieces in ([[1], [2], [3], [4], [5]], [[1, 2, 3, 4, 5]]):
        network = NotingLM(CONFIG, SPOKEN)
        stage, state = begin(network)
        for piece in pieces:
            stage.add_text(state, np.array(piece))
            if len(pieces) > 1:
                speak(stage, state)
        stage.end_text(state)
        speak(stage, state)
        reads.append(network.read)
    assert reads[0] == reads[1]


def test_turns_share_network_calls_with_others() -> None:
    network = NotingLM(CONFIG, SPOKEN)
    stage, waiting = begin(network)
    network.read = []
    other = stage.start(LMPrompt("cross_lingual", np.array([1, 2])), np.random.default_rng(0))
    assert stage.step_many([waiting, other]) == [None, SPOKEN]
    stage.add_text(waiting, np.array([1, 2]))
    network.read = []  # the note that a new state has nothing to go on with
    assert stage.step_many([waiting, other]) == [SPOKEN, SPOKEN]
    assert stage.step_many([waiting, other]) == [SPOKEN, SPOKEN]
    assert network.read[-1] == f"[{SPOKEN}, {SPOKEN}]"


def test_a_fork_goes_on_by_itself() -> None:
    stage, state = begin(NotingLM(CONFIG, SPOKEN))
    feed(stage, state, 1, 2)
    copy = stage.fork(state)
    feed(stage, copy, 3, 4)
    assert (len(state.tokens), len(copy.tokens)) == (6, 12)
    assert state.needs_text


def test_what_is_wrong_is_a_typed_error() -> None:
    network = NotingLM(CONFIG, SPOKEN)
    network.broken_at = 3
    stage, state = begin(network)
    with pytest.raises(ModelFormatError, match="text ids"):
        stage.add_text(state, np.array([4000]))
    with pytest.raises(GenerationError, match="NaN or infinity at token 2"):
        feed(stage, state, 1, 2)
    assert not state.needs_text, "it is over"
    plain = NotingLM(tiny_config("plain"), SPOKEN)
    with pytest.raises(UnsupportedFeatureError, match="whole text"):
        begin(plain)
