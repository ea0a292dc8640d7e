"""Pronunciations: what is understood, the table of homophones, lexicon files."""

from pathlib import Path

import pytest

from mynah.errors import InvalidRequestError, MarkupError
from mynah.text.lexicons import NO_LEXICON, UserLexicon
from mynah.text.markup import Hint, PlainText, parse_markup
from mynah.text.readings import (
    Phones,
    Pinyin,
    Respelling,
    Syllable,
    _table,
    native_tokens,
    parse_reading,
    parse_syllable,
    usual_reading,
)
from mynah.text.special_tokens import PRONUNCIATION_TOKENS


@pytest.mark.parametrize(
    ("written", "syllable", "tokens"),
    [
        ("háng", Syllable("hang", 2), "[h][áng]"),
        ("hang2", Syllable("hang", 2), "[h][áng]"),
        ("LÜ4", Syllable("lv", 4), "[l][ǜ]"),
        ("lu:4", Syllable("lv", 4), "[l][ǜ]"),
        ("nüè", Syllable("nve", 4), "[n][vè]"),
        ("xu\u0301", Syllable("xu", 2), "[x][ú]"),
        ("jv2", Syllable("ju", 2), "[j][ú]"),
        ("wǒ", Syllable("wo", 3), "[w][ǒ]"),
        ("er2", Syllable("er", 2), "[ér]"),
        ("guì", Syllable("gui", 4), "[g][uì]"),
        ("liu2", Syllable("liu", 2), "[l][iú]"),
        ("de", Syllable("de", 5), "[d][e]"),
        ("de0", Syllable("de", 5), "[d][e]"),
    ],
)
def test_syllables(written: str, syllable: Syllable, tokens: str) -> None:
    assert parse_syllable(written) == syllable
    hint = Hint("x", written, 0)
    assert "".join(native_tokens(hint, Pinyin((syllable,)), PRONUNCIATION_TOKENS)) == tokens


@pytest.mark.parametrize("written", ["", "xyz", "ma6", "ma9", "zh", "2", "hang22", "hang²", "T"])
def test_no_syllables(written: str) -> None:
    assert parse_syllable(written) is None


def test_nearly_every_syllable_has_native_tokens() -> None:
    missing = []
    for written in _table():
        syllable = parse_syllable(written)
        if syllable is None:
            continue
        try:
            native_tokens(Hint("x", written, 0), Pinyin((syllable,)), PRONUNCIATION_TOKENS)
        except MarkupError:
            missing.append(written)
    assert missing == ["er5", "huai5", "jia5", "jie5", "lve3", "tiao5"]


def test_homophones_sound_as_they_should() -> None:
    table = _table()
    assert sum(map(bool, table.values())) > 1000
    for syllable, character in table.items():
        assert not character or usual_reading(character) == syllable


@pytest.mark.parametrize(
    ("word", "written", "reading"),
    [
        ("a", "T AH0", Phones(("T", "AH0"))),
        ("a", "T AH", Phones(("T", "AH"))),
        ("x", '"engine x"', Respelling("engine x")),
        ("今日", "きょう", Respelling("きょう")),
        ("重庆", "chong2 qìng", Pinyin((Syllable("chong", 2), Syllable("qing", 4)))),
    ],
)
def test_readings(word: str, written: str, reading: object) -> None:
    assert parse_reading(Hint(word, written, 0)) == reading


@pytest.mark.parametrize(
    ("word", "written", "part"),
    [
        ("a", "QQ", "'QQ' in the pronunciation of 'a'"),
        ("重庆", "chong2", "2 characters"),
        ("a", " ", "empty"),
        ("a", "T ah0", "'ah0'"),
        ("a", "T UGH", "'UGH'"),
        ("a", "T hao3", "'T hao3' in the pronunciation of 'a' mixes syllables and phonemes"),
    ],
)
def test_wrong_readings(word: str, written: str, part: str) -> None:
    with pytest.raises(MarkupError, match=part) as caught:
        parse_reading(Hint(word, written, 7))
    assert caught.value.position == 7


def test_a_lexicon_file(tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    path.write_text('# names\n\nnginx\t"engine x"\n重庆\tchong2 qing4\n', encoding="utf-8")
    lexicon = UserLexicon.load(path)
    pieces = lexicon.apply(parse_markup("NGINX在重庆 nginxes [重庆](zhong4 qing4)", hints=True))
    assert pieces == [
        Hint("NGINX", '"engine x"', 0),
        PlainText("在", 5),
        Hint("重庆", "chong2 qing4", 6),
        PlainText(" nginxes ", 8),
        Hint("重庆", "zhong4 qing4", 17),
    ]


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ("word", "line 1"),
        ("a\t", "line 1"),
        ("\n重\tQQ", "lexicon entry '重'"),
        ("!\tT", "no word"),
    ],
)
def test_wrong_lexicon_files(tmp_path: Path, content: str, part: str) -> None:
    path = tmp_path / "words.txt"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(InvalidRequestError, match=part):
        UserLexicon.load(path)
    with pytest.raises(InvalidRequestError, match="cannot read"):
        UserLexicon.load(tmp_path / "nowhere")


def test_the_longest_word_wins_and_the_stronger_lexicon() -> None:
    lexicon = UserLexicon({"New York": '"nu york"', "york": '"yolk"'})
    assert lexicon.apply([PlainText("New York York", 0)])[0] == Hint("New York", '"nu york"', 0)
    assert (lexicon | UserLexicon({"York": '"x"'})).entries["York"] == '"x"'
    assert (lexicon | NO_LEXICON) is lexicon
