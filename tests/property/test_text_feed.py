"""Text in pieces of any size: nothing is lost, and nothing that belongs together is cut."""

import re

from hypothesis import given, settings
from hypothesis import strategies as st

from mynah.text.feed import TextFeed
from mynah.text.languages import main_language
from mynah.text.normalize import normalize

FRAGMENTS = st.sampled_from(
    [
        "Hello", "Dr.", "e.g.", "3.14", "U.S.", "No.", "5", "I", "$1,000.50", "10:30", "你", "世界",
        "。", "，", "「", "」", '"', "(", ")", "[breath]", "[重](chong2)", "行{háng}", "x{T AH0}",
        "<strong>", "</strong>", "\\[", "\\", "[", "{", "<", "<|zh|>", "…", "?!", "-", "\n", "  ",
        "😀", "1/2", "-5°C", "2024-05-06", "www.a.com", "%", "2010年",
        "e\u0301", "XIV", "万", "안녕",
    ]
)  # fmt: skip
TEXTS = st.lists(FRAGMENTS | st.text(max_size=6), max_size=30).flatmap(
    lambda parts: st.sampled_from([" ".join(parts), "".join(parts)])
)
WHOLE = re.compile(
    r"\[[^\[\]\n]{1,64}\]\([^()\n]{1,200}\)|\[breath\]|</?strong>|<\|zh\|>|\\[\[\]<>{}\\]"
    r"|\w\{[^{}\n]{1,200}\}|[0-9]+(?:[.,:/-][0-9]+)*|[A-Za-z]+|\w[\u0300-\u036f]+"
)


def pieces(text: str, data: st.DataObject) -> list[str]:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=12)))
    return [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]


def fed(parts: list[str]) -> list[str]:
    feed = TextFeed()
    return [segment for part in parts for segment in feed.feed(part)] + feed.finish()


@given(TEXTS, st.data())
def test_segments_join_to_the_text(text: str, data: st.DataObject) -> None:
    segments = fed(pieces(text, data))
    assert "".join(segments) == text
    assert all(segments)
    assert segments == fed([text])


@given(TEXTS)
@settings(max_examples=300)
def test_nothing_is_cut_in_two(text: str) -> None:
    segments = fed(list(text))
    ends, position = set(), 0
    for segment in segments[:-1]:
        position += len(segment)
        ends.add(position)
    for match in WHOLE.finditer(text):
        inside = ends & set(range(match.start() + 1, match.end()))
        assert not inside or len(text) > 200, (match[0], segments)


SENTENCES = st.sampled_from(
    [
        "On Jan 3, 2024 we paid $12.50 for 5 kg of rice.",
        "At 10:30 a.m. and 5pm, Dr. Smith saw 2048 bytes.",
        "The war of 1990-1995 cost 3 million dollars, i.e. 50% of it.",
        "Henry VIII and Louis XIV met at Baker St. in 1905 with 22 men.",
        "今天是2024年5月6日，气温-5℃，第3名共计¥1,234.5。",
        "电话13812345678，3/4的人，下午3:30有2个人。",
        "他说Hello 5次，2000-2010年有20230人，90后来了。",
    ]
)


@given(SENTENCES, st.data())
def test_segments_read_like_the_whole_text(text: str, data: st.DataObject) -> None:
    language = main_language(text)
    spoken = " ".join(normalize(s, language) for s in fed(pieces(text, data)))
    assert re.sub(r"\W+", "", spoken) == re.sub(r"\W+", "", normalize(text, language))
