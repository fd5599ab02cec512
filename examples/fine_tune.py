"""Fine-tune the model that comes with the package: only its last layers learn, at a small rate.

    python examples/fine_tune.py                               # on the small set of `polsess data fetch mini`
    python examples/fine_tune.py my/metadata.csv runs/mine     # on your own clips

As a command: polsess train --init default --freeze 'split.*' --freeze 'along_*' data.corpus.metadata=...
"""

import sys
from pathlib import Path

from polsess.config import load_config
from polsess.data.mini import make_mini
from polsess.training.run import train


def main() -> None:
    clips = Path(sys.argv[1] if len(sys.argv) > 1 else "data/speech/metadata.csv")
    folder = Path(sys.argv[2] if len(sys.argv) > 2 else "runs/fine_tuned")
    if not clips.exists():
        make_mini(Path("data"))
    config = load_config(
        None,
        [
            "training.init=default",  # architecture, sample rate and task are those of these weights
            "training.freeze=['split.*', 'along_*']",
            f"data.corpus={{corpus_type: speech_clips, metadata: '{clips}', segment_seconds: 1.0}}",
            "data.corpus.examples_per_epoch=8",
            "data.corpus.evaluation_examples=2",
            "training.optimizer.learning_rate=0.0001",
            "training.max_epochs=1",
        ],
    )
    result = train(config, folder, progress=False)
    print(f"SI-SNRi on validation {result.best_score:.2f} dB after {result.epochs} epoch.")


if __name__ == "__main__":
    main()
