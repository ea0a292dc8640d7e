"""Write docs/reference/cli.md from the commands themselves.

python scripts/make_cli_reference.py            writes it
python scripts/make_cli_reference.py --check    exit code 1 if it is not what would be written
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from typer.main import get_command

from mynah.cli.main import app

TARGET = Path(__file__).parents[1] / "docs" / "reference" / "cli.md"
INTRODUCTION = """\
# The command `mynah`

Made by `scripts/make_cli_reference.py` from the commands themselves; a test compares the two.
[The README](../../README.md#the-command) has examples,
[the guide on text](../guides/text.md) says what may stand in a text.

Exit codes: 0 = done; 1 = something failed; 2 = the request was wrong; 130 = stopped with Ctrl-C;
141 = the reader of a pipe went away. Errors go to standard error and name the value and the cure.
"""


def reference() -> str:
    """The whole page."""
    return INTRODUCTION + "".join(_pages(get_command(app), "mynah"))


def _pages(command: Any, name: str) -> Iterator[str]:
    """A section for a command, then those of its own commands."""
    commands = getattr(command, "commands", {})
    yield f"\n## `{_usage(command, name)}`\n\n{_paragraphs(command.help)}\n"
    yield from _tables(command)
    if commands:
        rows = ((f"`{name} {sub}`", _first_line(commands[sub].help)) for sub in commands)
        yield _table(("command", "does"), rows)
    for sub, inner in commands.items():
        yield from _pages(inner, f"{name} {sub}")


def _tables(command: Any) -> Iterator[str]:
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    options = [p for p in command.params if p.param_type_name == "option" and not p.hidden]
    if arguments:
        meanings = [(f"`{_argument(p)}`", p.help or "") for p in arguments]
        yield _table(("argument", "means"), meanings)
    rows = [(f"`{_option(p)}`", p.help or "", _default(p)) for p in options if p.name != "help"]
    rows = [row for row in rows if not row[0].startswith(("`--install-", "`--show-completion"))]
    if rows:
        yield _table(("option", "means", "default"), rows)


def _usage(command: Any, name: str) -> str:
    arguments = [_argument(p) for p in command.params if p.param_type_name == "argument"]
    return " ".join([name, *arguments])


def _argument(param: Any) -> str:
    name = str(param.name).upper()
    return name if param.required else f"[{name}]"


def _option(param: Any) -> str:
    names = ", ".join(sorted(param.opts, key=len))
    value = param.metavar or max(param.opts, key=len).lstrip("-").upper()
    return names if param.is_flag else f"{names} {value}"


def _default(param: Any) -> str:
    value = param.default
    if param.required:
        return "must be given"
    return "" if value in (None, False, "", ()) or callable(value) else f"`{value}`"


def _table(headers: tuple[str, ...], rows: Any) -> str:
    lines = [headers, tuple("---" for _ in headers), *rows]
    return "\n" + "".join(f"| {' | '.join(_cell(cell) for cell in row)} |\n" for row in lines)


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def _paragraphs(text: str | None) -> str:
    parts = (text or "").strip().split("\n\n")
    return "\n\n".join(" ".join(part.split()) for part in parts)


def _first_line(text: str | None) -> str:
    return _paragraphs(text).split("\n\n", maxsplit=1)[0]


def main() -> int:
    """Write the page, or compare it; return the exit code."""
    text = reference()
    if "--check" in sys.argv[1:]:
        is_fresh = TARGET.is_file() and TARGET.read_text(encoding="utf-8") == text
        print("fresh" if is_fresh else f"{TARGET} is old: run scripts/make_cli_reference.py")
        return 0 if is_fresh else 1
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    TARGET.write_text(text, encoding="utf-8")
    print(TARGET)
    return 0


if __name__ == "__main__":
    sys.exit(main())
