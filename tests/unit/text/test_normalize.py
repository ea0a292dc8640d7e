"""Normalisation tables: one line per case."""

import pytest

from mynah.text.clean import clean
from mynah.text.languages import Span, language_spans, main_language
from mynah.text.normalize import complete_punctuation, normalize

ENGLISH = {
    "It costs $12.50.": "It costs twelve dollars and fifty cents.",
    "€4.5 million and $3k": "four point five million euros and three thousand dollars",
    "$0.99, $1, £3": "ninety nine cents, one dollar, three pounds",
    "3 km², 5m³ of water and 10²": "three square kilometers, five cubic meters of water and ten "
    "squared",
    "50€, 12.50 £ and -3€": "fifty euros, twelve pounds and fifty pence and minus three euros",
    "from 5 €10": "from five ten euros",
    "1,234,567": "one million two hundred thirty four thousand five hundred sixty seven",
    "in 1905 and 2007": "in nineteen oh five and two thousand seven",
    "the 1990s and '80s": "the nineteen nineties and eighties",
    "1990-1995, pages 10-20": "nineteen ninety to nineteen ninety five, pages ten to twenty",
    "2048 bytes": "two thousand forty eight bytes",
    "On Jan 3, 2024": "On January third, twenty twenty four",
    "on 12 May 1999": "on the twelfth of May, nineteen ninety nine",
    "2024-05-06": "May sixth, twenty twenty four",
    "03/04/2023": "March fourth, twenty twenty three",
    "At 10:30 a.m. and 5pm": "At ten thirty AM and five PM",
    "12:00, 9:05, 17:45": "twelve o'clock, nine oh five, seventeen forty five",
    "10am-5pm": "ten AM to five PM",
    "1:05:30": "one hour, five minutes, and thirty seconds",
    "3.14, -5, .5": "three point one four, minus five, point five",
    "1/2 and 2 3/4": "one half and two and three quarters",
    "2½ cups": "two and a half cups",
    "1st, 22nd, 100th": "first, twenty second, one hundredth",
    "50%, 20°C, 68 °F": "fifty percent, twenty degrees Celsius, sixty eight degrees Fahrenheit",
    "5 kg, 10km/h, 1 kg": "five kilograms, ten kilometers per hour, one kilogram",
    "a 5-km run": "a five kilometer run",
    "5-10%, 20-30 kg": "five to ten percent, twenty to thirty kilograms",
    "555-123-4567": "five five five, one two three, four five six seven",
    "Louis XIV, World War II": "Louis the fourteenth, World War two",
    "Chapter IV and Henry VIII": "Chapter four and Henry the eighth",
    "I saw Mary I think": "I saw Mary I think",
    "Dr. Smith, Mrs. Jones": "Doctor Smith, Missus Jones",
    "He lives on Baker St. in St. Louis.": "He lives on Baker Street in Saint Louis.",
    "e.g. this, i.e. that": "for example this, that is that",
    "No. 5, p. 12, Fig. 3": "Number five, page twelve, Figure three",
    "No. I do not.": "No. I do not.",
    "the U.S. economy": "the US economy",
    "J.R.R. Tolkien, J. K. Rowling": "JRR Tolkien, J K Rowling",
    "joe@example.com": "joe at example dot com",
    "https://www.example.org/a": "WWW dot example dot org slash a",
    "R&D, 24/7, C++, #1": "R and D, twenty four seven, C plus plus, number one",
    "COVID-19, MP3, B2B": "COVID nineteen, MP three, B two B",
    "v2.0.1": "version two point zero point one",
    "3:2, 3x4": "three to two, three by four",
    "007": "zero zero seven",
    "THIS IS A TEST": "this is a test",
    "“Smart” — it’s…": '"Smart" — it\'s…',
    "Hello    world": "Hello world",
    "line one\nline two": "line one. line two",
}
CHINESE = {
    "今天是2024年5月6日": "今天是二零二四年五月六日",
    "气温-5℃": "气温零下五摄氏度",
    "共计¥1,234.5，$30": "共计一千二百三十四点五元，三十美元",
    "电话13812345678": "电话幺三八幺二三四五六七八",
    "3/4的人，50%": "四分之三的人，百分之五十",
    "下午3:30": "下午三点三十分",
    "2024-05-06": "二零二四年五月六日",
    "第1名，21世纪，90后": "第一名，二十一世纪，九零后",
    "5kg，3m²": "五公斤，三平方米",
    "比分3:2，10-20岁": "比分三比二，十到二十岁",
    "2个人，22个，2000元": "两个人，二十二个，两千元",
    "10001和20230": "一万零一和两万零二百三十",
    "编号007": "编号零零七",
    "2000-2010年": "二零零零到二零一零年",
    "１２３个": "一百二十三个",
    "他说Hello 5次": "他说Hello 五次",
}


@pytest.mark.parametrize(("text", "spoken"), ENGLISH.items(), ids=ENGLISH)
def test_english(text: str, spoken: str) -> None:
    assert normalize(text, "en") == spoken


@pytest.mark.parametrize(("text", "spoken"), CHINESE.items(), ids=CHINESE)
def test_chinese(text: str, spoken: str) -> None:
    assert normalize(text, "zh") == spoken


def test_other_languages_are_only_cleaned() -> None:
    assert normalize("25 кошек.") == "25 кошек."


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("a\u200bb\x00c", "abc"),
        ("hi 😀👍🏽 there", "hi there"),
        ("\uff21\uff22", "AB"),
        ("\u2018x\u2019", "'x'"),
        ("你好，世界", "你好，世界"),
        ("1\u202f000", "1,000"),
        (" a \r\n\n b ", "a\nb"),
        ("❤️", ""),
    ],
)
def test_clean(text: str, cleaned: str) -> None:
    assert clean(text) == cleaned


@pytest.mark.parametrize(
    ("text", "completed"),
    [
        ("Hello", "Hello."),
        ("Hello,", "Hello."),
        ('He said "yes"', 'He said "yes."'),
        ("Done!", "Done!"),
        ("你好", "你好。"),
        ("...", "..."),
    ],
)
def test_complete_punctuation(text: str, completed: str) -> None:
    assert complete_punctuation(text) == completed


def test_language_spans_keep_the_text() -> None:
    text = "3个 Hello 世界, bye"
    spans = language_spans(text)
    assert "".join(span.text for span in spans) == text
    assert [span.language for span in spans] == ["zh", "en", "zh", "en"]


def test_kana_makes_han_japanese() -> None:
    assert language_spans("日本語です") == [Span("ja", "日本語です")]


def test_cantonese_only_on_request() -> None:
    assert language_spans("你好", chinese="yue") == [Span("yue", "你好")]


def test_main_language() -> None:
    assert main_language("我用iPhone") == "zh"
    assert main_language("The word 好 means good") == "en"
    assert main_language("안녕하세요") == "ko"
    assert main_language("Привет") == "other"
    assert main_language("") == "en"
