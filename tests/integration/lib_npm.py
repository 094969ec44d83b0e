"""Node.js client libraries for the tests: pinned in tests/clients/package-lock.json, fetched from the npm
registry into the build tree once, run by tests/clients/check.js."""
import fcntl
import hashlib
import json
import os
import shutil
import subprocess

from lib import BUILD, ROOT, skip

SOURCE = os.path.join(ROOT, "tests", "clients")
LIBRARIES = ("ioredis4", "ioredis5", "ioredis6", "redis4", "redis5", "redis6")


def install():
    """The folder with node_modules, or None with the reason printed."""
    with open(os.path.join(BUILD, "npm.lock"), "w") as lock:  # tests run beside each other
        fcntl.flock(lock, fcntl.LOCK_EX)
        return fetch()


def fetch():
    if shutil.which("node") is None or shutil.which("npm") is None:
        skip("everything", "nodejs and npm are not installed")
        return None
    with open(os.path.join(SOURCE, "package-lock.json"), "rb") as f:
        digest = hashlib.sha256(f.read()).hexdigest()[:16]
    folder = os.path.join(BUILD, f"npm-{digest}")
    if not os.path.exists(os.path.join(folder, "complete")):
        shutil.rmtree(folder, ignore_errors=True)
        os.makedirs(folder)
        for name in ("package.json", "package-lock.json"):
            shutil.copy(os.path.join(SOURCE, name), folder)
        done = subprocess.run(["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"], cwd=folder, capture_output=True,
                              text=True, timeout=240)
        if done.returncode != 0:
            skip("everything", f"npm could not fetch the libraries: {done.stderr.strip().splitlines()[-1:]}")
            return None
        open(os.path.join(folder, "complete"), "w").close()
    return folder


def usable(folder, library):
    """Newer libraries want a newer Node.js than Debian 12 has."""
    with open(os.path.join(folder, "node_modules", library, "package.json")) as f:
        wants = json.load(f).get("engines", {}).get("node", ">=0")
    major = int(subprocess.run(["node", "-v"], capture_output=True, text=True, check=True).stdout[1:].split(".")[0])
    least = int(wants.replace(">=", "").strip().split(".")[0])
    if major < least:
        skip(f"{library}", f"it wants Node.js {least}, here is {major}")
    return major >= least


def start(folder, library, mode, port, **options):
    shutil.copy(os.path.join(SOURCE, "check.js"), folder)
    return subprocess.Popen(["node", "check.js", library, mode, str(port)], cwd=folder, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True, **options)
