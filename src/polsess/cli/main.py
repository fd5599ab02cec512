"""The command's entry: global options, the list of commands, errors in one line and exit codes.

Every other public file here holds one command and a function ``register(app)`` that adds it. Those files
import torch and the rest of the package inside their functions, so that help and completion stay fast.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import polsess.cli
from polsess.cli.terminal import ExitCode, Failure, Terminal, explain
from polsess.schema import ConfigError

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
        """Run the command; what went wrong becomes a message and an exit code."""
        try:
            return super().invoke(ctx)
        except (typer.Exit, typer.Abort):
            raise
        except KeyboardInterrupt:
            raise typer.Exit(ExitCode.INTERRUPTED) from None
        except (Failure, ValueError, OSError, ImportError, RuntimeError, MemoryError) as error:
            terminal = ctx.obj or Terminal()
            if terminal.debug:
                raise
            terminal.error(explain(error))
            raise typer.Exit(_exit_code(error)) from None


def _exit_code(error: BaseException) -> ExitCode:
    if isinstance(error, Failure):
        return error.code
    if isinstance(error, ConfigError | FileNotFoundError | NotADirectoryError | IsADirectoryError):
        return ExitCode.USAGE  # a path that was given is wrong
    checkpoints = sys.modules.get("polsess.checkpoints")  # its errors exist only once it is imported
    if checkpoints is not None and isinstance(error, checkpoints.CheckpointError):
        return ExitCode.MODEL
    return ExitCode.SOME_FAILED


def _format_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """What this package warns of in one line, as errors are; the place in the code helps no user."""
    if category is UserWarning and Path(filename).is_relative_to(Path(polsess.cli.__path__[0]).parent):
        return f"warning: {message}\n"
    return _USUAL_FORMAT(message, category, filename, lineno, line)


app = typer.Typer(
    name="polsess",
    cls=CommandGroup,
    help="Train, evaluate, compare and run speech separation and enhancement models.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
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


for _module in sorted(pkgutil.iter_modules(polsess.cli.__path__), key=lambda module: module.name):
    if _module.name not in {"main", "terminal"} and not _module.name.startswith("_"):
        importlib.import_module(f"polsess.cli.{_module.name}").register(app)


def main() -> None:
    """Run the `polsess` command."""
    try:
        app()
    except Exception as error:
        if "--debug" in sys.argv:
            raise
        Terminal().error(
            f"{type(error).__name__}: {error}. This is a bug; run again with --debug, report it."
        )
        sys.exit(ExitCode.SOME_FAILED)
