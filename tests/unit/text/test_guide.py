"""The guide on text: its examples are run, its tables compared with the code."""

import doctest
from pathlib import Path

import pytest

from mynah.text.special_tokens import COSYVOICE1_TAGS, COSYVOICE2_TAGS
from mynah.text.style_tables import CATALOGUES
from mynah.text.styles import catalogue

GUIDE = Path(__file__).parents[3] / "docs" / "guides" / "text.md"


def test_examples() -> None:
    result = doctest.testfile(
        str(GUIDE), module_relative=False, optionflags=doctest.IGNORE_EXCEPTION_DETAIL
    )
    assert result.failed == 0
    assert result.attempted > 15


@pytest.mark.parametrize("name", CATALOGUES)
def test_styles_table(name: str) -> None:
    (line,) = (
        row
        for row in GUIDE.read_text(encoding="utf-8").splitlines()
        if row.startswith(f"| `{name}`")
    )
    cells = [cell.strip() for cell in line.strip("|").split("|")[1:]]
    assert cells == [", ".join(known) for known in catalogue(name).values()]


def test_tags_table() -> None:
    text = GUIDE.read_text(encoding="utf-8")
    assert all(tag in text for tag in (*COSYVOICE1_TAGS, *COSYVOICE2_TAGS))
