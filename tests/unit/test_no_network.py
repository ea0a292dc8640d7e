from __future__ import annotations

import os
import socket
import subprocess
import sys
import urllib.request

import pytest


def test_the_tests_cannot_reach_the_network() -> None:
    with socket.socket() as plain, pytest.raises(RuntimeError, match="tried to use the network"):
        plain.connect(("127.0.0.1", 9))
    with pytest.raises(RuntimeError, match="tried to use the network"):
        urllib.request.urlopen("http://localhost:9/")


@pytest.mark.parametrize("module", ["mynah.backends.onnx.graph", "mynah.export.shrink"])
def test_the_runtime_is_told_to_report_nothing_before_it_is_loaded(module: str) -> None:
    """ONNX Runtime 1.31 sends telemetry unless it is told not to when it is loaded."""
    code = f"""
import os, sys
class Watch:
    def find_spec(self, name, *_):
        if name == "onnxruntime":
            print(os.environ.get("ORT_DISABLE_TELEMETRY"))
sys.meta_path.insert(0, Watch())
import {module}
"""
    environment = {k: v for k, v in os.environ.items() if k != "ORT_DISABLE_TELEMETRY"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["1"]
