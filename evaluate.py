"""`python evaluate.py …`: the same as `polsess evaluate`."""

import sys

from polsess.cli.main import main

sys.argv[1:1] = ["evaluate"]
main()
