"""How well two runs of the benchmark agree on ratios; exit code 1 beyond the tolerance.

    python benchmarks/agreement.py FIRST/results.json SECOND/results.json [--tolerance 0.1]

Both files are of `polsess benchmark` or both of `benchmarks/against.py`. Every CPU time and memory of a model
is divided by the median over the models of its own run, so that a machine that is slower as a whole changes
nothing. Ratios to other toolkits are compared as they are.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.peers.results import PeersResult, ratios, read_peers
from polsess.benchmark import Result, read_result
from polsess.benchmark.summary import costs

Figures = dict[tuple[str, str], float]


def read_figures(path: Path) -> Figures:
    """Figures of a result file, by the kind of measurement and the name of the network."""
    if path.is_file() and "peers" in json.loads(path.read_text(encoding="utf-8")):
        return peer_figures(read_peers(path))
    return relative_figures(read_result(path))


def relative_figures(result: Result) -> Figures:
    """Costs of models over the median of their run."""
    found: Figures = {}
    for model in result.models:
        for mode in result.settings.modes:
            for seconds, cost in costs(model, mode).items():
                found[f"CPU time, {mode} {seconds:g} s", model.name] = cost.cpu.median
                if cost.grown_bytes:
                    found[f"memory, {mode} {seconds:g} s", model.name] = cost.grown_bytes
    for what in {what for what, _ in found}:
        middle = statistics.median(value for (other, _), value in found.items() if other == what)
        found |= {key: value / middle for key, value in found.items() if key[0] == what}
    return found


def peer_figures(result: PeersResult) -> Figures:
    """Ratios to other toolkits."""
    return {
        (f"ratio, {ratio.mode} {ratio.seconds:g} s", peer.name): ratio.times.median
        for peer in result.peers
        for ratio in ratios(peer, result.settings)
    }


def main() -> None:
    """Compare two files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("first", type=Path)
    parser.add_argument("second", type=Path)
    parser.add_argument("--tolerance", type=float, default=0.1)
    options = parser.parse_args()
    first, second = (read_figures(path) for path in (options.first, options.second))
    common = sorted(first.keys() & second.keys())
    if not common:
        sys.exit("The two runs have nothing in common.")
    changes = {key: second[key] / first[key] - 1 for key in common}
    beyond = {key: change for key, change in changes.items() if abs(change) > options.tolerance}
    for (what, name), change in sorted(beyond.items(), key=lambda item: -abs(item[1])):
        print(f"{name}: {what}: {100 * change:+.1f} %")
    middle = statistics.median(abs(change) for change in changes.values())
    within = f"{len(common) - len(beyond)} of {len(common)} within {options.tolerance:.0%}"
    print(f"{within}; median change {middle:.1%}")
    sys.exit(bool(beyond))


if __name__ == "__main__":
    main()
