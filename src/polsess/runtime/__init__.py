"""Separation of recordings without torch: the networks are ONNX files that ``polsess export`` wrote.

It needs numpy, soundfile, soxr and onnxruntime, and nothing else.

>>> from polsess.runtime import Separator
>>> separation = Separator.from_onnx("default.onnx").separate("mixture.wav")  # doctest: +SKIP
>>> separation.save("separated")  # doctest: +SKIP
"""

from polsess.inference.onnx_separator import Separator

__all__ = ["Separator"]
