"""Every Triton kernel compiles for a Hopper GPU, in every form, with no GPU there."""

import os
import subprocess
import sys
from itertools import product
from typing import Any

import pytest
from paths import ROOT

pytest.importorskip("triton")


@pytest.mark.slow
def test_kernels_compile_for_hopper() -> None:
    """In a process of its own: here Triton interprets."""
    environ = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environ["PYTHONPATH"] = str(ROOT)
    command = [sys.executable, __file__]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "46 kernels" in done.stdout, done.stdout


def machine_code(kernel: Any, real: str, **forms: Any) -> str:
    """Compile; return the PTX, from which ptxas has made machine code."""
    import triton
    import triton.language as tl
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from repro.device.triton_launch import LAUNCH

    types = {"REAL": tl.float64 if real == "fp64" else tl.float32, "BLOCK": 1024}
    narrow = ("spikes", "grad_spikes", "table", "out")
    constants, signature = {}, {}
    for parameter in kernel.params:
        name = parameter.name
        if parameter.is_constexpr:
            constants[name], signature[name] = (types | forms)[name], "constexpr"
        elif parameter.annotation_type:
            signature[name] = parameter.annotation_type
        elif name in ("n", "steps", "to_next_current"):
            signature[name] = "i32"
        elif name == "sums":
            signature[name] = "*fp64"
        else:
            signature[name] = "*bf16" if name in narrow and real == "fp32" else f"*{real}"
    source = ASTSource(kernel, signature, constants)
    made = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=LAUNCH)
    assert made.asm["cubin"]
    return str(made.asm["ptx"])


def main() -> None:
    """Compile all, and see that the forward scans fuse no product and sum."""
    from repro.cbp import gpu as cbp
    from repro.neurons.gpu import integrate_and_fire as fire
    from repro.neurons.gpu import plif, stbp
    from repro.neurons.gpu import tssl_bp as tssl

    count = 0
    for real in ("fp32", "fp64"):
        forward = [machine_code(stbp._forward, real)]
        for yes in (True, False):
            forward.append(machine_code(fire._forward, real, HAS_INITIAL=yes, KEEP=yes))
            forward.append(machine_code(tssl._forward, real, STATES=yes))
            machine_code(stbp._backward, real, CONSTANT=yes)
            machine_code(fire._backward, real, CONSTANT=yes, HAS_INITIAL=yes)
            machine_code(tssl._backward, real, CONSTANT=yes)
            count += 3
        for leaky, code in product((True, False), range(4)):
            if real == "fp32" or code == 0:
                common = {"LEAKY": leaky, "CONNECTION": code}
                forward.append(machine_code(plif._forward, real, KEEP=leaky, **common))
                machine_code(plif._backward, real, CONSTANT=leaky, **common)
                count += 1
        assert not any("fma." in code for code in forward)
        machine_code(cbp._add_slope, real, LEVELS=3)
        machine_code(cbp._nearest, real, LEVELS=2)
        count += len(forward) + 2
    print(f"{count} kernels")


if __name__ == "__main__":
    main()
