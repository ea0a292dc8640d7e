"""The same listeners for Locust: by hand, or from many machines. See README.md.

locust -f benchmarks/load/locustfile.py --host http://127.0.0.1:8080
"""

from __future__ import annotations

import itertools
import os
import sys
import time
from pathlib import Path
from typing import Any

from locust import FastHttpUser, between, events, task

sys.path.insert(0, str(Path(__file__).parents[2]))
from benchmarks.load.listener import Playback, expected_s, orders

_BYTES_PER_SAMPLE = 2
_PIECE = 1920
_seeds = itertools.count(1)


class Listener(FastHttpUser):
    """Hears a stream to its end, or leaves it, then thinks for a moment.

    Besides the requests Locust shows ``first audio`` and ``underrun`` (its time is that of the
    gaps), so the columns of those rows are the figures that count.
    """

    wait_time = between(0.5, 3.0)
    connection_timeout = network_timeout = 300.0

    def on_start(self) -> None:
        """Choose texts of one's own."""
        self._next_order = orders(next(_seeds))
        key = os.environ.get("MYNAH_API_KEY")
        self._headers = {} if key is None else {"Authorization": f"Bearer {key}"}

    @task
    def hear(self) -> None:
        """One stream, played in real time."""
        order, playback = self._next_order(), Playback()
        share = order.leaves_after
        limit_s = None if share is None else share * expected_s(order.text)
        asked_at = time.monotonic()
        with self.client.post(
            "/tts",
            json=order.body(),
            headers=self._headers,
            stream=True,
            catch_response=True,
            name="stream, left" if share is not None else "stream",
        ) as answer:
            if answer.status_code == 503:
                answer.failure(f"refused, Retry-After {answer.headers.get('Retry-After')}")
                return
            if answer.status_code != 200:
                return
            per_s = int(answer.headers["X-Sample-Rate"]) * _BYTES_PER_SAMPLE
            for data in answer.iter_content(_PIECE):
                playback.take(len(data) / per_s, time.monotonic())
                if limit_s is not None and playback.audio_s >= limit_s:
                    break
            answer.success()
        if playback.first_at is not None:
            self._tell("first audio", playback.first_at - asked_at)
        if playback.underruns:
            gaps = f"{playback.underruns} gaps"
            self._tell("underrun", playback.underrun_s, RuntimeError(gaps))
        # What came early is played before the next request.
        if playback.first_at is not None and limit_s is None:
            self._rest(playback.first_at + playback.audio_s - time.monotonic())

    def _tell(self, name: str, seconds: float, error: Exception | None = None) -> None:
        events.request.fire(
            request_type="AUDIO",
            name=name,
            response_time=1000 * seconds,
            response_length=0,
            exception=error,
            context={},
        )

    def _rest(self, seconds: float) -> Any:
        if seconds > 0:
            time.sleep(seconds)  # Locust made it give way to the others
