"""Network namespaces of a lab: one for the host that runs Patchbay, one for the physical switch, one a wire host."""

import shlex

from .proc import Process, run


def ipv6_commands(interface, address):
    """Shell commands that give an interface, which is up, this one IPv6 address and let it send nothing by itself but reports
    of the groups that the address needs."""
    quiet = "echo 0 >accept_ra; echo 0 >router_solicitations; echo 0 >accept_dad; echo 1 >addr_gen_mode"
    return (f"cd /proc/sys/net/ipv6/conf/{interface} && {quiet} && echo 0 >disable_ipv6 && "
            f"ip -6 addr flush dev {interface} && ip -6 addr add {address}/64 dev {interface}")


class Netns:
    """A network namespace. With name None: the one that this program runs in, which is never deleted."""

    def __init__(self, record, run_dir, name):
        self.name = name
        self._record = record
        self._run_dir = run_dir

    def create(self):
        self._record.add("netns", name=self.name)
        run("ip", "netns", "add", self.name)
        # IPv6 sends frames by itself (router and group messages): off, so that every counted frame is a test's own.
        self.run("sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1",
                 check=False)
        # A neighbour once found stays: no probes that come seconds after the test that made them.
        self.run("sysctl", "-qw", "net.ipv4.neigh.default.base_reachable_time_ms=86400000",
                 "net.ipv4.neigh.default.delay_first_probe_time=86400", check=False)
        # An address is answered for only where it is: else the kernel answers ARP for the host vnic on the NIC too.
        self.run("sysctl", "-qw", "net.ipv4.conf.all.arp_ignore=1")
        self.run("ip", "link", "set", "lo", "up")
        return self

    def command(self, *command):
        return ["ip", "netns", "exec", self.name, *command] if self.name else list(command)

    def run(self, *command, **options):
        return run(*self.command(*command), **options)

    def shell(self, text, **options):
        return self.run("sh", "-c", text, **options)

    def start(self, what, *command, **options):
        """A recorded background process inside; its output goes to <what>.log."""
        log = f"{self._run_dir}/{what.replace(' ', '-').replace('/', '-')}.log"
        return Process(self._record, what, command, log, netns=self.name, **options)

    def set_ip(self, interface, address, prefix=24):
        self.run("ip", "addr", "flush", "dev", interface)
        self.run("ip", "addr", "add", f"{address}/{prefix}", "dev", interface)
        self.run("ip", "link", "set", interface, "up")

    def set_ip6(self, interface, address):
        self.shell(ipv6_commands(interface, address))

    def ping(self, address, count=1, wait_s=2):
        return self.run("busybox", "ping", "-q", "-c", count, "-W", wait_s, address, check=False).returncode == 0

    def mac(self, interface):
        return self.run("cat", f"/sys/class/net/{interface}/address").stdout.strip()

    def statistics(self, interface):
        """The kernel's counters of an interface: {"rx_packets": …, …}."""
        text = self.shell(f"cd /sys/class/net/{shlex.quote(interface)}/statistics && "
                          "for f in *; do echo $f $(cat $f); done").stdout
        return {name: int(value) for name, value in (line.split() for line in text.splitlines())}

    def tx_offload(self, interface, on):
        """Off: checksums, segments and VLAN tags are put into each frame before it leaves, as on a real wire."""
        word = "on" if on else "off"
        self.run("ethtool", "-K", interface, "tx", word, "txvlan", word)


def veth(left, left_name, right, right_name):
    """A cable: two interfaces, one in each namespace, both up."""
    run("ip", "link", "add", left_name, "netns", left.name, "type", "veth",
        "peer", "name", right_name, "netns", right.name)
    left.run("ip", "link", "set", left_name, "up")
    right.run("ip", "link", "set", right_name, "up")
