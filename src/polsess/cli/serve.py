"""`polsess serve`: a service with a page and an API for jobs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from polsess.cli.terminal import ExitCode, Failure, Terminal

if TYPE_CHECKING:
    from polsess.service.settings import ServiceConfig


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command()(serve)


def serve(
    context: typer.Context,
    folder: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--folder",
            help="Folder of the jobs and their files, made if needed.",
            show_default="service",
        ),
    ] = None,
    host: Annotated[str, typer.Option("--host", help="Address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="Port to listen at.")] = 8000,
    model: Annotated[
        list[str] | None,
        typer.Option(
            "-m",
            "--model",
            metavar="[NAME=]MODEL",
            help="Weights as for `polsess separate`, under a name that clients use. Repeatable; the first is "
            "taken where a client names none.",
            show_default="default",
        ),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option("--device", help="Device to run on: auto, cpu, cuda or mps.", show_default="auto"),
    ] = None,
    precision: Annotated[
        Literal["auto", "float32", "bfloat16", "float16"] | None,
        typer.Option(help="Type of the networks' products, as of `polsess separate`.", show_default="auto"),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option("--workers", min=1, help="Processes, each with all models loaded.", show_default="1"),
    ] = None,
    settings: Annotated[
        Path | None,
        typer.Option("--config", help="YAML file of these and all other settings, among them the limits."),
    ] = None,
    keys: Annotated[
        Path | None,
        typer.Option("--keys", help="File of the hashed keys of clients; without it nobody needs a key."),
    ] = None,
    new_key: Annotated[
        str | None,
        typer.Option("--new-key", metavar="CLIENT", help="Add a key to --keys, print it once, and end."),
    ] = None,
    open_to_all: Annotated[
        bool,
        typer.Option("--open", help="Listen beyond this machine without keys; whoever gets there gets in."),
    ] = False,
) -> None:
    """Serve a page and an API that separate recordings, until it is stopped.

    Examples:
      polsess serve
      polsess serve -m default -m clean=enhance-both --workers 2
      polsess serve --keys keys.txt --new-key laboratory
      polsess serve --host 0.0.0.0 --keys keys.txt --folder /var/lib/polsess
    """
    from polsess.dependencies import require

    terminal: Terminal = context.obj
    for package in ("fastapi", "uvicorn", "python_multipart", "prometheus_client"):
        require(package, "polsess serve")
    from polsess.service.app import run
    from polsess.service.keys import create_key

    if new_key is not None:
        if keys is None:
            raise Failure("--new-key: name the file with --keys.", ExitCode.USAGE)
        typer.echo(create_key(keys, new_key))
        return
    given: dict[str, Any] = {
        "folder": folder,
        "device": device,
        "precision": precision,
        "workers": workers,
        "keys": keys,
    }
    given["models"] = dict(map(_named, model)) if model else None
    config = _configure(given, settings)
    _check_host(host, config, open_to_all=open_to_all)
    terminal.note(f"Serving at http://{host}:{port}; Ctrl-C stops it.")
    try:
        run(config, host, port)
    except KeyboardInterrupt:  # to stop is what it was asked for
        return


def _named(model: str) -> tuple[str, str]:
    """The name and the weights of a model, ``default`` for ``default``."""
    name, equals, source = model.partition("=")
    return (name, source) if equals else (Path(model).name, model)


def _configure(given: dict[str, Any], settings: Path | None) -> ServiceConfig:
    """The options of the command over a file of settings; models are looked for before anything starts."""
    from torch import device

    from polsess.checkpoints import read_checkpoint
    from polsess.inference.separator import open_listeners
    from polsess.schema import parse
    from polsess.service.settings import ServiceConfig
    from polsess.yaml_files import read_yaml

    values = read_yaml(settings) if settings else {}
    values |= {key: value for key, value in given.items() if value is not None}
    config = parse(ServiceConfig, {"folder": "service", **values}, str(settings or ""))
    for source in config.models.values():
        read_checkpoint(source)
    open_listeners(device("cpu"), **config.listeners)
    if config.keys is not None and not config.keys.is_file():
        raise Failure(f"{config.keys}: no such file; make a key with --new-key NAME.", ExitCode.USAGE)
    return config


def _check_host(host: str, config: ServiceConfig, *, open_to_all: bool) -> None:
    from polsess.service.app import LOOPBACK

    if host not in LOOPBACK and config.keys is None and not open_to_all:
        raise Failure(
            f"--host {host}: other machines could use the service; give --keys, or --open to let all in.",
            ExitCode.USAGE,
        )
