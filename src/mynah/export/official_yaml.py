"""Reading the official yaml files as data: their tags name Python classes, which are never run.

HyperPyYAML builds objects while it reads (``!new:``, ``!apply:``). Here a tag is only a label, and
``!ref`` is resolved with a few lines of arithmetic.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mynah.errors import ModelFormatError

_MOST_BYTES = 1_000_000
_DEEPEST = 40
_LABELS = ("!new:", "!name:", "!apply:", "!module:")
_WHOLE = re.compile(r"^<([^<>]+)>$")
_PART = re.compile(r"<([^<>]+)>")
_ARITHMETIC = re.compile(r"^[-+*/(). 0-9]*$")
_KEYS = re.compile(r"[^\[\]]+")
_OPERATORS: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
}


@dataclass(frozen=True)
class Labelled:
    """A node with a tag: what it would build, and with which values."""

    target: str
    """Such as ``cosyvoice.llm.llm.Qwen2LM``."""
    values: Any


@dataclass(frozen=True)
class _Reference:
    expression: str


class _Loader(yaml.SafeLoader):  # type: ignore[misc] # PyYAML has no types
    """YAML's plain types, labels and references; nothing else."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            raise yaml.MarkedYAMLError(
                problem="aliases are not used here", problem_mark=event.start_mark
            )
        return super().compose_node(parent, index)


def read_official_yaml(path: Path) -> dict[str, Any]:
    """Read a file: references resolved, tagged nodes as ``Labelled``.

    Raises:
        ModelFormatError: if it cannot be read, has another tag, or a reference leads nowhere.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ModelFormatError(f"{path} is too large for a configuration")
        text = path.read_text(encoding="utf-8")
        content = yaml.load(text, Loader=_Loader)
    except (OSError, UnicodeDecodeError, RecursionError, yaml.YAMLError) as error:
        raise ModelFormatError(
            f"cannot read {path}: {' '.join(str(error).split())}",
            hint="use the file of the release as it is",
        ) from error
    if not isinstance(content, dict):
        raise ModelFormatError(f"{path} holds no mapping", hint="use the file of the release")
    try:
        return {str(key): _resolve(value, content, 0) for key, value in content.items()}
    except _ReferenceError as error:
        raise ModelFormatError(
            f"{path}: {error}", hint="use the file of the release as it is"
        ) from error


def without_labels(value: Any) -> Any:
    """The same values with labels taken off."""
    if isinstance(value, Labelled):
        return without_labels(value.values)
    if isinstance(value, dict):
        return {key: without_labels(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_labels(item) for item in value]
    return value


class _ReferenceError(Exception):
    pass


def _resolve(value: Any, root: Mapping[str, Any], depth: int) -> Any:
    if depth > _DEEPEST:
        raise _ReferenceError("references go round in circles")
    if isinstance(value, _Reference):
        return _follow(value.expression, root, depth + 1)
    if isinstance(value, Labelled):
        return Labelled(value.target, _resolve(value.values, root, depth + 1))
    if isinstance(value, dict):
        return {key: _resolve(item, root, depth + 1) for key, item in value.items()}
    if isinstance(value, list):
        return [_resolve(item, root, depth + 1) for item in value]
    return value


def _follow(expression: str, root: Mapping[str, Any], depth: int) -> Any:
    """The value of ``<key>``, ``<key[inner]>``, or of arithmetic with such values."""
    whole = _WHOLE.match(expression)
    if whole:
        return _resolve(_look_up(whole.group(1), root), root, depth)
    values = [_resolve(_look_up(name, root), root, depth) for name in _PART.findall(expression)]
    is_arithmetic = _ARITHMETIC.match(_PART.sub("", expression))
    if is_arithmetic and all(isinstance(value, int | float) for value in values):
        numbers = iter(values)
        try:
            return _calculate(ast.parse(_PART.sub(lambda _: repr(next(numbers)), expression)))
        except (SyntaxError, ZeroDivisionError, ValueError) as error:
            raise _ReferenceError(f"cannot calculate {expression!r}") from error
    texts = iter(map(str, values))
    return _PART.sub(lambda _: next(texts), expression)


def _look_up(name: str, root: Mapping[str, Any]) -> Any:
    found: Any = root
    for key in _KEYS.findall(name):
        found = found.values if isinstance(found, Labelled) else found
        if not isinstance(found, Mapping) or key not in found:
            raise _ReferenceError(f"<{name}> leads nowhere")
        found = found[key]
    return found


def _calculate(node: ast.AST) -> int | float:
    match node:
        case ast.Module(body=[ast.Expr(value=value)]):
            return _calculate(value)
        case ast.Constant(value=int() | float() as number):
            return number
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_calculate(operand)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            result: int | float = _OPERATORS[type(op)](_calculate(left), _calculate(right))
            return result
    raise ValueError("no arithmetic")


def _construct_any(loader: _Loader, node: yaml.Node) -> Any:
    if isinstance(node, yaml.MappingNode):
        return loader.construct_mapping(node, deep=True)
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    return loader.construct_scalar(node) or {}


def _labelled(kind: str) -> Callable[[_Loader, str, yaml.Node], Labelled]:
    def construct(loader: _Loader, suffix: str, node: yaml.Node) -> Labelled:
        return Labelled(suffix, _construct_any(loader, node))

    return construct


def _reference(loader: _Loader, node: yaml.Node) -> _Reference:
    return _Reference(str(_construct_any(loader, node)))


def _tuple(loader: _Loader, node: yaml.Node) -> Any:
    return _construct_any(loader, node)


for _label in _LABELS:
    _Loader.add_multi_constructor(_label, _labelled(_label))
_Loader.add_constructor("!ref", _reference)
_Loader.add_constructor("!copy", _reference)
_Loader.add_constructor("!tuple", _tuple)
# YAML 1.1 wants a dot in every float; the official files write 1e-06.
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9]+[eE][-+]?[0-9]+$"), list("-+0123456789")
)
