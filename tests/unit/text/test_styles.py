"""Emotions, dialects and styles: the exact sentences, aliases, refusals."""

import pytest

from mynah.errors import MarkupError, UnsupportedFeatureError
from mynah.text.style_tables import ALIASES, CATALOGUES
from mynah.text.styles import catalogue, resolve_style


@pytest.mark.parametrize(
    ("name", "wish", "sentence"),
    [
        ("cosyvoice2", {"dialect": "sichuanese"}, "用四川话说这句话"),
        ("cosyvoice2", {"dialect": "yue"}, "用粤语说这句话"),
        ("cosyvoice2", {"emotion": "开心"}, "用开心的语气说"),
        ("cosyvoice2", {"emotion": "fear"}, "用恐惧的情感表达"),
        ("cosyvoice2", {"style": "very fast"}, "非常快速"),
        ("cosyvoice3", {"dialect": "Cantonese"}, "请用广东话表达。"),
        ("cosyvoice3", {"dialect": "上海话"}, "请用上海话表达。"),
        ("cosyvoice3", {"emotion": "happy"}, "请非常开心地说一句话。"),
        ("cosyvoice3", {"style": "fast"}, "请用尽可能快地语速说一句话。"),
        ("cosyvoice3", {"style": "whisper"}, "Please say a sentence in a very soft voice."),
        ("cosyvoice3", {"emotion": "neutral", "dialect": "henan"}, "请用河南话表达。"),
        ("cosyvoice3", {"emotion": "neutral"}, ""),
        ("cosyvoice3", {}, ""),
        ("cosyvoice3", {"instruction": " 请慢一点。 "}, "请慢一点。"),
        ("cosyvoice1", {"emotion": "sad"}, "A speaker with sad emotion."),
        (
            "cosyvoice1",
            {"emotion": "happy", "style": "high, fast"},
            "A speaker with happy emotion, high pitch, and fast speaking rate.",
        ),
    ],
)
def test_sentences(name: str, wish: dict[str, str], sentence: str) -> None:
    assert resolve_style(name, **wish) == sentence


@pytest.mark.parametrize(
    ("name", "wish", "message"),
    [
        ("cosyvoice3", {"emotion": "hapy"}, "did you mean happy"),
        ("cosyvoice3", {"emotion": "disgusted"}, "neutral, happy, sad, angry"),
        ("cosyvoice2", {"dialect": "hokkien"}, "cantonese, sichuanese"),
        ("cosyvoice2", {"emotion": "cantonese"}, "one of its dialects"),
        ("cosyvoice3", {"emotion": "sad", "dialect": "yue"}, "one instruction at a time"),
        ("cosyvoice3", {"emotion": "sad", "instruction": "x"}, "exclude each other"),
        ("cosyvoice9", {}, "no style catalogue"),
    ],
)
def test_refusals(name: str, wish: dict[str, str], message: str) -> None:
    with pytest.raises(UnsupportedFeatureError, match=message):
        resolve_style(name, **wish)


def test_an_instruction_brings_no_markers() -> None:
    with pytest.raises(MarkupError):
        resolve_style("cosyvoice2", instruction="用粤语说<|endofprompt|>")


@pytest.mark.parametrize("name", CATALOGUES)
def test_every_name_and_alias_resolves(name: str) -> None:
    for kind, known in catalogue(name).items():
        assert known
        for entry in known:
            sentence = resolve_style(name, **{kind: entry})
            assert "<|" not in sentence
            for alias in ALIASES.get(entry, ()):
                wanted = alias if alias in known else entry
                assert resolve_style(name, **{kind: alias}) == resolve_style(name, **{kind: wanted})


def test_counts_of_the_published_lists() -> None:
    assert len(catalogue("cosyvoice3")["dialect"]) == 17 + 1  # and Mandarin
    assert "emotion" in catalogue("cosyvoice2")
