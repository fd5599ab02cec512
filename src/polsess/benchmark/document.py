"""The parts of documents that are generated from stored results, between marks in the text.

A part begins with ``<!-- generated: NAME ... -->`` and ends with ``<!-- end of NAME -->``; what stands around
it is written by hand.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from polsess.benchmark.outputs import render
from polsess.benchmark.results import ModelResult, Result
from polsess.benchmark.summary import costs
from polsess.benchmark.workers.networks import PEERS
from polsess.overview import Architecture, Literature, list_architectures, read_literature
from polsess.text_tables import markdown

README_SECONDS = 4.0


def benchmark_parts(models: Result, peers: Result) -> dict[str, str]:
    """The parts of docs/BENCHMARKS.md."""
    return {"models": render(models), "peers": render(peers), "networks": _networks()}


def readme_parts(models: Result) -> dict[str, str]:
    """The parts of README.md."""
    return {"models": _readme_table(models)}


def fill(document: str, parts: Mapping[str, str]) -> str:
    """The document with its generated parts replaced.

    Raises:
        ValueError: If a part has no place in the document.
    """
    for name, text in parts.items():
        pattern = re.compile(
            rf"(<!-- generated: {name}\b[^\n]*-->\n)(?:.*?\n)??(<!-- end of {name} -->)", re.S
        )
        document, count = pattern.subn(lambda found, text=text: found[1] + text + found[2], document)  # type: ignore[misc]
        if count != 1:
            raise ValueError(f"document: expected one part '{name}' between its marks, found {count}.")
    return document


def _networks() -> str:
    rows = [(f"`{name}`", peer.about) for name, peer in PEERS.items()]
    return markdown(("network", "what it is"), rows) + "\n"


def _readme_table(models: Result) -> str:
    measured = {model.name: model for model in models.models}
    header = ("name", "architecture", "parameters", "GMAC/s", "RTF", "memory MB", "paper")
    rule = ("---", "---", "---:", "---:", "---:", "---:", "---")
    rows = [_readme_row(each, measured.get(each.name)) for each in list_architectures()]
    lines = "".join(f"| {' | '.join(cells)} |\n" for cells in (header, rule, *rows))
    return f"{lines}\n{_readme_legend(models)}"


def _readme_row(architecture: Architecture, model: ModelResult | None) -> tuple[str, ...]:
    cost = costs(model, "inference").get(README_SECONDS) if model else None
    paper = read_literature().get(architecture.name, Literature()).paper or "paper"
    return (
        f"`{architecture.name}`",
        architecture.title.partition(":")[0],
        f"{architecture.default.parameters / 1e6:.2f} M",
        f"{model.facts.macs_per_second / 1e9:.2f}" if model and model.facts else "-",
        f"{cost.realtime_factor:.2f}" if cost else "-",
        f"{cost.grown_bytes / 1e6:.0f}" if cost and cost.grown_bytes is not None else "-",
        f"[{paper}]({architecture.papers[0]})" if architecture.papers else "",
    )


def _readme_legend(models: Result) -> str:
    conditions, settings = models.conditions, models.settings
    place = f"{conditions.processor}, {conditions.date}, load average {conditions.load_before} at the start"
    return (
        "Default sizes. GMAC/s: 10^9 multiply-accumulates per second of audio. RTF: time per second of "
        f"audio; memory: above the process at rest; both of {README_SECONDS:g} s, "
        f"{settings.threads} thread(s) of {place}. Every figure: [docs/BENCHMARKS.md](docs/BENCHMARKS.md).\n"
    )
