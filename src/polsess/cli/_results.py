"""Results of the commands that separate recordings, printed one by one."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from polsess.cli._pipes import Pipes, send
from polsess.cli._sound_options import PICTURE_SECONDS
from polsess.cli.terminal import ExitCode, Failure, Terminal, explain
from polsess.object_storage import exists, shown
from polsess.text_tables import counted

if TYPE_CHECKING:
    from polsess.inference import SeparatedFile
    from polsess.inference.jobs import Job, Outcome, OutputOptions
    from polsess.inference.long_form import LongFormSeparator


@contextmanager
def usage_errors() -> Iterator[None]:
    """An option that cannot be met ends the command with the code for a wrong command line."""
    try:
        yield
    except (ValueError, OSError) as error:
        raise Failure(explain(error), ExitCode.USAGE) from None


@dataclass
class Results:
    """Prints every result when it is there, and all problems at the end."""

    terminal: Terminal
    names: Sequence[str]
    piped: Pipes
    as_json: bool
    pictures: bool
    problems: list[str]
    done: list[SeparatedFile] = field(default_factory=list)
    num_skipped: int = 0
    rates: set[int] = field(default_factory=set)
    """Rates of recordings of which was said that the model's band is narrower."""
    mixed: bool = False
    """Whether it was said that channels are mixed."""

    def add(self, job: Job, outcome: Outcome) -> None:
        """Take a result, or the error that ended it."""
        from polsess.inference.jobs import Skipped

        name = self.piped.shown(job.name)
        if isinstance(outcome, Exception):
            if self.terminal.debug:
                raise outcome
            text = self.piped.shown(explain(outcome))
            named = self.piped.shown(shown(job.source)) in text
            self.problems.append(text if named else f"{name}: {text}")
            self._record({"input": name, "error": text})
        elif isinstance(outcome, Skipped):
            self.num_skipped += bool(outcome.paths)
            self._record({"input": name, "outputs": self._outputs(outcome.paths), "skipped": True})
        else:
            self.done.append(outcome)
            self._show(job, name, outcome)

    def _show(self, job: Job, name: str, result: SeparatedFile) -> None:
        picture = _draw(job, result) if self.pictures else None
        gated = None if result.timeline is None or result.timeline.whole else result.timeline
        if self.piped.out:
            send(result.paths[0])
        elif not self.as_json:
            for path in (*result.paths, *result.timeline_paths[2:], *([picture] if picture else [])):
                typer.echo(shown(path))
        self._record(
            {
                "input": name,
                "outputs": self._outputs(result.paths, result.names),
                **({"picture": str(picture)} if picture else {}),
                **({"timeline": [shown(path) for path in result.timeline_paths]} if result.timeline else {}),
                "mixed_channels": result.mixed_channels,
                "sample_rate": result.sample_rate,
                "model_rate": result.model_rate,
                "bandwidth_hz": result.bandwidth_hz,
                "seconds": result.duration_seconds,
                "gain": result.peak_gain,
                **(
                    {
                        "num_speakers": result.count.number,
                        "num_speakers_probability": round(result.count.probability, 6),
                    }
                    if result.count
                    else {}
                ),
                **({"voices_found": gated.voices_found} if gated else {}),
                "precision": result.precision,
                "elapsed_seconds": round(result.elapsed_seconds, 3),
            }
        )
        if result.mixed_channels > 1 and not self.mixed:
            self.mixed = True
            self.terminal.note(
                f"{name}: its {result.mixed_channels} channels were mixed into one "
                "(--channels each keeps them)."
            )
        if result.peak_gain < 1:
            self.terminal.note(
                f"{name}: all speakers made {result.peak_gain:.3f} times as loud to avoid clipping."
            )
        if note := result.note_on_count():
            self.terminal.note(f"{name}: {note}")
        if result.timeline is not None and (note := result.timeline.note()):
            written = [] if self.piped.out else result.timeline_paths[:1]
            where = "".join(f" Who talks when: {shown(path)}." for path in written)
            self.terminal.note(f"{name}: {note}{where}")
        rate = result.model_rate or result.sample_rate
        passed = gated is not None and not gated.separated
        if rate < result.sample_rate and not passed and result.sample_rate not in self.rates:
            self.rates.add(result.sample_rate)
            where = ", where several talk," if rate < 2 * result.bandwidth_hz else ""
            self.terminal.note(
                f"{name}: is at {result.sample_rate} Hz, the model at {rate} Hz: the outputs{where} "
                f"hold nothing above {rate / 2:.0f} Hz."
            )

    def _outputs(self, paths: Sequence[Path], names: Sequence[str] = ()) -> dict[str, str]:
        return {speaker: shown(path) for speaker, path in zip(names or self.names, paths, strict=False)}

    def _record(self, record: Mapping[str, object]) -> None:
        if self.as_json:
            typer.echo(json.dumps(record))

    def finish(self, code: ExitCode, spent: float) -> None:
        """Sum up what took so many seconds; problems end the command with a code."""
        if self.done:
            sound = sum(result.duration_seconds for result in self.done)
            self.terminal.note(
                f"{counted(len(self.done), 'recording')}, {sound:.1f} s of sound in {spent:.1f} s: "
                f"real-time factor {spent / sound:.3f}, products in {self.done[-1].precision}."
            )
        if self.num_skipped:
            self.terminal.note(f"{counted(self.num_skipped, 'recording')} skipped, whose outputs exist.")
        if self.problems:
            done = f"{len(self.done)} done" + (f", {self.num_skipped} skipped" if self.num_skipped else "")
            lines = [f"{counted(len(self.problems), 'input')} failed, {done}:", *self.problems]
            raise Failure("\n  ".join(lines), code)


def separate_all(
    terminal: Terminal,
    separator: LongFormSeparator[Any],
    jobs: Sequence[Job],
    options: OutputOptions,
    results: Results,
) -> None:
    """Separate recordings with a progress bar; failures end the command at the end."""
    from polsess.inference.jobs import separate_jobs

    begin = time.perf_counter()
    with terminal.progress() as progress:
        bar = progress.add_task("separating", total=len(jobs))
        for job, outcome in separate_jobs(
            separator, jobs, options, lambda done: progress.update(bar, completed=done)
        ):
            results.add(job, outcome)
    missing = not all(exists(path) for path in results.piped.inputs)
    results.finish(ExitCode.USAGE if missing else ExitCode.SOME_FAILED, time.perf_counter() - begin)


def _draw(job: Job, result: SeparatedFile) -> Path:
    """A picture of mixture and estimates beside the first output, up to where the outputs hold something."""
    from polsess.audio import read_audio, to_mono
    from polsess.inference.excerpts import sound_of
    from polsess.pictures import draw_spectrograms

    length = min(result.num_samples, PICTURE_SECONDS * result.sample_rate)
    with sound_of(job.source, job.excerpt) as source:
        paths = {"mixture": source, **dict(zip(result.names, result.paths, strict=True))}
        signals = {
            name: to_mono(read_audio(path, num_samples=length)[0], path) for name, path in paths.items()
        }
    picture = result.paths[0].with_suffix(".png")
    draw_spectrograms(signals, result.sample_rate, picture, title=job.source.name, max_hz=result.bandwidth_hz)
    return picture
