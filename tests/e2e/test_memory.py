"""The embedded voice in one process, for hours: speaking and being cut off leave nothing behind."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.conftest import Command

WORKER = Path(__file__).with_name("speaks_often.py")
NUM_UTTERANCES, NUM_CANCELLED = 50, 200
# Measured: both parts grow by less than 4 MB; with the flow's state of every utterance kept, by 89
# and 86 MB.
BOUND_BYTES = 15_000_000


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads the size from /proc")
def test_memory_is_flat(embedded_command: Command) -> None:
    counts = [str(NUM_UTTERANCES), str(NUM_CANCELLED)]
    done = subprocess.run(
        [sys.executable, str(WORKER), "nano", *counts],
        env=embedded_command.environment(),
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    found = json.loads(done.stdout)
    before, spoken, cancelled = found["resident"]
    assert spoken - before < BOUND_BYTES
    assert cancelled - spoken < BOUND_BYTES
    assert found["sessions"] == 0
    assert found["threads"] == []
