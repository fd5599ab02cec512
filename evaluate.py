"""`python evaluate.py …`: the same as `polsess evaluate`."""

import sys

from polsess.cli.main import main

if __name__ == "__main__":  # not in the processes that compute metrics, which import this file again
    sys.argv[1:1] = ["evaluate"]
    main()
