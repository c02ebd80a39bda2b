"""A QEMU that emulates the Intel 82576 (`-device igb`): the host's own, or a newer one that is unpacked privately.

QEMU 7.2 of Debian 12 has no igb. The one of backports is downloaded with lists, cache and sources of the lab's own and
unpacked into the lab's cache: what the host has installed, and where its user gets packages from, stays as it is.
"""

import json
import os
import shutil
import tempfile

from . import image
from .proc import LabError, run

PROGRAM = "qemu-system-x86_64"
PACKAGE = "qemu-system-x86"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


class Unavailable(LabError):
    """This machine cannot have such a QEMU now; the text says why. Tests that need it are skipped."""


class Qemu:
    """A QEMU program: the words its command line starts with, and the environment it needs."""

    def __init__(self, root=None):
        self._root = root
        self.command = [PROGRAM]
        self.environment = dict(os.environ)
        if root:
            libraries = [os.path.join(root, "usr", "lib", "x86_64-linux-gnu"), os.path.join(root, "lib",
                                                                                           "x86_64-linux-gnu")]
            self.command = [os.path.join(root, "usr", "bin", PROGRAM)]
            for firmware in ("qemu", "seabios"):
                self.command += ["-L", os.path.join(root, "usr", "share", firmware)]
            # Modules of the host's own QEMU do not fit.
            self.environment["QEMU_MODULE_DIR"] = os.path.join(libraries[0], "qemu")
            self.environment["LD_LIBRARY_PATH"] = ":".join(libraries)

    def has_igb(self):
        done = run(*self.command, "-machine", "q35", "-device", "igb,help", check=False, env=self.environment)
        return done.returncode == 0 and "igb options" in done.stdout


_found = None


def find():
    """The Qemu to use; found once. Unavailable if there is none and none can be downloaded."""
    global _found
    if _found is None:
        with image.alone("qemu10"):
            _found = _installed() or _unpacked() or _download()
    return _found


def _installed():
    if shutil.which(PROGRAM) is None:
        return None
    qemu = Qemu()
    return qemu if qemu.has_igb() else None


def _place():
    return os.path.join(image.cache_dir(), "qemu10")


def _unpacked():
    if not os.path.exists(os.path.join(_place(), "done.json")):
        return None
    qemu = Qemu(_place())
    return qemu if qemu.has_igb() else None


def _download():
    staging = tempfile.mkdtemp(prefix="qemu10-", dir=image.cache_dir())
    try:
        _fetch(os.path.join(staging, "apt"), staging)
        shutil.rmtree(os.path.join(staging, "apt"))
        if not Qemu(staging).has_igb():
            raise Unavailable("QEMU of backports was unpacked and does not emulate the 82576 (igb)")
        with open(os.path.join(staging, "done.json"), "w", encoding="utf-8") as file:
            json.dump({"version": run(*Qemu(staging).command, "--version", env=Qemu(staging).environment).stdout}, file)
        shutil.rmtree(_place(), ignore_errors=True)
        os.rename(staging, _place())
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return Qemu(_place())


def _codename():
    with open("/etc/os-release", encoding="utf-8") as file:
        settings = dict(line.rstrip("\n").split("=", 1) for line in file if "=" in line)
    return settings.get("VERSION_CODENAME", "").strip('"')


def _fetch(apt, root):
    """Downloads the package, and what it needs and the host has not, and unpacks all of it under `root`."""
    suite = _codename()
    listed = run("apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE)", "Created-By: Packages", check=False)
    mirrors = [line.split()[0] for line in listed.stdout.splitlines() if line.split()[1:] == [suite]]
    if not suite or not mirrors:
        raise Unavailable("the installed QEMU does not emulate the 82576 (igb), and apt names no Debian mirror to get "
                          "a newer one from")
    for folder in ("lists/partial", "cache/archives/partial"):
        os.makedirs(os.path.join(apt, folder))
    sources = os.path.join(apt, "sources.list")
    with open(sources, "w", encoding="utf-8") as file:
        for name in (suite, f"{suite}-backports"):
            file.write(f"deb [signed-by={KEYRING}] {mirrors[0]} {name} main\n")
    settings = {"Dir::State": apt, "Dir::State::lists": f"{apt}/lists", "Dir::State::status": "/var/lib/dpkg/status",
                "Dir::Cache": f"{apt}/cache", "Dir::Etc::sourcelist": sources, "Dir::Etc::sourceparts": "/dev/null",
                "Dir::Etc::preferences": "/dev/null", "Dir::Etc::preferencesparts": "/dev/null",
                "APT::Sandbox::User": "root", "Debug::NoLocking": "1"}
    command = ["apt-get", "-q", "-y"]
    for name, value in settings.items():
        command += ["-o", f"{name}={value}"]
    for words in (["update"], ["install", "--download-only", "--no-install-recommends", "-t", f"{suite}-backports",
                               PACKAGE]):
        done = run(*command, *words, check=False, limit_s=600)
        if done.returncode != 0:
            problem = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
            raise Unavailable("the installed QEMU does not emulate the 82576 (igb), and a newer one cannot be "
                              f"downloaded from {suite}-backports: {' '.join(problem)}")
    archives = os.path.join(apt, "cache", "archives")
    for name in sorted(os.listdir(archives)):
        if name.endswith(".deb"):
            run("dpkg-deb", "-x", os.path.join(archives, name), root, limit_s=120)
