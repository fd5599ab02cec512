"""Put results into docs/benchmarks and generate the parts of documents that show them.

    python benchmarks/store.py [--models FOLDER] [--add FOLDER] [--peers FOLDER]

The folders are those that `polsess benchmark -o` and `python benchmarks/against.py -o` wrote. ``--models``
replaces all models, ``--add`` those that it holds, which keep the conditions of their own run.
``--peers`` replaces the comparison of the same processor and precision; others stay. Without options, the
documents are generated anew from the stored results. A generated part begins with
``<!-- generated: NAME ... -->`` and ends with ``<!-- end of NAME -->``; all other text is written by hand.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.peers.networks import PEERS
from benchmarks.peers.results import PeersResult, read_peers
from benchmarks.peers.results import render as render_peers
from polsess.benchmark import RESULT, Result, draw_pareto, read_result, render, write_result
from polsess.benchmark.results import ModelResult
from polsess.benchmark.summary import costs
from polsess.config_error import ConfigError
from polsess.files import write_text
from polsess.overview import Architecture, Literature, list_architectures, read_literature
from polsess.text_tables import markdown

ROOT = Path(__file__).parents[1]
STORE = ROOT / "docs/benchmarks"
PEERS_STORE = STORE / "peers"
README_SECONDS = 4.0


def benchmark_parts(models: Result, peers: Sequence[PeersResult]) -> dict[str, str]:
    """Generated parts of docs/BENCHMARKS.md."""
    return {"models": render(models), "peers": "\n".join(map(_section, peers)), "networks": _networks()}


def readme_parts(models: Result) -> dict[str, str]:
    """Generated parts of README.md."""
    return {"models": _readme_table(models)}


def fill(document: str, parts: Mapping[str, str]) -> str:
    """Return the document with its generated parts replaced.

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


def add(stored: Result, later: Result) -> Result:
    """Return a result with the models of a later run, each with the conditions of its own.

    The later run may be of another processor, which the documents then name, and of some of the lengths.

    Raises:
        ConfigError: If the runs are of different devices, versions of PyTorch or threads, or if the later has
            a length of its own.
    """
    for name in ("device", "torch"):
        if getattr(stored.conditions, name) != getattr(later.conditions, name):
            raise ConfigError(
                f"--add: expected results of {name} '{getattr(stored.conditions, name)}', got "
                f"'{getattr(later.conditions, name)}'; run all models and pass them with --models."
            )
    free = {"budget_seconds": 0, "rounds": 0, "seconds": ()}
    same = stored.settings.model_copy(update=free) == later.settings.model_copy(update=free)
    if not same or not set(later.settings.seconds) <= set(stored.settings.seconds):
        raise ConfigError("--add: expected the modes, threads and some of the lengths of the stored results.")
    apart = {"conditions": later.conditions, "settings": later.settings}
    models = {each.name: each for each in stored.models}
    models |= {each.name: each.model_copy(update=apart) for each in later.models}
    return stored.model_copy(update={"models": tuple(models[name] for name in sorted(models))})


def stored_peers() -> list[PeersResult]:
    """Every stored comparison, the latest first."""
    found = [read_peers(path) for path in PEERS_STORE.glob("*.json")]
    return sorted(found, key=lambda result: result.conditions.date, reverse=True)


def store_peers(result: PeersResult) -> Path:
    """Store a comparison in the place of that of the same processor and precision, and return its file."""
    words = re.findall(r"[a-z0-9]+", f"{result.conditions.processor} {result.settings.precision}".lower())
    path = PEERS_STORE / f"{'-'.join(words)}.json"
    write_result(result, path)
    return path


def _section(result: PeersResult) -> str:
    tables = render_peers(result).replace("\n### ", "\n#### ")
    return f"### {result.conditions.processor}, precision {result.settings.precision}\n\n{tables}"


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
        f"{cost.cpu.median / README_SECONDS:.2f}" if cost else "-",
        f"{cost.grown_bytes / 1e6:.0f}" if cost and cost.grown_bytes is not None else "-",
        f"[{paper}]({architecture.papers[0]})" if architecture.papers else "",
    )


def _readme_legend(models: Result) -> str:
    conditions, settings = models.conditions, models.settings
    place = f"{conditions.processor}, {conditions.date}, load average {conditions.load_before} at the start"
    elsewhere = [(model.name, name) for model in models.models if (name := models.other_processor(model))]
    apart = "".join(f"`{model}` ran on another processor, {processor}. " for model, processor in elsewhere)
    return (
        "Default sizes. GMAC/s: 10^9 multiply-accumulates per second of audio. RTF: processor time per "
        f"second of audio; memory: above the process at rest; both of {README_SECONDS:g} s, "
        f"{settings.threads} thread(s) of {place}. {apart}"
        "Every figure: [docs/BENCHMARKS.md](docs/BENCHMARKS.md).\n"
    )


def main() -> None:
    """Store, then generate."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--models", type=Path, metavar="FOLDER", help="Folder of polsess benchmark.")
    parser.add_argument("--add", type=Path, metavar="FOLDER", help="Folder of a later run of some models.")
    parser.add_argument("--peers", type=Path, metavar="FOLDER", help="Folder of benchmarks/against.py.")
    options = parser.parse_args()
    if options.models is not None:
        write_result(read_result(options.models / RESULT), STORE / "models.json")
    if options.add is not None:
        joined = add(read_result(STORE / "models.json"), read_result(options.add / RESULT))
        write_result(joined, STORE / "models.json")
    if options.peers is not None:
        store_peers(read_peers(options.peers / RESULT))
    models, peers = read_result(STORE / "models.json"), stored_peers()
    for path, parts in (
        (ROOT / "docs/BENCHMARKS.md", benchmark_parts(models, peers)),
        (ROOT / "README.md", readme_parts(models)),
    ):
        write_text(path, fill(path.read_text(encoding="utf-8"), parts))
    draw_pareto(models, STORE / "pareto.png")


if __name__ == "__main__":
    main()
