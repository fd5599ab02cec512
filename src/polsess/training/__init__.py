"""Training on Lightning: the module, its callbacks, the trainer's construction."""
