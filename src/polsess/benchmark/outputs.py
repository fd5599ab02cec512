"""What a run leaves in its folder: JSON with every observation, CSV, Markdown, a picture."""

from __future__ import annotations

from pathlib import Path

from polsess.benchmark.journal import JOURNAL, RESULT
from polsess.benchmark.results import Conditions, Result, Settings, write_result
from polsess.benchmark.tables import full_table, tables
from polsess.files import write_text
from polsess.text_tables import comma_separated

TABLE, DOCUMENT, PICTURE = "results.csv", "results.md", "pareto.png"


def write_outputs(result: Result, folder: Path) -> None:
    """Write the files and drop the journal, which has done its work."""
    table = full_table(result)
    write_result(result, folder / RESULT)
    write_text(folder / TABLE, comma_separated(table.header, table.rows))
    write_text(folder / DOCUMENT, render(result))
    (folder / JOURNAL).unlink(missing_ok=True)


def render(result: Result) -> str:
    """Conditions and tables in Markdown, ending with a newline."""
    head = "\n".join(f"- {line}" for line in describe_conditions(result.conditions, result.settings))
    return "\n".join([head + "\n", *(table.markdown() for table in tables(result))])


def describe_conditions(conditions: Conditions, settings: Settings) -> list[str]:
    """In sentences."""
    load = "not told"
    if conditions.load_before is not None and conditions.load_after is not None:
        load = f"{conditions.load_before:.1f} before, {conditions.load_after:.1f} after"
    memory = "" if conditions.memory_gib is None else f", {conditions.memory_gib:.0f} GiB"
    kernels = "in use where a model has one" if conditions.kernels else "not in use"
    return [
        f"Machine: {conditions.processor}, {conditions.num_processors} processors{memory}, "
        f"{conditions.system}; device {conditions.device}.",
        f"Date: {conditions.date}; load average {load}.",
        f"Software: polsess {conditions.polsess}, PyTorch {conditions.torch}, Python {conditions.python}; "
        f"C++ kernels {kernels}.",
        f"Settings: {settings.threads} thread(s), float32, batch 1, allocator {settings.allocator}, "
        f"{settings.rounds} round(s), at most {settings.budget_seconds:g} s per network.",
    ]
