"""A NIC that the host itself uses: refused, or shared by a host vnic that takes its addresses over and gives them back."""

import json
import random
import socket
import threading
import time

import pytest
from conftest import Host, lab_name
from lab.lab import Lab
from lab.netns import veth
from lab.proc import wait_until
from lab.rawport import _in_netns

NIC, VNIC = "eth1", "host0"
MAC = "02:00:00:00:02:01"
PEER4, HOST4, SECOND4 = "192.0.2.1", "192.0.2.10", "192.0.2.11"
PEER6, HOST6 = "2001:db8:1::1", "2001:db8:1::10"
CONFIGURE = f"""
sysctl -qw net.ipv6.conf.all.disable_ipv6=0 net.ipv6.conf.default.disable_ipv6=0 net.ipv6.conf.{NIC}.disable_ipv6=0
ip addr add {HOST4}/24 brd + dev {NIC}
ip addr add {SECOND4}/24 dev {NIC} label {NIC}:web
ip addr add 198.51.100.7 peer 198.51.100.8/32 dev {NIC}
ip addr add 203.0.113.5/28 dev {NIC} noprefixroute
ip -6 addr add {HOST6}/64 dev {NIC} nodad
ip -6 addr add 2001:db8:2::5/64 dev {NIC} nodad valid_lft 5000 preferred_lft 4000
ip route add default via {PEER4} dev {NIC} src {HOST4} metric 50
ip route add 10.9.0.0/16 via {PEER4} dev {NIC} mtu 1400
ip route add 10.8.0.0/16 dev {NIC} scope link proto static
ip route add 10.7.0.0/16 via 172.31.0.1 dev {NIC} onlink table 77
ip -6 route add default via {PEER6} dev {NIC} metric 60
ip -6 route add 2001:db8:9::/48 via {PEER6} dev {NIC} table 77
ip neigh add 192.0.2.77 lladdr 02:00:00:00:00:77 dev {NIC} nud permanent
"""


@pytest.fixture
def shared(_root):
    """A host with a NIC that has addresses and routes; its other end is `peer` in a namespace of its own."""
    with Lab.create(lab_name("share")) as lab:
        peer = lab.add_netns("peer")
        veth(lab.host, NIC, peer, "eth0")
        lab.host.run("ip", "link", "set", NIC, "address", MAC)
        lab.host.shell("sysctl -qw net.ipv4.conf.all.arp_ignore=0")  # as hosts have it
        lab.host.shell("set -e\n" + CONFIGURE)
        peer.shell("set -e\nsysctl -qw net.ipv6.conf.all.disable_ipv6=0 net.ipv6.conf.eth0.disable_ipv6=0\n"
                   f"ip addr add {PEER4}/24 dev eth0; ip -6 addr add {PEER6}/64 dev eth0 nodad")
        lab.daemon.start()
        made = Host(lab)
        made.peer = peer
        yield made


def carried(netns, interface):
    """Addresses, routes and permanent neighbours of an interface as `ip` shows them, without its name and without what
    the kernel makes for every interface."""
    def read(*words):
        return json.loads(netns.run("ip", "-j", *words).stdout or "[]")
    links = read("addr", "show", "dev", interface)
    items = set()
    for address in links[0]["addr_info"] if links else []:
        if address["scope"] == "link" and address["family"] == "inet6":
            continue
        lifetime = "forever" if address["valid_life_time"] == 2**32 - 1 else "limited"
        items.add(("address", address["local"], address["prefixlen"], address.get("address"), address["scope"],
                   address.get("broadcast"), address.get("label", "").replace(interface, "NIC"),
                   bool(address.get("noprefixroute")), bool(address.get("secondary")), lifetime))
    for version in ("-4", "-6"):
        for route in read(version, "route", "show", "table", "all", "dev", interface):
            if route.get("table") == "local" or route["dst"].startswith(("fe80:", "ff00:", "multicast")):
                continue
            items.add(("route", version, *(str(route.get(key)) for key in (
                "dst", "gateway", "metric", "prefsrc", "table", "protocol", "scope", "type")),
                json.dumps(route.get("metrics")), "onlink" in route.get("flags", [])))
    for neighbour in read("neigh", "show", "nud", "permanent", "dev", interface):
        if not neighbour["dst"].startswith(("ff", "224.", "239.")):
            items.add(("neighbour", neighbour["dst"], neighbour["lladdr"]))
    return items


class Stream:
    """One TCP connection from the peer to the host: bytes that count up, checked by the receiver, as fast as they go."""

    def __init__(self, host, family, address):
        self.received = 0
        self.problem = None
        self._stop = threading.Event()
        listener = _in_netns(host.netns.name, lambda: socket.create_server((address, 0), family=family))
        self._out = _in_netns(host.peer.name, lambda: socket.socket(family, socket.SOCK_STREAM))
        self._out.settimeout(60)
        self._out.connect((address, listener.getsockname()[1]))
        self._in, _ = listener.accept()
        self._in.settimeout(60)
        listener.close()
        self._threads = [threading.Thread(target=self._run, args=(work,)) for work in (self._send, self._receive)]
        for thread in self._threads:
            thread.start()

    def _run(self, work):
        try:
            work()
        except OSError as error:
            self.problem = error

    def _send(self):
        block = bytes(range(256)) * 16
        while not self._stop.is_set():
            self._out.sendall(block)
        self._out.shutdown(socket.SHUT_WR)

    def _receive(self):
        while True:
            data = self._in.recv(1 << 16)
            if not data:
                return
            first = self.received % 256
            expected = (bytes(range(256)) * (len(data) // 256 + 2))[first:first + len(data)]
            assert data == expected, "bytes of the stream are wrong"
            self.received += len(data)

    def moves_on(self, limit_s=30.0):
        """Waits until it has received a good deal more."""
        goal = self.received + (1 << 16)
        wait_until(lambda: self.problem or self.received > goal, "the TCP connection to go on", limit_s)
        assert self.problem is None, self.problem

    def close(self):
        self._stop.set()
        for thread in self._threads:
            thread.join(60)
        self._in.close()
        self._out.close()
        assert self.problem is None, self.problem


def test_a_nic_that_the_host_uses_is_refused_with_the_way_out(shared):
    before = carried(shared.netns, NIC)
    done = shared.cli("switch", "create", "lan", "--external", NIC)
    assert done.returncode == 1
    for part in ("lan", NIC, f"{HOST4}/24", "--share-with-host"):
        assert part in done.stderr, done.stderr
    assert shared.json("switch", "list") == [] and carried(shared.netns, NIC) == before


def test_link_local_addresses_and_nothing_else_are_no_reason(shared):
    shared.netns.shell(f"ip addr flush dev {NIC}; ip route flush table all dev {NIC}; "
                        f"ip -6 route flush table all dev {NIC}; ip -6 addr add fe80::9/64 dev {NIC} nodad")
    shared.daemon.do("switch", "create", "lan", "--external", NIC)


def test_established_tcp_survives_the_move_and_the_way_back(shared):
    before = carried(shared.netns, NIC)
    assert len(before) > 15
    streams = [Stream(shared, socket.AF_INET, HOST4), Stream(shared, socket.AF_INET6, HOST6)]
    for stream in streams:
        stream.moves_on()
    shared.daemon.do("switch", "create", "lan", "--external", NIC, "--share-with-host", VNIC)
    assert carried(shared.netns, NIC) == set()
    assert carried(shared.netns, VNIC) == before
    assert shared.netns.mac(VNIC) == shared.netns.mac(NIC) == MAC
    switch, vnic = shared.json("switch", "show", "lan"), shared.json("vnic", "show", VNIC)
    assert switch["share_with_host"] == VNIC and (vnic["mac"], vnic["state"]) == (MAC, "up")
    for stream in streams:
        stream.moves_on()
    assert vnic["counters"]["to_guest"]["frames"] >= 0
    assert shared.json("vnic", "show", VNIC)["counters"]["to_guest"]["frames"] > 0  # it does go through the switch
    shared.daemon.do("switch", "delete", "lan")
    assert carried(shared.netns, NIC) == before
    assert shared.netns.run("ip", "link", "show", VNIC, check=False).returncode != 0
    for stream in streams:
        stream.moves_on()
        stream.close()
    assert shared.json("vnic", "list") == []


def test_each_packet_reaches_the_host_once(shared):
    """The NIC's own stack must not hear what comes in through the switch already."""
    shared.daemon.do("switch", "create", "lan", "--external", NIC, "--share-with-host", VNIC)
    inside = _in_netns(shared.netns.name, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    outside = _in_netns(shared.peer.name, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    with inside, outside:
        inside.bind((HOST4, 0))
        inside.settimeout(10)
        for number in range(50):
            outside.sendto(b"%d" % number, inside.getsockname())
            assert inside.recv(100) == b"%d" % number
        outside.sendto(b"end", inside.getsockname())
        assert inside.recv(100) == b"end"


def test_an_interface_with_the_name_of_the_vnic_keeps_what_it_has(shared):
    veth(shared.netns, "taken0", shared.peer, "taken0")
    shared.netns.run("ip", "addr", "add", "198.18.0.1/24", "dev", "taken0")
    before = carried(shared.netns, NIC), carried(shared.netns, "taken0")
    done = shared.cli("switch", "create", "lan", "--external", NIC, "--share-with-host", "taken0")
    assert done.returncode == 1 and "taken0" in done.stderr and "choose another name" in done.stderr, done.stderr
    assert (carried(shared.netns, NIC), carried(shared.netns, "taken0")) == before
    assert shared.json("switch", "list") == shared.json("vnic", "list") == []


def test_the_vnic_stays_while_the_nic_is_shared(shared):
    shared.daemon.do("switch", "create", "lan", "--external", NIC, "--share-with-host", VNIC)
    before = carried(shared.netns, VNIC)
    done = shared.cli("vnic", "delete", VNIC)
    assert done.returncode == 1 and "--share-with-host none" in done.stderr
    done = shared.cli("vnic", "set", VNIC, "--mac", "02:00:00:00:00:55")
    assert done.returncode == 1 and MAC in done.stderr
    assert carried(shared.netns, VNIC) == before
    shared.daemon.do("switch", "set", "lan", "--share-with-host", "none")
    assert carried(shared.netns, NIC) == before and shared.json("vnic", "list") == []
    shared.daemon.do("switch", "set", "lan", "--share-with-host", "mgmt")
    assert carried(shared.netns, "mgmt") == before
    done = shared.cli("switch", "set", "lan", "--share-with-host", "other")
    assert done.returncode == 1 and "mgmt" in done.stderr


def apply(host, text, tmp_path):
    file = tmp_path / "host.yaml"
    file.write_text(text)
    return host.cli("apply", "-f", file)


def test_a_file_shares_a_nic_as_the_command_does(shared, tmp_path):
    before = carried(shared.netns, NIC)
    without = f"switches:\n  lan: {{type: external, uplink: {NIC}}}\nvnics: {{}}\n"
    done = apply(shared, without, tmp_path)
    assert done.returncode == 1 and f"line 2: switch lan: the host uses nic {NIC} itself" in done.stderr, done.stderr
    assert shared.json("switch", "list") == [] and carried(shared.netns, NIC) == before
    stream = Stream(shared, socket.AF_INET, HOST4)
    stream.moves_on()
    file = without.replace("}\nvnics", f", share_with_host: {VNIC}}}\nvnics")
    assert apply(shared, file, tmp_path).returncode == 0
    assert carried(shared.netns, NIC) == set() and carried(shared.netns, VNIC) == before
    assert shared.json("vnic", "show", VNIC)["mac"] == MAC
    stream.moves_on()
    exported = shared.daemon.do("export")
    for again in (file, exported):
        assert apply(shared, again, tmp_path).stdout == "nothing to change\n"
    assert apply(shared, "switches: {}\nvnics: {}\n", tmp_path).returncode == 0
    assert carried(shared.netns, NIC) == before and not has(shared, VNIC)
    assert apply(shared, exported, tmp_path).returncode == 0
    assert carried(shared.netns, NIC) == set() and carried(shared.netns, VNIC) == before
    done = apply(shared, exported.replace(MAC, "02:00:00:00:00:77"), tmp_path)
    assert done.returncode == 1 and f"has the NIC's MAC {MAC}" in done.stderr, done.stderr
    stream.moves_on()
    stream.close()
    shared.daemon.do("switch", "delete", "lan")
    assert carried(shared.netns, NIC) == before


def test_what_cannot_be_moved_takes_everything_back(shared):
    """IPv6 is off for new interfaces, so the vnic cannot have the IPv6 addresses."""
    shared.netns.run("sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1")
    before = carried(shared.netns, NIC)
    done = shared.cli("switch", "create", "lan", "--external", NIC, "--share-with-host", VNIC)
    assert done.returncode == 1 and HOST6 in done.stderr or "2001:db8" in done.stderr, done.stderr
    assert carried(shared.netns, NIC) == before
    assert shared.json("switch", "list") == shared.json("vnic", "list") == []
    assert shared.netns.run("ip", "link", "show", VNIC, check=False).returncode != 0
    assert shared.peer.ping(HOST4)


def test_a_daemon_that_is_down_only_delays_the_connection(shared):
    shared.daemon.do("switch", "create", "lan", "--external", NIC, "--share-with-host", VNIC)
    before = carried(shared.netns, VNIC)
    stream = Stream(shared, socket.AF_INET, HOST4)
    stream.moves_on()
    shared.daemon.kill9()
    assert carried(shared.netns, VNIC) == before and carried(shared.netns, NIC) == set()
    # Nothing of ours is left on the NIC: promiscuity ended with the process.
    [link] = json.loads(shared.netns.run("ip", "-d", "-j", "link", "show", NIC).stdout)
    assert link["promiscuity"] == 0
    started = time.monotonic()
    shared.daemon.start()
    stream.moves_on(60.0)
    print(f"traffic back {time.monotonic() - started:.2f} s after the start")
    stream.close()
    assert carried(shared.netns, VNIC) == before


def test_what_a_dhcp_client_renews_on_the_nic_follows(shared):
    shared.daemon.do("switch", "create", "lan", "--external", NIC, "--share-with-host", VNIC)
    shared.netns.shell(f"ip addr change {HOST4}/24 brd + dev {NIC} valid_lft 600 preferred_lft 600;"
                       f"ip addr add 192.0.2.20/24 dev {NIC}; ip route replace 10.6.0.0/16 via {PEER4} dev {NIC}")
    wait_until(lambda: carried(shared.netns, NIC) == set(), "the new addresses to move", 20.0)
    held = {item[1]: item for item in carried(shared.netns, VNIC) if item[0] == "address"}
    assert "192.0.2.20" in held and held[HOST4][-1] == "limited"
    assert any(item[:3] == ("route", "-4", "10.6.0.0/16") for item in carried(shared.netns, VNIC))


def test_a_nic_that_is_gone_keeps_the_addresses_on_the_vnic(shared):
    shared.daemon.do("switch", "create", "lan", "--external", NIC, "--share-with-host", VNIC)
    before = carried(shared.netns, VNIC)
    shared.netns.run("ip", "link", "del", NIC)
    wait_until(lambda: shared.json("switch", "show", "lan")["uplink"]["state_reason"] == "no such NIC", "the loss")
    assert carried(shared.netns, VNIC) == before
    done = shared.cli("switch", "delete", "lan")
    assert done.returncode == 1 and NIC in done.stderr and f"ip addr flush dev {VNIC}" in done.stderr
    veth(shared.netns, NIC, shared.peer, "eth0")
    shared.netns.run("ip", "link", "set", NIC, "address", MAC)
    shared.peer.run("ip", "addr", "add", f"{PEER4}/24", "dev", "eth0")
    wait_until(lambda: shared.json("switch", "show", "lan")["uplink"]["state"] == "up", "its return")
    wait_until(lambda: shared.peer.ping(HOST4), "the host to answer again", 20.0)
    shared.daemon.do("switch", "delete", "lan")
    assert carried(shared.netns, NIC) == before


def test_kill9_in_the_middle_of_moves_loses_no_address(shared):
    """Many addresses make a move long; the daemon is killed at random moments of creating and deleting."""
    batch = "".join(f"addr add 10.{i // 200}.{i % 200}.1/24 dev {NIC}\nroute add 172.16.{i}.0/24 via {PEER4}\n"
                    for i in range(200))
    shared.netns.run("ip", "-batch", "-", input=batch)
    before = carried(shared.netns, NIC)
    chance = random.Random(3)
    middles = 0
    for _ in range(12):
        words = (("switch", "delete", "lan") if shared.json("switch", "list") else
                 ("switch", "create", "lan", "--external", NIC, "--share-with-host", VNIC))
        client = threading.Thread(target=shared.cli, args=words)
        client.start()
        # Not a wait for something: the kill is to come at any moment of the change.
        time.sleep(chance.uniform(0.0, 0.15))
        shared.daemon.kill9()
        client.join()
        on_nic, on_vnic = carried(shared.netns, NIC), carried(shared.netns, VNIC) if has(shared, VNIC) else set()
        assert addresses(on_nic) | addresses(on_vnic) == addresses(before)
        middles += bool(on_nic and on_vnic)
        shared.daemon.start()
        if shared.json("switch", "list"):
            wait_until(lambda: carried(shared.netns, VNIC) == before and not carried(shared.netns, NIC),
                       "the move to be completed", 20.0)
        else:
            assert carried(shared.netns, NIC) == before
    print(f"killed in the middle of a move: {middles} times of 12")
    if shared.json("switch", "list"):
        shared.daemon.do("switch", "delete", "lan")
    assert carried(shared.netns, NIC) == before


def addresses(items):
    return {item[:3] for item in items if item[0] == "address"}


def has(host, interface):
    return host.netns.run("ip", "link", "show", interface, check=False).returncode == 0
