"""Lightning datamodules: real data, committed splits, checksums, batches that repeat."""
