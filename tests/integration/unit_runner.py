"""Runs patchbayd as its systemd unit would, on a machine where systemd does not run: the user, capabilities, limits
and file system that the unit's lines give, by setpriv, prlimit and a mount namespace. The lines that systemd enforces
by seccomp and control groups (SystemCallFilter=, DevicePolicy= and their like) are not in force here."""

import os
import resource
import shlex
import socket
import subprocess

from lab import image
from lab.daemon import Daemon, build_dir
from lab.proc import run, wait_until

USER = 64201   # of patchbayd and its group: nobody's on any machine
QEMU = 64202   # of the guests
OTHER = 64203  # of somebody who has no part in it
STATE_DIR, RUN_DIR = "/var/lib/patchbay", "/run/patchbay"  # in the unit


class Unit:
    """The lines of a unit file: values("DeviceAllow") gives each value of that key."""

    def __init__(self, path):
        self.path = path
        self._lines = []
        with open(path, encoding="utf-8") as file:
            for line in file.read().replace("\\\n", " ").splitlines():
                if "=" in line and not line.startswith(("#", ";")):
                    key, value = line.split("=", 1)
                    self._lines.append((key.strip(), value.strip()))

    def values(self, key):
        return [value for name, value in self._lines if name == key]

    def value(self, key):
        [value] = self.values(key)
        return value

    def capabilities(self, key="AmbientCapabilities"):
        """As setpriv writes them: ["net_admin", …]."""
        return [word.lower().removeprefix("cap_") for word in self.value(key).split()]


def install(prefix):
    """What `cmake --install` puts under `prefix`; the unit."""
    run("cmake", "--install", build_dir(), "--prefix", prefix, limit_s=120)
    return Unit(os.path.join(prefix, "lib/systemd/system/patchbayd.service"))


def as_user(user, groups=(), umask="022"):
    """Words that run what follows as another user without any capability."""
    groups = ["--groups", ",".join(map(str, groups))] if groups else ["--clear-groups"]
    return ["sh", "-c", f'umask {umask}; exec "$@"', "sh", "setpriv", "--reuid", str(user), "--regid", str(user),
            *groups, "--inh-caps=-all", "--bounding-set=-all", "--no-new-privs"]


class Service(Daemon):
    """patchbayd in a lab, started by the lines of its unit. `without`: a capability to leave out; `groups`:
    SupplementaryGroups= of a drop-in; `arguments`: what it adds to ExecStart=; `wrap`: words before all of it."""

    def __init__(self, place, netns, unit, without=None, groups=(), arguments=(), wrap=()):
        super().__init__(place, netns, arguments)
        self.unit = unit
        self.capabilities = [name for name in unit.capabilities() if name != without]
        self.groups = groups
        self.wrap = wrap
        self._notify = os.path.join(place, "notify.sock")

    def launch(self):
        for path, key in ((self.state_dir, "StateDirectoryMode"), (self.run_dir, "RuntimeDirectoryMode")):
            os.makedirs(path, exist_ok=True)
            os.chown(path, USER, USER)
            os.chmod(path, int(self.unit.value(key), 8))
        ours = {STATE_DIR: self.state_dir, RUN_DIR: self.run_dir}
        command = [ours.get(word, word) for word in shlex.split(self.unit.value("ExecStart"))] + self.arguments
        what = f"patchbayd {os.path.basename(os.path.dirname(self.state_dir))}"
        self.process = self.netns.start(what, *self.wrap, "unshare", "-m", "sh", "-ec", self._script(), "sh", *command,
                                        env=dict(os.environ, NOTIFY_SOCKET=self._notify))
        self.log = self.process.log
        return self.process

    def open_files(self):
        """LimitNOFILE=, or what there is where root may not raise it (a container)."""
        wanted = int(self.unit.value("LimitNOFILE"))
        if run("prlimit", f"--nofile={wanted}", "true", check=False).returncode == 0:
            return wanted
        return min(wanted, resource.getrlimit(resource.RLIMIT_NOFILE)[1])

    def start(self, limit_s=20.0):
        """Returns when the daemon has said that it is ready, as Type=notify waits for."""
        assert self.unit.value("Type") == "notify"
        if os.path.exists(self._notify):
            os.unlink(self._notify)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as manager:
            manager.bind(self._notify)
            os.chmod(self._notify, 0o666)
            self.launch()

            def ready():
                self.process.check()
                try:
                    return manager.recv(64) == b"READY=1"
                except BlockingIOError:
                    return False
            wait_until(ready, f"patchbayd to say that it is ready (log: {self.log})", limit_s)
        return self

    def _script(self):
        """Shell text that becomes the command in "$@", in a mount namespace of its own."""
        capabilities = ",".join(f"+{name}" for name in self.capabilities)
        sets = f"-all,{capabilities}" if capabilities else "-all"
        groups = f"--groups {','.join(map(str, self.groups))}" if self.groups else "--clear-groups"
        lines = ["mount --make-rprivate /"]
        for path in (self.state_dir, self.run_dir):
            lines.append(f"mount --bind {path} {path}")
        if self.unit.value("PrivateTmp") == "yes":
            lines.append("mount -t tmpfs -o mode=1777 private /tmp")
        if self.unit.value("ProtectHome") == "yes":
            lines.append("for place in /home /root /run/user; do "
                         "[ ! -d $place ] || mount -t tmpfs -o mode=000 none $place; done")
        if self.unit.value("ProtectSystem") == "strict":
            keep = f"/dev*|/proc*|/tmp|{self.state_dir}|{self.run_dir}"
            lines.append(f"while read -r _ place _; do case $place in {keep}) ;; "
                         "*) mount -o remount,bind,ro $place 2>/dev/null || true ;; esac; done < /proc/self/mounts")
        lines.append(f"umask {self.unit.value('UMask')}")
        lines.append(f"exec prlimit --nofile={self.open_files()} -- setpriv --reuid {USER} --regid {USER} {groups} "
                     f"--inh-caps={sets} --ambient-caps={sets} --bounding-set={sets} "
                     f"{'--no-new-privs' if self.unit.value('NoNewPrivileges') == 'yes' else ''} -- \"$@\"")
        return "\n".join(lines)

    def status(self, key):
        """A line of /proc/PID/status."""
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as file:
            return next(line.split(":", 1)[1].split() for line in file if line.startswith(f"{key}:"))

    def cli_as(self, user, groups, *words):
        """`patchbay WORDS…` as another user."""
        patchbay = os.path.join(os.path.dirname(self.unit.path), "../../../bin/patchbay")
        return subprocess.run([*as_user(user, groups), patchbay, "--api", self.api_socket, *map(str, words)],
                              capture_output=True, text=True, timeout=20, check=False)


def guest_files(place):
    """Copies of the guests' kernel and initramfs that every user may read, as Guest.files wants them."""
    copies = {}
    for original in (image.kernel()[0], image.initramfs()):
        copies[original] = os.path.join(place, os.path.basename(original))
        run("cp", "-L", original, copies[original])
        os.chmod(copies[original], 0o644)
    return copies
