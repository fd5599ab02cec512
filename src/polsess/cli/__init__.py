"""The `polsess` command: parse, call, print."""
