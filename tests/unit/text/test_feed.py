"""Text in pieces: what is handed on at once, and what waits."""

import pytest

from mynah.text.feed import TextFeed


def typed(text: str, phrases: tuple[str, ...] = ()) -> list[str]:
    """The segments of a text that is typed one character at a time."""
    feed = TextFeed(phrases)
    return [segment for c in text for segment in feed.feed(c)] + feed.finish()


@pytest.mark.parametrize(
    ("text", "segments"),
    [
        ("Hello big world", "Hello| big| world"),
        ("今天好", "今|天|好"),
        ("きょうは", "き|ょ|う|は"),
        ("안녕 세상", "안녕| 세상"),
        ("好，我用iPhone吧。", "好，|我|用|iPhone|吧。"),
        ("We paid $5 million for it all", "We| paid| $5 million for| it| all"),
        ("Come on May 5, 2024 at last", "Come| on| May 5, 2024 at| last"),
        ("met Dr. Smith there", "met| Dr. Smith| there"),
        ("Louis XIV of France", "Louis XIV| of| France"),
        ("see www.example.org/a now", "see| www.example.org/a| now"),
        ("我有2个苹果吃", "我|有|2个苹果|吃"),
        ("是第3名的人呢", "是|第3名的人|呢"),
        ("打电话号码13800138000吧，谢谢好", "打|电话号码13800138000吧，|谢|谢|好"),
        ("2024年5月6日的天气好", "2024年5月6日的天|气|好"),
        ("做行{háng}业吗", "做|行{háng}|业|吗"),
        ("a tomato{T AH0} b", "a| tomato{T AH0}| b"),
        ("[重](chong2)做吧", "[重](chong2)|做|吧"),
        ("so [laughter] funny", "so| [laughter]| funny"),
        ("很<strong>重要</strong>的", "很|<strong>|重|要|</strong>|的"),
        ("a \\[b] c", "a| \\[b]| c"),
    ],
)
def test_segments(text: str, segments: str) -> None:
    assert typed(text) == segments.split("|")


def test_control_markers_are_seen_whole() -> None:
    assert typed("a <|x y|> b") == ["a", " <|x y|>", " b"]


def test_phrases_stay_whole() -> None:
    assert typed("到重庆去New York吗", ("重庆", "New York")) == [
        "到",
        "重庆",
        "去",
        "New York",
        "吗",
    ]


def test_pieces_do_not_matter() -> None:
    feed = TextFeed()
    assert feed.feed("A long text in one piece") == ["A", " long", " text", " in", " one"]
    assert feed.finish() == [" piece"]
    assert feed.finish() == []


@pytest.mark.parametrize("unit", ["x", "1", "好", "[", "1 ", "a.", "{", "<", "\\", "电"])
def test_endless_input_is_not_held_back(unit: str) -> None:
    feed = TextFeed()
    handed = sum(len(s) for _ in range(2000) for s in feed.feed(unit))
    assert handed > 2000 * len(unit) - 530
