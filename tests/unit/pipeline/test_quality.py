"""Quality tiers are configuration: fewer steps, guidance at the start only."""

from __future__ import annotations

import numpy as np
import pytest

from mynah.errors import InvalidRequestError
from mynah.pipeline.flow import advance, decode_whole, fork, prefix_state
from mynah.pipeline.quality import EXACT, QUALITIES, Quality, find_quality
from tests.property.flow_model import BACKENDS, CHUNK, CONFIG, NOISE, network, prompt, tokens

backends = pytest.mark.parametrize("backend", BACKENDS)


def test_exact_changes_nothing() -> None:
    assert find_quality("exact").flow(CONFIG) is CONFIG
    assert next(iter(QUALITIES.values())) is EXACT


def test_unknown_names_are_told() -> None:
    with pytest.raises(InvalidRequestError, match="best") as caught:
        find_quality("best")
    assert "balanced" in str(caught.value.hint)


@pytest.mark.parametrize("steps", [1, 2, 6, 10])
def test_never_less_than_one_step(steps: int) -> None:
    flow = Quality(steps=0.01, guided=0.01).flow(CONFIG.model_copy(update={"num_steps": steps}))
    assert (flow.num_steps, flow.guided_steps) == (1, 1)


def test_models_without_guidance_stay_so() -> None:
    flow = QUALITIES["fast"].flow(CONFIG.model_copy(update={"cfg_rate": 0.0}))
    assert flow.guided_steps is None


@pytest.mark.parametrize("name", QUALITIES)
def test_backends_agree_and_streams_equal_the_whole(name: str) -> None:
    flow = find_quality(name).flow(CONFIG)
    speech, wholes = tokens(3 * CHUNK + 2), []
    for backend in BACKENDS:
        net = network(backend)
        state = fork(net, prefix_state(net, flow, prompt(CHUNK), NOISE))
        mel = [advance(net, flow, part, state, final=False) for part in np.split(speech, [3, 9])]
        mel.append(advance(net, flow, speech[:0], state, final=True))
        wholes.append(decode_whole(net, flow, prompt(CHUNK), speech, NOISE))
        np.testing.assert_allclose(np.concatenate(mel), wholes[-1], rtol=0, atol=1e-5)
    np.testing.assert_allclose(wholes[0], wholes[1], rtol=0, atol=1e-4)


@backends
def test_unguided_steps_keep_one_branch(backend: str) -> None:
    net = network(backend)
    flow = CONFIG.model_copy(update={"guided_steps": 1})
    state = prefix_state(net, flow, prompt(2 * CHUNK), NOISE)
    sizes = [one.nbytes() for one in state.velocity]
    assert sizes[1] == sizes[2] == sizes[0] / 2
