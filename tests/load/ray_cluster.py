"""Two replicas on a local Ray cluster, one of them killed under load. Run by ``test_ray.py``.

Prints one JSON line with what was seen. A process of its own: Ray takes over signals, threads and
sockets of its process.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx

SETTINGS = {
    "MYNAH_SERVER_ALLOW_PUBLIC": "1",
    "MYNAH_SERVER_MODELS": "nano",
    "MYNAH_SERVER_THREADS": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS": "0",
}
TEXT = "One two three four five six seven."
CLIENTS = 4
PORT = int(sys.argv[1]) if __name__ == "__main__" else 0
URL = f"http://127.0.0.1:{PORT}"
PATIENCE_S = 240.0


def speak(client: httpx.Client, text: str = TEXT) -> tuple[int, str, bytes]:
    """One stream to its end; status 0 = it was cut off."""
    body = {"text": text, "seed": 1, "stream": True}
    replica, data = "", b""
    try:
        with client.stream("POST", f"{URL}/tts", json=body) as answer:
            replica = answer.headers.get("X-Replica", "")
            for piece in answer.iter_raw():
                data += piece
            return answer.status_code, replica, data
    except httpx.TransportError:
        return 0, replica, data


class Load:
    """Clients that speak all the time."""

    def __init__(self) -> None:
        self._over = threading.Event()
        self._lock = threading.Lock()
        self.statuses: Counter[int] = Counter()
        self.replicas: Counter[str] = Counter()
        self.samples: set[bytes] = set()

    def work(self) -> None:
        with httpx.Client(timeout=60, trust_env=False) as client:
            while not self._over.is_set():
                status, replica, data = speak(client)
                with self._lock:
                    self.statuses[status] += 1
                    if status == 200:
                        self.replicas[replica] += 1
                        self.samples.add(data)
                if status != 200:
                    self._over.wait(0.2)

    @property
    def lost(self) -> int:
        return self.statuses[0] + self.statuses[500]

    def end(self) -> None:
        self._over.set()

    def until(self, condition: Any) -> float:
        began = time.monotonic()
        while not condition():
            if time.monotonic() - began > PATIENCE_S:
                raise TimeoutError(f"{self.statuses} {self.replicas}")
            self._over.wait(0.1)
        return time.monotonic() - began


async def talk() -> Counter[str]:
    """Two turns on one socket, which stays with the replica that took it."""
    import websockets

    kinds: Counter[str] = Counter()
    async with websockets.connect(f"ws://127.0.0.1:{PORT}/ws", max_size=None) as link:
        kinds["replica " + link.response.headers["X-Replica"]] += 1
        for _ in range(2):
            for message in ({"type": "start"}, {"type": "text", "text": TEXT}, {"type": "end"}):
                await link.send(json.dumps(message))
            kind = ""
            while kind not in ("done", "error"):
                received = await asyncio.wait_for(link.recv(), 60)
                kind = "audio" if isinstance(received, bytes) else json.loads(received)["type"]
                kinds[kind] += 1
    return kinds


def main() -> None:
    os.environ.update(SETTINGS)
    import ray
    from ray import serve
    from ray.util.state import list_actors

    from mynah.server.ray_app import RayArgs, build

    ray.init(
        num_cpus=4,
        object_store_memory=100 << 20,
        include_dashboard=True,
        logging_level="ERROR",
        log_to_driver=False,
    )
    serve.start(http_options={"host": "127.0.0.1", "port": PORT})
    arguments = RayArgs(min_replicas=2, max_replicas=2, cpus=1, speeches_per_replica=4)
    serve.run(build(arguments), name="mynah", route_prefix="/")
    load = Load()
    pool = ThreadPoolExecutor(CLIENTS)
    for _ in range(CLIENTS):
        pool.submit(load.work)
    load.until(lambda: len(load.replicas) == 2 and load.statuses[200] >= 12)
    victims = [
        actor
        for actor in list_actors()
        if "ServeReplica" in actor.class_name and actor.state == "ALIVE"
    ]
    os.kill(victims[0].pid, 9)
    spoken = load.statuses[200]
    load.until(lambda: load.statuses[200] >= spoken + 4)
    seen = len(load.replicas)
    recovery_s = load.until(lambda: len(load.replicas) == 3)
    lost = load.lost
    load.until(lambda: load.statuses[200] >= spoken + 16)
    load.end()
    pool.shutdown()
    kinds = asyncio.run(talk())
    found = {
        "replicas_before": len(victims),
        "total": dict(load.statuses),
        "lost_after_recovery": load.lost - lost,
        "replicas_seen": len(load.replicas),
        "seen_while_one_was_gone": seen,
        "recovery_s": round(recovery_s, 1),
        "different_samples": len(load.samples),
        "socket": {name: count for name, count in kinds.items() if not name.startswith("replica")},
        "socket_replicas": sum(name.startswith("replica") for name in kinds),
    }
    sys.stdout.write(json.dumps(found) + "\n")
    sys.stdout.flush()
    serve.shutdown()
    ray.shutdown()


if __name__ == "__main__":
    main()
