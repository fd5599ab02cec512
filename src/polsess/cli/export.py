"""`polsess export`: a network as a file for other runtimes, compared with it before it is written."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from polsess.cli.terminal import ExitCode, Failure, Terminal


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command()(export)


def export(
    context: typer.Context,
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", help="Network to export: a folder, a file, a hub id or a name such as default."
        ),
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="File to write; a folder for --to web.")],
    to: Annotated[
        Literal["onnx", "onnx-stream", "sherpa-onnx", "torch-export", "web"],
        typer.Option(
            help="What is written: an ONNX file; one of a causal network that takes a sound piece by piece "
            "with its state; one of gtcrn that sherpa-onnx loads; a program that torch.export.load reads; or "
            "a folder with a page that separates in the browser."
        ),
    ] = "onnx",
    precision: Annotated[
        Literal["float32", "float16", "int8"], typer.Option(help="Precision of the weights in ONNX files.")
    ] = "float32",
    accept: Annotated[
        bool, typer.Option("--accept", help="Write an export that loses more than 0.3 dB of SI-SNR as well.")
    ] = False,
    web_runtime: Annotated[
        Path | None,
        typer.Option(
            help="For --to web: folder or .tgz of the npm package onnxruntime-web; npm fetches it otherwise."
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file that exists.")] = False,
) -> None:
    """Write a network for another runtime, if its outputs there are those of the network.

    Examples:
      polsess export default -o default.onnx
      polsess export runs/dprnn --precision int8 -o dprnn.onnx
      polsess export default --to torch-export -o default.pt2
      polsess export runs/gtcrn --to onnx-stream -o gtcrn.onnx
      polsess export default --to web -o site
    """
    if web_runtime is not None and to != "web":
        raise Failure("--web-runtime: is for --to web.", ExitCode.USAGE)
    if overwrite and to == "web":
        raise Failure("--overwrite: --to web takes a new or an empty folder only.", ExitCode.USAGE)
    if out.exists() and not overwrite and to != "web":
        raise Failure(f"{out}: exists already; choose another place, or --overwrite.", ExitCode.USAGE)
    from polsess.export import export_model, export_site

    terminal: Terminal = context.obj
    if to == "web":
        checks = export_site(model, out, precision=precision, accept=accept, runtime=web_runtime)
    else:
        checks = export_model(model, out, to=to, precision=precision, accept=accept)
    lost = checks.si_snr_loss_db
    loss = "" if lost is None else f", {round(lost, 2) + 0.0:.2f} dB of SI-SNR lost"
    size = sum(each.stat().st_size for each in (out.rglob("*.*") if out.is_dir() else [out]))
    terminal.note(
        f"Saved: {out} ({size / 1e6:.2f} MB; largest error {checks.largest_error:.1e}, "
        f"fidelity {checks.fidelity_db:.0f} dB{loss})"
    )
