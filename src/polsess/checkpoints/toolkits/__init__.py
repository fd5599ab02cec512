"""Foreign toolkits, a file each, or a folder of files: importing this package registers every reader.

A toolkit's reader is a class with ``@register_reader``; it recognises the toolkit's files and hands the
arguments and tensors of one network to the converter of that network's class. Where a toolkit has several
architectures, ``Converters`` holds them by the names in its files.
"""

import importlib
import pkgutil

from polsess.checkpoints.formats import READERS

for _module in pkgutil.walk_packages(__path__, prefix=f"{__name__}."):
    importlib.import_module(_module.name)

__all__ = ["READERS"]
