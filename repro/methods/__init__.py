"""Pre-training methods as LightningModules, one file per method."""
