from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from mynah.compat.markers import open_text, strip_instruction, strip_transcript
from mynah.config import PromptTemplates
from mynah.errors import InvalidRequestError

HEAD = "You are a helpful assistant.<|endofprompt|>"
V2 = PromptTemplates()
V3 = PromptTemplates(
    transcript=HEAD + "{text}",
    no_transcript=HEAD,
    instruction="You are a helpful assistant. {text}<|endofprompt|>",
)


@pytest.mark.parametrize(
    "text", [HEAD + "希望你以后", " You are a helpful assistant. <|endofprompt|> 希望你以后"]
)
def test_the_official_transcript_of_generation_3_loses_its_template(text: str) -> None:
    assert strip_transcript(text, V3) == "希望你以后"
    assert strip_transcript("希望你以后", V3) == "希望你以后"


def test_other_generations_keep_what_is_no_template_of_theirs() -> None:
    """The engine then refuses the marker; taking it off would hide a mistake."""
    assert strip_transcript(HEAD + "words", V2) == HEAD + "words"
    assert open_text(HEAD + "words", V2) == (None, HEAD + "words")


@pytest.mark.parametrize(
    ("text", "templates"),
    [
        ("用四川话说这句话<|endofprompt|>", V2),
        ("用四川话说这句话", V2),
        ("You are a helpful assistant. 用四川话说这句话<|endofprompt|>", V3),
        ("You are a helpful assistant.用四川话说这句话 <|endofprompt|>\n", V3),
        ("用四川话说这句话<|endofprompt|>", V3),
    ],
)
def test_instructions_as_the_examples_write_them(text: str, templates: PromptTemplates) -> None:
    assert strip_instruction(text, templates) == "用四川话说这句话"


def test_only_one_marker_is_taken_off() -> None:
    """A second one was not put there by an official example."""
    assert strip_instruction("a<|endofprompt|>b<|endofprompt|>", V2) == "a<|endofprompt|>b"
    assert strip_transcript(HEAD + HEAD + "a", V3) == HEAD + "a"
    assert strip_transcript("Be a pirate.<|endofprompt|>a", V3) == "Be a pirate.<|endofprompt|>a"


@pytest.mark.parametrize("text", ["", "<|endofprompt|>", HEAD])
def test_an_empty_instruction_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequestError, match="holds no instruction"):
        strip_instruction(text, V3)


@pytest.mark.parametrize(
    ("text", "language", "words"),
    [
        (HEAD + "[breath]因为", None, "[breath]因为"),
        ("<|en|>And then later on.", "en", "And then later on."),
        ("<|jp|>レキシ", "ja", "レキシ"),
        (HEAD + "<|yue|>好少咯", "yue", "好少咯"),
        ("Plain words <|en|> here", None, "Plain words <|en|> here"),
        ("<|fr|>Bonjour", None, "<|fr|>Bonjour"),
        ("You are a helpful person.", None, "You are a helpful person."),
        ("", None, ""),
    ],
)
def test_texts_lose_template_and_language_tag(text: str, language: str | None, words: str) -> None:
    assert open_text(text, V3) == (language, words)
    choices = random.Random(0)
    for _ in range(30):  # the same text in pieces, cut anywhere
        cuts = sorted(choices.choices(range(len(text) + 1), k=choices.randrange(5)))
        pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
        found, rest = open_text(iter(pieces), V3)
        assert (found, "".join(rest)) == (language, words)


def test_no_more_pieces_are_taken_than_needed() -> None:
    """A text that an assistant is still writing must not be waited for."""
    taken: list[str] = []

    def pieces() -> Iterator[str]:
        for piece in ("Good", " morning", " to", " you"):
            taken.append(piece)
            yield piece

    _, rest = open_text(pieces(), V3)
    assert taken == ["Good"]
    assert "".join(rest) == "Good morning to you"
