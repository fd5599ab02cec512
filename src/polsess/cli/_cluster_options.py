"""The option that spreads a command over a cluster of Ray."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from polsess.cli._results import usage_errors
from polsess.cli.terminal import Failure, Terminal

if TYPE_CHECKING:
    from polsess.cluster.separation import OpenSeparator
    from polsess.cluster.workers import Cluster
    from polsess.inference.jobs import OutputOptions

_SHOWN = 20

Ray = Annotated[
    str | None,
    typer.Option(
        "--ray",
        metavar="[ADDRESS]",
        help="Spread the recordings over a cluster of Ray: auto, host:port or ray://host:port; without an "
        "address, over the processors of this machine. The same command goes on after a crash.",
        rich_help_panel="Cluster",
    ),
]


@dataclass(frozen=True)
class Request:
    """What a cluster is to do."""

    address: str
    device: str
    """Of the workers: auto, cpu or cuda."""
    open_separator: OpenSeparator
    names: Sequence[str]
    """Of the speakers that every recording has."""
    settings: Mapping[str, Any]
    """What the outputs depend on."""


@contextmanager
def connected_to(address: str, device: str) -> Iterator[Cluster]:
    """As ``polsess.cluster.workers.connected``; what cannot be met is a wrong command line."""
    from polsess.cluster.workers import connected

    with ExitStack() as stack:
        with usage_errors():
            cluster = stack.enter_context(connected(address, device))
        yield cluster


def separate_with_ray(
    terminal: Terminal, request: Request, inputs: Iterable[Path], options: OutputOptions, *, as_json: bool
) -> None:
    """Separate recordings on a cluster; failures end the command at the end.

    Args:
        terminal: For messages.
        request: The cluster, and who separates.
        inputs: Files, folders and lists.
        options: Folder, names and format of the outputs.
        as_json: Whether a line of JSON is printed per recording.
    """
    from polsess.cluster.manifest import Manifest
    from polsess.cluster.separation import plan, separate_on_cluster
    from polsess.dependencies import require
    from polsess.object_storage import is_remote, shown

    for package in ("ray", "pyarrow"):
        require(package, "--ray")
    if not is_remote(options.folder):
        options = replace(options, folder=options.folder.absolute())
    manifest = Manifest(options.folder, request.settings)
    with manifest.held(), ExitStack() as stack:
        with usage_errors():
            todo = plan(inputs, options, manifest, request.names, terminal.note)
        problems = todo.problems + [entry.error for entry in todo.others if entry.error]
        done = 0
        if todo.jobs:
            cluster = stack.enter_context(connected_to(request.address, request.device))
            progress = stack.enter_context(terminal.progress())
            bar = progress.add_task("separating", total=len(todo.jobs))
            for entry in separate_on_cluster(cluster, request.open_separator, todo.jobs, options, manifest):
                progress.advance(bar)
                done += entry.status == "done"
                problems += [entry.error] if entry.error else []
                if as_json:
                    typer.echo(json.dumps(asdict(entry)))
        manifest.finish()
    skipped = sum(entry.status == "skipped" for entry in todo.others)
    terminal.note(
        f"{done} separated, {todo.num_done} done before, {skipped} skipped, {len(problems)} failed; "
        f"every recording: {shown(manifest.path)}"
    )
    if problems:
        lines = [f"{len(problems)} failed:", *problems[:_SHOWN]]
        lines += [f"and {len(problems) - _SHOWN} more, see the manifest"] if len(problems) > _SHOWN else []
        raise Failure("\n  ".join(lines))
