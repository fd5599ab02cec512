"""Score two models on the mixtures that come with the package: is one better, and a table of both.

As commands: polsess evaluate -m A -m B -d DATA; polsess compare A B; polsess table A B --format latex
"""

import tempfile
from pathlib import Path

from polsess.checkpoints import load_model
from polsess.data.mini import MIXTURES
from polsess.evaluation import ModelSystem, evaluate, open_corpus
from polsess.evaluation.comparison import Contender, compare, report
from polsess.evaluation.system_table import system_table
from polsess.models import create_model


def main() -> None:
    models = {
        "default": load_model("default"),
        "untrained": create_model("convtasnet", preset="tiny"),  # put yours here
    }
    results = Path(tempfile.mkdtemp())
    contenders = []
    for name, model in models.items():
        corpus = open_corpus(MIXTURES / "8k")
        system = ModelSystem(model, name)
        evaluation = evaluate(system, corpus, metrics=["si_snr"], folder=results / name)
        contenders.append(Contender(name, (evaluation,)))
    print(report(compare(contenders)))
    table = system_table(contenders, ["si_snri", "parameters", "gmacs"])
    print(table.render("markdown"))
    (results / "table.tex").write_text(table.render("latex"))
    print(f"Every utterance: {results}; for a paper: {results / 'table.tex'}")


if __name__ == "__main__":
    main()
