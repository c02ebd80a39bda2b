"""A team whose partner is Linux bonding, in a guest: a second opinion on LACP. The team's NICs are the guest's taps."""

import pytest
from conftest import Host, lab_name
from lab import image
from lab.lab import Lab
from lab.proc import wait_until

NICS = ("eth1", "eth2")
BONDING = "/proc/net/bonding/bond0"


class Linux(Host):
    """The guest `far` with a bond of two interfaces, and VLAN 101 on it."""

    def __init__(self, lab):
        super().__init__(lab)
        for nic in NICS:
            self.netns.run("ip", "tuntap", "add", nic, "mode", "tap")
            self.netns.run("ip", "link", "set", nic, "up")
        self.far = lab.add_guest("far")
        self.far.prefix = self.netns.command()
        self.far.files = {image.initramfs(): image.bonding_initramfs()}
        words = []
        for number, nic in enumerate(NICS, 1):
            words += ["-netdev", f"tap,id={nic},ifname={nic},script=no,downscript=no", "-device",
                      f"virtio-net-pci,netdev={nic},mac=02:00:00:00:0f:0{number},romfile="]
        self.far.start(words)
        self.far.wait_ready()
        self.far.run("insmod /modules/tls.ko && insmod /modules/bonding.ko mode=4 miimon=50 lacp_rate=1 xmit_hash_policy=1")
        for interface in ("eth0", "eth1"):
            # virtio-net says no speed by itself, and bonding lets no such interface speak LACP.
            self.far.run(f"ip link set {interface} down && ethtool -s {interface} speed 1000 duplex full && "
                         f"echo +{interface} > /sys/class/net/bond0/bonding/slaves")
        self.far.run("ip link set bond0 up && vconfig add bond0 101 && ip addr add 10.9.0.2/24 dev bond0.101 && "
                     "ip link set bond0.101 up")

    def members(self):
        return {member["nic"]: member for member in self.json("team", "show", "uplink")["members"]}

    def wait_states(self, *states, limit_s=30.0):
        wanted = dict(zip(NICS, states))
        wait_until(lambda: {nic: member["state"] for nic, member in self.members().items()} == wanted,
                   f"members to be {wanted}, not {self.members()}", limit_s)

    def ping(self):
        return self.netns.ping("10.9.0.2")


@pytest.fixture(scope="module")
def linux(_root):
    with Lab.create(lab_name("bonding")) as lab:
        lab.daemon.start()
        made = Linux(lab)
        made.daemon.do("team", "create", "uplink", "--nics", ",".join(NICS), "--mode", "lacp")
        made.daemon.do("switch", "create", "lan", "--external", "uplink")
        made.daemon.do("vnic", "create", "vm", "--switch", "lan", "--host", "--vlan", 101)
        made.netns.set_ip("vm", "10.9.0.1")
        made.wait_states("active", "active")
        yield made


def test_both_agree_on_one_aggregate(linux):
    _, text = linux.far.run(f"cat {BONDING}")
    assert "Number of ports: 2" in text, text
    system = linux.members()["eth1"]["lacp"]["actor"]["system"]
    assert f"Partner Mac Address: {system}" in text, text
    for member in linux.members().values():
        assert {"in-sync", "collecting", "distributing"} <= set(member["lacp"]["partner"]["state"]), member
    wait_until(linux.ping, "the guest to answer")


def test_a_member_that_the_partner_takes_out_is_inactive_and_comes_back(linux):
    linux.far.run("echo -eth1 > /sys/class/net/bond0/bonding/slaves")
    linux.wait_states("active", "inactive")
    wait_until(linux.ping, "the guest to answer")
    linux.far.run("ip link set eth1 down; echo +eth1 > /sys/class/net/bond0/bonding/slaves")
    linux.wait_states("active", "active")
    wait_until(linux.ping, "the guest to answer")


def test_a_nic_that_is_down_here_is_noticed_there(linux):
    linux.netns.run("ip", "link", "set", "eth1", "down")
    linux.wait_states("down", "active")
    wait_until(lambda: "Number of ports: 1" in linux.far.run(f"cat {BONDING}")[1], "the partner to notice the silence")
    wait_until(linux.ping, "the guest to answer")
    linux.netns.run("ip", "link", "set", "eth1", "up")
    linux.wait_states("active", "active")
    wait_until(lambda: "Number of ports: 2" in linux.far.run(f"cat {BONDING}")[1], "the partner to take it in again")


def test_slow_timers_hold_as_well(linux):
    linux.daemon.do("team", "set", "uplink", "--lacp-timer", "slow")
    linux.far.run("echo slow > /sys/class/net/bond0/bonding/lacp_rate || true", check=False)
    wait_until(lambda: all("short-timeout" not in member["lacp"]["actor"]["state"]
                           for member in linux.members().values()), "the timer to be another one")
    linux.wait_states("active", "active")
    wait_until(linux.ping, "the guest to answer")
    linux.daemon.do("team", "set", "uplink", "--lacp-timer", "fast")
    linux.wait_states("active", "active")


def test_a_static_aggregate_without_lacp(linux):
    """Both ends know that the links are one, and nobody says so."""
    out = "ip link set bond0 down; for i in eth0 eth1; do echo -$i > /sys/class/net/bond0/bonding/slaves; done; "
    back = ("for i in eth0 eth1; do ip link set $i down; echo +$i > /sys/class/net/bond0/bonding/slaves; done; "
            "ip link set bond0 up; ip link set bond0.101 up")
    linux.far.run(f"{out} echo balance-xor > /sys/class/net/bond0/bonding/mode; {back}")
    linux.daemon.do("team", "set", "uplink", "--mode", "static", "--balance", "address-hash")
    linux.wait_states("active", "active")
    assert all(member["lacp"] is None for member in linux.members().values())
    assert "(xor)" in linux.far.run(f"cat {BONDING}")[1]
    wait_until(linux.ping, "the guest to answer")
    # Many flows: some leave by the one, some by the other, and none is lost or comes twice.
    def sent():
        return {nic: member["counters"]["to_wire"]["frames"] for nic, member in linux.members().items()}
    before = sent()
    linux.netns.run("/usr/bin/python3", "-c", "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); "
                    "[s.sendto(b'x', ('10.9.0.2', 9000 + port)) for port in range(64)]")
    wait_until(lambda: all(sent()[nic] > before[nic] for nic in NICS), f"both members to carry some, not {before}")
    done = linux.netns.run("ping", "-c", "20", "-i", "0.05", "10.9.0.2").stdout
    assert " 0% packet loss" in done and "duplicates" not in done, done
