import socket

import pytest

from search.doctor_checks import dashboard_port
from search.doctor_checks.dashboard_port import check_dashboard_port


def test_the_port_that_the_dashboard_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        monkeypatch.setattr(dashboard_port, "FIRST_PORT", port)
        (finding,) = check_dashboard_port()
        assert finding.status == "ok"
        assert finding.found.startswith(f"port {port} is in use, the dashboard will take ")

        monkeypatch.setattr(dashboard_port, "PORTS_TRIED", 1)
        (finding,) = check_dashboard_port()
        assert finding.status == "warning"
        assert "--port" in (finding.remedy or "")
    (finding,) = check_dashboard_port()
    assert finding.found == f"port {port} is free"
