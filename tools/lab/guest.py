"""One QEMU guest of the lab, and commands inside it.

Commands travel over the guest's second serial port (guest_agent.c is the other end), so they work whatever the network
does; the kernel's console is the first serial port and goes to a log. KVM is used only where a guest really came up
with it; else TCG, where QEMU 7.2 needs vectors=0 (it crashes with MSI-X and vhost-user).
"""

import base64
import json
import os
import random
import re
import select
import socket
import subprocess
import tempfile
import threading
import time

from . import image
from .netns import ipv6_commands
from .proc import LabError, Process, tail, wait_until

# What a guest needs not do while it starts.
KERNEL_ARGUMENTS = ("console=ttyS0 quiet panic=-1 nokaslr mitigations=off random.trust_cpu=on no_timer_check "
                    "tsc=reliable ipv6.disable_ipv6=1 audit=0 selinux=0 apparmor=0 cryptomgr.notests "
                    "rcupdate.rcu_expedited=1 8250.nr_uarts=2")
READY_LIMIT_S = 60.0
COMMAND_LIMIT_S = 30.0


class Channel:
    """Commands to a guest over the socket of its second serial port. Used by any thread."""

    def __init__(self, path):
        self.path = path
        self._socket = None
        self._buffer = b""
        self._answers = {}
        self._ready = False
        self._send_lock = threading.Lock()
        self._receive_lock = threading.Lock()

    def open(self, limit_s, alive):
        """Connects and waits for the guest's agent; alive() raises when there is nobody left to wait for."""
        end = time.monotonic() + limit_s
        greeted = 0.0
        while not self._ready:
            alive()
            now = time.monotonic()
            if now >= end:
                raise LabError(f"{self.path}: the guest is not ready after {limit_s:g} s")
            if self._socket is None and not self._connect():
                time.sleep(0.02)
                continue
            if now - greeted > 1.0:  # a guest that was ready before we came answers this
                self._socket.sendall(b"hello\n")
                greeted = now
            self._receive(0.1)

    def _connect(self):
        candidate = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            candidate.connect(self.path)
        except OSError:
            candidate.close()
            return False
        self._socket = candidate
        return True

    def _receive(self, wait_s):
        with self._receive_lock:
            readable, _, _ = select.select([self._socket], [], [], wait_s)
            if not readable:
                return
            chunk = self._socket.recv(65536)
            if not chunk:
                raise LabError(f"{self.path}: the guest is gone")
            *lines, self._buffer = (self._buffer + chunk).split(b"\n")
        for line in lines:
            if line.endswith(b"@ready"):
                self._ready = True
            answer = re.fullmatch(rb"@(\d+) (\d+) ?([A-Za-z0-9+/=]*)\r?", line)
            if answer:
                self._answers[int(answer[1])] = (int(answer[2]), base64.b64decode(answer[3]).decode(errors="replace"))

    def command(self, text, limit_s):
        number = random.randrange(1, 1 << 40)  # whoever asked before us over this port: an answer to it is not ours
        request = f"{number} {base64.b64encode(text.encode()).decode()}\n".encode()
        with self._send_lock:
            self._socket.sendall(request)
        end = time.monotonic() + limit_s
        while number not in self._answers:
            if time.monotonic() >= end:
                raise LabError(f"{self.path}: no answer after {limit_s:g} s to: {text}")
            self._receive(0.05)
        return self._answers.pop(number)

    def close(self):
        if self._socket:
            self._socket.close()
            self._socket = None


class Guest:
    """A guest with at most one network interface, eth0."""

    def __init__(self, record, run_dir, name, mac=None, memory_mb=128):
        self.name = name
        self.mac = mac
        self.memory_mb = memory_mb
        self.ip = None
        self.qmp = os.path.join(run_dir, f"{name}.qmp")  # monitor()
        self._record = record
        self._run_dir = run_dir
        self._channel = None
        self.process = None
        self.prefix = []  # words before QEMU's command: setpriv and the like
        self.files = {}   # {path: where it is to be found instead}, for a QEMU that may not read the original
        self.console_log = os.path.join(run_dir, f"{name}.console.log")
        self.qemu_log = os.path.join(run_dir, f"{name}.qemu.log")

    def start_vhost(self, path, listens=False, extra_device="", share=True, queues=1, more=()):
        """Starts with a vhost-user NIC. `listens`: QEMU offers the socket and the switch connects; else the reverse,
        and QEMU tries again each second when the switch goes away. `queues`: pairs; `more`: further arguments."""
        self.start([*self.vhost_arguments(path, listens, extra_device, share, queues), *more])

    def vhost_arguments(self, path, listens=False, extra_device="", share=True, queues=1, rom=False):
        """Memory and NIC of start_vhost(). `rom`: with the boot ROM of the NIC."""
        role = "server=on,wait=off" if listens else "reconnect=1"
        vectors = ",vectors=0" if accelerator() == "tcg" else ""
        size = f"size={self.memory_mb}M"
        memory = f"memory-backend-memfd,id=mem,{size},share={'on' if share else 'off'}"
        multiqueue = f",queues={queues}" if queues != 1 else ""
        return ["-object", memory, "-machine", "memory-backend=mem",
                "-chardev", f"socket,id=net0,path={path},{role}",
                "-netdev", f"vhost-user,id=net0,chardev=net0{multiqueue}",
                "-device", f"virtio-net-pci,netdev=net0,mac={self.mac},rx_queue_size=1024"
                           f"{'' if rom else ',romfile='}{',mq=on' if multiqueue else ''}{vectors}{extra_device}"]

    def start(self, network_arguments):
        channel = self._open_channel()
        command = [*self.prefix, *(self.files.get(word, word) for word in
                                    qemu_command(self.name, self.memory_mb, accelerator())),
                   "-qmp", f"unix:{self.qmp},server=on,wait=off",
                   "-serial", f"file:{self.console_log}", "-serial", f"unix:{channel},server=on,wait=off",
                   *network_arguments]
        self.process = Process(self._record, f"QEMU guest {self.name}", command, self.qemu_log)

    def _open_channel(self):
        """Path of the socket that QEMU is to offer the second serial port on."""
        path = os.path.join(self._run_dir, f"{self.name}.sock")
        if os.path.exists(path):
            os.unlink(path)
        self._channel = Channel(path)
        return path

    def adopt(self):
        """A guest that another program of this lab started."""
        self._channel = Channel(os.path.join(self._run_dir, f"{self.name}.sock"))
        self._channel.open(5.0, lambda: None)

    def wait_ready(self, limit_s=READY_LIMIT_S):
        try:
            self._channel.open(limit_s, self.process.check)
        except LabError as error:
            raise LabError(f"guest {self.name}: {error}\n{self._why_silent()}") from error

    def run(self, command, check=True, limit_s=COMMAND_LIMIT_S):
        """(exit status, output) of a shell command inside; LabError if it fails and `check`."""
        try:
            status, output = self._channel.command(command, limit_s)
        except LabError as error:
            raise LabError(f"guest {self.name}: {error}\n{self._why_silent()}") from error
        if check and status != 0:
            raise LabError(f"guest {self.name}: {command!r} gives {status}: {output.strip()}")
        return status, output

    def _why_silent(self):
        """What its kernel said last and what its CPUs do, for a log that is all that is left."""
        try:
            state = self.monitor("human-monitor-command", command_line="info registers -a")
            for number in range(state.count("CPU#")):
                state += self.monitor("human-monitor-command", command_line=f"info lapic {number}")
            told = [line for line in state.splitlines() if line.startswith(("CPU#", "RIP=", "dumping", "Timer", "ISR", "IRR"))]
        except (LabError, OSError, ValueError) as error:
            told = [f"QEMU does not say what its CPUs do: {error}"]
        return "\n".join(["console:", tail(self.console_log), *told])

    def set_ip(self, address, prefix=24):
        self.ip = address
        self.run(f"ip addr flush dev eth0; ip addr add {address}/{prefix} dev eth0; ip link set eth0 up")

    def set_ip6(self, address):
        self.run(ipv6_commands("eth0", address))

    def ping(self, address, count=1, wait_s=2):
        return self.run(f"ping -q -c {count} -W {wait_s} {address}", check=False,
                        limit_s=COMMAND_LIMIT_S + count)[0] == 0

    def statistics(self):
        """The kernel's counters of eth0: {"rx_packets": …, "tx_packets": …, …}."""
        _, text = self.run("cd /sys/class/net/eth0/statistics; for f in *; do echo $f $(cat $f); done")
        return {name: int(value) for name, value in (line.split() for line in text.splitlines())}

    def monitor(self, command, **arguments):
        """What QEMU's machine protocol answers to one command; LabError if it refuses."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(COMMAND_LIMIT_S)
            connection.connect(self.qmp)
            with connection.makefile("rw", encoding="utf-8") as stream:
                stream.readline()  # the greeting
                for request in ({"execute": "qmp_capabilities"},
                                {"execute": command, "arguments": {name.replace("_", "-"): value
                                                                   for name, value in arguments.items()}}):
                    stream.write(json.dumps(request) + "\n")
                    stream.flush()
                    answer = json.loads(stream.readline())
                    while "event" in answer:
                        answer = json.loads(stream.readline())
                    if "error" in answer:
                        raise LabError(f"guest {self.name}: {command}: {answer['error']['desc']}")
        return answer["return"]

    def reset(self):
        """Presses the reset button and waits until the guest is up again."""
        boot = self.run("cat /proc/sys/kernel/random/boot_id")[1]
        self.monitor("system_reset")
        channel = self._channel

        def is_another():
            self._channel.close()
            self._channel = Channel(channel.path)
            self.wait_ready()
            return self.run("cat /proc/sys/kernel/random/boot_id")[1] != boot
        wait_until(is_another, f"guest {self.name} to start anew", READY_LIMIT_S)

    def running(self):
        return self.process is not None and self.process.running()

    def stop(self):
        if self._channel:
            self._channel.close()
        if self.process:
            self.process.stop()


def qemu_command(name, memory_mb, accel):
    cpu = ["-cpu", "host"] if accel == "kvm" else []
    kernel, _ = image.kernel()
    return ["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-machine", "q35",
            "-accel", accel, *cpu, "-m", str(memory_mb), "-smp", "1", "-kernel", kernel, "-initrd", image.initramfs(),
            "-append", f"{KERNEL_ARGUMENTS} lab.name={name}"]


_accelerator = None


def accelerator():
    """"kvm" if a guest comes up with it on this machine, else "tcg". Tried once per boot of the host, then cached."""
    global _accelerator
    if _accelerator is None:
        with image.alone("accelerator"):
            _accelerator = _find_accelerator()
    return _accelerator


def _find_accelerator():
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        boot = file.read().strip()
    cached = os.path.join(image.cache_dir(), "accelerator.json")
    try:
        with open(cached, encoding="utf-8") as file:
            known = json.load(file)
    except (OSError, ValueError):
        known = {}
    if known.get("boot") != boot or known.get("accelerator") not in ("kvm", "tcg"):
        known = {"boot": boot, "accelerator": "kvm" if _kvm_works() else "tcg"}
        with open(cached, "w", encoding="utf-8") as file:
            json.dump(known, file)
    return known["accelerator"]


def _kvm_works(limit_s=8.0):
    """Boots a guest with KVM and waits for its agent; a /dev/kvm that exists may still not run a stock kernel."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return False
    with tempfile.TemporaryDirectory() as place:
        path = os.path.join(place, "kvm.sock")
        command = qemu_command("kvm", 128, "kvm") + ["-serial", "null", "-serial", f"unix:{path},server=on,wait=off"]
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL) as trial:
            def alive():
                if trial.poll() is not None:
                    raise LabError("ended")
            channel = Channel(path)
            try:
                channel.open(limit_s, alive)
                return channel.command("true", 5.0)[0] == 0
            except (LabError, OSError):
                return False
            finally:
                channel.close()
                trial.kill()
