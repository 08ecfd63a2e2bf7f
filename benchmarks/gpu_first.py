"""What to run first on a GPU, in less than five minutes: tests there, then full-size steps.

``python -m benchmarks.gpu_first --out DIR`` runs the tests that compare the Triton kernels and
whole training steps with the CPU's, and ``benchmarks.train_step --device cuda`` of every method. A
command that fails or outlasts its time is named, and the next one follows. DIR gets every command's
output and the benchmarks' JSON files.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path
from typing import Final, NamedTuple

SECONDS: Final = 290.0  # of all
TESTS: Final = (
    *("project/test_on_gpu.py", "neurons/test_triton_scans.py", "cbp/test_gpu.py"),
    *("datamodules/test_auto_augment.py", "datamodules/test_datamodules.py"),
)
# Images a step: the paper's where the plain way has the memory for it (80 GB).
BATCHES: Final = {"snn_calibration": 16, "stbp": 50, "tssl_bp": 50, "surrogate": 16}


class Command(NamedTuple):
    """A command and its longest time.

    Attributes:
        name: Of its output's file.
        words: Behind ``python``.
        seconds: After which it is ended.
    """

    name: str
    words: tuple[str, ...]
    seconds: float


def commands(out: Path, device: str = "cuda", more: tuple[str, ...] = ()) -> list[Command]:
    """Return what is run.

    Args:
        out: Folder of the results.
        device: Of the benchmarks.
        more: Words for the benchmarks, behind their own.
    """
    files = [f"tests/{name}" for name in TESTS]
    tests = ("-m", "pytest", "-q", "--maxfail=20", "--tb=short", "-m", "not data", *files)
    found = [Command("tests", tests, 130)]
    for network, batch in BATCHES.items():
        words = ["-m", "benchmarks.train_step", f"--network={network}", f"--device={device}"]
        words += [f"--batch={batch}", f"--out={out / f'train_step_{network}.json'}", *more]
        found.append(Command(f"train_step_{network}", tuple(words), 75))
    return found


def run(command: Command, out: Path, seconds: float) -> str:
    """Run a command; return in words how it ended.

    Args:
        command: Which.
        out: Folder of its output.
        seconds: Left for it.
    """
    start = time.monotonic()
    with (out / f"{command.name}.txt").open("w") as said:
        try:
            done = subprocess.run(
                [sys.executable, *command.words],
                stdout=said,
                stderr=subprocess.STDOUT,
                timeout=seconds,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return f"ended after {seconds:.0f} s"
    how = "done" if done.returncode == 0 else f"FAILED with {done.returncode}"
    return f"{how}, {time.monotonic() - start:.0f} s"


def run_all(wanted: list[Command], out: Path, seconds: float) -> int:
    """Run commands one after the other; return how many did not end well."""
    out.mkdir(parents=True, exist_ok=True)
    end, wrong = time.monotonic() + seconds, 0
    for command in wanted:
        left = min(command.seconds, end - time.monotonic())
        how = run(command, out, left) if left > 1 else "no time left"
        wrong += not how.startswith("done")
        print(f"{command.name}: {how} ({out / command.name}.txt)", flush=True)
    return wrong


def main() -> int:
    """Run everything; 0 if all ended well."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    chosen = parser.parse_args()
    return min(1, run_all(commands(chosen.out), chosen.out, SECONDS))


if __name__ == "__main__":
    sys.exit(main())
