"""`python train.py --config configs/….yaml`: the same as `polsess train`."""

import sys

from polsess.cli.main import main

if __name__ == "__main__":  # not in the processes that load data, which may import this file again
    sys.argv[1:1] = ["train"]
    main()
