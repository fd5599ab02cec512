"""From foreign tensor names to ours, by one rule for every tensor."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

from polsess.checkpoints.unpickling import CheckpointError
from polsess.models import parse_model_config
from polsess.models.layers.positions import inverse_frequencies

Rule = tuple[str, str]
"""A regular expression for a whole foreign name, and our name with its groups as ``\\\\1``."""


def rename(state: Mapping[str, Tensor], rules: Sequence[Rule], where: str) -> dict[str, Tensor]:
    """Tensors under our names; the first rule that matches a whole name counts.

    Args:
        state: Tensors by their foreign names.
        rules: Patterns and replacements.
        where: The architecture, for messages.

    Raises:
        CheckpointError: If no rule knows a name, or two tensors get one name.
    """
    renamed: dict[str, Tensor] = {}
    patterns = [(re.compile(pattern), replacement) for pattern, replacement in rules]
    for key, value in state.items():
        name = _new_name(key, patterns)
        if name is None:
            raise CheckpointError(f"{where}: the tensor '{key}' is not part of this architecture.")
        if name in renamed:
            raise CheckpointError(f"{where}: two tensors take the place of '{name}', one is '{key}'.")
        renamed[name] = value
    return renamed


def _new_name(key: str, patterns: Sequence[tuple[re.Pattern[str], str]]) -> str | None:
    for pattern, replacement in patterns:
        if match := pattern.fullmatch(key):
            return match.expand(replacement)
    return None


BLOCK = r"blocks\.(?P<block>0|[1-9][0-9]*)\."
"""A block of two paths in a foreign name, which a rule calls ``blocks.\\g<block>.0.`` or ``.1.``."""


def number_paths(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Two paths of every block, ``blocks.3.1.x``, counted through, ``paths.7.x``.

    Args:
        state: Tensors by our names, those of the blocks as ``BLOCK`` says.
    """

    def counted(match: re.Match[str]) -> str:
        return f"paths.{2 * int(match[1]) + int(match[2])}."

    return {re.sub(r"^blocks\.([0-9]+)\.([01])\.", counted, key): value for key, value in state.items()}


def take(state: dict[str, Tensor], key: str, where: str) -> Tensor:
    """Remove a tensor from a state and return it.

    Raises:
        CheckpointError: If it is missing.
    """
    if key not in state:
        raise CheckpointError(f"{where}: the tensor '{key}' is missing.")
    return state.pop(key)


def with_rates(state: Mapping[str, Tensor], model: Mapping[str, Any]) -> dict[str, Tensor]:
    """Tensors with the rates of the rotation beside every attention, where files hold none or constants.

    Args:
        state: Tensors by our names.
        model: The configuration, of which ``attention_size`` and ``num_heads`` give the rates.

    Raises:
        ConfigError: If the configuration is not valid: nothing is made of sizes out of bounds.
    """
    parse_model_config(model)
    rates = inverse_frequencies(model["attention_size"] // model["num_heads"])
    names = [key.removesuffix("to_qkv.weight") for key in state if key.endswith("to_qkv.weight")]
    return {**state, **{f"{name}rotation.rates": rates for name in names}}


def join_gates(state: Mapping[str, Tensor], where: str, prefix: str = "") -> dict[str, Tensor]:
    """Put the linear maps ``output`` and ``output_gate`` into one, ``gated_output``.

    Args:
        state: Tensors by our names.
        where: The architecture, for messages.
        prefix: Text before the three names.

    Raises:
        CheckpointError: If one is missing or their shapes differ.
    """
    joined = dict(state)
    if not state:  # an architecture without weights is converted, too
        return joined
    for kind in ("weight", "bias"):
        output = take(joined, f"{prefix}output.{kind}", where)
        gate = take(joined, f"{prefix}output_gate.{kind}", where)
        if output.shape != gate.shape or output.ndim == 0:
            raise CheckpointError(
                f"{where}: output.{kind} is {list(output.shape)}, output_gate.{kind} is {list(gate.shape)}."
            )
        joined[f"{prefix}gated_output.{kind}"] = torch.cat((output, gate))
    return joined


def without_unit_dimensions(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Filters of length one as the matrices of linear maps, and the weights of norms as vectors.

    Args:
        state: Tensors by our names.
    """
    return {key: _without_unit_dimensions(key, value) for key, value in state.items()}


def _without_unit_dimensions(key: str, value: Tensor) -> Tensor:
    num_kept = 1 if re.search(r"norm\.(weight|bias)$", key) else 2
    while value.ndim > num_kept and value.shape[-1] == 1:
        value = value.squeeze(-1)
    return value


def masks_by_source(state: Mapping[str, Tensor], num_sources: Any) -> dict[str, Tensor]:
    """Turn masks whose channels run over the sources first into masks source by source.

    Args:
        state: Tensors by our names, of which ``to_masks`` makes the masks.
        num_sources: C, as a file gives it.
    """
    reordered = dict(state)
    for key in ("to_masks.weight", "to_masks.bias"):
        value = state.get(key)
        if value is not None and isinstance(num_sources, int) and _divides(num_sources, value):
            reordered[key] = value.unflatten(0, (-1, num_sources)).transpose(0, 1).flatten(0, 1)
    return reordered


def _divides(number: int, value: Tensor) -> bool:
    """Whether the first dimension is a multiple; the check of all shapes explains it if not."""
    return number > 0 and value.ndim > 0 and len(value) % number == 0


T = TypeVar("T")


class Arguments:
    """The arguments of one foreign class, each taken once.

    Args:
        values: As the file gives them.
        where: The class, for messages.
    """

    def __init__(self, values: Mapping[str, Any], where: str) -> None:
        self._values = dict(values)
        self._where = where

    def take(self, *names: str, default: Any = ...) -> Any:
        """The value of the first of these names that is there; another era's name comes second.

        Args:
            *names: Names of the argument.
            default: What the class takes when the argument is absent; without it the argument must be there.

        Raises:
            CheckpointError: If it is absent and has no default.
        """
        for name in names:
            if name in self._values:
                return self._values.pop(name)
        if default is ...:
            raise CheckpointError(f"{self._where}: the argument '{names[0]}' is missing.")
        return default

    def take_section(self, name: str) -> Arguments:
        """The arguments of a part of the class.

        Raises:
            CheckpointError: If there are none of this name.
        """
        value = self.take(name)
        if not isinstance(value, Mapping):
            raise CheckpointError(f"{self._where}: {name} must be a mapping, got {value!r:.40}.")
        return Arguments(value, f"{self._where}, {name}")

    def choose(self, name: str, choices: Mapping[Any, T], default: Any = ...) -> T:
        """Our word for the value of an argument.

        Args:
            name: The argument.
            choices: Our word for each value that is read.
            default: The value when the argument is absent.

        Raises:
            CheckpointError: If the value is another.
        """
        value = self.take(name, default=default)
        try:
            return choices[value]
        except (KeyError, TypeError):
            known = ", ".join(str(choice) for choice in choices)
            raise CheckpointError(f"{self._where}: {name}={value!r} is not read, only {known}.") from None

    def expect(self, name: str, value: Any) -> None:
        """An argument that must have this value, or be absent.

        Raises:
            CheckpointError: If it has another.
        """
        self.choose(name, {value: value}, default=value)

    def ignore(self, *names: str) -> None:
        """Drop arguments that change nothing in the network."""
        for name in names:
            self._values.pop(name, None)

    def finish(self) -> None:
        """Refuse what was not taken.

        Raises:
            CheckpointError: If an argument is left over.
        """
        if self._values:
            left = ", ".join(f"{key}={value!r}"[:60] for key, value in self._values.items())
            raise CheckpointError(f"{self._where}: arguments that are not read: {left}.")
