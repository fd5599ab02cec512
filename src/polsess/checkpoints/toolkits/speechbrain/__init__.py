"""SpeechBrain: ``hyperparams.yaml`` and one state dictionary each for encoder, masknet and decoder."""
