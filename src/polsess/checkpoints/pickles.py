"""Pickles as data: an interpreter of what ``torch.save`` writes, which calls nothing that a file names.

A pickle is a program that names functions and says with what to call them. Here names are words, of which a
few have a meaning: tensors, ordered dictionaries, scores. What they build is counted, so that a small pickle
takes little memory. One reader both checks and builds: there is nothing to slip in between.
"""

from __future__ import annotations

import math
import pickletools
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Any, NamedTuple
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor
from torch.torch_version import TorchVersion

MAX_BYTES = 16 << 20
"""Of a pickle: tensors are not in it."""
MAX_TENSORS = 100_000


class PickleError(ValueError):
    """A pickle is damaged, or asks for something that is not read."""


@dataclass(frozen=True)
class Word:
    """The name of a class or function that has a meaning here."""

    name: str


class Storage(NamedTuple):
    """What tensors are views of."""

    dtype: torch.dtype
    content: torch.UntypedStorage


DTYPES = {str(value): value for value in vars(torch).values() if isinstance(value, torch.dtype)}
"""By their names, e.g. ``torch.float32``."""
STORAGES = {
    "torch.storage.UntypedStorage": torch.uint8,
    **{
        f"torch.{name}Storage": dtype
        for name, dtype in {
            "Double": torch.float64,
            "Float": torch.float32,
            "Half": torch.float16,
            "BFloat16": torch.bfloat16,
            "Long": torch.int64,
            "Int": torch.int32,
            "Short": torch.int16,
            "Char": torch.int8,
            "Byte": torch.uint8,
            "Bool": torch.bool,
            "ComplexFloat": torch.complex64,
            "ComplexDouble": torch.complex128,
        }.items()
    },
}
_VALUES = {"BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE"}
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
    "EMPTY_SET": set,
}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_COUNTED = (str, bytes, list, tuple, dict, set)
_SCALARS = (str, bytes, int, float, complex, type(None))
_STATELESS = (OrderedDict, Counter, TorchVersion, np.dtype)
"""What a pickle gives a state that is left out: plain data have none."""


def read_pickle(file: IO[bytes], find_storage: Callable[[tuple[Any, ...]], Storage] | None = None) -> Any:
    """Read one pickle from where the file stands.

    Args:
        file: The file; afterwards it stands behind the pickle.
        find_storage: Gives the storage that a tensor names; None where there are no tensors.

    Raises:
        PickleError: If it is damaged, too large, or asks for something that is not read.
        OSError, EOFError, BadZipFile: If ``find_storage`` fails so.
    """
    machine = _Machine(find_storage)
    start = file.tell()
    try:
        for operation, argument, position in pickletools.genops(file):
            machine.budget = MAX_BYTES if position is None else position - start + 1
            if machine.budget > MAX_BYTES:
                raise PickleError("refused, its structure is too large")
            machine.do(operation.name, argument)
        return machine.stack[-1]
    except (PickleError, OSError, EOFError, BadZipFile):  # of the pickle, or of the storages
        raise
    except Exception as error:  # the bytes are arbitrary: stacks run empty, sizes are none, text is not UTF-8
        reason = " ".join(str(error).split()) or type(error).__name__
        raise PickleError(f"damaged ({reason[:160]})") from None


class _Machine:
    """The stack, marks and memory of a pickle that is read.

    Args:
        find_storage: As for ``read_pickle``.

    Attributes:
        budget: Elements that may have been built of others so far: not more than was read.
    """

    def __init__(self, find_storage: Callable[[tuple[Any, ...]], Storage] | None) -> None:
        self._find_storage = find_storage
        self.stack: list[Any] = []
        self._marked: list[list[Any]] = []
        self._memory: dict[int, Any] = {}
        self.budget, self._spent, self._tensors = 0, 0, 0

    def do(self, name: str, argument: Any) -> None:
        """Carry out one operation."""
        if name in _VALUES:
            self.stack.append(argument)
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name]())
        elif name == "SHORT_BINSTRING":  # of Python 2
            self.stack.append(argument.encode("latin-1").decode())
        elif name == "GLOBAL":
            self.stack.append(_meaning(argument.replace(" ", ".")))
        elif name in ("BINPUT", "LONG_BINPUT"):
            self._memory[argument] = self.stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            self.stack.append(self._memory[argument])
        elif name == "MARK":
            self._marked.append(self.stack)
            self.stack = []
        elif name in _TUPLES:
            self.stack[-_TUPLES[name] :] = [tuple(self._last(_TUPLES[name]))]
        elif name == "TUPLE":
            self._collect(lambda items: self.stack.append(tuple(items)))
        elif name == "APPENDS":
            self._collect(lambda items: self._target(list).extend(items))
        elif name == "SETITEMS":
            self._collect(self._set)
        elif name == "APPEND":
            item = self.stack.pop()
            self._target(list).append(item)
        elif name == "SETITEM":
            value, key = self.stack.pop(), self.stack.pop()
            self._set([key, value])
        elif name == "BINPERSID":
            self.stack.append(self._storage(self.stack.pop()))
        elif name in ("REDUCE", "NEWOBJ"):
            arguments, word = self.stack.pop(), self.stack.pop()
            self.stack.append(self._build(word, arguments))
        elif name == "BUILD":
            self.stack.pop()
            self._target(*_STATELESS)
        elif name not in ("PROTO", "STOP"):
            raise PickleError(f"refused, its operation {name} is none that torch.save writes")

    def _last(self, number: int) -> list[Any]:
        if len(self.stack) < number:
            raise PickleError("damaged (its stack is empty)")
        return self.stack[-number:]

    def _collect(self, use: Callable[[list[Any]], None]) -> None:
        items, self.stack = self.stack, self._marked.pop()
        use(items)

    def _target(self, *kinds: type[Any]) -> Any:
        if not isinstance(self.stack[-1], kinds):
            raise PickleError(f"damaged (it changes a {type(self.stack[-1]).__name__})")
        return self.stack[-1]

    def _set(self, items: list[Any]) -> None:
        target = self._target(dict)
        for key, value in zip(items[::2], items[1::2], strict=True):
            target[_key(key)] = value

    def _storage(self, found: Any) -> Storage:
        if self._find_storage is None or not isinstance(found, tuple):
            raise PickleError("damaged (it refers to no storage)")
        return self._find_storage(found)

    def _build(self, word: Any, arguments: Any) -> Any:
        build = _BUILDERS.get(word.name) if isinstance(word, Word) else None
        if build is None or not isinstance(arguments, tuple):
            raise PickleError(f"damaged (it calls a {type(word).__name__})")
        self._spent += sum(len(each) for each in arguments if isinstance(each, _COUNTED))
        if self._spent > self.budget:
            raise PickleError("refused, it asks to build more than it holds")
        built = build(*arguments)
        self._tensors += isinstance(built, Tensor)
        if self._tensors > MAX_TENSORS:
            raise PickleError(f"refused, it has more than {MAX_TENSORS} tensors")
        return built


def _meaning(name: str) -> torch.dtype | Word:
    name = name.replace("__builtin__.", "builtins.")  # of Python 2
    if name in DTYPES:
        return DTYPES[name]
    if name in _BUILDERS or name in STORAGES:
        return Word(name)
    raise PickleError(f"refused, it asks to run or build {name[:80]!r}; only tensors and plain data are read")


def _key(key: Any) -> Any:
    """A key of a dictionary or element of a set, seen to be flat: deep ones have hashes that crash Python."""
    if not all(isinstance(each, _SCALARS) for each in (key if type(key) is tuple else (key,))):
        raise PickleError(f"refused, a {type(key).__name__} is the key of a dictionary or in a set")
    return key


def _tensor(
    storage: Storage, offset: int, size: Any, stride: Any, *_: Any, dtype: torch.dtype | None = None
) -> Tensor:
    """A view of a storage, within it; gradients and hooks are left out."""
    if not isinstance(storage, Storage):
        raise PickleError("damaged (a tensor of no storage)")
    dtype = dtype or storage.dtype
    size, stride = [int(length) for length in size], [int(step) for step in stride]
    stored = storage.content.nbytes() // dtype.itemsize
    end = offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True)) + 1
    negative = min([offset, *size, *stride]) < 0
    if negative or (math.prod(size) > 0 and max(end, math.prod(size)) > stored):
        raise PickleError(f"refused, a tensor claims {size}, more than is stored")
    return torch.empty(0, dtype=dtype).set_(storage.content, offset, size, stride)


def _tensor_of_dtype(storage: Storage, offset: int, size: Any, stride: Any, *rest: Any) -> Tensor:
    dtype = rest[2]
    if not isinstance(dtype, torch.dtype):
        raise PickleError("damaged (a tensor of no type)")
    return _tensor(storage, offset, size, stride, dtype=dtype)


def _bytes(text: Any, codec: Any) -> bytes:
    """Bytes, which pickles of torch's protocol hold as text."""
    if not isinstance(text, str) or codec not in ("latin1", "latin-1"):
        raise PickleError(f"refused, it asks for the codec {codec!r:.40}; only latin1 is read")
    return text.encode("latin-1")


def _float64(name: Any, *_: Any) -> np.dtype[Any]:
    if name != "f8":
        raise PickleError("refused, of numpy only scores of 64 bits are read")
    return np.dtype("f8")


def _score(dtype: Any, data: Any) -> Any:
    if not isinstance(dtype, np.dtype) or not isinstance(data, bytes):
        raise PickleError("refused, of numpy only scores of 64 bits are read")
    return np.frombuffer(data, np.float64, 1)[0]


def _ordered(pairs: Any = ()) -> OrderedDict[Any, Any]:
    items = pairs.items() if isinstance(pairs, dict) else pairs
    return OrderedDict((_key(key), value) for key, value in items)


def _counter(counts: Any = ()) -> Counter[Any]:
    return Counter(dict(_ordered(counts)))


def _set(items: Any = ()) -> set[Any]:
    return {_key(each) for each in items}


_BUILDERS: dict[str, Callable[..., Any]] = {
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v3": _tensor_of_dtype,
    "torch._utils._rebuild_parameter": lambda data, *_: data,
    "torch.Size": lambda sizes=(): torch.Size([int(length) for length in sizes]),
    "torch.device": lambda *place: torch.device(*place),
    "torch.torch_version.TorchVersion": lambda text: TorchVersion(text),
    "collections.OrderedDict": _ordered,
    "collections.Counter": _counter,
    "_codecs.encode": _bytes,
    "numpy.dtype": _float64,
    **dict.fromkeys(("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar"), _score),
    "builtins.set": _set,
    "builtins.complex": lambda real, imaginary: complex(real, imaginary),
}
