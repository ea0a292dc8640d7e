"""Korean words for numbers: Sino-Korean, and native ones before most counters."""

from __future__ import annotations

from typing import Final

from mynah.text.rules import words

_DIGITS: Final = "영일이삼사오육칠팔구"
_PLACES: Final = ("", "십", "백", "천")
_GROUPS: Final = ("", "만", "억", "조", "경")
LONGEST_CARDINAL: Final = 20
_NATIVE_ONES: Final = words("_ 한 두 세 네 다섯 여섯 일곱 여덟 아홉")
_NATIVE_TENS: Final = words("_ 열 스물 서른 마흔 쉰 예순 일흔 여든 아흔")
NATIVE_COUNTERS: Final = words(
    "시간 시 개월반 개 명 살 마리 권 잔 병 대 사람 번째 가지 달 장 송이 켤레 벌 그루 채 척 자루 "
    "그릇 군데 통 곳 쌍 조각 봉지 다발 판 바퀴"
)


def digits(text: str) -> str:
    """Digit by digit; zero is 공."""
    return "".join("공" if c == "0" else _DIGITS[int(c)] for c in text if c in "0123456789")


def cardinal(text: str) -> str:
    """A whole number given by its digits (thousands separators allowed)."""
    plain = text.replace(",", "")
    if len(plain) > LONGEST_CARDINAL or (len(plain) > 1 and plain.startswith("0")):
        return digits(plain)
    value = int(plain)
    if value == 0:
        return _DIGITS[0]
    spoken = ""
    for index in range(len(_GROUPS) - 1, -1, -1):
        group = value // 10_000**index % 10_000
        if group:
            alone = group == 1 and index == 1 and not spoken
            spoken += ("" if alone else _group(group)) + _GROUPS[index]
    return spoken


def _group(value: int) -> str:
    spoken = ""
    for place in (3, 2, 1, 0):
        digit = value // 10**place % 10
        if digit:
            spoken += ("" if digit == 1 and place else _DIGITS[digit]) + _PLACES[place]
    return spoken


def decimal(text: str) -> str:
    """A number with an optional fraction: 3.14 -> 삼점일사."""
    whole, point, fraction = text.replace(",", "").partition(".")
    spoken = cardinal(whole or "0")
    return f"{spoken}점{''.join(_DIGITS[int(c)] for c in fraction)}" if point else spoken


def native(text: str) -> str:
    """A number before a native counter: 1 to 99, else Sino-Korean."""
    plain = text.replace(",", "")
    if not plain.isascii() or not plain.isdigit() or not 1 <= int(plain) <= 99:
        return decimal(text)
    tens, ones = divmod(int(plain), 10)
    if (tens, ones) == (2, 0):
        return "스무"
    return (_NATIVE_TENS[tens] if tens else "") + (_NATIVE_ONES[ones] if ones else "")


def month(text: str) -> str:
    """A month's name: 6 is 유월, 10 시월."""
    value = int(text)
    return {6: "유", 10: "시"}.get(value, cardinal(str(value))) + "월"
