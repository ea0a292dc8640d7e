"""A headless Chromium, driven over its DevTools protocol."""

from __future__ import annotations

import base64
import itertools
import json
import shutil
import subprocess
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from websockets.sync.client import ClientConnection, connect

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-background-timer-throttling",
    "--disable-backgrounding-occluded-windows",
    "--disable-renderer-backgrounding",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-dev-shm-usage",
    "--disable-sync",
    "--no-first-run",
    "--no-proxy-server",
    "--autoplay-policy=no-user-gesture-required",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
    "--remote-debugging-port=0",
)
_LIMIT_S = 120.0
_CONTRASTS = """(() => {
  const brush = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  const light = (colour, below) => {
    brush.fillStyle = "#fff";
    brush.fillRect(0, 0, 1, 1);
    for (const one of [below, colour]) { brush.fillStyle = one; brush.fillRect(0, 0, 1, 1); }
    const [r, g, b] = [...brush.getImageData(0, 0, 1, 1).data].map((value) =>
      value / 255 <= 0.04045 ? value / 3294.6 : ((value / 255 + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const found = [];
  for (const element of document.querySelectorAll("body *")) {
    const text = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!text || !element.checkVisibility() || element.closest(":disabled, .skip")) continue;
    let behind = element;
    while (behind && /, 0\\)|transparent/.test(getComputedStyle(behind).backgroundColor))
      behind = behind.parentElement;
    const below = getComputedStyle(behind ?? document.documentElement).backgroundColor;
    const pair = [light(getComputedStyle(element).color, below), light(below, below)];
    const ratio = (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05);
    found.push([ratio, element.outerHTML.slice(0, 100)]);
  }
  return found;
})()"""


def find_chromium() -> str | None:
    """Path of a Chromium on this machine, or None."""
    return next((path for name in _NAMES if (path := shutil.which(name))), None)


class Browser:
    """One browser process."""

    def __init__(self, program: str, profile: Path, flags: Sequence[str] = ()) -> None:
        command = [program, *_FLAGS, *flags, f"--user-data-dir={profile}", "about:blank"]
        self._process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace"
        )
        self._ids = itertools.count(1)
        self._pages: dict[str, Page] = {}
        self._downloads = 0
        self._socket: ClientConnection | None = None
        self._stack = ExitStack()
        try:
            opening = connect(self._address(), max_size=None, proxy=None)
            self._socket = self._stack.enter_context(opening)
        except BaseException:
            self.close()
            raise

    def _address(self) -> str:
        assert self._process.stderr is not None
        seen: list[str] = []
        for line in self._process.stderr:
            seen.append(line)
            if line.startswith("DevTools listening on "):
                return line.split()[-1]
        raise AssertionError(f"Chromium did not start: {''.join(seen)[-1000:]}")

    def send(self, method: str, session: str = "", **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol and wait for its result."""
        assert self._socket is not None
        number = next(self._ids)
        message: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        self._socket.send(json.dumps(message))
        while True:
            answer = json.loads(self._socket.recv(_LIMIT_S))
            if answer.get("id") == number:
                if "error" in answer:
                    raise AssertionError(f"{method}: {answer['error']}")
                result: dict[str, Any] = answer["result"]
                return result
            self._notice(answer)

    def downloaded(self) -> None:
        """Wait until a file that a page saves is complete."""
        self.listen(lambda: self._downloads > 0)
        self._downloads -= 1

    def listen(self, until: Callable[[], bool]) -> None:
        """Take in events until something is true."""
        assert self._socket is not None
        while not until():
            self._notice(json.loads(self._socket.recv(_LIMIT_S)))

    def _notice(self, event: dict[str, Any]) -> None:
        if "method" not in event:
            return  # an answer that nobody waits for any more
        if page := self._pages.get(event.get("sessionId", "")):
            page.notice(event["method"], event["params"])
        elif event["method"] == "Browser.downloadProgress":
            self._downloads += event["params"]["state"] == "completed"

    def open(self, url: str, *, width: int = 1280, height: int = 900, **media: str) -> Page:
        """Open a page with a storage of its own; ``media`` are features such as languages."""
        context = self.send("Target.createBrowserContext")["browserContextId"]
        target = self.send("Target.createTarget", url="about:blank", browserContextId=context)[
            "targetId"
        ]
        session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = Page(self, context, session)
        self._pages[session] = page
        for domain in ("Page", "Runtime", "Network", "Log", "DOM"):
            page.send(f"{domain}.enable")
        page.resize(width, height)
        scheme = media.pop("scheme", "light")
        page.send(
            "Emulation.setEmulatedMedia",
            features=[{"name": "prefers-color-scheme", "value": scheme}],
        )
        language = media.pop("language", "en-US")
        page.send(
            "Emulation.setUserAgentOverride",
            userAgent="Mozilla/5.0 (X11; Linux x86_64) Chrome/150 Safari/537.36",
            acceptLanguage=language,
        )
        page.send("Page.navigate", url=url)
        return page

    def close(self) -> None:
        """End the process."""
        if self._socket is None:
            self._process.terminate()
        else:
            self.send("Browser.close")
            self._stack.close()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(20)
        assert self._process.stderr is not None
        self._process.stderr.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


@dataclass
class Page:
    """One tab."""

    browser: Browser
    context: str
    session: str
    errors: list[str] = field(default_factory=list)
    """What the console shows as errors and warnings."""
    num_loads: int = 0
    expects_errors: bool = False
    """Whether some are part of the test."""
    requests: list[str] = field(default_factory=list)
    """Addresses of everything that was asked for."""

    sent: list[tuple[str, str]] = field(default_factory=list)
    """The same with the bodies of texts."""

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol for this tab."""
        return self.browser.send(method, self.session, **parameters)

    def notice(self, method: str, params: dict[str, Any]) -> None:
        """Keep what an event tells."""
        if method == "Runtime.exceptionThrown":
            self.errors.append(json.dumps(params["exceptionDetails"])[:600])
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning"):
            self.errors.append(json.dumps(params["args"])[:600])
        elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.errors.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")
        elif method == "Page.loadEventFired":
            self.num_loads += 1
        elif method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
            self.sent.append((params["request"]["url"], params["request"].get("postData", "")))

    def resize(self, width: int, height: int) -> None:
        """Be a window of this size in CSS pixels; narrow ones are phones."""
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=2 if width < 600 else 1,
            mobile=width < 600,
        )
        self.send("Emulation.setTouchEmulationEnabled", enabled=width < 600)

    def evaluate(self, expression: str) -> Any:
        """Value of a JavaScript expression; promises are awaited."""
        result = self.send(
            "Runtime.evaluate",
            expression=expression,
            awaitPromise=True,
            returnByValue=True,
            userGesture=True,
        )
        assert "exceptionDetails" not in result, json.dumps(result["exceptionDetails"])[:800]
        return result["result"].get("value")

    def wait(self, condition: str, limit_s: float = 60.0) -> Any:
        """Wait in the page until an expression is true; its value."""
        return self.evaluate(
            f"""new Promise((resolve, reject) => {{
              const end = performance.now() + {1000 * limit_s};
              const look = () => {{
                const value = ({condition});
                if (value) resolve(value);
                else if (performance.now() < end) setTimeout(look, 15);
                else reject(new Error("still false: " + {json.dumps(condition)} + " "
                  + JSON.stringify(window.mynah?.state ?? null)
                  + document.querySelector("#problem")?.innerText));
              }};
              look();
            }})"""
        )

    def ready(self) -> Page:
        """Wait until the page has asked the server what it can do."""
        self.wait("document.body?.dataset.ready === 'yes'")
        return self

    def shows(self, selector: str, text: str) -> None:
        """Wait until an element shows a text; some are drawn only with the next frame."""
        self.wait(
            f"document.querySelector({json.dumps(selector)})?.innerText"
            f".includes({json.dumps(text)})"
        )

    def reload(self) -> None:
        """Load the page again."""
        before = self.num_loads
        self.send("Page.reload")
        self.browser.listen(lambda: self.num_loads > before)
        self.ready()

    def state(self) -> dict[str, Any]:
        """What the page tells about itself."""
        state: dict[str, Any] = self.evaluate("window.mynah.state")
        return state

    def text(self, selector: str) -> str:
        """Visible text of an element."""
        return str(self.evaluate(f"document.querySelector({json.dumps(selector)}).innerText"))

    def click(self, selector: str) -> None:
        """Press the mouse button in the middle of an element that can be seen there."""
        place = self.evaluate(
            f"""(() => {{
              const element = document.querySelector({json.dumps(selector)});
              element.scrollIntoView({{ block: "center", behavior: "instant" }});
              const box = element.getBoundingClientRect();
              const [x, y] = [box.x + box.width / 2, box.y + box.height / 2];
              const top = document.elementFromPoint(x, y);
              return element.contains(top) || top?.closest("label")?.control === element
                ? [x, y] : null;
            }})()"""
        )
        assert place, f"{selector} is covered or outside"
        for kind in ("mousePressed", "mouseReleased"):
            self.send(
                "Input.dispatchMouseEvent",
                type=kind,
                x=place[0],
                y=place[1],
                button="left",
                clickCount=1,
            )

    def type(self, selector: str, text: str) -> None:
        """Go to a field and replace what it holds."""
        field = f"document.querySelector({json.dumps(selector)})"
        self.evaluate(f"({field}.focus(), {field}.select())")
        self.send("Input.insertText", text=text)
        assert self.evaluate(f"{field}.value") == text

    def key(self, key: str, code: int, *, control: bool = False) -> None:
        """Press and release a key."""
        text = "\r" if key == "Enter" and not control else ""  # what it writes, as in forms
        for kind in ("keyDown" if text else "rawKeyDown", "keyUp"):
            self.send(
                "Input.dispatchKeyEvent",
                type=kind,
                key=key,
                code=key,
                text=text if kind == "keyDown" else "",
                windowsVirtualKeyCode=code,
                modifiers=2 if control else 0,
            )

    def choose_file(self, selector: str, path: Path) -> None:
        """Choose a file in a file field."""
        found = self.send(
            "Runtime.evaluate", expression=f"document.querySelector({json.dumps(selector)})"
        )
        self.send("DOM.setFileInputFiles", files=[str(path)], objectId=found["result"]["objectId"])

    def contrasts(self) -> list[tuple[float, str]]:
        """Contrast of every text that is shown with what is behind it (WCAG), and its element."""
        return [(ratio, element) for ratio, element in self.evaluate(_CONTRASTS)]

    def save_to(self, folder: Path) -> None:
        """Put what the page saves into a folder."""
        self.browser.send(
            "Browser.setDownloadBehavior",
            behavior="allow",
            browserContextId=self.context,
            downloadPath=str(folder),
            eventsEnabled=True,
        )

    def screenshot(self, path: Path, *, whole: bool = True) -> None:
        """Save what it looks like."""
        shot = self.send("Page.captureScreenshot", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(shot["data"]))

    def close(self) -> None:
        """Close the tab and forget its storage."""
        self.browser.send("Target.disposeBrowserContext", browserContextId=self.context)
