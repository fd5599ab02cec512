"""`python train.py --config configs/….yaml`: the same as `polsess train`."""

import sys

from polsess.cli.main import main

sys.argv[1:1] = ["train"]
main()
