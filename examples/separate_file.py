"""Separate a recording with the model that comes with the package; prints where the speakers are."""

import sys
import tempfile

from polsess import Separator
from polsess.data.mini import MIXTURES


def main() -> None:
    recording = sys.argv[1] if len(sys.argv) > 1 else MIXTURES / "8k" / "different_sex" / "mix.flac"
    folder = sys.argv[2] if len(sys.argv) > 2 else tempfile.mkdtemp()
    separation = Separator.from_pretrained("default").separate(recording)
    for path in separation.save(folder, track="recording"):
        print(path)
    print(f"{separation.realtime_factor:.2f} seconds of computing per second of sound")


if __name__ == "__main__":
    main()
