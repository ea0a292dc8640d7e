"""What one request leaves behind for the next, and what they do to each other.

Complaints 2, 14, 15 and 25: latency that grows with the number of requests, memory that grows,
cross-talk, and results that cannot be reproduced.
"""

from __future__ import annotations

import gc
import random
import subprocess
import sys
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import fields, is_dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import mynah
from mynah.api import TTS
from mynah.backends.fake import fake_config
from mynah.errors import GenerationLimitError
from mynah.pipeline.model import SpeechModel
from mynah.pipeline.session import Session
from mynah.pipeline.synthesizer import join, run
from mynah.types import AudioChunk, SynthesisRequest
from tests.fake_model import SHORT, TEXT, fake_model, fake_tts, stream_threads
from tests.tiny_model import BACKENDS, FAMILIES, tiny_config, tiny_voice

KINDS = {"pointer": True, "prompted": False}
OPTIONS: dict[str, Any] = {"seed": 11}


@pytest.fixture(params=KINDS.values(), ids=KINDS.keys())
def tts(tmp_path: Path, request: pytest.FixtureRequest) -> TTS:
    return fake_tts(tmp_path, fake_model(fake_config(pointer=request.param)))


def sizes(chunks: list[AudioChunk]) -> list[int]:
    return [len(chunk.audio) for chunk in chunks]


def test_the_first_chunk_stays_small(tts: TTS) -> None:
    """The chunk size of the official model is a field of the model, doubled after every chunk.

    It is never set back: from the third request on the first sound needs four seconds of tokens,
    and two requests at the same time double it for each other.
    """
    wanted = sizes(list(tts.stream(SHORT * 2, **OPTIONS)))
    for _ in range(50):
        assert sizes(list(tts.stream(SHORT * 2, **OPTIONS))) == wanted
    with ThreadPoolExecutor(16) as pool:
        parallel = list(pool.map(lambda _: list(tts.stream(SHORT * 2, **OPTIONS)), range(16)))
    assert [sizes(chunks) for chunks in parallel] == [wanted] * 16


def test_parallel_requests_equal_serial_ones(tts: TTS) -> None:
    """Shared buffers mixed the voices of two listeners; one request ended when another did."""
    jobs = [(TEXT if i % 2 else SHORT, ("fake", "other")[i % 3 > 0], i) for i in range(16)]

    def speak(job: tuple[str, str, int]) -> Any:
        text, voice, seed = job
        return join(list(tts.stream(text, voice, seed=seed))).samples

    serial = [speak(job) for job in jobs]
    with ThreadPoolExecutor(16) as pool:
        parallel = list(pool.map(speak, jobs))
    for one, other in zip(serial, parallel, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_model_does_not_change_when_it_speaks(tts: TTS) -> None:
    """The rule behind both tests above: nothing of a request is kept on what requests share."""
    model = tts._opened.model
    before = frozen(model, {})
    list(tts.stream(TEXT, seed=1))
    tts.synthesize(SHORT, "other", seed=2, speed=1.3)
    assert frozen(model, {}) == before


def frozen(value: Any, seen: dict[int, int]) -> Any:
    """A value that is equal exactly if everything reachable from an object is unchanged."""
    if isinstance(value, np.ndarray):
        return value.shape, value.tobytes()
    if value is None or isinstance(value, bool | int | float | str | bytes | Path):
        return value
    if id(value) in seen:
        return seen[id(value)]
    seen[id(value)] = len(seen)
    if isinstance(value, dict):
        return [(frozen(k, seen), frozen(v, seen)) for k, v in value.items()]
    if isinstance(value, list | tuple):
        return [frozen(item, seen) for item in value]
    if is_dataclass(value):
        return [frozen(getattr(value, field.name), seen) for field in fields(value)]
    return [frozen(item, seen) for item in getattr(value, "__dict__", {}).items()]


def test_the_snapshot_notices_a_change() -> None:
    """Otherwise the test above would pass whatever happens."""
    model = fake_model()
    before = frozen(model, {})
    network: Any = model.backend.flow
    network.token_hop_length = 50
    assert frozen(model, {}) != before


def test_requests_that_are_given_up_leave_nothing(tts: TTS) -> None:
    """The official module forgets a request only when its generator ran to the end.

    Listeners who left early stayed in its tables, with their thread and their tensors.
    """
    choices = random.Random(0)
    gc.collect()
    before = sum(type(thing) is Session for thing in gc.get_objects())
    watched = []
    for index in range(40):
        stream = tts.stream(TEXT, seed=index)
        watched.append(weakref.ref(stream._session))
        if choices.random() < 0.2:
            next(stream)
            if choices.random() < 0.5:
                stream.close()
        else:
            list(stream)
        del stream
    for thread in stream_threads():
        thread.join(20)
    gc.collect()
    assert not stream_threads()
    assert [one() for one in watched] == [None] * 40
    assert sum(type(thing) is Session for thing in gc.get_objects()) == before


def test_a_seed_gives_the_same_samples_however_they_are_made(tts: TTS, tmp_path: Path) -> None:
    """Seeds were fixed for whole outputs only: streamed speech took other random numbers."""
    wanted = tts.synthesize(TEXT, **OPTIONS).samples
    np.testing.assert_array_equal(join(list(tts.stream(TEXT, **OPTIONS))).samples, wanted)
    for _ in range(3):  # others that speak, or spoke before
        tts.synthesize(SHORT)
    others = [tts.stream(TEXT) for _ in range(4)]
    np.testing.assert_array_equal(tts.synthesize(TEXT, **OPTIONS).samples, wanted)
    for other in others:
        other.close()
    code = (
        "import sys; sys.path[:0] = eval(sys.argv[1]); from pathlib import Path\n"
        "from hashlib import sha256; from mynah.backends.fake import fake_config\n"
        "from tests.fake_model import TEXT, fake_model, fake_tts\n"
        "model = fake_model(fake_config(pointer=sys.argv[3] == 'True'))\n"
        "audio = fake_tts(Path(sys.argv[2]), model).synthesize(TEXT, seed=11)\n"
        "print(sha256(audio.samples.tobytes()).hexdigest())"
    )
    roots = [str(Path(mynah.__file__).parents[1]), str(Path(__file__).parents[2])]
    pointer = tts.config.lm.pointer is not None
    arguments = [sys.executable, "-c", code, repr(roots), str(tmp_path / "again"), str(pointer)]
    result = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == sha256(wanted.tobytes()).hexdigest()


def generator_states() -> tuple[Any, ...]:
    kind, keys, *rest = np.random.get_state()  # type: ignore[misc]  # a tuple by default
    return random.getstate(), kind, keys.tobytes(), rest, torch.get_rng_state().tolist()


def test_nothing_touches_the_global_random_generators(tmp_path: Path) -> None:
    """Building the official flow seeds ``random``, NumPy and torch for the whole program with 0.

    A program that loaded a voice then dealt the same cards to everybody. Speaking drew from those
    generators too, so a neighbour's request changed one's own.
    """
    before = generator_states()
    tts = fake_tts(tmp_path)
    voice = tts.voices.load("other")
    first = tts.synthesize(TEXT, voice, seed=5)
    tts.synthesize(SHORT)
    assert generator_states() == before
    random.seed(99)
    np.random.seed(99)
    torch.manual_seed(99)
    np.testing.assert_array_equal(tts.synthesize(TEXT, voice, seed=5).samples, first.samples)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("family", FAMILIES)
def test_real_models_leave_the_global_generators_alone(
    family: str, backend: str, tiny_models: Callable[[str, str], SpeechModel]
) -> None:
    """The same with networks, whose construction draws random weights where nobody takes care."""
    voice = tiny_voice(tiny_config(family))
    request = SynthesisRequest(text=SHORT, voice=voice, seed=5)
    before = generator_states()
    model = tiny_models(family, backend)
    made = [spoken(Session(model, request))]
    assert generator_states() == before
    random.seed(99)
    np.random.seed(99)
    torch.manual_seed(99)
    made.append(spoken(Session(model, request)))
    np.testing.assert_array_equal(made[0], made[1])


def spoken(session: Session) -> Any:
    """All samples; random weights seldom end speech by themselves, which is no matter here."""
    parts = []
    with suppress(GenerationLimitError):
        for chunk in run(session):
            parts.append(chunk.audio.samples)
    return np.concatenate(parts)
