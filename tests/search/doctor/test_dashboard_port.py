import re
import socket

import pytest

from canopy_search.search.doctor import dashboard_port
from canopy_search.search.doctor.dashboard_port import check_dashboard_port


def test_the_port_that_the_dashboard_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    host = "127.71.83.5"  # this machine, too, and nobody else's connections
    monkeypatch.setattr(dashboard_port, "HOST", host)
    with socket.socket() as taken:
        taken.bind((host, 0))
        taken.listen()
        port = taken.getsockname()[1]
        monkeypatch.setattr(dashboard_port, "FIRST_PORT", port)
        (finding,) = check_dashboard_port()
        assert finding.status == "ok"
        first, chosen = map(int, re.findall(r"\d+", finding.found))
        assert first == port < chosen

        monkeypatch.setattr(dashboard_port, "PORTS_TRIED", 1)
        (finding,) = check_dashboard_port()
        assert finding.status == "warning"
        assert "--port" in (finding.remedy or "")
    (finding,) = check_dashboard_port()
    assert finding.status == "ok"
    assert re.findall(r"\d+", finding.found) == [str(port)]
