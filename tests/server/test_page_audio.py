"""The page's player on its own: what it renders in a browser, sample by sample."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib import resources

import numpy as np
import numpy.typing as npt
import pytest

from tests.server.browser import Browser, Page, find_chromium
from tests.server.conftest import LiveServer

CHROMIUM = find_chromium()
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no chromium is installed (Debian: apt-get install chromium)"
)

TONE_HZ = 997.0
FADE_S = 0.01
# The worklet's own code, run in a bare class: its blocks can be asked for one by one, so that what
# arrives when is decided here and not by a clock.
_RENDER = """
(async ({ source, rate, clip, steps }) => {
  let made;
  const scope = {
    sampleRate: rate,
    AudioWorkletProcessor: class { port = { postMessage: (report) => scope.reports.push(report) } },
    registerProcessor: (name, kind) => { made = kind; },
    reports: [],
  };
  new Function(...Object.keys(scope), source)(...Object.values(scope));
  const player = new made();
  const hear = (data) => player.port.onmessage({ data });
  hear({ do: "open", id: 1, rate: clip.rate });
  const out = [];
  for (const { feed, blocks, ...message } of steps) {
    if (feed) {
      const samples = Int16Array.from(clip.samples.slice(...feed));
      hear({ do: "feed", id: 1, samples });
    }
    if (message.do) hear({ id: 1, ...message });
    for (let block = 0; block < (blocks ?? 0); block++) {
      const channel = new Float32Array(128);
      player.process([], [[channel]]);
      out.push(...channel);
    }
  }
  player.report();
  return { out, last: scope.reports.at(-1) };
})
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory, spoken_live: LiveServer) -> Iterator[Page]:
    assert CHROMIUM is not None
    with Browser(CHROMIUM, tmp_path_factory.mktemp("profile")) as browser:
        page = browser.open("about:blank")
        yield page


def _tone(rate: int, count: int) -> npt.NDArray[np.float64]:
    return 0.5 * np.sin(2 * np.pi * TONE_HZ * np.arange(count) / rate)


def _render(
    page: Page, samples: npt.NDArray[np.float64], rate: int, out_rate: int, steps: list[object]
) -> tuple[npt.NDArray[np.float64], dict[str, float]]:
    source = (resources.files("mynah.server") / "page" / "player-worklet.js").read_text("utf-8")
    integers = np.round(samples * 32768).astype(int).tolist()
    given = {
        "source": source,
        "rate": out_rate,
        "clip": {"rate": rate, "samples": integers},
        "steps": steps,
    }
    result = page.evaluate(f"{_RENDER}({json.dumps(given)})")
    return np.array(result["out"]), result["last"]


def _pieces(count: int, size: int) -> list[object]:
    return [{"feed": [at, min(at + size, count)]} for at in range(0, count, size)]


@pytest.mark.parametrize(
    ("rate", "out_rate"),
    [(24000, 48000), (24000, 44100), (22050, 48000), (24000, 24000), (24000, 16000)],
)
def test_pieces_become_one_tone_at_the_rate_of_the_card(
    page: Page, rate: int, out_rate: int
) -> None:
    samples = _tone(rate, rate // 2)
    blocks = out_rate // 2 // 128
    steps = [*_pieces(len(samples), 777), {"do": "complete"}, {"do": "play", "blocks": blocks}]
    out, last = _render(page, samples, rate, out_rate, steps)
    expected = _tone(out_rate, len(out))
    middle = slice(int(FADE_S * 2 * out_rate), -int(FADE_S * 2 * out_rate))
    assert np.abs(out - expected)[middle].max() < 3e-3
    assert last["underruns"] == 0


def test_a_gap_is_faded_waited_out_and_gone_on_from(page: Page) -> None:
    rate = 24000
    samples = _tone(rate, rate)
    steps: list[object] = [
        {"feed": [0, 9000]},
        {"do": "play", "blocks": 120},  # 15360 frames at the same rate: it runs dry
        {"feed": [9000, 24000]},
        {"do": "complete", "blocks": 150},
    ]
    out, last = _render(page, samples, rate, rate, steps)
    assert last["underruns"] == 1
    steps_between = np.abs(np.diff(out)).max()
    assert steps_between < 1.2 * np.abs(np.diff(samples)).max()  # no click anywhere
    quiet = np.flatnonzero(np.abs(out[300:]) < 1e-6)
    assert len(quiet) > 5000  # the gap
    assert last["position"] == len(samples)  # nothing was left out
    heard = np.sum(np.abs(out) > 0.01)
    assert heard == pytest.approx(np.sum(np.abs(samples) > 0.01), rel=0.05)


def test_it_waits_for_a_reserve_before_it_begins(page: Page) -> None:
    rate = 24000
    samples = _tone(rate, rate)
    too_few: list[object] = [{"feed": [0, 4000]}, {"do": "play", "blocks": 100}]
    out, last = _render(page, samples, rate, rate, too_few)
    assert np.abs(out).max() == 0
    assert (last["isStarved"], last["underruns"]) == (True, 0)
    out, _ = _render(page, samples, rate, rate, [*too_few, {"feed": [4000, 6000], "blocks": 20}])
    assert np.abs(out).max() > 0.4
    out, _ = _render(page, samples, rate, rate, [*too_few, {"do": "complete", "blocks": 20}])
    assert np.abs(out).max() > 0.4


def test_a_jump_lands_where_it_should(page: Page) -> None:
    rate = 24000
    samples = np.linspace(0, 0.9, rate)  # the value tells the place
    steps: list[object] = [
        {"feed": [0, rate]},
        {"do": "complete"},
        {"do": "play", "blocks": 10},
        {"do": "seek", "sample": 18000, "blocks": 8},
    ]
    out, last = _render(page, samples, rate, rate, steps)
    assert out[-1] == pytest.approx(samples[int(last["position"])], abs=1e-3)
    assert last["position"] > 18000
    assert np.abs(np.diff(out)).max() < 0.01  # no click


def test_samples_of_another_clip_are_not_taken(page: Page) -> None:
    steps: list[object] = [{"feed": [0, 9000]}, {"do": "play", "blocks": 10}]
    late = {"do": "feed", "id": 0, "samples": {"length": 5}}
    _, last = _render(page, _tone(24000, 9000), 24000, 24000, [*steps, late, {"blocks": 1}])
    assert last["id"] == 1
