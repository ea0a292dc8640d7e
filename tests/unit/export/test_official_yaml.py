"""Official yaml files are read as data: no tag runs anything."""

from __future__ import annotations

from pathlib import Path

import pytest

from mynah.errors import ModelFormatError
from mynah.export.official_yaml import Labelled, read_official_yaml, without_labels


def read(tmp_path: Path, text: str) -> dict[str, object]:
    path = tmp_path / "m.yaml"
    path.write_text(text, encoding="utf-8")
    return read_official_yaml(path)


def test_labels_and_references(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        """
__seed: !apply:random.seed [1986]
rate: 24000
chunk: 25
ratio: 2
solver:
    sigma: 1e-06
net: !new:some.where.Net
    rate: !ref <rate>
    size: !ref <chunk> * <ratio>
    sum: !ref -(<chunk> + 1) / 2
    deep: !ref <solver[sigma]>
    text: !ref folder/<rate>.pt
    inner: !name:some.function
        keep: [1, !ref <ratio>]
again: !ref <net>
inside: !ref <net[size]>
pair: !tuple (1, 2)
empty: !name:some.function
""",
    )
    net = found["net"]
    assert isinstance(net, Labelled)
    assert net.target == "some.where.Net"
    assert without_labels(net) == {
        "rate": 24000, "size": 50, "sum": -13.0, "deep": 1e-6, "text": "folder/24000.pt",
        "inner": {"keep": [1, 2]},
    }  # fmt: skip
    assert found["again"] == net
    assert found["inside"] == 50
    assert without_labels(found["empty"]) == {}
    assert found["__seed"] == Labelled("random.seed", [1986])


@pytest.mark.parametrize(
    "text",
    [
        "a: !!python/object/apply:os.system ['touch ran']",
        "a: !!python/name:os.system",
        "a: !!python/object/new:os.system ['touch ran']",
        "a: !include:other.yaml",
        "a: !unknown 1",
        "a: !ref <b>",
        "a: !ref <b>\nb: !ref <a>",
        "a: !ref <a>",
        "b: 1\na: !ref <b> ** 99999999",
        "b: 1\na: !ref <b> / 0",
        "b: 1\na: !ref <b[c]>",
        "a: &x [1]\nb: [*x, *x]",
        "[1, 2]",
        "a: [",
        "a: \x00",
    ],
)
def test_everything_else_is_refused(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelFormatError):
        read(tmp_path, text)
    assert not (tmp_path / "ran").exists()


def test_nothing_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = read(tmp_path, "a: !apply:os.system ['touch ran']\nb: !new:pathlib.Path [ran]")
    assert found["a"] == Labelled("os.system", ["touch ran"])
    found = read(tmp_path, "b: 1\na: !ref __import__('os').system('touch ran') + <b>")
    assert found["a"] == "__import__('os').system('touch ran') + 1"  # words, nothing more
    assert not (tmp_path / "ran").exists()


def test_a_huge_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelFormatError, match="too large"):
        read(tmp_path, "a: " + "1" * 1_100_000)
    with pytest.raises(ModelFormatError):
        read(tmp_path, "a: " + "[" * 5000 + "]" * 5000)
    with pytest.raises(ModelFormatError, match="cannot read"):
        read_official_yaml(tmp_path / "missing.yaml")
