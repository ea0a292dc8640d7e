"""The web page as files: what is sent, with which headers, and that it asks nobody else."""

from __future__ import annotations

import re
from importlib import resources

import httpx
import pytest

FILES = sorted(file.name for file in resources.files("mynah.server").joinpath("page").iterdir())
TYPES = {"js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}
# the name of a language of drawings, which nobody fetches
_NAMESPACE = 'xmlns="http://www.w3.org/2000/svg"'


def _text(name: str) -> str:
    return (resources.files("mynah.server") / "page" / name).read_text(encoding="utf-8")


def _keys(name: str) -> set[str]:
    return set(re.findall(r'^  "?([\w.]+)"?:', _text(name), flags=re.MULTILINE))


def test_the_page_is_served_and_may_load_only_its_own_files(http: httpx.Client) -> None:
    answer = http.get("/")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = dict(
        part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";")
    )
    assert policy["default-src"] == "'none'"
    assert policy["frame-ancestors"] == "'none'"
    assert set(policy.values()) <= {"'none'", "'self'", "blob:"}
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "<title>mynah</title>" in answer.text


def test_every_file_that_is_named_is_there_with_its_type(http: httpx.Client) -> None:
    named = set(re.findall(r'(?:src|href)="page/([^"]+)"', _text("index.html")))
    for name in FILES:
        if name.endswith(".js"):
            named |= set(re.findall(r'from "\./([^"]+)"', _text(name)))
            named |= set(re.findall(r'new URL\("([^"]+)"', _text(name)))
    assert named == set(FILES) - {"index.html"}
    for name in named:
        answer = http.get(f"/page/{name}")
        assert answer.status_code == 200, name
        assert answer.headers["content-type"].startswith(TYPES[name.rsplit(".", 1)[1]])
        assert answer.text == _text(name)


def test_a_file_is_sent_again_only_when_it_changed(http: httpx.Client) -> None:
    for path in ("/", "/page/app.js"):
        first = http.get(path)
        assert first.headers["cache-control"] == "no-cache"
        tag = first.headers["etag"]
        again = http.get(path, headers={"If-None-Match": f'"other", W/{tag}'})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == tag
        assert http.get(path, headers={"If-None-Match": '"other"'}).status_code == 200


def test_asking_for_the_headers_only(http: httpx.Client) -> None:
    answer = http.head("/")
    assert answer.status_code == 200
    assert answer.content == b""
    assert int(answer.headers["content-length"]) > 1000


@pytest.mark.parametrize(
    "name", ["nothing.js", "index.html", "..%2f__init__.py", "%2e%2e/app.py", "__init__.py"]
)
def test_no_other_file_can_be_had(http: httpx.Client, name: str) -> None:
    answer = http.get(f"/page/{name}")
    assert answer.status_code == 404
    assert answer.json()["solution"]


@pytest.mark.parametrize("name", FILES)
def test_no_file_names_another_place(name: str) -> None:
    text = _text(name).replace(_NAMESPACE, "")
    assert not re.search(r"\b(?:https?|wss?|ftp)://|['\"(=]//\w|@import|\beval\(", text)


def test_the_page_is_small(http: httpx.Client) -> None:
    assert sum(len(_text(name).encode()) for name in FILES) < 120_000
    assert all(_text(name).count("\n") <= 400 for name in FILES)


def test_both_languages_have_every_text() -> None:
    english, chinese = _keys("strings-en.js"), _keys("strings-zh.js")
    # names of styles are English words already
    names = {key for key in chinese if key.split(".")[0] in ("emotion", "dialect", "style")}
    names -= {"dialect", "emotion", "style"}
    assert chinese - names == english
    used = set(re.findall(r'data-i18n(?:-\w+)?="([^"]+)"', _text("index.html")))
    for name in FILES:
        if name.endswith(".js"):
            used |= set(re.findall(r'\bt\("([\w.]+)"', _text(name)))
    assert used - english == set()


def test_every_style_of_every_model_has_a_chinese_name() -> None:
    from mynah.text.style_tables import CATALOGUES

    known = _keys("strings-zh.js")
    for models in CATALOGUES.values():
        kinds = {"emotion": models.emotions, "dialect": models.dialects, "style": models.styles}
        for kind, names in kinds.items():
            assert {f"{kind}.{name}" for name in names} <= known
