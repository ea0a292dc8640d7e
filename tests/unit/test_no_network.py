from __future__ import annotations

import socket
import urllib.request

import pytest


def test_the_tests_cannot_reach_the_network() -> None:
    with socket.socket() as plain, pytest.raises(RuntimeError, match="tried to use the network"):
        plain.connect(("127.0.0.1", 9))
    with pytest.raises(RuntimeError, match="tried to use the network"):
        urllib.request.urlopen("http://localhost:9/")
