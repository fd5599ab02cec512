"""Train a network on clips of single speakers, which are mixed anew in every epoch.

    python examples/train.py                               # on the small set of `polsess data fetch mini`
    python examples/train.py my/metadata.csv runs/mine     # on your own clips

As a command: polsess train model.model_type=convtasnet data.corpus.corpus_type=speech_clips ...
"""

import sys
from pathlib import Path

from polsess.config import load_config
from polsess.data.mini import make_mini
from polsess.training.run import train


def main() -> None:
    clips = Path(sys.argv[1] if len(sys.argv) > 1 else "data/speech/metadata.csv")
    folder = Path(sys.argv[2] if len(sys.argv) > 2 else "runs/example")
    if not clips.exists():
        make_mini(Path("data"))
    config = load_config(
        None,
        [
            "model={model_type: convtasnet, preset: tiny}",  # without the preset: the paper's network
            f"data.corpus={{corpus_type: speech_clips, metadata: '{clips}', segment_seconds: 1.0}}",
            "data.corpus.examples_per_epoch=8",  # mixtures; thousands for a real training
            "data.corpus.evaluation_examples=2",
            "training.optimizer.learning_rate=0.001",
            "training.max_epochs=2",
        ],
    )
    result = train(config, folder, progress=False)
    print(f"{result.epochs} epochs; best SI-SNRi on validation {result.best_score:.2f} dB.")
    print(f"polsess separate mixture.wav -m {folder}")


if __name__ == "__main__":
    main()
