"""The real ``wandb`` command against the stand-in, for tests and for ``make sweep-smoke``."""

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from paths import ROOT
from wandb_standin import Standin

# An agent asks for work every 5 s; the tests have no time for that.
FAST_AGENT: Final = """\
import sys
if "agent" in sys.orig_argv:
    from wandb.wandb_agent import Agent
    Agent.POLL_INTERVAL = 0.2
"""


@dataclass
class Started:
    """A process under way; what it and its children print is in ``log``."""

    process: "subprocess.Popen[bytes]"
    log: Path

    @property
    def printed(self) -> str:
        """What was printed so far."""
        return self.log.read_text("utf-8", errors="replace")

    def finish(self, exit_code: int = 0) -> str:
        """Return what was printed, once the process ended with that exit code."""
        self.process.wait(timeout=300)
        assert self.process.returncode == exit_code, self.printed
        return self.printed


class WandbCli:
    """``wandb`` in a folder of its own, which is also the folder of runs and rows.

    Args:
        server: Told to everything that is started; connections elsewhere go to it as to a proxy.
        folder: Empty folder.
    """

    def __init__(self, server: Standin, folder: Path) -> None:
        self.server = server
        self.folder = folder
        site = folder / "site"
        site.mkdir()
        (site / "sitecustomize.py").write_text(FAST_AGENT)
        given = [os.environ[name] for name in ("PYTHONPATH",) if name in os.environ]
        kept = {name: value for name, value in os.environ.items() if "WANDB" not in name}
        self.environment = {
            **kept,
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            "PYTHONPATH": os.pathsep.join([str(site), *given, str(ROOT)]),
            "WANDB_BASE_URL": server.url,
            "WANDB_API_KEY": "0" * 40,
            "WANDB_ERROR_REPORTING": "false",
            "WANDB_CONFIG_DIR": str(folder / "config"),
            "WANDB_CACHE_DIR": str(folder / "cache"),
            "WANDB_DATA_DIR": str(folder / "data"),
            "NETRC": str(folder / "netrc"),
            **{name: server.url for name in ("HTTPS_PROXY", "HTTP_PROXY", "https_proxy")},
            "NO_PROXY": "127.0.0.1",
        }

    def start(self, module: str, *words: str) -> Started:
        """Start a Python module in a process group of its own."""
        log = self.folder / f"{len(list(self.folder.glob('*.log')))}.log"
        with log.open("wb") as out:
            command = [sys.executable, "-m", module, *words]
            options = {"cwd": self.folder, "env": self.environment, "process_group": 0}
            process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, **options)
        return Started(process, log)

    def wandb(self, *words: str) -> str:
        """Return what a ``wandb`` command printed."""
        return self.start("wandb", *words).finish()

    def sweep(self, file: Path) -> str:
        """Create a sweep; return what ``wandb agent`` wants to know of it."""
        found = re.search(r"wandb agent (\S+)", self.wandb("sweep", str(file)))
        assert found
        return found[1]

    def agents(self, sweep: str, number: int = 2) -> list[Started]:
        """Start agents of a sweep."""
        return [self.start("wandb", "agent", sweep) for _ in range(number)]
