"""The model of a run as a W&B artifact; as a program, in an offline run that holds nothing else.

W&B keeps no copy of an artifact that an online run cannot deliver, and a process that an agent
started can begin no second run. So a process of its own records it for ``wandb sync``.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from datamodules.processes import PARENT, end_with
from repro.files import write_atomically
from repro.provenance import ROOT

TYPE: Final = "model"
FILE: Final = "model.safetensors"
ROW: Final = "row.json"
MODEL_OF: Final = "model_of"  # key of the offline run's configuration: whose model it holds
RECORD_SECONDS: Final = 20.0


@dataclass(frozen=True)
class Model:
    """What an artifact is made of.

    Attributes:
        name: Name of the artifact.
        aliases: Names of the version.
        metadata: What W&B shows of it.
        file: The weight file. It is not copied.
        row: The run's row, as JSON.
    """

    name: str
    aliases: list[str]
    metadata: Mapping[str, Any]
    file: str
    row: str

    def artifact(self) -> Any:  # noqa: ANN401
        """Return the artifact, not yet logged.

        The row is written beside the weight file: wandb 0.26 keeps no copy of what is not a file.
        """
        import wandb

        row = write_atomically(Path(self.file).with_name(ROW), self.row + "\n")
        made = wandb.Artifact(self.name, TYPE, metadata=dict(self.metadata))
        for name, path in ((FILE, self.file), (ROW, str(row))):
            made.add_file(path, name, skip_cache=True, policy="immutable")
        return made


def record(model: Model, run: Mapping[str, str]) -> str:
    """Log a model into an offline run of another process; return the folder of that run.

    Args:
        model: The model.
        run: ``project``, ``entity``, ``name``, ``group``, ``id`` and ``folder`` of the run.

    Raises:
        OSError: It did not work, or took longer than `RECORD_SECONDS`.
    """
    of_the_run = ("WANDB_RUN_ID", "WANDB_SWEEP_ID", "WANDB_SERVICE")
    kept = {name: value for name, value in os.environ.items() if name not in of_the_run}
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    try:
        done = subprocess.run(
            [sys.executable, "-m", "repro.tracking.model_artifact"],
            input=json.dumps({"model": asdict(model), "run": dict(run)}),
            env={**kept, "PYTHONPATH": path, "WANDB_SILENT": "true", PARENT: str(os.getpid())},
            capture_output=True,
            text=True,
            timeout=RECORD_SECONDS,
        )
    except subprocess.TimeoutExpired as error:
        raise TimeoutError(f"not recorded within {RECORD_SECONDS:g} s") from error
    if done.returncode:
        raise OSError((done.stderr.splitlines() or ["no word why"])[-1])
    return done.stdout.splitlines()[-1]


def main() -> None:
    """Log the model that standard input describes into an offline run; print its folder."""
    import wandb

    given = json.load(sys.stdin)
    model, about = Model(**given["model"]), given["run"]
    run = wandb.init(
        project=about["project"],
        entity=about["entity"],
        name=f"{about['name']} (model)",
        group=about["group"],
        job_type=TYPE,
        config={MODEL_OF: about["id"]},
        dir=about["folder"],
        mode="offline",
    )
    run.log_artifact(model.artifact(), aliases=model.aliases)
    run.finish()
    print(Path(run.dir).parent)


if __name__ == "__main__":
    end_with(int(os.environ.pop(PARENT)))
    main()
