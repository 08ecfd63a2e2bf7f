"""CBP on a LightningModule of the user's own, from the command line."""
