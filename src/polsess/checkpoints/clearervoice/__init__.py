"""MossFormer2 as its authors publish it: on the Hugging Face hub, in ClearerVoice-Studio and on ModelScope.

One graph in four layouts: one file or three parts beside ``config.json``; ``last_best_checkpoint`` naming a
training state; one flat file beside ``configuration.json``.
"""

from polsess.checkpoints.clearervoice import reader

__all__ = ["reader"]
