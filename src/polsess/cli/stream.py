"""`polsess stream`: a sound is separated while it comes in through a pipe."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO, Literal

import typer

from polsess.cli._pipes import PIPE
from polsess.cli._results import usage_errors
from polsess.cli._sound_options import Device
from polsess.cli.terminal import ExitCode, Failure, Terminal
from polsess.interruption import Interrupted

if TYPE_CHECKING:
    from torch import Tensor

    from polsess.audio import PipeReader
    from polsess.inference import StreamingSeparator

    Write = Callable[[Tensor], None]


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command()(stream)


def stream(
    context: typer.Context,
    model: Annotated[
        str,
        typer.Option(
            "-m", "--model", help="Weights of a causal network: folder, file, hub id or bundled model."
        ),
    ] = "enhance-one-streaming",
    source: Annotated[
        Path, typer.Argument(metavar="[PIPE]", help="Named pipe or file to listen to; - is stdin.")
    ] = PIPE,
    out: Annotated[
        Path,
        typer.Option(
            "-o", "--out", help="Folder of one WAV per speaker; - writes to stdout, a channel per speaker."
        ),
    ] = PIPE,
    source_format: Annotated[
        Literal["wav", "s16", "f32"],
        typer.Option(
            "--from", help="What comes in: a WAV, or samples alone, little-endian, 16-bit or float."
        ),
    ] = "wav",
    rate: Annotated[
        int | None, typer.Option(min=1, help="Rate in Hz of samples that come without a header.")
    ] = None,
    channels: Annotated[
        int | None,
        typer.Option(min=1, help="Channels of samples that come without a header; their mean is separated."),
    ] = None,
    to: Annotated[
        Literal["wav", "s16", "f32"],
        typer.Option("--to", help="What goes to stdout: a WAV, or samples alone, little-endian."),
    ] = "wav",
    bits: Annotated[Literal["16", "32f"], typer.Option(help="Bits per sample of a WAV.")] = "16",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing files.")] = False,
    device: Device = "cpu",
) -> None:
    """Separate a sound while it comes in, by a causal network; what comes out is late by its latency.

    The network decides the latency, which is said at the beginning. Ctrl-C ends the stream: what was heard so
    far is then complete.

    Examples:
      arecord -f S16_LE -r 8000 | polsess stream | aplay
      ffmpeg -i talk.mp3 -f f32le -ac 1 -ar 8000 - | polsess stream -m MODEL --from f32 --rate 8000 -o parts
    """
    terminal: Terminal = context.obj
    if to != "wav" and (out != PIPE or bits != "16"):
        raise Failure(f"--to {to}: is for -o -, without --bits; files are WAV.", ExitCode.USAGE)
    separator, reader, file = _open(model, source, source_format, rate, channels, device)
    with file:
        latency = separator.latency_samples / separator.model.sample_rate
        terminal.note(f"{source}: {reader.sample_rate} Hz; latency {1000 * latency:.1f} ms")
        with _writer(separator, out, to, bits, overwrite) as write:
            peak, ended = _run(separator, reader, write)
    if peak > 1.0 and bits == "16" and to != "f32":
        terminal.note(
            f"{source}: {model} gives peaks of {peak:.3g} times full scale, which 16 bits cut off; "
            "--bits 32f or --to f32 keeps them."
        )
    if ended is not None:
        raise ended


def _open(
    model: str,
    source: Path,
    kind: Literal["wav", "s16", "f32"],
    rate: int | None,
    channels: int | None,
    device: str,
) -> tuple[StreamingSeparator, PipeReader, BinaryIO]:
    from polsess.audio import PipeReader
    from polsess.checkpoints import load_model
    from polsess.devices import pick_device
    from polsess.inference import StreamingSeparator

    if source == PIPE and sys.stdin.isatty():
        raise Failure("-: stdin is a terminal; send a sound through a pipe.", ExitCode.USAGE)
    with usage_errors():
        pick_device(device)
    loaded = load_model(model)
    with usage_errors():
        StreamingSeparator(loaded, device=device)  # refuses what cannot stream before anything is waited for
    file = sys.stdin.buffer if source == PIPE else source.open("rb")
    name = "stdin" if source == PIPE else str(source)
    with usage_errors():
        reader = PipeReader(file, name, kind, rate, channels)
    return StreamingSeparator(loaded, reader.sample_rate, device=device), reader, file


def _run(
    separator: StreamingSeparator, reader: PipeReader, write: Write
) -> tuple[float, BaseException | None]:
    """Separate until the end.

    Returns:
        The largest sample, and what ended the stream early, after which all that was heard is written, too.
    """
    peak = 0.0
    ended: BaseException | None = None

    def hand_on(estimates: Tensor) -> None:
        nonlocal peak
        if estimates.numel():
            peak = max(peak, float(estimates.abs().max()))
        write(estimates)

    try:
        for block in reader.blocks():
            samples = block.mean(0)
            sound = int(samples.isfinite().cumprod(0).sum())
            for part in (samples[:sound], samples[sound:]):  # what comes before NaN is not lost with it
                hand_on(separator.push(part))
    except BrokenPipeError:
        sys.stdout.flush()
        return peak, None
    except (Interrupted, ValueError) as error:
        ended = error
    try:
        hand_on(separator.flush())
    except BrokenPipeError:
        return peak, None
    return peak, ended


@contextmanager
def _writer(
    separator: StreamingSeparator,
    out: Path,
    to: Literal["wav", "s16", "f32"],
    bits: Literal["16", "32f"],
    overwrite: bool,
) -> Iterator[Write]:
    """What takes the estimates ``[C, n]``: stdout, or one file each that appears at the end."""
    from polsess.audio import AudioFormat, AudioWriter, PipeWriter
    from polsess.inference import source_names
    from polsess.publication import atomic_files

    rate, names = separator.sample_rate, source_names(separator.num_sources)
    if out == PIPE:
        if sys.stdout.isatty():
            raise Failure("-o -: stdout is a terminal; send it to a file or a program.", ExitCode.USAGE)
        encoding: Literal["s16", "f32"] = to if to != "wav" else "f32" if bits == "32f" else "s16"
        writer = PipeWriter(sys.stdout.buffer, rate, len(names), encoding, header=to == "wav")
        yield writer.write
        with suppress(BrokenPipeError):
            writer.close()
        return
    paths = [out / f"{name}.wav" for name in names]
    with usage_errors():
        for path in paths:
            if path.exists() and not overwrite:
                raise FileExistsError(17, "exists; choose another folder or --overwrite", str(path))
    with atomic_files(paths, overwrite=overwrite) as temporaries, ExitStack() as stack:
        writers = [
            stack.enter_context(
                AudioWriter(each, rate, 1, 0, AudioFormat("wav", bits), clamp=True, name=path)
            )
            for each, path in zip(temporaries, paths, strict=True)
        ]

        def write(estimates: Tensor) -> None:
            for writer, estimate in zip(writers, estimates, strict=True):
                writer.write(estimate.unsqueeze(0))

        yield write
    for path in paths:
        typer.echo(path)
