"""The work of `polsess separate` and `polsess evaluate` on many machines, by Ray."""
