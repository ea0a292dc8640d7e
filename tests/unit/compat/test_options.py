from __future__ import annotations

import re
import warnings
from pathlib import Path

import pytest

from mynah.compat.options import (
    CHECKED,
    KNOWN,
    PASSED_ON,
    REPLACED,
    MynahCompatWarning,
    Options,
    check_chunk_size,
    read_options,
)
from mynah.errors import InvalidRequestError

GUIDE = Path(__file__).parents[3] / "docs" / "guides" / "coming-from-cosyvoice.md"


def test_no_option_means_no_change() -> None:
    assert read_options({}) == Options()


@pytest.mark.parametrize("name", REPLACED)
def test_what_asks_for_nothing_is_accepted_in_silence(name: str) -> None:
    for value in (*REPLACED[name].neutral, None):
        assert read_options({name: value}) == Options()


@pytest.mark.parametrize("name", REPLACED)
def test_what_has_no_effect_says_what_replaces_it(name: str) -> None:
    neutral = REPLACED[name].neutral
    value = not neutral[0] if neutral and isinstance(neutral[0], bool) else 7
    with pytest.warns(MynahCompatWarning, match=re.escape(f"{name}={value!r} has no effect: ")):
        assert read_options({name: value}) == Options()


def test_the_warning_points_at_the_caller() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        read_options({"load_trt": True})
    assert caught[0].filename == __file__


def test_options_of_the_engine_are_passed_on() -> None:
    values = {"device": "cpu", "backend": "onnx", "threads": 2, "left_chunks": None}
    load = {"device": "cpu", "backend": "onnx", "threads": 2}
    assert read_options(values) == Options(load)


def test_left_chunks_by_the_official_name() -> None:
    assert read_options({"num_decoding_left_chunks": -1}) == Options()
    assert read_options({"num_decoding_left_chunks": 4}) == Options({"left_chunks": 4})


def test_numbers_that_are_kept() -> None:
    assert read_options({"max_concurrent": 3, "chunk_size": 25}) == Options({}, 3, 25)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("num_decoding_left_chunks", 0),
        ("num_decoding_left_chunks", 1.5),
        ("max_concurrent", 0),
        ("max_concurrent", True),
        ("chunk_size", -25),
    ],
)
def test_numbers_out_of_range(name: str, value: object) -> None:
    with pytest.raises(InvalidRequestError, match=rf"{name}=.* is out of range .pass a whole"):
        read_options({name: value})


def test_an_unknown_option_suggests_a_known_one() -> None:
    with pytest.raises(InvalidRequestError, match=r"no option 'load_tr'.*did you mean load_trt"):
        read_options({"load_tr": True})


def test_the_chunk_size_belongs_to_the_weights() -> None:
    check_chunk_size(None, 25)
    check_chunk_size(25, 25)
    with pytest.raises(InvalidRequestError, match="this model's chunks have 25 tokens"):
        check_chunk_size(15, 25)


def test_the_guide_names_every_option() -> None:
    rows = re.findall(r"^\| (`[^|]*) \|", GUIDE.read_text(encoding="utf-8"), re.MULTILINE)
    documented = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert set(KNOWN) == {*REPLACED, *PASSED_ON, *CHECKED}
    assert set(KNOWN) <= documented
