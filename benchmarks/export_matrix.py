"""The matrix of docs/export.md: every architecture exported in every form and compared with itself.

    python benchmarks/export_matrix.py [ARCHITECTURE ...]

Small networks of each architecture are exported, and the bundled ones. Architectures that are named are
measured anew; the others keep their rows.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch

from polsess.checkpoints import BUNDLED_MODELS, load_model
from polsess.export import ExportError
from polsess.export.exporting import make_onnx
from polsess.export.tracing import trace_onnx
from polsess.models import create_model, list_models
from polsess.models.network import Network
from polsess.text_tables import markdown

PAGE = Path(__file__).parent.parent / "docs" / "export.md"
BEGIN, END = "<!-- matrix -->", "<!-- end of matrix -->"
HEAD = ("network", "ONNX, float32", "float16", "int8")


def main(chosen: list[str]) -> None:
    """Measure, and write the table into the page."""
    torch.set_num_threads(1)
    before, _, rest = PAGE.read_text().partition(BEGIN)
    table, _, after = rest.partition(END)
    rows = {cells[0]: cells for cells in _rows(table)}
    names = [*BUNDLED_MODELS, *list_models(Network)]
    for name in chosen or names:
        begin = time.perf_counter()
        rows[name] = [name, *_measure(name)]
        print(json.dumps(rows[name]), f"{time.perf_counter() - begin:.0f} s", flush=True)
        kept = [rows[each] for each in names if each in rows]
        PAGE.write_text(f"{before}{BEGIN}\n{markdown(HEAD, kept)}\n{END}{after}")


def _rows(table: str) -> list[list[str]]:
    lines = [line.strip().strip("|").split("|") for line in table.strip().splitlines()[2:]]
    return [[cell.strip() for cell in cells] for cells in lines if len(cells) == len(HEAD)]


def _network(name: str) -> Network:
    if name in BUNDLED_MODELS:
        return load_model(name, kind=Network).requires_grad_(False)
    torch.manual_seed(0)
    return create_model(name, kind=Network, preset="tiny").eval().requires_grad_(False)


def _measure(name: str) -> list[str]:
    network = _network(name)
    try:
        graph = trace_onnx(network)
        error = make_onnx(network, "float32", graph)[1].largest_error
        cells = [f"{'yes' if error <= 1e-4 else 'no: differs'}, {error:.0e}"]
    except (ExportError, RuntimeError, ValueError, TypeError, NotImplementedError) as failure:
        return [_reason(failure), "", ""]
    if name not in BUNDLED_MODELS:  # rounding fresh weights says nothing
        return [*cells, "", ""]
    for precision in ("float16", "int8"):
        try:
            checks = make_onnx(network, precision, graph)[1]
            loss = checks.si_snr_loss_db
            lost = "" if loss is None else f", {loss:.2f} dB lost"
            cells.append(f"{checks.fidelity_db:.0f} dB{lost}")
        except ExportError as failure:
            cells.append(_reason(failure))
    return cells


def _reason(failure: Exception) -> str:
    lines = [line.strip() for line in str(failure).splitlines() if line.strip()]
    text = (lines or [type(failure).__name__])[0].partition(": ")[2] or str(failure)
    return "no: " + text.replace("|", "/").replace("\n", " ")[:150].strip()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("architecture", nargs="*", help="networks to measure; all if none is named")
    main(parser.parse_args().architecture)
