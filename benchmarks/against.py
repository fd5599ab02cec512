"""Compare our networks with other toolkits' on the same weights: equal outputs first, then time and memory.

    python benchmarks/against.py [NETWORK]... --against speechbrain,asteroid --python ../peers/bin/python

NETWORK is an architecture (convtasnet) or a row of docs/BENCHMARKS.md (convtasnet/asteroid); all of them if
left out. An interrupted run continues when the same command is given again.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.peers.comparison import benchmark_peers
from benchmarks.peers.results import render
from polsess.benchmark import Settings
from polsess.schema import ConfigError, parse


def create_parser() -> argparse.ArgumentParser:
    """The options, with the defaults of ``polsess benchmark`` where both have them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("networks", nargs="*", metavar="NETWORK")
    parser.add_argument("--against", default="speechbrain,asteroid", help="Names of the toolkits.")
    parser.add_argument("--python", type=Path, help="Python of the environment that has the toolkits.")
    parser.add_argument("--seconds", default="4", help="Lengths of the mixtures, e.g. 1,4,30.")
    parser.add_argument(
        "--modes",
        default="inference,training",
        choices=["inference", "training", "inference,training"],
        help="Modes to measure.",
    )
    parser.add_argument("--training-seconds", type=float, default=1.0, help="Length in a training step.")
    parser.add_argument("--training-batch", type=int, default=1, help="Mixtures in a training step.")
    parser.add_argument("--rounds", type=int, default=3, help="Rounds of ours, theirs, theirs, ours.")
    parser.add_argument("--budget-seconds", type=float, default=120.0, help="Time limit per network.")
    parser.add_argument("--threads", type=int, default=1, help="Threads of torch.")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or mps.")
    parser.add_argument(
        "--precision",
        default="float32",
        choices=["auto", "float32", "bfloat16", "float16"],
        help="Of the products, ours as in polsess benchmark, theirs by autocast; 'auto' is bfloat16 there.",
    )
    parser.add_argument("--allocator", default="tuned", help="Allocator of both sides: tuned or default.")
    parser.add_argument("-o", "--out", type=Path, default=Path("peers"), help="Folder of the results.")
    parser.add_argument("--overwrite", action="store_true", help="Remove another run from the folder.")
    return parser


def main() -> None:
    """Compare, and print the tables; exit code 1 if a network could not be compared."""
    parser = create_parser()
    options = parser.parse_args()

    def report(done: int, total: int, name: str) -> None:
        print(f"{done} of {total}: {name}", file=sys.stderr, flush=True)

    try:
        chosen = {
            "seconds": [float(word) for word in options.seconds.split(",")],
            "modes": options.modes.split(","),
            **{
                key: getattr(options, key)
                for key in Settings.model_fields
                if hasattr(options, key) and key not in ("seconds", "modes")
            },
        }
        settings = parse(Settings, chosen, "against")
        result = benchmark_peers(
            options.networks,
            options.against.split(","),
            settings,
            options.out,
            report,
            python=options.python,
            overwrite=options.overwrite,
        )
    except (ConfigError, FileNotFoundError, ValueError) as error:
        parser.error(str(error))
    print(render(result), end="")
    sys.exit(any(peer.refused for peer in result.peers))


if __name__ == "__main__":
    main()
