"""Requests that hang for ever, and delays that nobody asked for (complaints 2 and 7)."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import mynah
from mynah.errors import InvalidRequestError, SynthesisError
from tests.fake_model import TEXT, breaking, fake_model, fake_tts, stream_threads
from tests.fake_model import session as new_session

SOURCES = Path(mynah.__file__).parent
INFERENCE = (
    "api",
    "api.py",
    "compat",
    "engine",
    "pipeline",
    "backends",
    "networks",
    "text",
    "audio",
)


class StageError(RuntimeError):
    """Something that nobody planned for."""


def fail(original: Any, *args: Any, **kwargs: Any) -> Any:
    raise StageError("out of luck")


@pytest.mark.parametrize(
    ("part", "method"),
    [
        ("lm", "prefill"),
        ("lm", "step"),
        ("lm", "advance_logits"),
        ("flow", "speaker"),
        ("flow", "encode"),
        ("flow", "velocity"),
        ("vocoder", "f0"),
        ("vocoder", "excitation"),
        ("vocoder", "decode"),
    ],
)
def test_a_failure_in_any_stage_reaches_the_caller(tmp_path: Path, part: str, method: str) -> None:
    """The official language model runs in a thread of its own.

    When it raises, the flag that says it is done is never set: the streaming loop polls for ever,
    and the other path decodes nothing and dies with an error about convolution sizes.
    """
    tts = fake_tts(tmp_path, fake_model(change=breaking(part, method, fail)))
    with pytest.raises(StageError, match="out of luck"):
        list(tts.stream(TEXT, seed=0))
    with pytest.raises(StageError, match="out of luck"):
        tts.synthesize(TEXT, seed=0)
    assert not stream_threads()


def test_a_failure_while_text_is_read_reaches_the_caller(tmp_path: Path) -> None:
    """An assertion about a missing marker was the most frequent reason to hang."""

    class BrokenReader:
        def __getattr__(self, name: str) -> Any:
            return getattr(model.reader, name)

        def utterances(self, *args: Any, **kwargs: Any) -> Iterator[Any]:
            yield from list(model.reader.utterances(*args, **kwargs))[:1]
            raise StageError("half of a marker")

    model = fake_model()
    whole = model.reader
    broken = fake_model()
    object.__setattr__(broken, "reader", BrokenReader())
    assert whole is model.reader
    with pytest.raises(StageError, match="half of a marker"):
        list(fake_tts(tmp_path, broken).stream(TEXT, seed=0))
    assert not stream_threads()


@pytest.mark.parametrize(
    "text", ["a", "I", "1", "a.", "Hm", "...a", "a\n\n\nb", "A!?", "Ok \U0001f600"]
)
def test_the_shortest_texts_are_spoken(tmp_path: Path, text: str) -> None:
    """One letter, or a letter among signs, hung the official pipeline or broke its convolutions."""
    with fake_tts(tmp_path) as tts:
        assert tts.synthesize(text, seed=1).duration_s > 0


@pytest.mark.parametrize("text", ["", " ", ".", "?!", "\U0001f600", "\u200b", "a" * 10_000_000])
def test_the_oddest_texts_are_refused_at_once(tmp_path: Path, text: str) -> None:
    """What cannot be spoken is said before anything is computed, with a cure."""
    with fake_tts(tmp_path) as tts, pytest.raises(InvalidRequestError) as caught:
        tts.stream(text)
    assert caught.value.hint
    assert not stream_threads()


def test_a_session_always_ends() -> None:
    """A model that never says it is done was left to speak for ever; maintainers declined a limit.

    Each step is bounded and the number of tokens has a cap, so a session ends after a number of
    steps that is known beforehand.
    """

    def never(original: Any, tokens: Any, states: Any) -> Any:
        scores = original(tokens, states)
        scores[:, 1:] = -1e9  # the pointer of the fake model never moves by itself
        scores[:, 0] = 0.0
        return scores

    model = fake_model(change=breaking("lm", "advance_logits", never))
    session = new_session(model, "A few words.", seed=0)
    limit = 40 * int(model.config.sampling.max_token_text_ratio) + 100
    steps = 0
    try:
        while not session.is_over and steps < limit:
            session.advance()
            steps += 1
    except SynthesisError:
        pass
    assert session.is_over
    assert 0 < steps < limit


def test_nothing_polls() -> None:
    """The official stream looks for new tokens every 100 ms, which delays every chunk by 50 ms."""
    found = []
    for name in INFERENCE:
        path = SOURCES / name
        for file in [path] if path.suffix else sorted(path.rglob("*.py")):
            if not file.exists():
                continue
            tree = ast.parse(file.read_text(encoding="utf-8"))
            found += [f"{file.name}:{call.lineno}" for call in _polls(tree)]
    assert found == []


def _polls(tree: ast.AST) -> Iterator[ast.Call]:
    """Calls that sleep, and those in a loop that wait for something but only for some time."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and _name(node) == "sleep":
            yield node
        if isinstance(node, ast.While):
            yield from (
                call
                for call in ast.walk(node)
                if isinstance(call, ast.Call)
                and _name(call) in ("wait", "get", "acquire", "wait_for")
                and any(keyword.arg == "timeout" for keyword in call.keywords)
            )


def _name(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
