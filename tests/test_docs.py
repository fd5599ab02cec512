"""What the documents show must be there and must parse."""

from __future__ import annotations

import ast
import importlib
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from polsess.cli.main import Commands

ROOT = Path(__file__).parents[1]
CARDS = sorted((ROOT / "src/polsess/assets").rglob("README.md"))
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md")), *CARDS]
COMMANDS = Commands()
_ABBREVIATED = {"MissingParameter", "BadOptionUsage"}
"""What is wrong with a command of which a sentence names an option only."""
each_document = pytest.mark.parametrize(
    "document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix()
)


def anchors(document: Path) -> set[str]:
    """The places in a document that links may name."""
    titles = re.findall(r"^#+ (.+)$", document.read_text(), re.M)
    named = re.findall(r'<a id="([^"]+)"', document.read_text())
    return {*named, *(re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles)}


@each_document
def test_links_lead_somewhere(document: Path) -> None:
    lost = []
    for place, anchor in re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", document.read_text()):
        target = document.parent / place if place else document
        if not target.exists() or (anchor and anchor not in anchors(target)):
            lost.append(f"{place}#{anchor}")
    assert not lost


def blocks(text: str, *languages: str) -> list[str]:
    """Blocks of code in some languages."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.M | re.S)
    return [code for language, code in found if language in languages]


def command_lines(text: str) -> Iterator[tuple[str, bool]]:
    """Commands of this program, and whether they are whole: those within a sentence may be abbreviated."""
    for block in blocks(text, "", "bash", "sh"):
        yield from ((line, True) for line in block.replace("\\\n", " ").splitlines() if "polsess" in line)
    yield from ((found, False) for found in re.findall(r"`(polsess [^`]+)`", text))


def commands(line: str) -> Iterator[list[str]]:
    """The words of every command of this program in a line of a shell, after ``polsess``."""
    lexer = shlex.shlex(line.replace("…", "..."), posix=True, punctuation_chars="|<>;&()")
    lexer.whitespace_split = True
    words: list[str] = []
    for word in [*lexer, "|"]:
        if set(word) <= set("|<>;&()"):
            if "polsess" in words[:2]:  # the first may be a prompt
                yield words[words.index("polsess") + 1 :]
            words = []
        else:
            words.append(word)


@cache
def find_command(*names: str) -> Any:
    """A command or a group of them; None where there is none."""
    command: Any = COMMANDS.get(names[0])
    return command if len(names) == 1 else getattr(command, "commands", {}).get(names[1])


def refusal(words: list[str], *, whole: bool) -> str:
    """Why a command cannot be parsed; empty where it can."""
    if not words or words[0].startswith("-"):
        return ""
    depth = 2 if hasattr(find_command(words[0]), "commands") else 1
    command, given = find_command(*words[:depth]), words[depth:]
    if command is None:
        return "no such command"
    if "--help" in given or not (given or whole):
        return ""
    try:
        command.make_context("polsess", [word.strip("[]") for word in given if word != "..."])
    except Exception as error:
        kind = type(error).__name__
        return "" if not whole and kind in _ABBREVIATED else f"{kind}: {error}"
    return ""


@pytest.mark.parametrize(
    "source",
    [*DOCUMENTS, *sorted((ROOT / "configs").glob("*.yaml"))],
    ids=lambda path: path.relative_to(ROOT).as_posix(),
)
def test_commands_can_be_typed(source: Path) -> None:
    lines = command_lines(source.read_text())
    found = {
        line: refused
        for line, whole in lines
        for words in commands(line)
        if (refused := refusal(words, whole=whole))
    }
    assert found == {}


def test_examples_in_help_can_be_typed() -> None:
    for name, command in COMMANDS.items():
        for each in getattr(command, "commands", {name: command}).values():
            examples = (each.help or "").partition("Examples:\n")[2]
            assert examples, f"{each.name}: has no example"
            for line in examples.splitlines():
                assert [refusal(words, whole=True) for words in commands(line)] == [""], line


@each_document
def test_python_compiles_and_its_imports_exist(document: Path) -> None:
    for block in blocks(document.read_text(), "python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("polsess"):
                module = importlib.import_module(str(node.module))
                assert [name.name for name in node.names if not hasattr(module, name.name)] == []
