"""Networks of who speaks when: how many talk, and whose voice it is."""
