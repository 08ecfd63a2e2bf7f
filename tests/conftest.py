"""Settings of the whole test session, made before torch is loaded."""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as the command line does
