"""The guest's kernel and initramfs: made once from Debian packages, kept in a cache, never installed on the host.

Kernel   Debian's linux-image-amd64, downloaded and unpacked privately; without a network, one that the host has in /boot.
Userland busybox-static, iperf3 and ethtool with their libraries, guest_init as /init, the guest_*.c. Not compressed:
         under TCG that boots fastest.
"""

import contextlib
import fcntl
import glob
import hashlib
import json
import lzma
import os
import re
import shutil
import stat
import subprocess
import tempfile
import time

from .proc import LabError, run

HERE = os.path.dirname(os.path.abspath(__file__))
REPOSITORY = os.path.dirname(os.path.dirname(HERE))
# In the order in which they are loaded; what a kernel has built in is skipped.
MODULES = ["virtio_ring", "virtio", "virtio_pci_legacy_dev", "virtio_pci_modern_dev", "virtio_pci", "failover",
           "net_failover", "virtio_net", "af_packet", "llc", "stp", "garp", "mrp", "8021q"]
MODULES_NEEDED = {"virtio_net", "8021q"}
OWN_PROGRAMS = ("guest_agent", "guest_frames", "guest_numbers")  # built here, into /bin
# For guests that are hosts themselves (appliance.py): loaded there when they are asked for.
MODULES_MORE = ["tun", "veth", "irqbypass", "vfio", "vfio_virqfd", "vfio_iommu_type1", "vfio-pci-core", "vfio-pci",
                "pps_core", "ptp", "dca", "i2c-core", "i2c-algo-bit", "igb", "e1000e"]
# What DPDK's net_tap gives its flow rules to.
MODULES_FLOWER = ["sch_ingress", "sch_multiq", "cls_flower", "act_skbedit", "act_mirred", "act_gact"]
MODULES_BONDING = ["tls", "bonding"]  # for a guest that is the other end of a team
MODULES_KEPT = MODULES + MODULES_MORE + MODULES_FLOWER + MODULES_BONDING


def cache_dir():
    base = os.environ.get("XDG_CACHE_HOME")
    path = os.path.join(base, "patchbay-lab") if base else os.path.join(REPOSITORY, "build", "lab")
    os.makedirs(path, exist_ok=True)
    return path


@contextlib.contextmanager
def alone(what):
    """One process of this host at a time is inside: several may want to make the same thing."""
    with open(os.path.join(cache_dir(), f"{what}.lock"), "w", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def kernel():
    """(path of the kernel image, version); its modules are in cache_dir()/kernel/modules."""
    with alone("kernel"):
        return _kernel()


def _kernel():
    place = os.path.join(cache_dir(), "kernel")
    done = os.path.join(place, "done.json")
    if _known(done).get("modules") != MODULES_KEPT:
        staging = tempfile.mkdtemp(prefix="kernel-", dir=cache_dir())
        try:
            version = _unpack_package(staging) or _copy_installed(staging)
            for leftover in ("boot", "lib", "usr"):
                shutil.rmtree(os.path.join(staging, leftover), ignore_errors=True)
            if not version:
                raise LabError("no kernel for the guests: downloading Debian's linux-image-amd64 failed and /boot "
                               "holds none with virtio modules; connect to the network or install linux-image-amd64")
            with open(os.path.join(staging, "done.json"), "w", encoding="utf-8") as file:
                json.dump({"version": version, "modules": MODULES_KEPT}, file)
            shutil.rmtree(place, ignore_errors=True)
            os.rename(staging, place)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    return os.path.join(place, "vmlinuz"), _known(done)["version"]


def _known(done):
    """What was written down about the kernel in the cache: empty if there is none."""
    try:
        with open(done, encoding="utf-8") as file:
            return json.load(file)
    except (OSError, ValueError):
        return {}


def module(name):
    """Path of a module of kernel(); None if that has it built in."""
    path = os.path.join(cache_dir(), "kernel", "modules", f"{name}.ko")
    return path if os.path.exists(path) else None


def _download(staging):
    depends = run("apt-cache", "depends", "linux-image-amd64", check=False).stdout
    found = re.search(r"Depends: (linux-image-\S+)", depends)
    if not found:
        return False
    command = ["apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", found[1]]
    return run(*command, check=False, limit_s=600, cwd=staging).returncode == 0


def _unpack_package(staging):
    if not _download(staging):
        run("apt-get", "update", "-q", check=False, limit_s=300)  # its lists may be old, or not there at all
        if not _download(staging):
            return None
    package = glob.glob(os.path.join(staging, "*.deb"))[0]
    wanted = "|".join(re.escape(name) for name in MODULES_KEPT)
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", package], stdout=subprocess.PIPE) as reader:
        patterns = ["./boot/vmlinuz-*"] + [f"*/{name}.ko*" for name in MODULES_KEPT]
        subprocess.run(["tar", "-x", "-C", staging, "--wildcards", *patterns], stdin=reader.stdout,
                       stderr=subprocess.DEVNULL, check=False)  # complains of modules that are built in
    os.remove(package)
    return _gather(staging, os.path.join(staging, "boot"), os.path.join(staging, "lib", "modules"), wanted)


def _copy_installed(staging):
    return _gather(staging, "/boot", "/lib/modules",
                   "|".join(re.escape(name) for name in MODULES_KEPT))


def _gather(staging, boot, modules, wanted):
    """Copies the newest kernel of `boot` that has modules, and those, to staging/vmlinuz and staging/modules."""
    for image in sorted(glob.glob(os.path.join(boot, "vmlinuz-*")), reverse=True):
        version = os.path.basename(image)[len("vmlinuz-"):]
        found = {}
        for place in (os.path.join(modules, version), os.path.join(modules.replace("/lib", "/usr/lib"), version)):
            for folder, _, files in os.walk(place):
                for name in files:
                    matched = re.fullmatch(rf"({wanted})\.ko(\.xz)?", name)
                    if matched:
                        found[matched[1]] = os.path.join(folder, name)
        if not MODULES_NEEDED <= found.keys():
            continue
        _write_kernel(image, os.path.join(staging, "vmlinuz"))
        os.makedirs(os.path.join(staging, "modules"))
        for name, path in found.items():
            opener = lzma.open if path.endswith(".xz") else open
            with opener(path, "rb") as source, open(os.path.join(staging, "modules", f"{name}.ko"), "wb") as target:
                shutil.copyfileobj(source, target)
        return version
    return None


def _write_kernel(image, target):
    """Unpacks an xz-compressed kernel: QEMU starts the ELF image directly, two seconds sooner under TCG."""
    with open(image, "rb") as file:
        content = file.read()
    packed = content.find(b"\xfd7zXZ\x00")
    if packed > 0:
        try:
            unpacked = lzma.LZMADecompressor().decompress(content[packed:])
        except lzma.LZMAError:
            unpacked = b""
        if unpacked.startswith(b"\x7fELF"):
            content = unpacked
    with open(target, "wb") as file:
        file.write(content)


def initramfs():
    """Path of the guests' initramfs, built again when anything that goes into it has changed."""
    kernel()
    return pack("initramfs", _guest_programs(), MODULES)


def bonding_initramfs():
    """The same, with the modules that bonding needs in /modules."""
    kernel()
    return pack("bonding", _guest_programs(), MODULES, MODULES_BONDING)


def _guest_programs():
    return {f"/bin/{name}": program(name) for name in ("iperf3", "ethtool")}


def pack(kind, files, modules, modules_later=()):
    """Path of an initramfs with busybox, the agent, `files` ({path inside: path here}, with the libraries that
    programs among them need) and kernel modules, loaded at boot or only there. Built again when anything of it has
    changed."""
    files = {"/bin/busybox": program("busybox"), "/init": os.path.join(HERE, "guest_init"), **files}
    for path in sorted(set(files.values())):
        files.update({library: library for library in libraries_of(path)})
    here = {name: module(name) for name in [*modules, *modules_later]}
    own = [(name, os.path.join(HERE, f"{name}.c")) for name in OWN_PROGRAMS]
    digest = hashlib.sha256()
    for target, path in sorted([*files.items(), *((name, path) for name, path in here.items() if path), *own,
                                ("image", os.path.abspath(__file__))]):
        status = os.stat(path)
        digest.update(f"{target} {path} {status.st_size} {status.st_mtime_ns}".encode())
    target = os.path.join(cache_dir(), f"{kind}-{digest.hexdigest()[:16]}.cpio")
    if not os.path.exists(target):
        with tempfile.TemporaryDirectory(dir=cache_dir()) as staging:
            _fill(staging, files, {name: path for name, path in here.items() if path}, modules)
            for name, source in own:
                run("cc", "-O2", "-s", "-static", "-Wall", "-Wextra", "-Werror", "-D_GNU_SOURCE",
                    "-o", os.path.join(staging, "bin", name), source)
            with open(os.path.join(staging, "..", f"{os.path.basename(staging)}.cpio"), "wb") as output:
                names = subprocess.run(["find", "."], cwd=staging, capture_output=True, check=True).stdout
                subprocess.run(["cpio", "-o", "-H", "newc", "--quiet", "-R", "0:0"], cwd=staging, input=names,
                               stdout=output, check=True)
            os.rename(output.name, target)
        _forget_old(kind)
    os.utime(target)
    _link(target, os.path.join(cache_dir(), f"{kind}.cpio"))  # a name that people can type
    return target


def _forget_old(kind, unused_s=3600):
    """Each change of a program makes a new image; those that nobody has used for an hour go."""
    for path in glob.glob(os.path.join(cache_dir(), f"{kind}-*.cpio")):
        if time.time() - os.stat(path).st_mtime > unused_s:
            os.remove(path)


def libraries_of(path):
    """The shared libraries that a program, or another library, is linked with."""
    return re.findall(r"(?:=> )?(/\S+) \(0x", run("ldd", path, check=False).stdout)


def _link(target, link):
    if os.path.realpath(link) == os.path.realpath(target):
        return
    fresh = f"{link}.{os.getpid()}"
    os.symlink(os.path.basename(target), fresh)
    os.replace(fresh, link)


def program(name):
    path = shutil.which(name)
    if not path:
        raise LabError(f"{name} is not installed; ./quickstart and ./test install what they need")
    return path


def _fill(staging, files, modules, order):
    os.chmod(staging, 0o755)  # it becomes the guest's root directory, and not everyone in a guest is root
    for folder in ("bin", "dev", "proc", "sys", "tmp", "run", "etc", "modules"):
        os.makedirs(os.path.join(staging, folder))
    if libraries_of(files["/bin/busybox"]):
        raise LabError("busybox is not the static one; install busybox-static")
    for target, source in files.items():
        copy = staging + target
        os.makedirs(os.path.dirname(copy), exist_ok=True)
        shutil.copyfile(os.path.realpath(source), copy)
        os.chmod(copy, stat.S_IRWXU | stat.S_IRGRP | stat.S_IXGRP | stat.S_IROTH | stat.S_IXOTH)
    for applet in run("busybox", "--list").stdout.split():
        link = os.path.join(staging, "bin", applet)
        if not os.path.lexists(link):
            os.symlink("busybox", link)
    for name, path in modules.items():
        shutil.copyfile(path, os.path.join(staging, "modules", f"{name}.ko"))
    with open(os.path.join(staging, "modules", "order"), "w", encoding="ascii") as file:
        file.write("\n".join(name for name in order if name in modules) + "\n")


if __name__ == "__main__":
    initramfs()
