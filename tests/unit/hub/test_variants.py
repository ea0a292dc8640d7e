"""Words for what a release is converted to."""

from __future__ import annotations

import pytest

from mynah.errors import InvalidRequestError
from mynah.hub.variants import SIZES, installed_name, parse_variants


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], ("int8", False)),
        (["rl"], ("int8", True)),
        (["float32"], ("float32", False)),
        (["rl", "bf16"], ("bf16", True)),
        (["int4", "rl"], ("int4", True)),
    ],
)
def test_words(words: list[str], expected: tuple[str, bool]) -> None:
    assert parse_variants(words) == expected


@pytest.mark.parametrize("words", [["int3"], ["int4", "int8"], ["RL"], [""]])
def test_other_words(words: list[str]) -> None:
    with pytest.raises(InvalidRequestError, match="not understood"):
        parse_variants(words)


def test_names_differ() -> None:
    names = {installed_name("m", precision, rl=rl) for precision in SIZES for rl in (False, True)}
    assert len(names) == 2 * len(SIZES)
    assert {"m", "m-rl", "m-float32", "m-rl-float16"} <= names
