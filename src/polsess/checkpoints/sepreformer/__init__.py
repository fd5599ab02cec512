"""SepReformer as its authors' trainer writes it: ``epoch.NNNN.pth`` with ``configs.yaml``."""

from polsess.checkpoints.sepreformer import reader

__all__ = ["reader"]
