"""Asteroid: one pickled dictionary with ``model_name``, ``model_args`` and ``state_dict``.

Published as ``pytorch_model.bin`` on the Hugging Face hub and ``model.pth`` on Zenodo.
"""
