"""Make an environment that adds packages to those of this Python, without a second torch.

``python environment.py FOLDER WORDS...``: WORDS are those of ``pip install``. What the packages
need and is here already is used from here.
"""

import subprocess
import sys
import venv
from pathlib import Path


def make(folder: Path, words: list[str]) -> None:
    """Make the environment anew."""
    venv.create(folder, clear=True, with_pip=True)
    python = folder / "bin" / "python"
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    own = subprocess.run([python, "-c", where], check=True, capture_output=True, text=True)
    ours = [path for path in sys.path if path.endswith("site-packages")]
    (Path(own.stdout.strip()) / "ours.pth").write_text("\n".join(ours) + "\n")
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, *words], check=True)


if __name__ == "__main__":
    try:
        make(Path(sys.argv[1]).absolute(), sys.argv[2:])
    except subprocess.CalledProcessError as error:
        sys.exit(f"{sys.argv[1]}: {error}")
