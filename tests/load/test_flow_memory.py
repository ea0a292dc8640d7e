"""Memory of the flow stays flat: utterances that end, and those that are dropped half way."""

from __future__ import annotations

import gc
from pathlib import Path

import numpy as np
import pytest

from mynah.export.shrink import Variant
from mynah.pipeline.flow import advance, fork, prefix_state
from tests.parity.test_flow_variants import network
from tests.property.flow_model import CHUNK, CONFIG, NOISE, prompt, tokens

STATM = Path("/proc/self/statm")
PAGE = 4096
# one utterance's state is 0.9 MB: a leak of a tenth of it in every run would show
BOUND_BYTES = 8_000_000


def resident() -> int:
    gc.collect()
    return int(STATM.read_text(encoding="ascii").split()[1]) * PAGE


@pytest.mark.skipif(not STATM.exists(), reason="reads the size of the process from /proc")
@pytest.mark.parametrize("variant", ["float32", "int8"])
def test_memory_is_flat(variant: Variant) -> None:
    net = network(variant)
    prefix = prefix_state(net, CONFIG, prompt(4 * CHUNK), NOISE)
    speech = tokens(10 * CHUNK)

    def speak(count: int, *, to_the_end: bool) -> None:
        for _ in range(count):
            state = fork(net, prefix)
            part = speech if to_the_end else speech[: 3 * CHUNK]
            assert np.isfinite(advance(net, CONFIG, part, state, final=to_the_end)).all()

    speak(10, to_the_end=True)
    before = resident()
    speak(50, to_the_end=True)
    speak(200, to_the_end=False)
    assert resident() - before < BOUND_BYTES
