"""Golden tables of normalisation for Japanese, Korean, Cantonese and mixed text."""

import pytest

from mynah.text.languages import Language, main_language
from mynah.text.normalize import normalize

JAPANESE = {
    "2024年5月6日です": "ニセンニジュウヨネンゴガツムイカです",
    "2024/12/24と4月1日": "ニセンニジュウヨネンジュウニガツニジュウヨッカとシガツツイタチ",
    "午後3時30分、10:05に": "午後サンジサンジュップン、ジュウジゴフンに",
    "1人、2人、4人、10人": "ヒトリ、フタリ、ヨニン、ジュウニン",
    "5本、3本、10個、8回": "ゴホン、サンボン、ジュッコ、ハッカイ",
    "100円と¥1,234": "ヒャクエンとセンニヒャクサンジュウヨエン",
    "$30、1万5000人": "サンジュウドル、イチマンゴセンニン",
    "-5℃、50%、3.14": "マイナスゴド、ゴジュウパーセント、サンテンイチヨン",
    "3/4の人、10~20歳": "ヨンブンノサンの人、ジュウカラニジュッサイ",
    "電話03-1234-5678": "電話ゼロサンノイチニサンヨンノゴロクナナハチ",
    "300mで7kg": "サンビャクメートルでナナキログラム",
    "info@example.comへ": "infoアットマークexampleドットcomへ",
    "バージョン2.0.1": "バージョンニテンゼロテンイチ",
    "iPhone 15を1つ": "iPhone ジュウゴをヒトツ",
    "8兆と1000万": "ハッチョウとイッセンマン",
}
KOREAN = {
    "2024년 5월 6일": "이천이십사년 오월 육일",
    "6월과 10월": "유월과 시월",
    "2024-05-06": "이천이십사년 오월 육일",
    "오후 3시 30분": "오후 세 시 삼십분",
    "14:30, 10:05": "십사 시 삼십 분, 열 시 오 분",
    "사과 3개와 20개, 21살": "사과 세 개와 스무 개, 스물한 살",
    "010-1234-5678": "공일공 일이삼사 오육칠팔",
    "₩1,500, $30": "천오백 원, 삼십 달러",
    "50%와 -5°C": "오십 퍼센트와 마이너스 오 도",
    "3.14, 3/4": "삼점일사, 사분의 삼",
    "1만 5000명": "일만 오천명",
    "버전 2.0.1": "버전 이 점 영 점 일",
    "a@b.com": "a 골뱅이 b 닷 com",
    "11111": "만천백십일",
}
CANTONESE = {
    "電話13812345678": "電話一三八一二三四五六七八",
    "2個人，22個": "两個人，二十二個",
    "我有3.5元": "我有三点五元",
}
CHINESE = {
    "访问https://www.a.com/b": "访问www点a点com/b",
    "写信到info@qq.com": "写信到info艾特qq点com",
    "版本2.0.1": "版本二点零点一",
    "我买了iPhone 15和3台Mac": "我买了iPhone 十五和三台Mac",
    "价格是$12.50，10-20kg": "价格是十二点五零美元，十到二十公斤",
}
UNTOUCHED = (
    "Ich habe 25 Katzen und 3 Hunde für 12,50 €.",
    "J'ai 25 chats et 3 chiens.",
    "El precio es 20 euros.",
    "У меня 25 кошек.",
)


@pytest.mark.parametrize(
    ("language", "text", "spoken"),
    [
        (language, text, spoken)
        for language, table in (
            ("ja", JAPANESE),
            ("ko", KOREAN),
            ("yue", CANTONESE),
            ("zh", CHINESE),
        )
        for text, spoken in table.items()
    ],
)
def test_golden(language: Language, text: str, spoken: str) -> None:
    assert normalize(text, language) == spoken


@pytest.mark.parametrize("text", UNTOUCHED)
def test_other_languages_keep_their_digits(text: str) -> None:
    assert normalize(text) == text


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Das kostet 12,50 €.", "other"),
        ("Il a 25 ans", "other"),
        ("Die Hard 2", "en"),
        ("Los Angeles 2024", "en"),
        ("The café has 3 cats", "en"),
        ("Zimmer 12", "en"),
    ],
)
def test_english_or_not(text: str, language: str) -> None:
    assert main_language(text) == language
