"""How tests meet Triton: without a GPU its kernels run in its interpreter, on the CPU."""

import os
from importlib.util import find_spec

import torch

if find_spec("triton") is None:
    collect_ignore_glob = [
        "repro/**/gpu.py",
        "repro/**/gpu/*.py",
        "repro/**/triton_*.py",
    ]  # doctests
elif not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # read when a kernel is defined

    from triton.runtime import interpreter

    _patch = interpreter._patch_lang_tensor

    def _with_index(tensor, scope):  # noqa: ANN001, ANN202
        """Let a scalar be a loop's bound: Triton 3.6 asks NumPy for what 2.4 refuses."""
        _patch(tensor, scope)
        scope.set_attr(tensor, "__index__", lambda self: int(self.handle.data.item()))

    interpreter._patch_lang_tensor = _with_index
