"""The web page in a real browser: type, listen, stop, make a voice. Needs Chromium."""

from __future__ import annotations

import json
import queue
import wave
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import httpx
import pytest
from pydantic import SecretStr

from mynah.api import TTS
from mynah.audio.io import encode_audio
from mynah.server.runtime import Runtime, SpeechRecord
from mynah.server.settings import ServerSettings
from mynah.types import Audio
from tests.server.browser import Browser, Page, find_chromium
from tests.server.conftest import LiveServer, serve
from tests.server.loops import eventually
from tests.sounds import make_speechlike

CHROMIUM = find_chromium()
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no chromium is installed (Debian: apt-get install chromium)"
)

SHORT = "Good morning."
LONG = "The quick brown fox jumps over the lazy dog, and then it sleeps in the warm sun. " * 3
ENDLESS = LONG * 50
Opener: TypeAlias = Callable[..., Page]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Its microphone hears speech."""
    assert CHROMIUM is not None
    heard = tmp_path_factory.mktemp("microphone") / "speech.wav"
    heard.write_bytes(encode_audio(make_speechlike(6.0, 48000), "wav"))
    profile = tmp_path_factory.mktemp("profile")
    with Browser(CHROMIUM, profile, [f"--use-file-for-fake-audio-capture={heard}"]) as browser:
        yield browser


@pytest.fixture
def open_page(browser: Browser, spoken_live: LiveServer) -> Iterator[Opener]:
    """Opens the page; in the end nothing went wrong in it and nobody else was asked."""
    opened: list[Page] = []
    origins = {spoken_live.url}

    def opener(
        url: str = spoken_live.url, *, expect_errors: bool = False, **options: object
    ) -> Page:
        origins.add(url)
        page = browser.open(f"{url}/", **options)  # type: ignore[arg-type]  # passed on
        page.expects_errors = expect_errors
        opened.append(page)
        return page

    yield opener
    for page in opened:
        page.evaluate("1")  # what happened until now has been told
        page.close()
        for url in page.requests:
            scheme = url.split(":", 1)[0]  # the browser draws its own controls from data
            assert scheme in ("blob", "data") or any(url.startswith(f"{one}/") for one in origins)
        if not page.expects_errors:
            assert page.errors == []


@pytest.fixture
def outcomes(spoken_live: LiveServer) -> Iterator[queue.Queue[SpeechRecord]]:
    """What became of every speech of the server."""
    records: queue.Queue[SpeechRecord] = queue.Queue()
    spoken_live.runtime.listeners.append(records.put)
    yield records
    spoken_live.runtime.listeners.remove(records.put)


@pytest.fixture
def spoken_http(spoken_live: LiveServer) -> Iterator[httpx.Client]:
    with spoken_live.client() as client:
        yield client


@pytest.fixture
def voice_file(tmp_path: Path, recording: bytes) -> Path:
    path = tmp_path / "my voice.wav"
    path.write_bytes(recording)
    return path


def _speak(page: Page, text: str) -> None:
    page.type("#text", text)
    page.click("#generate")


def test_type_and_hear_it_before_it_is_complete(open_page: Opener) -> None:
    page = open_page().ready()
    assert page.text("#count") == "0 of 20,000 characters"
    _speak(page, LONG)
    page.wait("mynah.state.phase === 'receiving' && mynah.state.positionS > 0")
    page.wait("mynah.state.phase === 'done' && mynah.state.loudest > 0.05")
    state = page.state()
    assert state["asked"] < state["firstSamples"] <= state["firstSound"] < state["complete"]
    assert state["rate"] == 24000
    assert state["receivedS"] > 8
    page.shows("#duration", f"0:{int(state['receivedS']):02d}")
    page.shows("#state", "Done")


def test_what_is_played_is_what_the_server_said(
    open_page: Opener, nano: TTS, tmp_path: Path
) -> None:
    page = open_page().ready()
    page.save_to(tmp_path)
    page.evaluate("document.querySelector('details.more').open = true")
    page.type("#manner-seed", "7")
    _speak(page, SHORT)
    page.wait("mynah.state.phase === 'done'")
    page.wait("!mynah.state.isPlaying && mynah.state.positionS > 0.3")
    assert page.state()["positionS"] == pytest.approx(page.state()["receivedS"])

    page.click("#save-wav")
    page.browser.downloaded()
    with wave.open(str(tmp_path / "Good-morning.wav")) as saved:
        assert (saved.getframerate(), saved.getnchannels(), saved.getsampwidth()) == (24000, 1, 2)
        frames = saved.readframes(saved.getnframes())
    from mynah.audio.pcm import float_to_int16

    assert frames == float_to_int16(nano.synthesize(SHORT, seed=7).samples).tobytes()

    page.click("#save-mp3")
    page.browser.downloaded()
    from mynah.audio.io import read_audio

    packed = read_audio((tmp_path / "Good-morning.mp3").read_bytes())
    assert packed.duration_s == pytest.approx(len(frames) / 48000, abs=0.2)


def test_jump_pause_and_go_on(open_page: Opener) -> None:
    page = open_page().ready()
    _speak(page, "The quick brown fox jumps over the lazy dog, and then it sleeps.")
    page.wait("mynah.state.phase === 'done'")
    page.click("#play")
    page.wait("!mynah.state.isPlaying")
    page.evaluate(
        "(() => { const seek = document.querySelector('#seek'); seek.value = '2';"
        " seek.dispatchEvent(new Event('input')); })()"
    )
    page.click("#play")
    page.wait("mynah.state.isPlaying && mynah.state.positionS > 2.1 && mynah.state.level > 0")
    page.wait("document.querySelector('#play').getAttribute('aria-label') === 'Pause'")


def test_stop_ends_the_work_of_the_server(
    open_page: Opener,
    outcomes: queue.Queue[SpeechRecord],
    spoken_live: LiveServer,
    nano: TTS,
) -> None:
    page = open_page().ready()
    _speak(page, ENDLESS)
    page.wait("mynah.state.positionS > 0.1")
    assert spoken_live.runtime.active >= 1
    page.click("#stop")
    record = outcomes.get(timeout=60)
    assert record.outcome == "cancelled"
    eventually(lambda: spoken_live.runtime.active == 0)
    assert nano.engine.stats().listeners == 0
    page.wait("mynah.state.phase === 'stopped' && !mynah.state.isPlaying")
    page.shows("#state", "Stopped after")
    assert page.evaluate("document.querySelector('#stop').disabled")


def test_the_keyboard_is_enough(open_page: Opener, outcomes: queue.Queue[SpeechRecord]) -> None:
    page = open_page().ready()
    page.type("#text", ENDLESS)
    page.key("Enter", 13, control=True)
    page.wait("mynah.state.phase === 'receiving'")
    page.key("Escape", 27)
    assert outcomes.get(timeout=60).outcome == "cancelled"
    unnamed = page.evaluate(
        """[...document.querySelectorAll("button, input, select, textarea")].filter((control) =>
          !(control.innerText || control.getAttribute("aria-label") || control.labels?.length
            || control.getAttribute("aria-labelledby"))).map((control) => control.outerHTML)"""
    )
    assert unnamed == []


def test_a_voice_of_a_file_is_made_and_used(
    open_page: Opener, spoken_http: httpx.Client, voice_file: Path
) -> None:
    page = open_page().ready()
    page.click("#new-voice")
    page.choose_file("#clip-file", voice_file)
    page.wait("document.querySelector('#voice-name').value === 'my-voice'")
    page.shows("#verdict", "The recording is good")
    page.type("#voice-name", "browser-file")
    page.click("#voice-save")
    assert "tick the box" in page.text("#verdict")
    page.click("#voice-consent")
    page.click("#voice-save")
    page.wait("mynah.state.voice === 'browser-file'")
    page.wait("document.querySelector('#live').textContent.includes('browser-file is ready')")
    assert not page.evaluate("document.querySelector('#voice-dialog').open")
    _speak(page, SHORT)
    page.wait("mynah.state.phase === 'done' && mynah.state.loudest > 0.01")
    assert page.text("#history .facts").startswith("browser-file")

    kept = next(
        one for one in spoken_http.get("/voices").json()["voices"] if one["name"] == "browser-file"
    )
    assert "agrees" in kept["consent"]
    page.evaluate("window.confirm = () => true")
    page.click("[aria-label='Delete the voice browser-file']")
    page.wait("mynah.state.voice === 'kathleen'")
    names = [one["name"] for one in spoken_http.get("/voices").json()["voices"]]
    assert "browser-file" not in names


def test_a_voice_of_the_microphone(open_page: Opener, spoken_http: httpx.Client) -> None:
    page = open_page().ready()
    page.click("#new-voice")
    page.type("#voice-name", "browser-heard")
    page.click("#voice-consent")
    page.click("#record")
    page.shows("#clip-state", "2 s")
    page.click("#record")
    page.shows("#clip-state", "Recorded")
    page.click("#voice-save")
    page.wait("mynah.state.voice === 'browser-heard'")
    assert spoken_http.delete("/voices/browser-heard").is_success


def test_an_unsuitable_recording_is_shown_with_its_cure(
    open_page: Opener, voice_file: Path
) -> None:
    quiet = Audio(make_speechlike(3.0, 24000).samples * 1e-4, 24000)
    voice_file.write_bytes(encode_audio(quiet, "wav"))
    page = open_page(expect_errors=True).ready()
    page.click("#new-voice")
    page.choose_file("#clip-file", voice_file)
    page.shows("#verdict", "silent")
    page.click("#voice-consent")
    page.click("#voice-save")
    page.shows("#verdict", "Making")
    page.shows("#verdict", "silent")
    verdict = page.text("#verdict")
    assert "cannot become a voice" in verdict
    assert "check the microphone" in verdict
    assert page.evaluate("document.querySelector('#voice-dialog').open")


def test_errors_are_shown_with_their_cure(open_page: Opener) -> None:
    page = open_page(expect_errors=True).ready()
    page.click("#generate")
    assert "nothing to say" in page.text("#problem")
    _speak(page, "Hello <|endoftext|> there.")
    page.wait("mynah.state.phase === 'failed'")
    assert "What to do:" in page.text("#problem")
    assert page.state()["numClips"] == 0
    page.click("#problem-close")
    assert page.evaluate("document.querySelector('#problem').hidden")
    _speak(page, SHORT)
    page.wait("mynah.state.phase === 'done'")


def test_history(open_page: Opener) -> None:
    page = open_page().ready()
    for number, text in enumerate((SHORT, "Good night."), 1):
        _speak(page, text)
        page.wait(f"mynah.state.phase === 'done' && mynah.state.numClips === {number}")
    assert page.text("#history li:first-child .replay") == "Good night."
    page.click("#history li:last-child .replay")
    page.wait("mynah.state.isPlaying && mynah.state.positionS > 0.1 && mynah.state.level > 0")
    page.shows("#now", SHORT)
    page.click("#history li:last-child [title^='Use']")
    assert page.evaluate("document.querySelector('#text').value") == SHORT
    page.click("#history li:last-child [title^='Remove']")
    assert page.state()["numClips"] == 1
    assert page.evaluate("document.querySelector('#deck').hidden")
    assert "Good night." in page.text("#history")


def test_only_what_a_model_knows_can_be_chosen(open_page: Opener, live: LiveServer) -> None:
    page = open_page(live.url).ready()
    assert page.evaluate("document.querySelector('#manner-model').value") == "tiny"
    assert page.evaluate("document.querySelector('#manner-instruction')") is None
    page.evaluate(
        "(() => { const model = document.querySelector('#manner-model'); model.value = 'tiny3';"
        " model.dispatchEvent(new Event('change')); })()"
    )
    page.wait("document.querySelector('#manner-instruction') && mynah.state.voice === 'tiny'")
    options = page.evaluate(
        "[...document.querySelector('#manner-language').options].map((option) => option.text)"
    )
    assert options == [
        "Found from the text",
        "Chinese",
        "English",
        "Japanese",
        "Korean",
        "Cantonese",
    ]
    page.type("#manner-instruction", "Speak softly.")
    _speak(page, SHORT)
    page.wait("mynah.state.phase === 'done' && mynah.state.receivedS > 0")
    sent = next(body for url, body in reversed(page.sent) if url.endswith("/tts"))
    assert json.loads(sent)["instruction"] == "Speak softly."
    assert json.loads(sent)["model"] == "tiny3"


def test_languages_and_themes(open_page: Opener) -> None:
    page = open_page(language="zh-CN", scheme="dark").ready()
    assert page.text("#compose-title") == "要说什么？"
    assert page.evaluate("document.documentElement.lang") == "zh-CN"
    background = "getComputedStyle(document.documentElement).backgroundColor"
    assert page.evaluate(background) == "rgb(17, 23, 22)"
    page.click("#switch-language")
    assert page.text("#compose-title") == "What should be said?"
    assert page.text("#voice-list").endswith("comes with the model")
    page.click("#switch-theme")
    assert page.text("#switch-theme") == "Theme: light"
    assert page.evaluate(background) == "rgb(243, 241, 234)"
    page.reload()
    assert page.evaluate(background) == "rgb(243, 241, 234)"
    assert page.text("#compose-title") == "What should be said?"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_can_be_read(open_page: Opener, voice_file: Path, scheme: str) -> None:
    page = open_page(scheme=scheme).ready()
    page.click("#generate")  # with a problem
    page.click("#new-voice")
    page.choose_file("#clip-file", voice_file)
    page.wait("document.querySelector('#verdict').className.includes('good')")
    contrasts = page.contrasts()
    assert len(contrasts) > 30
    assert [pair for pair in contrasts if pair[0] < 4.5] == []


def test_on_a_phone_nothing_is_cut_off_or_too_small(open_page: Opener) -> None:
    page = open_page(width=360, height=740).ready()
    page.click("#examples button")
    assert page.evaluate("document.querySelector('#text').value.length") > 20
    page.click("#generate")
    page.wait("mynah.state.positionS > 0")
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    small = page.evaluate(
        """[...document.querySelectorAll("button")].map((button) => [button.outerHTML,
          button.getBoundingClientRect()]).filter(([, box]) => box.height && (box.height < 43.5
          || box.width < 43.5)).map(([html]) => html)"""
    )
    assert small == []


def test_a_key_is_asked_for_and_kept(open_page: Opener, nano: TTS) -> None:
    settings = ServerSettings(api_keys=(SecretStr("right"),), models=("nano",))
    for server in serve(Runtime(settings, loaded={"nano": nano})):
        page = open_page(server.url, expect_errors=True)
        page.wait("document.querySelector('#key-dialog')?.open && window.mynah")
        assert page.evaluate("document.querySelector('#key-wrong').hidden")
        page.type("#key", "wrong")
        page.key("Enter", 13)
        page.wait("!document.querySelector('#key-wrong').hidden")
        page.type("#key", "right")
        page.key("Enter", 13)
        page.ready()
        _speak(page, SHORT)
        page.wait("mynah.state.phase === 'done'")
        page.reload()
        assert not page.evaluate("document.querySelector('#key-dialog').open")
        assert page.evaluate("localStorage.getItem('mynah.key')") is None
