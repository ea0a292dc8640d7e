"""Ray Serve: two replicas, one of them killed under load. Needs the extra ``ray``."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.load import ray_cluster

ROOT = Path(__file__).parents[2]
# Another environment may have Ray: it wants many packages.
PYTHON = os.environ.get("MYNAH_RAY_PYTHON", sys.executable)
LIMIT_S = 600


def _has_ray() -> bool:
    code = "import importlib.util as u, sys; sys.exit(u.find_spec('ray') is None)"
    return subprocess.run([PYTHON, "-c", code], check=False).returncode == 0


@pytest.mark.slow
@pytest.mark.skipif(not _has_ray(), reason="Ray Serve is not installed")
def test_a_replica_dies_and_the_others_go_on(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    done = subprocess.run(
        [PYTHON, str(ROOT / "tests/load/ray_cluster.py"), str(port)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("{")))
    statuses = {int(status): count for status, count in found["total"].items()}
    assert found["replicas_before"] == 2
    assert set(statuses) <= {0, 200, 500, 503}, "cut off, spoken, lost by Ray's proxy, refused"
    lost = statuses.get(0, 0) + statuses.get(500, 0)
    assert lost <= 2 * ray_cluster.CLIENTS, "more than what the killed replica was speaking"
    assert found["seen_while_one_was_gone"] == 2
    assert found["replicas_seen"] == 3, "none was started for the killed one"
    assert found["lost_after_recovery"] == 0
    assert found["different_samples"] == 1, "replicas speak differently"
    assert found["socket"]["done"] == 2
    assert found["socket_replicas"] == 1
