"""ESPnet: ``config.yaml`` and ``valid.*.pth`` of an experiment."""
