"""The cache of kernels: it follows every source of a folder, and is always somewhere."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from paths import ROOT

HELPER = (
    "from repro.device.compiled import kernel\n\n\n@kernel()\ndef number(x):\n    return x + {}\n"
)
USER = """
from helping import number
from repro.device.compiled import kernel


@kernel()
def twice(x):
    return 2 * number(x)


if __name__ == "__main__":
    print(twice(1), sum(twice.stats.cache_hits.values()))
"""


def run(folder: Path, **environment: str) -> tuple[list[str], str]:
    """Words that a program with a kernel prints, and what it says on the side."""
    path = os.pathsep.join([str(ROOT), *sys.path])
    command = [sys.executable, "-B", str(folder / "using.py")]
    variables = {**os.environ, "PYTHONPATH": path, **environment}
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=True)
    return done.stdout.split(), done.stderr


def sources(folder: Path, number: int) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "helping.py").write_text(HELPER.format(number))
    (folder / "using.py").write_text(USER)
    return folder


def test_code_is_kept_and_follows_what_a_kernel_calls(tmp_path: Path) -> None:
    folder = sources(tmp_path / "code", 1)
    assert run(folder) == (["4", "0"], "")
    assert run(folder) == (["4", "1"], "")
    assert list((folder / "__pycache__").glob("*.nbi"))
    sources(folder, 2)
    assert run(folder) == (["6", "0"], "")
    assert run(folder) == (["6", "1"], "")


def test_a_place_can_be_named(tmp_path: Path) -> None:
    folder = sources(tmp_path / "code", 1)
    assert run(folder, NUMBA_CACHE_DIR=str(tmp_path / "named"))[0] == ["4", "0"]
    assert run(folder, NUMBA_CACHE_DIR=str(tmp_path / "named"))[0] == ["4", "1"]
    assert not (folder / "__pycache__").exists()


NOBODY = ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups")


@pytest.mark.skipif(
    os.name != "posix" or os.geteuid() != 0 or shutil.which("setpriv") is None,
    reason="needs root, to become a user without a home",
)
def test_a_user_without_a_home_has_a_cache_and_one_line(tmp_path: Path) -> None:
    place = Path("/tmp", f"kernels-of-nobody-{os.getpid()}")
    folder = sources(place, 1)
    place.chmod(0o755)
    temporary = place / "temporary"
    temporary.mkdir()
    temporary.chmod(0o1777)
    path = os.pathsep.join([str(ROOT), *sys.path])
    program = (
        "import sys, runpy; sys.path.insert(0, sys.argv[1]);"
        "runpy.run_path(sys.argv[1] + '/using.py', run_name='__main__')"
    )
    variables = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "PYTHONPATH": path}
    variables |= {"TMPDIR": str(temporary)}
    try:
        for hits in ("0", "1"):
            done = subprocess.run(
                [*NOBODY, sys.executable, "-B", "-c", program, str(folder)],
                **{"env": variables, "capture_output": True, "text": True},
            )
            assert done.returncode == 0, done.stderr
            assert done.stdout.split() == ["4", hits]
            (line,) = done.stderr.splitlines()
            assert line.startswith(
                f"compiled kernels are kept in {temporary}/cbp-qsnn-kernels-65534"
            )
    finally:
        shutil.rmtree(place)


@pytest.mark.skipif(os.name != "posix", reason="folders have owners there")
def test_a_temporary_folder_that_others_can_write_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from repro.device import compiled

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    planted = tmp_path / f"cbp-qsnn-kernels-{os.getuid()}"
    planted.mkdir()
    planted.chmod(0o777)
    taken = compiled.temporary.__wrapped__()
    assert taken.parent == tmp_path
    assert taken != planted
    assert len(capsys.readouterr().err.splitlines()) == 1
