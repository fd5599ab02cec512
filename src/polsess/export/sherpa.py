"""GTCRN for sherpa-onnx: one frame of a spectrum at a time, with three caches and the metadata of its loader.

Layout and keys are those of ``gtcrn_simple.onnx`` of https://github.com/Xiaobin-Rong/gtcrn as sherpa-onnx's
``OfflineSpeechDenoiser`` and ``OnlineSpeechDenoiser`` read it: ``mix`` ``[1, F, 1, 2]`` (real and imaginary
parts) to ``enh`` of the same shape, and ``conv_cache`` ``[2, 1, 16, 16, 33]``, ``tra_cache``
``[2, 3, 1, 1, 16]`` and ``inter_cache`` ``[2, 1, 33, 16]``, zeros at the beginning. The spectrum is that of
``torch.stft`` with the root of a periodic Hann window.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from polsess.audio import Samples
from polsess.export.checks import Checks, compare_streams
from polsess.export.real_arithmetic import real_arithmetic
from polsess.export.tracing import trace
from polsess.models import SeparationModel
from polsess.models.gtcrn import GTCRN, GroupedBlock
from polsess.models.layers.stream import Stream
from polsess.models.network import Network
from polsess.onnx_files import create_session

_INPUTS = ["mix", "conv_cache", "tra_cache", "inter_cache"]
_OUTPUTS = ["enh", "conv_cache_out", "tra_cache_out", "inter_cache_out"]


class _Frame(nn.Module):
    """One frame of the network; encoder and decoder, or the two recurrent blocks, are the first dimension."""

    def __init__(self, model: GTCRN) -> None:
        super().__init__()
        self.model = model
        halves = (model.encoder, model.decoder)
        self.blocks = [[block for block in half if isinstance(block, GroupedBlock)] for half in halves]
        names = model.layer_names
        self.conv = [[f"{names[block]}.past" for block in half] for half in self.blocks]
        self.gates = [[f"{names[block]}.attention.rnn.hidden" for block in half] for half in self.blocks]
        paths = [f"{names[block]}.time_path" for block in model.recurrent]
        self.inter = [[f"{path}.groups.{group}.hidden" for group in range(2)] for path in paths]

    def forward(self, mix: Tensor, conv: Tensor, gates: Tensor, inter: Tensor) -> tuple[Tensor, ...]:
        with real_arithmetic():
            stream = Stream(self.model.layer_names, self._apart(conv, gates, inter))
            masks = self.model.estimate_masks(mix.permute(0, 2, 1, 3), stream).permute(0, 3, 2, 1)
            real = masks[..., 0] * mix[..., 0] - masks[..., 1] * mix[..., 1]
            imag = masks[..., 0] * mix[..., 1] + masks[..., 1] * mix[..., 0]
            return torch.stack([real, imag], -1), *self._together(stream.kept)

    def _apart(self, conv: Tensor, gates: Tensor, inter: Tensor) -> dict[str, Tensor]:
        state: dict[str, Tensor] = {}
        for half, blocks in enumerate(self.blocks):
            pieces = conv[half].split([block.past for block in blocks], 2)
            state |= dict(zip(self.conv[half], pieces, strict=True))
            state |= {name: gates[half, index] for index, name in enumerate(self.gates[half])}
            state |= dict(zip(self.inter[half], inter[half].chunk(2, -1), strict=True))
        return state

    def _together(self, state: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        conv = [torch.cat([state[name] for name in half], 2) for half in self.conv]
        gates = [torch.stack([state[name] for name in half]) for half in self.gates]
        inter = [torch.cat([state[name] for name in half], -1) for half in self.inter]
        return torch.stack(conv), torch.stack(gates), torch.stack(inter)

    def begin(self) -> tuple[Tensor, Tensor, Tensor]:
        """The caches before the first frame."""
        state = self.model.begin_stream(torch.zeros(1, self.model.stream_head))
        return self._together(state)


def trace_sherpa(network: Network) -> tuple[bytes, dict[str, str]]:
    """A network as the content of such a file, and its metadata.

    Raises:
        ValueError: If it is no GTCRN of one source.
    """
    if not isinstance(network, GTCRN) or network.config.num_sources != 1:
        raise ValueError("sherpa-onnx has a loader for gtcrn with one source only; use --to onnx-stream")
    frame = _Frame(network)
    caches = frame.begin()
    window = network.transform.n_fft
    mix = torch.randn(1, window // 2 + 1, 1, 2, generator=torch.Generator().manual_seed(0))
    content = trace(frame, [mix, *caches], _INPUTS, _OUTPUTS, {})
    shapes = {f"{name}_shape": list(cache.shape) for name, cache in zip(_INPUTS[1:], caches, strict=True)}
    facts = {
        "model_type": "gtcrn",
        "version": "1",
        "sample_rate": str(network.sample_rate),
        "n_fft": str(window),
        "hop_length": str(network.hop_length),
        "window_length": str(window),
        "window_type": "hann_sqrt",
        **{key: ",".join(map(str, shape)) for key, shape in shapes.items()},
    }
    return content, facts


def compare_sherpa(network: SeparationModel, content: bytes) -> Checks:
    """Run such a file frame by frame beside the network on whole sounds.

    Raises:
        ConfigError: If it is not usable.
        ValueError: If it fails, or gives another shape.
    """
    assert isinstance(network, GTCRN)
    session: Any = create_session(content, Path(f"{network.model_type}.onnx"), "Exporting to ONNX")
    begin = [cache.numpy() for cache in _Frame(network).begin()]

    def exported(samples: Samples) -> Samples:
        spectrum = network.transform.analyse(torch.from_numpy(samples))  # [1, L, F]
        caches, frames = begin, []
        for frame in torch.view_as_real(spectrum)[0]:
            feeds = dict(zip(_INPUTS, [frame[None, :, None].numpy(), *caches], strict=True))
            enhanced, *caches = session.run(_OUTPUTS, feeds)
            frames.append(torch.from_numpy(enhanced)[0, :, 0])
        cleaned = torch.view_as_complex(torch.stack(frames).contiguous())
        estimates: Samples = network.transform.synthesise(cleaned[None, None], samples.shape[-1]).numpy()
        return estimates

    def reference(samples: Samples) -> Samples:
        with torch.inference_mode():
            return np.ascontiguousarray(network(torch.from_numpy(samples)).numpy()[:, None])

    return compare_streams(network.sample_rate, reference, exported)
