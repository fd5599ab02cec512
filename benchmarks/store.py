"""Put results of `polsess benchmark` into docs/benchmarks and generate the documents that show them.

    python benchmarks/store.py [--models FOLDER] [--peers FOLDER]

FOLDER is what `polsess benchmark -o` and `polsess benchmark --against ... -o` wrote. With neither, the
documents are generated anew from what is stored.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from polsess.benchmark import RESULT, draw_pareto, read_result, write_result
from polsess.benchmark.document import benchmark_parts, fill, readme_parts
from polsess.files import write_text

ROOT = Path(__file__).parents[1]
STORE = ROOT / "docs/benchmarks"


def main() -> None:
    """Store, then generate."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    for name in ("models", "peers"):
        parser.add_argument(f"--{name}", type=Path, metavar="FOLDER")
    options = parser.parse_args()
    for name in ("models", "peers"):
        folder = getattr(options, name)
        if folder is not None:
            result = read_result(folder / RESULT)
            if not getattr(result, name):
                parser.error(f"--{name} {folder}: holds no results of {name}.")
            write_result(result, STORE / f"{name}.json")
    models, peers = (read_result(STORE / f"{name}.json") for name in ("models", "peers"))
    for path, parts in (
        (ROOT / "docs/BENCHMARKS.md", benchmark_parts(models, peers)),
        (ROOT / "README.md", readme_parts(models)),
    ):
        write_text(path, fill(path.read_text(encoding="utf-8"), parts))
    draw_pareto(models, STORE / "pareto.png")


if __name__ == "__main__":
    main()
