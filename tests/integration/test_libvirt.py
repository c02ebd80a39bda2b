"""A libvirt domain whose memory and interface are what `attach-args --format libvirt` prints, run by a libvirtd of its own."""

import os
import re
import subprocess

import pytest
from lab import guest, image
from lab.lab import Lab
from lab.proc import LabError, run, start_time, wait_until
from unit_runner import as_user, guest_files

SUBNET = "10.81.0"
MTU = 4000
NOBODY, NOGROUP = 65534, "nogroup"  # libvirtd wants a user that has a name
DOMAIN = """<domain type='{kind}' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
  <name>web</name>
  {memory}
  <vcpu>1</vcpu>
  <os>
    <type arch='x86_64' machine='q35'>hvm</type>
    <kernel>{kernel}</kernel>
    <initrd>{initrd}</initrd>
    <cmdline>{cmdline}</cmdline>
  </os>
  <features><acpi/></features>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    {interface}
    <serial type='file'><source path='{console}'/><target port='0'/></serial>
    <serial type='unix'><source mode='bind' path='{channel}'/><target port='1'/></serial>
    <memballoon model='none'/>
  </devices>
  {override}
</domain>
"""
# QEMU 7.2 without KVM crashes on MSI-X of this device (attach-args says so too).
WITHOUT_MSIX = "<qemu:property name='vectors' type='unsigned' value='0'/>"


class Libvirt:
    """libvirtd of an unprivileged user, with all its files in one directory."""

    def __init__(self, lab):
        self.home = os.path.join(lab.dir, "libvirt")
        os.makedirs(self.home)
        os.chown(self.home, NOBODY, NOBODY)
        os.chmod(self.home, 0o700)
        self.words = [*as_user(NOBODY), "env", f"HOME={self.home}", f"XDG_RUNTIME_DIR={self.home}",
                      f"XDG_CACHE_HOME={self.home}", f"XDG_CONFIG_HOME={self.home}", f"XDG_DATA_HOME={self.home}"]
        self.process = lab.host.start("libvirtd", *self.words, "/usr/sbin/libvirtd")
        wait_until(lambda: self.virsh("version", check=False).returncode == 0, "libvirtd to answer", 60.0)

    def virsh(self, *words, check=True):
        done = subprocess.run([*self.words, "virsh", "-c", "qemu:///session", *words], capture_output=True, text=True,
                              timeout=60, check=False)
        if check and done.returncode != 0:
            raise LabError(f"virsh {' '.join(words)}: {done.stderr.strip()}")
        return done


class LibvirtGuest(guest.Guest):
    """A guest of the lab that libvirt runs."""

    def __init__(self, lab, name, mac):
        super().__init__(lab.record, os.path.join(lab.dir, "libvirt"), name, mac)
        self.process = None

    def wait_ready(self, limit_s=guest.READY_LIMIT_S):
        self._channel = guest.Channel(os.path.join(self._run_dir, f"{self.name}.sock"))
        self._channel.open(limit_s, lambda: None)


@pytest.fixture(scope="module")
def lab(_root):
    with Lab.create(f"t{os.getpid()}-virt") as made:
        made.daemon.arguments = ["--socket-group", NOGROUP]
        made.daemon.start()
        made.daemon.do("switch", "create", "lan", "--internal", "--mtu", MTU)
        made.daemon.do("vnic", "create", "web", "--switch", "lan", "--vlan", 101)
        for vid in (101, 102):
            made.daemon.do("vnic", "create", f"host{vid}", "--switch", "lan", "--host", "--vlan", vid)
            made.host.set_ip(f"host{vid}", f"{SUBNET}.{vid}", 32)
        yield made


def parts(text):
    """What attach-args prints, by where its comments say that it belongs: (into <domain>, into <devices>, before </domain>)."""
    found = re.fullmatch(r"<!-- Into <domain>: .*? -->\n(.*)<!-- Into <devices>: .*? -->\n(.*)<!-- Before </domain>.*? -->\n"
                         "(.*)", text, re.S)
    assert found, text
    return found.groups()


@pytest.fixture(scope="module")
def domain(lab):
    files = guest_files(lab.dir)
    memory, interface, override = parts(lab.daemon.do("vnic", "attach-args", "web", "--format", "libvirt", "--memory", "128M"))
    kernel, initramfs = files[image.kernel()[0]], files[image.initramfs()]
    place = os.path.join(lab.dir, "libvirt")
    if guest.accelerator() == "tcg":
        override = override.replace("</qemu:frontend>", f"{WITHOUT_MSIX}</qemu:frontend>")
    text = DOMAIN.format(kind="qemu" if guest.accelerator() == "tcg" else "kvm", memory=memory, interface=interface,
                         kernel=kernel, initrd=initramfs, cmdline=f"{guest.KERNEL_ARGUMENTS} lab.name=web",
                         console=os.path.join(place, "web.console.log"), channel=os.path.join(place, "web.sock"),
                         override=override)
    path = os.path.join(lab.dir, "web.xml")
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    os.chmod(path, 0o644)
    return path


@pytest.fixture(scope="module")
def web(lab, domain):
    libvirt = Libvirt(lab)
    libvirt.virsh("create", domain)
    with open(os.path.join(libvirt.home, "libvirt/qemu/run/web.pid"), encoding="ascii") as file:
        pid = int(file.read())
    lab.record.add("process", pid=pid, started=start_time(pid), what="QEMU of the domain web")
    made = lab.guests["web"] = LibvirtGuest(lab, "web", lab.daemon.json("vnic", "show", "web")["mac"])
    made.wait_ready()
    made.set_ip(f"{SUBNET}.1")
    yield made
    libvirt.virsh("destroy", "web")


def test_libvirt_finds_the_domain_valid(domain):
    done = run("virt-xml-validate", domain, "domain", check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def reaches(lab, vid):
    return lab.host.shell(f"busybox ping -q -c 1 -W 2 -I host{vid} {SUBNET}.1", check=False).returncode == 0


def test_the_domain_is_in_its_vlan(lab, web):
    for vid in (101, 102):
        lab.host.run("ip", "route", "replace", f"{SUBNET}.1/32", "dev", f"host{vid}", "metric", vid)
    wait_until(lambda: lab.daemon.json("vnic", "show", "web")["state"] == "connected", "the domain to be connected")
    assert web.run("cat /sys/class/net/eth0/address /sys/class/net/eth0/mtu")[1].split() == [web.mac, str(MTU)]
    wait_until(lambda: reaches(lab, 101), "the host to reach the domain in VLAN 101")
    assert not reaches(lab, 102)
    lab.daemon.do("vnic", "set", "web", "--vlan", 102)
    wait_until(lambda: reaches(lab, 102), "the host to reach the domain in VLAN 102")
    assert not reaches(lab, 101)


def test_the_domain_comes_back_after_a_restart_of_the_daemon(lab, web):
    lab.daemon.restart()
    wait_until(lambda: lab.daemon.json("vnic", "show", "web")["state"] == "connected", "the domain to reconnect")
    vid = lab.daemon.json("vnic", "show", "web")["vlan"]["vid"]
    wait_until(lambda: reaches(lab, vid), "the host to reach the domain again")
