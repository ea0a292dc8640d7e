from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import mynah
from mynah import errors

HEAVY = ("numpy", "torch", "onnxruntime", "pydantic", "soundfile", "soxr", "safetensors")


def test_importing_loads_nothing_heavy() -> None:
    code = (
        "import sys, logging, mynah; "
        f"loaded = [name for name in {HEAVY!r} if name in sys.modules]; "
        "assert not loaded, loaded; "
        "assert not logging.getLogger().handlers; "
        "kinds = [type(h).__name__ for h in logging.getLogger('mynah').handlers]; "
        "assert kinds == ['NullHandler'], kinds"
    )
    source = str(Path(mynah.__file__).parents[1])
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {source!r}); {code}"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_public_names_are_sorted_and_complete() -> None:
    names = list(mynah.__all__)
    # The order of isort: constants, classes, the rest.
    assert names == sorted(names, key=lambda n: (not n.isupper(), n.startswith("_"), n))
    kinds = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, errors.SynthesisError)
    }
    assert kinds <= set(names)
    assert set(names) <= set(dir(mynah))


@pytest.mark.parametrize("name", [n for n in mynah.__all__ if n not in ("TTS", "__version__")])
def test_public_names_load(name: str) -> None:
    assert getattr(mynah, name).__name__ == name


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Tts'"):
        _ = mynah.Tts


def test_version_is_a_version() -> None:
    assert mynah.__version__.count(".") == 2
