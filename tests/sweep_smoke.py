"""``make sweep-smoke``: a W&B sweep of parents, then one of children, by two agents each.

The commands are the real ones, the server is the stand-in on loopback: no account, no network. One
seed of the children has no parent, so that there is also a failure to see. Ends with 1 if anything
comes out otherwise.
"""

import sys
import tempfile
from pathlib import Path

from wandb_cli import ROOT, WandbCli
from wandb_standin import Standin, WandbRun


def in_words(run: WandbRun) -> str:
    """Return a line on what the server knows of a run."""
    key = run.config["key"]["value"]
    epochs = sum("val/accuracy" in row for row in run.history)
    accuracy = run.summary.get("test/accuracy")
    result = "" if accuracy is None else f", test accuracy {accuracy:.2%}"
    return f"  {key:32} {run.state} (exit code {run.exit_code}), {epochs} epochs logged{result}"


def show(cli: WandbCli, file: Path) -> bool:
    """Launch a sweep and say what came of it; return whether that is what was to come."""
    print(f"$ wandb sweep {file.name}", flush=True)
    path = cli.sweep(file)
    print(f"$ wandb agent {path} &\n$ wandb agent {path} &", flush=True)
    for agent in cli.agents(path):
        agent.finish()
    sweep = cli.server.state.sweeps[path.rpartition("/")[2]]
    print(f"sweep {sweep.name}: {sweep.state}", *map(in_words, sweep.runs), sep="\n", flush=True)
    return sweep.state == "FINISHED" and all(is_as_wanted(run) for run in sweep.runs)


def is_as_wanted(run: WandbRun) -> bool:
    """Return whether a run failed that has no parent, or another did not."""
    return run.state == ("failed" if run.config["seed"]["value"] == 2 else "finished")


def main() -> int:
    """Launch both sweeps in a folder that is thrown away."""
    server = Standin()
    with tempfile.TemporaryDirectory() as folder:
        cli = WandbCli(server, Path(folder))
        files = [ROOT / f"tests/sweeps/tiny_{name}.yaml" for name in ("fp32", "cbp")]
        as_wanted = [show(cli, file) for file in files]
        rows = sorted(path.stem for path in Path(folder, "results/rows").glob("*.json"))
    server.stop()
    print(f"{len(rows)} rows: {', '.join(rows)}")
    return int(not all(as_wanted))


if __name__ == "__main__":
    sys.exit(main())
