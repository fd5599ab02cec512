"""Training runs: one run from configuration to checkpoints, and what is done with several."""

from polsess.train.run import TrainingResult, train

__all__ = ["TrainingResult", "train"]
