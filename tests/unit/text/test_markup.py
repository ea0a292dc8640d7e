"""Markup: what is parsed, what is refused, and where."""

import pytest

from mynah.errors import MarkupError
from mynah.text.markup import Hint, PlainText, Tag, parse_markup
from mynah.text.special_tokens import COSYVOICE2_TAGS, PRONUNCIATION_TOKENS


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


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("银行{háng}业", [PlainText("银", 0), Hint("行", "háng", 1), PlainText("业", 8)]),
        ("a well-known{W EH1 L} b", [PlainText("a ", 0), Hint("well-known", "W EH1 L", 2),
                                     PlainText(" b", 21)]),
        ("说OK{OW2 K EY1}吧", [PlainText("说", 0), Hint("OK", "OW2 K EY1", 1),
                              PlainText("吧", 14)]),
        ("{x} x_{1} a {b}", [PlainText("{x} x_{1} a {b}", 0)]),
        (r"f\{x\}", [PlainText("f{x}", 0)]),
        ("报道[j][ǐ]予", [PlainText("报道", 0), Tag("[j]", 2), Tag("[ǐ]", 5), PlainText("予", 8)]),
        ("[重][1][10] [ab1]", [PlainText("[重][1][10] [ab1]", 0)]),
    ],
)  # fmt: skip
def test_readings_and_pronunciation_tokens(text: str, pieces: list[object]) -> None:
    assert parse_markup(text, PRONUNCIATION_TOKENS, hints=True) == pieces


def test_braces_are_linear() -> None:
    parse_markup("a-" * 100_000 + "{" * 1000, hints=True)


def test_distant_bars_are_no_marker() -> None:
    text = "a <| b, " + "and so on " * 10 + "c |> d"
    assert parse_markup(text) == [PlainText(text, 0)]
