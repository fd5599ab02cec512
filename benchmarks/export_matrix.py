"""The matrix of docs/export.md: every architecture exported in every form and compared with itself.

    python benchmarks/export_matrix.py [ARCHITECTURE ...] [--to onnx | --to torch-export]

Small networks of each architecture are exported, and the bundled ones. Architectures that are named are
measured anew, in one form or in both; the others keep their rows.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch

from polsess.checkpoints import BUNDLED_MODELS, load_model
from polsess.export import ExportError
from polsess.export.checks import LARGEST_ERROR, Checks
from polsess.export.exporting import make_onnx, make_program
from polsess.export.tracing import trace_onnx
from polsess.models import create_model, list_models
from polsess.models.network import Network
from polsess.text_tables import markdown

PAGE = Path(__file__).parent.parent / "docs" / "export.md"
BEGIN, END = "<!-- matrix -->", "<!-- end of matrix -->"
HEAD = ("network", "ONNX, float32", "float16", "int8", "torch.export, float32")
FORMS = ("onnx", "torch-export")
_REFUSALS = (ExportError, RuntimeError, ValueError, TypeError, NotImplementedError)


def main(chosen: list[str], forms: list[str]) -> None:
    """Measure, and write the table into the page."""
    torch.set_num_threads(1)
    names = [*BUNDLED_MODELS, *list_models(Network)]
    for name in chosen or names:
        begin = time.process_time()
        network, row = _network(name), _rows().get(name, [name, *[""] * (len(HEAD) - 1)])
        if "onnx" in forms:
            row[1:4] = _measure_onnx(network, rounds=name in BUNDLED_MODELS)
        if "torch-export" in forms:
            row[4] = _measure_program(network)
        print(json.dumps(row), f"{time.process_time() - begin:.0f} s of CPU", flush=True)
        rows = _rows() | {name: row}
        before, _, rest = PAGE.read_text().partition(BEGIN)
        table = markdown(HEAD, [rows[each] for each in names if each in rows])
        PAGE.write_text(f"{before}{BEGIN}\n{table}\n{END}{rest.partition(END)[2]}")


def _rows() -> dict[str, list[str]]:
    """The table as it stands, by network."""
    table = PAGE.read_text().partition(BEGIN)[2].partition(END)[0]
    lines = [line.strip().strip("|").split("|") for line in table.strip().splitlines()[2:]]
    rows = [[cell.strip() for cell in cells] for cells in lines if len(cells) == len(HEAD)]
    return {row[0]: row for row in rows}


def _network(name: str) -> Network:
    if name in BUNDLED_MODELS:
        return load_model(name, kind=Network).requires_grad_(False)
    torch.manual_seed(0)
    return create_model(name, kind=Network, preset="tiny").eval().requires_grad_(False)


def _measure_onnx(network: Network, *, rounds: bool) -> list[str]:
    """The cells of the three precisions; rounding fresh weights says nothing."""
    try:
        graph = trace_onnx(network)
        cells = [_exact(make_onnx(network, "float32", graph)[1])]
    except _REFUSALS as failure:
        return [_reason(failure), "", ""]
    if not rounds:
        return [*cells, "", ""]
    for precision in ("float16", "int8"):
        try:
            checks = make_onnx(network, precision, graph)[1]
            loss = checks.si_snr_loss_db
            lost = "" if loss is None else f", {round(loss, 2) + 0.0:.2f} dB lost"
            cells.append(f"{checks.fidelity_db:.0f} dB{lost}")
        except ExportError as failure:
            cells.append(_reason(failure))
    return cells


def _measure_program(network: Network) -> str:
    try:
        finish, checks = make_program(network)
        finish({})
    except _REFUSALS as failure:
        return _reason(failure)
    return _exact(checks)


def _exact(checks: Checks) -> str:
    error = checks.largest_error
    return f"{'yes' if error <= LARGEST_ERROR else 'no: differs'}, {error:.0e}"


def _reason(failure: Exception) -> str:
    lines = [line.strip() for line in str(failure).splitlines() if line.strip()]
    text = (lines or [type(failure).__name__])[0].partition(": ")[2] or str(failure)
    return "no: " + text.replace("|", "/").replace("\n", " ")[:150].strip()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("architecture", nargs="*", help="networks to measure; all if none is named")
    parser.add_argument("--to", choices=FORMS, action="append", help="the form to measure; both if none is")
    arguments = parser.parse_args()
    main(arguments.architecture, arguments.to or [*FORMS])
