"""A redis-server of Debian's to compare with."""
import contextlib
import shutil
import socket
import subprocess
import tempfile

from lib import Redis, eventually


def _free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def _answers(port):
    try:
        with Redis(port, timeout=2) as r:
            return r("PING") == "PONG"
    except OSError:
        return False


def installed():
    return shutil.which("redis-server") is not None


@contextlib.contextmanager
def running():
    """The port of a server without persistence, while the block runs."""
    folder = tempfile.mkdtemp(prefix="cw-redis-")
    port = _free_port()
    server = subprocess.Popen(["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "",
                               "--databases", "1", "--dir", folder],
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        eventually("redis-server answers", lambda: _answers(port))
        yield port
    finally:
        server.kill()
        server.wait()
        shutil.rmtree(folder, ignore_errors=True)
