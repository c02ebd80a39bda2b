"""The systemd unit: patchbayd as an unprivileged user with the unit's capabilities does everything that root's does,
with QEMU as yet another user in both roles; and each capability is needed for something that says so if it is missing.
"""

import os
import re
import shutil
import subprocess

import pytest
from lab import guest, netcheck
from lab.daemon import sanitizer
from lab.lab import Lab
from lab.netns import veth
from lab.proc import run, tail, wait_until
from lab.wirings import wait_connected
from unit_runner import OTHER, QEMU, USER, Service, as_user, guest_files, install

SUBNET = "10.80.0"
MACS = {"vm1": "02:00:00:00:05:01", "vm2": "02:00:00:00:05:02"}
ADDRESSES = {"vm1": f"{SUBNET}.1", "vm2": f"{SUBNET}.2", "mgmt": f"{SUBNET}.3", "far": f"{SUBNET}.4"}


@pytest.fixture(scope="module")
def lab(_root):
    with Lab.create(f"t{os.getpid()}-unit") as made:
        made.far = made.add_netns("far")
        veth(made.host, "nic0", made.far, "eth0")
        made.far.set_ip("eth0", ADDRESSES["far"])
        yield made


@pytest.fixture(scope="module")
def unit(lab):
    return install(os.path.join(lab.dir, "usr"))


@pytest.fixture(scope="module")
def service(lab, unit):
    """patchbayd by its unit, with a switch on the NIC and a host vnic."""
    lab.daemon = Service(os.path.join(lab.dir, "service"), lab.host, unit)
    os.makedirs(os.path.join(lab.dir, "service"))
    lab.daemon.start()
    lab.daemon.do("switch", "create", "lan", "--external", "nic0")
    lab.daemon.do("vnic", "create", "mgmt", "--switch", "lan", "--host")
    lab.host.set_ip("mgmt", ADDRESSES["mgmt"])
    return lab.daemon


@pytest.fixture(scope="module")
def guests(lab, service):
    """vm1 connects to Patchbay's socket, for which its user is in Patchbay's group. vm2 listens on a socket of its own,
    in a directory that gives what is made in it to Patchbay's group."""
    place = os.path.join(lab.dir, "qemu")
    os.makedirs(place)
    os.chown(place, QEMU, USER)
    os.chmod(place, 0o2750)
    kvm = [os.stat("/dev/kvm").st_gid] if guest.accelerator() == "kvm" else []
    files = guest_files(lab.dir)
    for name, groups, listens in (("vm1", [USER, *kvm], False), ("vm2", kvm, True)):
        path = os.path.join(place, f"{name}.vhost")
        connect = ("--connect", path) if listens else ()
        service.do("vnic", "create", name, "--switch", "lan", "--mac", MACS[name], *connect)
        vm = lab.guests[name] = guest.Guest(lab.record, place, name, MACS[name])
        vm.prefix = as_user(QEMU, groups, umask="007")
        vm.files = files
        vm.start_vhost(path if listens else service.json("vnic", "show", name)["vhost_socket"], listens=listens)
    for name in MACS:
        lab.guests[name].wait_ready()
        lab.guests[name].set_ip(ADDRESSES[name])
    wait_connected(service, MACS)
    return lab.guests


def test_systemd_finds_no_fault_with_the_unit(unit):
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not installed")
    done = run("systemd-analyze", "verify", unit.path, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    done = run("systemd-analyze", "security", "--offline=true", unit.path, check=False)
    level = re.search(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
    assert level and float(level[1]) <= 3.0, done.stdout[-2000:]


def test_the_process_is_what_the_unit_says(unit, service):
    assert unit.value("User") == unit.value("Group") == "patchbay"
    assert unit.capabilities("CapabilityBoundingSet") == unit.capabilities()
    assert set(service.status("Uid") + service.status("Gid")) == {str(USER)}
    assert service.status("Groups") == []
    bits = {"net_admin": 12, "net_raw": 13}
    mask = sum(1 << bits[name] for name in unit.capabilities())
    for which in ("CapEff", "CapPrm", "CapBnd", "CapAmb"):
        assert int(service.status(which)[0], 16) == mask, which
    assert service.status("NoNewPrivs") == ["1"]
    with open(f"/proc/{service.process.pid}/limits", encoding="ascii") as file:
        assert re.search(rf"Max open files\s+{service.open_files()}\s", file.read())
    with open(service.log, encoding="utf-8") as file:
        assert "without CAP_" not in file.read()


def test_the_file_system_is_read_only_but_for_its_own_directories(service):
    """That the runner does what the unit says, without which the tests here would show less."""
    root = f"/proc/{service.process.pid}/root"
    for path in ("/usr", "/etc", "/run"):
        assert os.statvfs(root + path).f_flag & os.ST_RDONLY, path
    for path in (service.state_dir, service.run_dir):
        assert not os.statvfs(root + path).f_flag & os.ST_RDONLY, path


def test_guests_host_and_wire_reach_each_other(lab, guests, service):
    ends = [netcheck.End.of_guest(guests[name], None) for name in MACS]
    ends.append(netcheck.End.of_netns(lab.host, "mgmt", ADDRESSES["mgmt"], None, "host vnic"))
    ends.append(netcheck.End.of_netns(lab.far, "far", ADDRESSES["far"], None, "wire"))
    seen = netcheck.matrix(ends)
    assert all(seen.values()), netcheck.table(ends, seen)
    assert {name: service.json("vnic", "show", name)["vhost_role"] for name in MACS} == {"vm1": "listen",
                                                                                       "vm2": "connect"}


def test_sockets_are_for_the_group(service):
    service.do("vnic", "create", "idle", "--switch", "lan")
    path = service.json("vnic", "show", "idle")["vhost_socket"]
    try:
        for socket_path in (path, service.api_socket):
            status = os.stat(socket_path)
            assert (status.st_uid, status.st_gid, status.st_mode & 0o7777) == (USER, USER, 0o660)
        assert service.cli_as(OTHER, [USER], "vnic", "list").returncode == 0
        refused = service.cli_as(OTHER, [], "vnic", "list")
        assert refused.returncode == 1 and service.api_socket in refused.stderr and "not allowed" in refused.stderr
        connect = ["/usr/bin/python3", "-c", "import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])",
                   path]
        assert subprocess.run([*as_user(OTHER, [USER]), *connect], stderr=subprocess.PIPE, check=False).returncode == 0
        assert b"PermissionError" in subprocess.run([*as_user(OTHER), *connect], stderr=subprocess.PIPE,
                                                    check=False).stderr
    finally:
        service.do("vnic", "delete", "idle")


def test_it_comes_back_after_kill_9_as_the_unit_restarts_it(lab, guests, service):
    assert service.unit.value("Restart") == "on-failure"
    service.kill9()
    service.start()
    wait_connected(service, MACS)
    assert service.json("vnic", "show", "mgmt")["state"] == "up"
    for name in MACS:
        wait_until(lambda name=name: guests[name].ping(ADDRESSES["mgmt"], wait_s=1), f"{name} to reach the host again")
    wait_until(lambda: guests["vm1"].ping(ADDRESSES["far"], wait_s=1), "vm1 to reach the wire again")


def allowed_system_calls(unit):
    """Those of SystemCallFilter=, as the installed systemd spells its sets out."""
    sets, current = {}, None
    for line in run("systemd-analyze", "syscall-filter").stdout.splitlines():
        word = line.strip()
        if line.startswith("@"):
            current = sets.setdefault(word, set())
        elif word and not word.startswith("#") and current is not None:
            current.add(word)

    def spelled_out(name):
        return set().union(*map(spelled_out, sets[name])) if name.startswith("@") else {name}
    return set().union(*map(spelled_out, unit.value("SystemCallFilter").split()))


def system_calls(path, since=""):
    """Names of the system calls in a log of strace -f, from the line with `since` on."""
    with open(path, encoding="utf-8", errors="replace") as file:
        text = file.read()
    return set(re.findall(r"^\d+ +(?:<\.\.\. )?(\w+)(?:\(| resumed)", text[text.index(since):], re.MULTILINE))


TRIED = {"iopl"}  # DPDK asks for it at its start and goes on without, as it must where there is no CAP_SYS_RAWIO


def test_it_makes_no_system_call_that_the_unit_forbids(lab, unit, service, guests):
    """From its start to its end with every kind of object, and with guests that talk and leave."""
    if sanitizer():
        pytest.skip("a sanitizer makes system calls of its own")
    for tool in ("strace", "systemd-analyze"):
        if not shutil.which(tool):
            pytest.skip(f"{tool} is not installed")
    allowed = allowed_system_calls(unit)
    assert "io_submit" in allowed and "mount" not in allowed
    place = os.path.join(lab.dir, "traced")
    os.makedirs(place)
    netns = lab.add_netns("traced")
    veth(netns, "up0", lab.far, "peer-traced")
    log = os.path.join(lab.dir, "start.strace")
    traced = Service(place, netns, unit, wrap=["strace", "-D", "-f", "-q", "-o", log])
    traced.start(limit_s=60.0)
    traced.do("switch", "create", "in1", "--internal")
    traced.do(*EXTERNAL)
    traced.do(*HOST_VNIC)
    traced.do("vnic", "create", "one", "--switch", "lan")
    traced.do("vnic", "delete", "probe")
    assert traced.stop() == 0
    wait_until(lambda: f"{traced.process.pid} +++ exited with 0" in tail(log, 50).replace("  ", " "), "strace to end")
    seen = system_calls(log, since='sbin/patchbayd"')
    assert {"bind", "epoll_wait", "io_setup"} <= seen, seen
    with open(log, encoding="utf-8", errors="replace") as file:
        tried = [line for line in file if any(f"{name}(" in line for name in TRIED)]
    assert all("= -1 " in line for line in tried), tried
    assert seen - TRIED <= allowed, seen - allowed

    log = os.path.join(lab.dir, "traffic.strace")
    tracer = lab.host.start("strace", "strace", "-f", "-qq", "-o", log, "-p", service.process.pid)
    wait_until(lambda: service.status("TracerPid") == [str(tracer.pid)], "strace to attach")
    assert guests["vm1"].ping(ADDRESSES["far"], count=2) and guests["vm2"].ping(ADDRESSES["mgmt"], count=2)
    path = service.json("vnic", "show", "vm2")["vhost_socket"]
    guests["vm2"].stop()
    guests["vm2"].start_vhost(path, listens=True)
    guests["vm2"].wait_ready()
    guests["vm2"].set_ip(ADDRESSES["vm2"])
    wait_connected(service, ["vm2"])
    wait_until(lambda: guests["vm2"].ping(ADDRESSES["mgmt"]), "vm2 to reach the host again")
    tracer.stop()
    seen = system_calls(log)
    assert {"recvmsg", "sendmmsg", "mmap"} <= seen, seen
    assert seen <= allowed, seen - allowed


def test_host_vnics_come_and_go(lab, service):
    service.do("vnic", "create", "more", "--switch", "lan", "--host", "--vlan", 101)
    service.do("switch", "set", "lan", "--mtu", 1400)
    assert lab.host.run("cat", "/sys/class/net/more/mtu").stdout.strip() == "1400"
    service.do("switch", "set", "lan", "--mtu", 1500)
    service.do("vnic", "set", "more", "--mac", "02:00:00:00:05:99")
    service.do("vnic", "delete", "more")
    assert "more" not in lab.host.run("ls", "/sys/class/net").stdout.split()


# What needs each capability, and what works without it all the same. The unit's list is exactly these keys.
HOST_VNIC = ("vnic", "create", "probe", "--switch", "in1", "--host")
EXTERNAL = ("switch", "create", "lan", "--external", "up0")
NEEDED = {"net_admin": (HOST_VNIC, EXTERNAL), "net_raw": (EXTERNAL, HOST_VNIC)}


def test_the_list_of_capabilities_is_known(unit):
    assert set(unit.capabilities()) == set(NEEDED)


@pytest.mark.parametrize("capability", NEEDED)
def test_each_capability_is_needed_and_missed_by_name(lab, unit, capability):
    netns = lab.add_netns(f"no-{capability.replace('_', '-')}")
    veth(netns, "up0", lab.far, f"peer-{capability}")
    place = os.path.join(lab.dir, capability)
    os.makedirs(place)
    lame = Service(place, netns, unit, without=capability)
    lame.start()
    try:
        name = f"CAP_{capability.upper()}"
        with open(lame.log, encoding="utf-8") as file:
            assert f"without {name}: " in file.read(), "it says so at its start"
        lame.do("switch", "create", "in1", "--internal")
        fails, works = NEEDED[capability]
        done = lame.cli(*fails)
        assert done.returncode == 1 and done.stderr.count("\n") == 1, done
        assert f"it needs {name}" in done.stderr and "systemd unit" in done.stderr, done.stderr
        lame.do(*works)
        assert fails[2] not in [one["name"] for noun in ("switch", "vnic") for one in lame.json(noun, "list")]
    finally:
        lame.stop()


def test_a_socket_group_needs_membership(lab, unit):
    place = os.path.join(lab.dir, "group")
    os.makedirs(place)
    netns = lab.add_netns("group")
    grouped = Service(place, netns, unit, groups=[OTHER], arguments=["--socket-group", str(OTHER)])
    grouped.start()
    try:
        grouped.do("switch", "create", "in1", "--internal")
        grouped.do("vnic", "create", "probe", "--switch", "in1")
        path = grouped.json("vnic", "show", "probe")["vhost_socket"]
        for owned in (path, os.path.dirname(path), grouped.api_socket):
            assert os.stat(owned).st_gid == OTHER, owned
        assert grouped.cli_as(OTHER, [], "vnic", "list").returncode == 0
    finally:
        grouped.stop()
    place = os.path.join(lab.dir, "stranger")
    os.makedirs(place)
    stranger = Service(place, netns, unit, arguments=["--socket-group", str(OTHER)])
    stranger.launch()
    assert stranger.process.wait() == 1
    with open(stranger.process.log, encoding="utf-8") as file:
        last = file.read().splitlines()[-1]
    assert f"cannot be given to group {OTHER}" in last and "SupplementaryGroups" in last, last
