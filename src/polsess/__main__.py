"""`python -m polsess` is the `polsess` command."""

from polsess.cli.main import main

if __name__ == "__main__":
    main()
