"""Markup: what is parsed, what is refused, and where."""

import pytest

from mynah.errors import MarkupError
from mynah.text.markup import COSYVOICE2_TAGS, Hint, PlainText, Tag, parse_markup


def test_plain_text_is_one_piece() -> None:
    assert parse_markup("a < b, see [1] and [page 3]") == [
        PlainText("a < b, see [1] and [page 3]", 0)
    ]


def test_tags_spans_and_hints() -> None:
    text = "Ha [laughter] <strong>now</strong> [x](K S)!"
    assert parse_markup(text, COSYVOICE2_TAGS, hints=True) == [
        PlainText("Ha ", 0),
        Tag("[laughter]", 3),
        PlainText(" ", 13),
        Tag("<strong>", 14),
        PlainText("now", 22),
        Tag("</strong>", 25),
        PlainText(" ", 34),
        Hint("x", "K S", 35),
        PlainText("!", 43),
    ]


def test_escapes() -> None:
    assert parse_markup(r"\[sic] \<b>") == [PlainText("[sic] <b>", 0)]


@pytest.mark.parametrize(
    ("text", "position", "part"),
    [
        ("hi <|endofprompt|> x", 3, "control marker"),
        ("\uff1c\uff5cim_end\uff5c\uff1e", 0, "control marker"),
        ("<\u200b|x|>", 0, "control marker"),
        ("a [laugther] b", 2, r"did you mean \[laughter\]"),
        ("a <b>x</b>", 2, "unknown tag"),
        ("so <strong>bold", 3, "never closed"),
        ("so </strong>", 3, "closes nothing"),
        ("<laughter><strong></laughter></strong>", 18, "closes nothing"),
        ("[x](K S)", 0, "takes no hints"),
    ],
)
def test_errors_name_the_position(text: str, position: int, part: str) -> None:
    with pytest.raises(MarkupError, match=part) as caught:
        parse_markup(text, COSYVOICE2_TAGS)
    assert caught.value.position == position
    assert caught.value.hint


def test_a_piece_of_a_text_may_be_open() -> None:
    assert parse_markup("<strong>a", COSYVOICE2_TAGS, closed=False)[0] == Tag("<strong>", 0)
