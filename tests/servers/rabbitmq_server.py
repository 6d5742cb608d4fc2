"""How do tests get a real RabbitMQ? Debian's, as a process on a loopback port.

    python tests/servers/rabbitmq_server.py     prints the URL, runs until Ctrl-C

Needs Debian's package rabbitmq-server (as root: apt-get install rabbitmq-server); its own service is not used.
"""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from process import ServerProcess, exchange, free_port, run_until_interrupted, started

PROGRAM = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")  # the one on PATH changes the user
HELLO = b"AMQP\x00\x00\x09\x01"
START = b"\x01\x00\x00"  # how the server's first frame begins


class RabbitMQServer(ServerProcess):
    def __init__(self, data: Path) -> None:
        super().__init__(data)
        self._distribution_port = free_port()
        self.url = f"amqp://guest:guest@127.0.0.1:{self.port}//"

    def command(self) -> list[str]:
        if not PROGRAM.exists():
            raise RuntimeError("RabbitMQ is not here: apt-get install rabbitmq-server.")
        return [str(PROGRAM)]

    def popen_arguments(self) -> dict[str, Any]:
        variables = {
            "HOME": self.data,
            "RABBITMQ_NODENAME": f"rag{self.port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": self.port,
            "RABBITMQ_DIST_PORT": self._distribution_port,
            "RABBITMQ_MNESIA_BASE": self.data / "data",
            "RABBITMQ_LOG_BASE": self.data / "logs",
            "RABBITMQ_PID_FILE": self.data / "pid",
            "RABBITMQ_ENABLED_PLUGINS_FILE": self.data / "plugins",
            "RABBITMQ_CONFIG_FILE": self.data / "none",
            "RABBITMQ_CONF_ENV_FILE": self.data / "none",
        }
        return {"env": os.environ | {name: str(value) for name, value in variables.items()}}

    def answers(self) -> bool:
        return exchange(self.port, HELLO, len(START)) == START


def running_rabbitmq() -> AbstractContextManager[RabbitMQServer]:
    return started("rabbitmq", RabbitMQServer)


if __name__ == "__main__":
    run_until_interrupted(running_rabbitmq())
