"""Signals that ask a process to end, also on systems that lack some of them."""

import signal
import sys
from pathlib import Path

import pytest

from repro.device import machine
from repro.interrupts import ending_like_ctrl_c


def test_a_request_to_end_is_ctrl_c_once_and_handlers_come_back() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    with ending_like_ctrl_c():
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)  # an agent passes on what was sent to all
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before


def test_a_system_without_closed_terminals_and_resource_limits(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delattr(signal, "SIGHUP")
    monkeypatch.setitem(sys.modules, "resource", None)
    monkeypatch.setattr(machine, "STATUS", tmp_path / "status")
    with pytest.raises(KeyboardInterrupt), ending_like_ctrl_c():
        signal.raise_signal(signal.SIGTERM)
    assert machine.peak_resident() == 0
