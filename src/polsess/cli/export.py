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
    out: Annotated[Path, typer.Option("-o", "--out", help="File to write.")],
    to: Annotated[
        Literal["onnx", "torch-export"],
        typer.Option(help="Kind of file: ONNX, or a program that torch.export.load reads."),
    ] = "onnx",
    precision: Annotated[
        Literal["float32", "float16", "int8"], typer.Option(help="Precision of the weights in ONNX files.")
    ] = "float32",
    accept: Annotated[
        bool, typer.Option("--accept", help="Write an export that loses more than 0.3 dB of SI-SNR as well.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file that exists.")] = False,
) -> None:
    """Write a network for another runtime, if its outputs there are those of the network.

    Examples:
      polsess export default -o default.onnx
      polsess export runs/dprnn/best --precision int8 -o dprnn.onnx
      polsess export default --to torch-export -o default.pt2
    """
    if out.exists() and not overwrite:
        raise Failure(f"{out}: exists already; choose another place, or --overwrite.", ExitCode.USAGE)
    from polsess.export import export_model

    terminal: Terminal = context.obj
    checks = export_model(model, out, to=to, precision=precision, accept=accept)
    loss = "" if checks.si_snr_loss_db is None else f", {checks.si_snr_loss_db:.2f} dB of SI-SNR lost"
    terminal.note(
        f"Saved: {out} ({out.stat().st_size / 1e6:.1f} MB; largest error {checks.largest_error:.1e}, "
        f"fidelity {checks.fidelity_db:.0f} dB{loss})"
    )
