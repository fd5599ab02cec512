"""Score two models on the mixtures that come with the package, and ask which is better."""

import torch

from polsess.data.mini import MIXTURES
from polsess.evaluation import ModelSystem, evaluate, open_corpus
from polsess.evaluation.comparison import Contender, compare, report
from polsess.evaluation.tables import summary_table
from polsess.models import create_model


def main() -> None:
    torch.manual_seed(0)
    contenders = []
    for name in ("blstm", "convtasnet"):  # untrained: put your own here with polsess.checkpoints.load_model
        system = ModelSystem(create_model(name, preset="tiny"), name)
        evaluation = evaluate(system, open_corpus(MIXTURES / "8k"), metrics=["si_snr"])
        print(f"{name}\n\n{summary_table(evaluation)}\n")
        contenders.append(Contender(name, (evaluation,)))
    print(report(compare(contenders)))


if __name__ == "__main__":
    main()
