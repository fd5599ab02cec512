"""The command's entry: global options, the list of commands, errors in one line and exit codes.

Every other public file here holds one command and a function ``register(app)`` that adds it. A file is
imported when its command is needed, and it imports torch and the rest of the package inside its functions, so
that help and completion stay fast.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
import signal
import sys
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import polsess.cli
from polsess.cli._help import HelpfulCommand
from polsess.cli.terminal import ExitCode, Failure, Terminal, explain, lost_output, outlast_output
from polsess.interruption import received, stopped_by_signals

_USUAL_FORMAT = warnings.formatwarning
_GLOBAL_FLAGS = {"-q", "--quiet", "--debug"}


class CommandGroup(TyperGroup):
    """Commands that take the global flags anywhere on the line and end with one-line errors."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Move the global flags to the front, so that `polsess separate x.wav -q` works."""
        end = args.index("--") if "--" in args else len(args)
        flags = [word for word in args[:end] if word in _GLOBAL_FLAGS]
        words = [word for word in args[:end] if word not in _GLOBAL_FLAGS]
        return super().parse_args(ctx, [*flags, *words, *args[end:]])

    def invoke(self, ctx: Any) -> Any:
        """Run the command; errors and signals become a message and an exit code."""
        with stopped_by_signals():
            return self._invoke(ctx)

    def _invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (typer.Exit, typer.Abort):
            raise
        except KeyboardInterrupt:
            raise typer.Exit(_end_interrupted(ctx.obj or Terminal())) from None
        except (Failure, ValueError, OSError, ImportError, RuntimeError, MemoryError) as error:
            terminal = ctx.obj or Terminal()
            if received() is not None:  # often the error is of a process that the same signal ended
                raise typer.Exit(_end_interrupted(terminal, f" Meanwhile: {explain(error)}")) from None
            if terminal.debug:
                raise
            terminal.error(explain(error))
            raise typer.Exit(_exit_code(error)) from None


class Commands(Mapping[str, Any]):
    """The commands of the files beside this one, each imported and built when it is asked for."""

    def __init__(self) -> None:
        names = sorted(module.name for module in pkgutil.iter_modules(polsess.cli.__path__))
        self._names = [name for name in names if name not in {"main", "terminal"} and name[0] != "_"]

    def __getitem__(self, name: str) -> Any:
        if name not in self._names:
            raise KeyError(name)
        return typer.main.get_group(self._registered(name)).commands[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def summaries(self) -> list[tuple[str, str]]:
        """Each name with the first paragraph of its help; no command is built for it."""
        rows = []
        for name in self:
            alone = self._registered(name)
            group = next((each.typer_instance for each in alone.registered_groups), None)
            help_text = group.info.help if group else alone.registered_commands[0].callback.__doc__
            rows.append((name, " ".join(str(help_text).strip().split("\n\n")[0].split())))
        return rows

    @staticmethod
    def _registered(name: str) -> typer.Typer:
        alone = typer.Typer(rich_markup_mode=None, add_completion=False)
        importlib.import_module(f"polsess.cli.{name}").register(alone)
        groups = [alone, *(each.typer_instance for each in alone.registered_groups)]
        for command in (command for group in groups if group for command in group.registered_commands):
            command.cls = HelpfulCommand
        return alone


class Program(CommandGroup):
    """The program as a whole."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self._lazy = Commands()
        self.commands = self._lazy  # type: ignore[assignment]

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002
        """Names of the commands."""
        return list(self.commands)

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002
        """Write the list of commands."""
        with formatter.section("Commands"):
            formatter.write_dl(self._lazy.summaries())


def _end_interrupted(terminal: Terminal, more: str = "") -> int:
    """Say that a signal ended the command; returns the exit code, as a shell would give it."""
    number = received() or signal.SIGINT
    terminal.error(f"Stopped by {number.name}. Finished results are kept, and nothing is half-written.{more}")
    return 128 + number


def _exit_code(error: BaseException) -> ExitCode:
    if isinstance(error, Failure):
        return error.code
    if isinstance(error, FileNotFoundError | NotADirectoryError | IsADirectoryError):
        return ExitCode.USAGE  # a path that was given is wrong
    if _is_a(error, "polsess.schema", "ConfigError"):
        return ExitCode.USAGE
    if _is_a(error, "polsess.checkpoints", "CheckpointError"):
        return ExitCode.MODEL
    return ExitCode.SOME_FAILED


def _is_a(error: BaseException, module: str, name: str) -> bool:
    """Whether an error is of a class in a module that is slow to import, and is not imported for this."""
    return module in sys.modules and isinstance(error, getattr(sys.modules[module], name))


def _format_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """A warning of this package in one line, like an error, without the place in the code."""
    if category is UserWarning and Path(filename).is_relative_to(Path(polsess.cli.__path__[0]).parent):
        return f"warning: {message}\n"
    return _USUAL_FORMAT(message, category, filename, lineno, line)


app = typer.Typer(
    name="polsess",
    cls=Program,
    help="Train, evaluate, compare and run speech separation and enhancement models.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # rich alone would take longer than everything else that help needs
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(version("polsess-separation"))
        raise typer.Exit


@app.callback()
def _program(
    context: typer.Context,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Print errors only.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
    version: Annotated[  # noqa: ARG001 - its callback does the work
        bool,
        typer.Option("-V", "--version", callback=_show_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    context.obj = Terminal(quiet=quiet, debug=debug)
    warnings.formatwarning = _format_warning


def _set_up_torch() -> None:
    """Settings that torch reads from the environment when it is imported.

    GNU's OpenMP lets threads that wait for each other try for milliseconds. Where others use the processors,
    those are what the thread that is waited for would need. A thousand tries take about as long as to wake a
    thread.

    Every thread keeps its last convolutions of a thousand shapes, although all share what takes long to make.
    Sounds of many lengths have many shapes, so it is 16.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    os.environ.setdefault("LRU_CACHE_CAPACITY", "16")


def main() -> None:
    """Run the `polsess` command."""
    _set_up_torch()
    outlast_output()
    try:
        app()
    except SystemExit as ended:
        lost = lost_output()
        if lost is None or ended.code:
            raise
        Terminal().error(f"standard output: {lost.strerror}; what was printed is not complete.")
        sys.exit(ExitCode.SOME_FAILED)
    except Exception as error:
        if "--debug" in sys.argv:
            raise
        Terminal().error(
            f"{type(error).__name__}: {error}. This is a bug; run again with --debug, report it."
        )
        sys.exit(ExitCode.SOME_FAILED)
