"""Help of a command: options in groups, plain words for types, examples at the end."""

from __future__ import annotations

import inspect
import re
from typing import Any

from typer.core import TyperCommand

_EXAMPLES = "\n\nExamples:\n"
_RAY = "--ray"
_ADDRESS = re.compile(r"local|auto|ray://[^/]+|[^/:]+:\d+")
_TYPE = re.compile(r"<(?:list\[)?(\w+)(?: range)?\]?>")
_WORDS = {"str": "text", "int": "number", "float": "number"}


class HelpfulCommand(TyperCommand):
    """A command whose docstring may end in "Examples:", one a line.

    Options stand under the title of their ``rich_help_panel``, those without one last.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Take ``--ray`` alone as ``--ray local``: what follows is its address only if it looks like one."""
        given: list[str] = []
        for number, word in enumerate(args):
            given.append(word)
            following = args[number + 1] if number + 1 < len(args) else ""
            if word == _RAY and not _ADDRESS.fullmatch(following):
                given.append("local")
        return super().parse_args(ctx, given)

    def get_short_help_str(self, limit: int = 45) -> str:  # noqa: ARG002
        """The first paragraph of the description, for the list of a group's commands."""
        return " ".join(self._parts()[0].split("\n\n")[0].split())

    def format_help_text(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002
        """Write the description."""
        formatter.write_paragraph()
        with formatter.indentation():
            formatter.write_text(self._parts()[0])

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the arguments and the groups of options."""
        groups: dict[str, list[tuple[str, str]]] = {"Arguments": []}
        last: list[tuple[str, str]] = []
        for parameter in self.get_params(ctx):
            if (record := parameter.get_help_record(ctx)) is None:
                continue
            row = (_TYPE.sub(_plain_type, record[0]).rstrip(), record[1])
            title = "Arguments" if parameter.param_type_name == "argument" else ""
            title = getattr(parameter, "rich_help_panel", None) or title
            groups.setdefault(title, []).append(row) if title else last.append(row)
        for title, rows in {**groups, "Options" if len(groups) == 1 else "Other options": last}.items():
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002
        """Write the examples, whose lines are never broken."""
        if examples := self._parts()[1]:
            with formatter.section("Examples"):
                for line in examples.splitlines():
                    formatter.write(f"{'':{formatter.current_indent}}{line.strip()}\n")

    def _parts(self) -> tuple[str, str]:
        """The description and the examples."""
        text, _, examples = inspect.cleandoc(self.help or "").partition(_EXAMPLES)
        return text, examples


def _plain_type(match: re.Match[str]) -> str:
    kind = match[1]
    return "" if kind == "bool" else f"<{_WORDS.get(kind, kind).lower()}>"
