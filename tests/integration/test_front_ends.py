"""Front-ends as they come: with more queue pairs than the vnic, resets, drivers that come and go, memory that is added,
announcements, a second front-end, QEMU as another user."""

import os
import re
import shutil
import stat
import subprocess

import pytest
from front_end import FrontEnd
from lab import guest as lab_guest
from lab import image, wirings
from lab.lab import Lab
from lab.proc import Process, wait_until
from lab.rawport import RawPort
from scapy.layers.l2 import Dot1Q, Ether

MAC = "02:00:00:00:05:01"
OTHER_MAC = "02:00:00:00:05:02"
HOST_IP = "10.77.0.254"
GUEST_IP = "10.77.0.1"
SOCKET_GROUP = 47111
OTHER_USER = 65534


@pytest.fixture
def lan(host):
    """An internal switch with the host in it, and a vnic `web` whose guest nobody has started."""
    host.clear()
    host.daemon.do("switch", "create", "lan", "--internal")
    host.daemon.do("vnic", "create", "h0", "--switch", "lan", "--host")
    host.netns.set_ip("h0", HOST_IP)
    host.daemon.do("vnic", "create", "web", "--switch", "lan", "--mac", MAC)
    yield host
    for name in list(host.lab.guests):
        host.lab.guests.pop(name).stop()
    host.clear()


def socket_of(host, vnic="web"):
    return host.json("vnic", "show", vnic)["vhost_socket"]


def view(host, vnic="web"):
    return host.json("vnic", "show", vnic)


def drops(host, vnic="web"):
    return {reason: frames for reason, frames in view(host, vnic)["counters"]["drops"].items() if frames}


def start_guest(host, memory_mb=128, **options):
    vm = host.lab.add_guest("web", MAC)
    vm.memory_mb = memory_mb
    vm.start_vhost(socket_of(host), **options)
    vm.wait_ready()
    vm.set_ip(GUEST_IP)
    wirings.wait_connected(host.daemon, ["web"])
    return vm


@pytest.mark.parametrize("queues", [1, 2, 4])
def test_a_front_end_may_have_more_queue_pairs_than_the_vnic(lan, queues):
    """A one-vCPU guest boots, is reset, and its driver goes and comes: frames flow each time, over one pair."""
    vm = start_guest(lan, queues=queues)
    assert vm.ping(HOST_IP), "after power-on"
    assert vm.run("ls -d /sys/class/net/eth0/queues/rx-* | wc -l")[1].strip() == "1"
    vm.reset()
    vm.set_ip(GUEST_IP)
    assert vm.ping(HOST_IP), "after a reset"
    vm.run("rmmod virtio_net && insmod /modules/virtio_net.ko")
    vm.set_ip(GUEST_IP)
    assert vm.ping(HOST_IP), "after the driver was loaded again"
    vm.run("cd /sys/bus/virtio/drivers/virtio_net && d=$(ls -d virtio*) && echo $d > unbind && echo $d > bind")
    vm.set_ip(GUEST_IP)
    assert vm.ping(HOST_IP), "after the driver was bound again"
    assert lan.netns.ping(GUEST_IP), "and from outside"
    assert view(lan)["state"] == "connected"


@pytest.mark.parametrize("queues", [1, 2, 4])
def test_the_boot_rom_sends_whatever_number_of_queue_pairs_qemu_has(lan, queues):
    rom = "/usr/lib/ipxe/qemu/pxe-virtio.rom"
    if not os.path.exists(rom):
        pytest.skip(f"no boot ROM: {rom} is not there (package ipxe-qemu)")
    vm = lan.lab.add_guest("web", MAC)
    words = vm.vhost_arguments(socket_of(lan), queues=queues, rom=True)
    qemu = Process(lan.lab.record, "QEMU with a boot ROM",
                   ["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-machine", "q35",
                    "-accel", lab_guest.accelerator(), "-m", "128", "-boot", "n", *words],
                   os.path.join(lan.lab.dir, "rom.log"))
    try:
        def sends():  # it asks for an address
            qemu.check()
            return view(lan)["counters"]["from_guest"]["frames"] > 0
        wait_until(sends, "the boot ROM to send", 120.0)
        assert view(lan)["state"] == "connected"
    finally:
        qemu.stop()
    del lan.lab.guests["web"]
    vm = start_guest(lan, queues=queues)  # and the vnic is as good as new
    assert vm.ping(HOST_IP)


def missing_replies(log):
    """Numbers between the first and the last reply that have none."""
    with open(log, encoding="utf-8") as file:
        seen = [int(number) for number in re.findall(r"seq=(\d+)", file.read())]
    return sorted(set(range(seen[0], seen[-1] + 1)) - set(seen)) if seen else None


def test_memory_is_added_while_frames_flow(lan):
    """The memory table changes under rings that run: not one frame is lost, and the new memory is used."""
    # A kernel that may get memory above 4 GB keeps 64 MB for bounce buffers: 128 MB would be too little for it.
    vm = start_guest(lan, memory_mb=256, more=["-m", "size=256M,slots=2,maxmem=1G"])
    log = os.path.join(lan.lab.dir, "ping.log")
    ping = lan.netns.start("ping", "busybox", "ping", "-i", "0.01", "-W", "30", GUEST_IP)
    try:
        def replies():
            with open(log, encoding="utf-8") as file:
                return file.read().count("seq=")
        wait_until(lambda: replies() > 50, "the guest to answer", 30.0)
        for number in (1, 2):
            shared = mapped_files(lan)
            vm.monitor("object-add", **{"qom_type": "memory-backend-memfd", "id": f"more{number}",
                                        "size": 128 << 20, "share": True})
            vm.monitor("device_add", driver="pc-dimm", id=f"dimm{number}", memdev=f"more{number}")
            before = replies()
            wait_until(lambda: mapped_files(lan) > shared, "the new memory to be mapped", 20.0)
            wait_until(lambda: replies() > before + 50, "the guest to answer on", 30.0)
        use_new_memory(vm)
        before = replies()
        wait_until(lambda: replies() > before + 50, "the guest to answer from its new memory", 30.0)
    finally:
        ping.stop()
    assert missing_replies(log) == []
    assert view(lan)["state"] == "connected" and drops(lan) == {}


def mapped_files(host):
    """How many pieces of guest memory the daemon has mapped."""
    with open(f"/proc/{host.daemon.process.pid}/maps", encoding="ascii") as file:
        return len({line.split()[4] for line in file if "memfd:memory-backend-memfd" in line})


def use_new_memory(vm):
    """Takes the blocks of hot-added memory into use: they make the zone Normal, which kernels allocate from first."""
    def came():
        return "offline" in vm.run("cat /sys/devices/system/memory/memory*/state", check=False)[1] or \
            "Normal" in vm.run("cat /proc/zoneinfo")[1]
    wait_until(came, "the guest to see its new memory", 20.0)
    vm.run("for f in /sys/devices/system/memory/memory*/state; do "
           "grep -q online $f || echo online_kernel > $f; done")
    zone = vm.run("cat /proc/zoneinfo")[1].split("zone   Normal")[1]
    free, managed = (int(re.search(rf"\b{word}\s+(\d+)", zone)[1]) for word in ("pages free", "managed"))
    assert 0 < free < managed


def test_qemu_lets_patchbay_announce_the_guest_with_its_vlan(lan):
    """What QEMU asks for after a migration, and on the monitor's announce_self. That is as near as one gets here:
    QEMU migrates no vhost-user device whose back-end does not log writes."""
    nic = lan.add_nic("wire5")
    lan.daemon.do("switch", "create", "out", "--external", nic)
    lan.daemon.do("vnic", "create", "moved", "--switch", "out", "--vlan", 101, "--mac", OTHER_MAC)
    vm = lan.lab.add_guest("moved", OTHER_MAC)
    vm.start_vhost(socket_of(lan, "moved"))
    vm.wait_ready()
    vm.run("ip link set eth0 up")
    wirings.wait_connected(lan.daemon, ["moved"])
    before = view(lan, "moved")["counters"]["from_guest"]["frames"]
    sent_by_guest = vm.statistics()["tx_packets"]
    with RawPort(lan.peers, nic) as wire:
        vm.monitor("announce-self", initial=50, max=100, rounds=3, step=10)
        frames = wire.receive(lambda got: b"\x80\x35" in got[12:18], count=3, limit_s=20.0, quiet_s=1.0)
    assert len(frames) == 3
    for frame in map(Ether, frames):
        assert (frame.dst, frame.src, frame[Dot1Q].vlan) == ("ff:ff:ff:ff:ff:ff", OTHER_MAC, 101)
        assert frame[Dot1Q].type == 0x8035 and len(frame) == 64
    assert view(lan, "moved")["counters"]["from_guest"]["frames"] - before - \
        (vm.statistics()["tx_packets"] - sent_by_guest) == 3


def test_an_announcement_reaches_the_vlan_and_counts_as_a_frame_of_the_vnic(lan):
    nic = lan.add_nic("wire6")
    lan.daemon.do("switch", "create", "out", "--external", nic)
    ends = {}
    try:
        for name, mac, vid in (("a", OTHER_MAC, 101), ("b", "02:00:00:00:05:03", 101), ("c", "02:00:00:00:05:04", 102)):
            lan.daemon.do("vnic", "create", name, "--switch", "out", "--vlan", vid, "--mac", mac)
            ends[name] = FrontEnd(socket_of(lan, name), mac).start()
        with RawPort(lan.peers, nic) as wire:
            assert ends["a"].announce()
            frames = wire.receive(lambda got: b"\x80\x35" in got[12:18])
        assert len(frames) == 1 and Ether(frames[0])[Dot1Q].vlan == 101
        untagged = frames[0][:12] + frames[0][16:]
        assert ends["b"].wait_frame() == [untagged]
        assert untagged[22:28] == untagged[32:38] == ends["a"].mac and len(untagged) == 60

        assert ends["a"].announce(ends["b"].mac), "taken, but not obeyed"
        wait_until(lambda: drops(lan, "a") == {"source_mac": 1}, "the drop")
        counters = {name: view(lan, name)["counters"] for name in ends}
        assert counters["a"]["from_guest"]["frames"] == 2 and counters["a"]["flood_copies"] == 1
        assert counters["b"]["to_guest"]["frames"] == 1 and counters["c"]["to_guest"]["frames"] == 0
        assert ends["c"].receive() == []
    finally:
        for end in ends.values():
            end.close()


def test_a_second_front_end_is_refused_and_the_first_goes_on(lan):
    vm = start_guest(lan)
    second = lan.lab.add_guest("second", MAC)
    second.start_vhost(socket_of(lan))

    def refused():
        with open(lan.daemon.log, encoding="utf-8") as file:
            return "vnic web: refused a second front-end" in file.read()
    wait_until(refused, "the log to say that a second front-end was refused", 20.0)
    assert vm.ping(HOST_IP, count=5)
    assert view(lan)["state"] == "connected"
    second.stop()
    assert vm.ping(HOST_IP)


# ---- Another user ---------------------------------------------------------------------------------------------------

@pytest.fixture
def grouped():
    """A daemon whose sockets are for a group."""
    if not shutil.which("setpriv"):
        pytest.skip("setpriv (util-linux) is not installed")
    with Lab.create(f"t{os.getpid()}-group") as lab:
        lab.daemon.arguments = ["--socket-group", str(SOCKET_GROUP)]
        lab.daemon.start()
        lab.daemon.do("switch", "create", "lan", "--internal")
        lab.daemon.do("vnic", "create", "h0", "--switch", "lan", "--host")
        lab.host.set_ip("h0", HOST_IP)
        yield lab


def as_user(groups):
    return ["setpriv", f"--reuid={OTHER_USER}", f"--regid={OTHER_USER}",
            f"--groups={groups}" if groups else "--clear-groups"]


def copy_of_image(folder):
    """QEMU arguments for kernel and initramfs that other users may read."""
    words = []
    for option, source in (("-kernel", image.kernel()[0]), ("-initrd", image.initramfs())):
        copy = os.path.join(folder, os.path.basename(source))
        shutil.copyfile(source, copy)
        os.chmod(copy, 0o644)
        words += [option, copy]
    return words


@pytest.mark.parametrize("listens", [False, True])
def test_qemu_as_another_user_of_the_group(grouped, listens):
    home = os.path.join(grouped.dir, "home")
    os.mkdir(home)
    os.chown(home, OTHER_USER, OTHER_USER)
    connect = ("--connect", os.path.join(home, "net.sock")) if listens else ()
    grouped.daemon.do("vnic", "create", "web", "--switch", "lan", "--mac", MAC, *connect)
    vm = lab_guest.Guest(grouped.record, home, "web", MAC)
    vm.prefix = as_user(SOCKET_GROUP)
    path = grouped.daemon.json("vnic", "show", "web")["vhost_socket"]
    try:
        vm.start_vhost(path, listens=listens, more=copy_of_image(home))
        vm.wait_ready()
        assert os.stat(f"/proc/{vm.process.pid}").st_uid == OTHER_USER
        vm.set_ip(GUEST_IP)
        wirings.wait_connected(grouped.daemon, ["web"])
        assert vm.ping(HOST_IP)
    finally:
        vm.stop()


def test_the_sockets_are_the_groups_and_nobody_elses(grouped):
    grouped.daemon.do("vnic", "create", "web", "--switch", "lan")
    path = grouped.daemon.json("vnic", "show", "web")["vhost_socket"]
    found = os.stat(path)
    assert (stat.S_IMODE(found.st_mode), found.st_gid) == (0o660, SOCKET_GROUP)
    folder = os.stat(os.path.dirname(path))
    assert (stat.S_IMODE(folder.st_mode), folder.st_gid) == (0o750, SOCKET_GROUP)
    program = f"import socket; socket.socket(socket.AF_UNIX).connect({path!r})"
    for groups, may in ((SOCKET_GROUP, True), (None, False)):
        done = subprocess.run([*as_user(groups), "/usr/bin/python3", "-c", program], capture_output=True, text=True,
                              timeout=20, check=False)
        assert (done.returncode == 0) == may, done.stderr
        assert may or "PermissionError" in done.stderr
