"""Speech separation and enhancement: train, evaluate, compare and run every model through one interface."""
