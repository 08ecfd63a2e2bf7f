"""``python -m repro``: see ``repro.cli.dispatch``."""

from repro.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
