from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from mynah.backends.fake import fake_config
from mynah.config import InstructConfig, PromptTemplates
from mynah.errors import InvalidRequestError, MarkupError, ModelFormatError, UnsupportedFeatureError
from mynah.pipeline.readers import TokenizerReader, build_reader
from mynah.text.lexicons import UserLexicon
from mynah.text.special_tokens import COSYVOICE3
from mynah.text.symbols import END_ID, START_ID, SYMBOLS

READER = build_reader(fake_config(), Path("unused"))


def symbols(text: str, language: str | None = None) -> list[str]:
    return [SYMBOLS[index] for index in READER.ids(text, language)]


def test_words_become_symbols_between_two_silences() -> None:
    assert symbols("Hi you.") == ["<s>", "_HH", "AY1", "_Y", "UW1", ".", "</s>"]


def test_a_missing_full_stop_is_added() -> None:
    np.testing.assert_array_equal(READER.ids("Hi you"), READER.ids("Hi you."))


def test_numbers_and_chinese_are_read() -> None:
    np.testing.assert_array_equal(READER.ids("2 cats"), READER.ids("two cats"))
    assert symbols("\u4f60\u597d\u3002") == ["<s>", "_n", "i2", "_h", "ao3", ".", "</s>"]
    mixed = symbols("\u6211\u559c\u6b22 Python.")
    assert "_x" in mixed
    assert "_P" in mixed


def test_a_hint_prescribes_the_pronunciation() -> None:
    assert symbols("[tomato](T AH0 M AA1 T OW0)")[1:4] == ["_T", "AH0", "M"]
    assert symbols("[\u91cd](chong2)")[1:3] == ["_ch", "ong2"]


def test_utterances_join_to_the_text_and_fit() -> None:
    text = "This is a sentence that is repeated. " * 40 + "\n\nThe end, finally!"
    parts = list(READER.utterances(text))
    assert "".join(part.text for part in parts) == text
    assert len(parts) > 10
    for part in parts:
        assert len(part.ids) < 200
        assert (part.ids[0], part.ids[-1]) == (START_ID, END_ID)
        assert len(part.pauses) == len(part.ids)
        assert part.pauses[0] and part.pauses[-1]  # noqa: PT018 - one fact
        assert not part.pauses[1]
    assert max(part.pause_s for part in parts) == 0.7


def test_what_is_silent_has_no_ids() -> None:
    (part,) = READER.utterances("... -- ...")
    assert len(part.ids) == len(part.pauses) == 0


@pytest.mark.parametrize(
    ("text", "language", "kind"),
    [
        ("\u2764\ufe0f", None, InvalidRequestError),
        ("<strong>no</strong>", None, MarkupError),
        ("[a](QQ)", None, MarkupError),
        ("\uc548\ub155", None, UnsupportedFeatureError),
        ("hello", "de", UnsupportedFeatureError),
        ("hello", "yue", UnsupportedFeatureError),
    ],
)
def test_what_cannot_be_said_is_refused(
    text: str, language: str | None, kind: type[InvalidRequestError]
) -> None:
    with pytest.raises(kind) as caught:
        READER.check(text, language)
    assert caught.value.hint


@pytest.mark.parametrize("text", ["Hello.", "1984", "caf\u00e9", "a < b and 3 > 2", "\u4f60\u597d"])
def test_what_can_be_said_is_accepted(text: str) -> None:
    READER.check(text)
    READER.check(text, "en-GB")
    assert len(READER.ids(text)) > 2


def test_digits_are_read_in_the_language_of_the_whole_text() -> None:
    text = "\u4f60\u597d\u3002" * 20 + "22\u3002"
    last = list(READER.utterances(text))[-1]
    assert symbols("\u4e8c\u5341\u4e8c")[1] == "_er4"
    assert "_T" not in [SYMBOLS[index] for index in last.ids]
    assert "_T" in symbols("22")
    assert "_T" not in symbols("22", "zh-CN")


def test_bpe_models_take_tags_and_instructions(tmp_path: Path) -> None:
    from tokenizers.pre_tokenizers import ByteLevel

    folder = tmp_path / "tokenizer"
    folder.mkdir()
    vocab = {symbol: index for index, symbol in enumerate(sorted(ByteLevel.alphabet()))}
    (folder / "vocab.json").write_text(json.dumps(vocab), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    changes = {"text_frontend": "qwen2-bpe", "languages": ("en", "zh", "ja")}
    config = fake_config().model_copy(update=changes)
    told = config.model_copy(update={"instruct": InstructConfig()})
    reader = build_reader(told, tmp_path)
    reader.check("hi [breath] \u3053\u3093")
    with pytest.raises(MarkupError, match="did you mean"):
        reader.check("hi [breathe]")
    assert isinstance(reader, TokenizerReader)
    ids = reader.prompt_text("instruction", "sadly").ids
    assert len(ids) == 6
    assert ids[-1] == 256 + 3
    with pytest.raises(MarkupError):
        reader.prompt_text("instruction", "sadly <|endofprompt|>")
    with pytest.raises(UnsupportedFeatureError, match="takes no instruction"):
        build_reader(config, tmp_path).prompt_text("instruction", "sadly")
    with pytest.raises(ModelFormatError, match="cannot read the text tokenizer"):
        build_reader(config, tmp_path / "nowhere")
    parts = list(reader.utterances("A long sentence of words. " * 9))
    assert len(parts) > 2
    assert all(len(part.ids) <= 81 for part in parts)


def test_english_voices_say_no_chinese() -> None:
    config = fake_config().model_copy(update={"languages": ("en",)})
    with pytest.raises(UnsupportedFeatureError, match=r"Mandarin.*speaks English"):
        build_reader(config, Path("unused")).check("\u4f60\u597d")


@pytest.fixture
def released(tmp_path: Path) -> Path:
    """A model folder with a vocabulary of bytes."""
    from tokenizers.pre_tokenizers import ByteLevel

    folder = tmp_path / "tokenizer"
    folder.mkdir()
    vocab = {symbol: index for index, symbol in enumerate(sorted(ByteLevel.alphabet()))}
    (folder / "vocab.json").write_text(json.dumps(vocab), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    return tmp_path


def third_generation(folder: Path, **changes: object) -> TokenizerReader:
    system = "You are a helpful assistant."
    values = {
        "text_frontend": "qwen2-bpe",
        "languages": ("en", "zh", "ja", "de", "ru"),
        "special_tokens": COSYVOICE3,
        "instruct": InstructConfig(),
        "templates": PromptTemplates(
            transcript=f"{system}<|endofprompt|>{{text}}",
            no_transcript=f"{system}<|endofprompt|>",
            instruction=f"{system} {{text}}<|endofprompt|>",
        ),
    }
    reader = build_reader(fake_config().model_copy(update={**values, **changes}), folder)
    assert isinstance(reader, TokenizerReader)
    return reader


def test_every_prompt_of_the_third_generation_ends_its_system_sentence_once(released: Path) -> None:
    reader = third_generation(released)
    end = 256 + COSYVOICE3.index("<|endofprompt|>")
    for prompt in (
        reader.prompt_text("transcript", "Hello there"),
        reader.prompt_text("transcript", ""),
        reader.prompt_text("no_transcript"),
        reader.prompt_text("no_transcript", language="en"),
        reader.prompt_text("instruction", "be quick"),
    ):
        assert prompt.ids.tolist().count(end) == 1
        assert prompt.ids[prompt.num_fixed - 1] == end
    words = reader.ids("Hello there")
    np.testing.assert_array_equal(
        reader.prompt_text("transcript", "Hello there").ids[-len(words) :], words
    )


def test_languages_of_other_scripts_and_other_latin_languages(released: Path) -> None:
    reader = third_generation(released)
    reader.check("Привет, мир")
    german = "Zimmer 12"
    (part,) = reader.utterances(german, "de")
    (raw,) = reader.utterances(german + ".", normalize=False)
    np.testing.assert_array_equal(part.ids, raw.ids)
    (english,) = reader.utterances(german)
    assert len(english.ids) > len(part.ids)
    with pytest.raises(UnsupportedFeatureError, match="another script"):
        third_generation(released, languages=("en",)).check("Привет")


def test_lexicons_of_a_request(released: Path) -> None:
    reader = third_generation(released)
    told = reader.with_lexicon(UserLexicon({"nginx": '"engine x"', "tomato": "T AH0"}))
    np.testing.assert_array_equal(told.ids("Nginx!"), reader.ids("engine x!"))
    np.testing.assert_array_equal(told.ids("a tomato."), reader.ids("a tomato{T AH0}."))
    assert list(told.phrases) == ["nginx", "tomato"]
    again = told.with_lexicon(UserLexicon({"NGINX": '"x"'}))
    np.testing.assert_array_equal(again.ids("nginx!"), reader.ids("x!"))
    second = third_generation(released, special_tokens=None)
    with pytest.raises(MarkupError, match="reads no phones"):
        second.with_lexicon(UserLexicon({"tomato": "T AH0"})).check("a tomato")


def test_bars_far_apart_are_read_and_split(released: Path) -> None:
    text = "He wrote <| on the wall. " + "Then he went on with 5 others. " * 9 + "It said |> there."
    parts = list(third_generation(released).utterances(text))
    assert len(parts) > 2
    assert "".join(part.text for part in parts) == text


def test_a_book_is_read_in_linear_time(released: Path) -> None:
    reader = third_generation(released)
    text = "好的，我们走吧。Then we go! " * 4000
    reader.check(text)
    assert "".join(part.text for part in reader.utterances(text)) == text
