"""Calls of networks that several sessions of a scheduler share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from mynah.engine.task import Task
from mynah.errors import OutOfMemoryError
from mynah.pipeline.rendering import RenderStep
from mynah.pipeline.session import Session
from mynah.pipeline.sharing import Made
from mynah.pipeline.speech_lm import LMStageState, SpeechLMStage

Render: TypeAlias = Callable[[Sequence[RenderStep]], list[Made]]
"""Turns tokens of several utterances of one model into audio."""

_OUT_OF_MEMORY = ("out of memory", "bad_alloc", "failed to allocate memory")
"""What PyTorch, the C++ library and ONNX Runtime say."""


def lm_state(task: Task) -> LMStageState | None:
    """What the language model advances if the task's next step is a token."""
    return task.session.token_state if isinstance(task.session, Session) else None


def is_rendering(task: Task) -> bool:
    """Whether the task's next step is audio that can be made with that of others."""
    return isinstance(task.session, Session) and task.session.is_rendering


def make_tokens(lm: SpeechLMStage, tasks: Sequence[Task]) -> int:
    """One token for each task, by one call of the language model; returns for how many.

    A task that was cancelled since it was chosen is left as it is: its next step ends it.
    """
    states = [(task, state) for task in tasks if (state := lm_state(task)) is not None]
    try:
        tokens = lm.step_many([state for _, state in states])
    except BaseException as error:  # noqa: BLE001 - raised again by the listeners
        for task, _ in states:
            task.error = typed(error)
        return 0
    for (task, _), token in zip(states, tokens, strict=True):
        assert isinstance(task.session, Session)  # it has a state of the language model
        try:
            task.session.take_token(token)
        except BaseException as error:  # noqa: BLE001 - raised again by the listener
            task.error = error
    return len(states)


def make_audio(render: Render, tasks: Sequence[Task], clock: Callable[[], float]) -> int:
    """A chunk of audio for each task, by shared calls of flow and vocoder; returns for how many.

    A task that was cancelled since it was chosen is left as it is: its next step ends it.
    """
    steps: list[tuple[Task, Session, RenderStep]] = []
    for task in tasks:
        session = task.session
        if not isinstance(session, Session) or not session.is_rendering:
            continue
        try:
            steps.append((task, session, session.render_step()))
        except BaseException as error:  # noqa: BLE001 - raised again by the listener
            task.error = typed(error)
    if not steps:
        return 0
    try:
        made = render([step for _, _, step in steps])
    except BaseException as error:  # noqa: BLE001 - raised again by the listeners
        for task, _, _ in steps:
            task.error = typed(error)
        return 0
    for (task, session, _), samples in zip(steps, made, strict=True):
        try:
            chunk = session.take_samples(samples)
        except BaseException as error:  # noqa: BLE001 - raised again by the listener
            task.error = typed(error)
            continue
        if chunk is not None:
            task.hand_over(chunk, clock())
    return len(steps)


def typed(error: BaseException) -> BaseException:
    """A request that needs too much memory ends like any other that cannot be served."""
    if not _is_out_of_memory(error):
        return error
    typed = OutOfMemoryError(
        "there was not enough memory to speak this text",
        hint="send shorter texts or fewer at once, or load the model with a bounded left_chunks",
    )
    typed.__cause__ = error
    return typed


def _is_out_of_memory(error: BaseException | None) -> bool:
    """Whether memory ran out, on either side of a backend.

    Its networks say so in words only: ONNX Runtime has one class for everything that fails.
    """
    while error is not None:
        words = str(error).lower()
        if isinstance(error, MemoryError) or any(sign in words for sign in _OUT_OF_MEMORY):
            return True
        error = error.__cause__
    return False
