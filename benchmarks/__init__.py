"""Speed and memory, ours beside the plain way, measured side by side in one run."""
