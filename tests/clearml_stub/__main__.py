"""``python -m tests.clearml_stub``: the stub as a process, for trying things by hand."""

import argparse
import signal
import sys
import threading

from tests.clearml_stub.server import Stub


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8008, help="of the API; 0 for a free one")
    parser.add_argument("--control-port", type=int, default=8080, help="of the page")
    parser.add_argument("--api-version", default="2.31")
    arguments = parser.parse_args()
    stub = Stub(arguments.port, arguments.control_port, arguments.api_version).start()
    lines = [f"export {name}={value}" for name, value in stub.variables().items()]
    sys.stdout.write("\n".join([*lines, f"# what it holds: {stub.web_url}", ""]))
    sys.stdout.flush()
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    stopped.wait()
    stub.stop()


if __name__ == "__main__":
    main()
