"""The physical network behind the NIC: an Open vSwitch of the lab's own and hosts on it.

Open vSwitch runs its userspace datapath with a private database server and switch daemon, in a namespace and a
directory of the lab; a system-wide Open vSwitch is neither used nor touched.
"""

import os
import shutil

from .netns import veth
from .proc import LabError, run, wait_until

SCHEMA = "/usr/share/openvswitch/vswitch.ovsschema"


class OpenVSwitch:
    """A database server and a switch daemon with files, sockets and settings of their own."""

    def __init__(self, run_dir, netns, vswitchd="ovs-vswitchd"):
        """`vswitchd`: the program; Debian has one with DPDK and one without."""
        self.netns = netns
        self.vswitchd = None  # its process
        self._program = vswitchd
        self._dir = os.path.join(run_dir, "ovs")
        self._socket = os.path.join(self._dir, "db.sock")
        self._environment = dict(os.environ, OVS_RUNDIR=self._dir, OVS_LOGDIR=self._dir, OVS_DBDIR=self._dir)
        self._processes = []

    def start_daemons(self, *settings):
        """`settings`: words of other_config that hold before the switch daemon starts."""
        if not os.path.exists(SCHEMA):
            raise LabError(f"{SCHEMA} is missing: install openvswitch-switch (./quickstart and ./test do)")
        os.makedirs(self._dir)
        database = os.path.join(self._dir, "conf.db")
        run("ovsdb-tool", "create", database, SCHEMA)
        common = ["--no-chdir", "-vconsole:warn", "-vsyslog:off"]
        self._processes.append(self.netns.start(
            "ovsdb-server", "ovsdb-server", database, f"--remote=punix:{self._socket}",
            f"--unixctl={self._dir}/ovsdb.ctl", *common, env=self._environment))
        wait_until(lambda: self._alive() and os.path.exists(self._socket), "Open vSwitch's database")
        self.vsctl("--no-wait", "init")
        if settings:
            self.vsctl("--no-wait", "set", "Open_vSwitch", ".", *(f"other_config:{word}" for word in settings))
        self.vswitchd = self.netns.start(
            "ovs-vswitchd", self._program, f"unix:{self._socket}", f"--unixctl={self._dir}/vswitchd.ctl",
            *common, env=self._environment)
        self._processes.append(self.vswitchd)

    def stop_daemons(self):
        """Ends both; afterwards start_daemons() begins anew."""
        for process in reversed(self._processes):
            process.stop()
        self._processes = []
        shutil.rmtree(self._dir, ignore_errors=True)

    def _alive(self):
        for process in self._processes:
            process.check()
        return True

    def vsctl(self, *words):
        """ovs-vsctl on the private database; without --no-wait it returns when the switch does what it says."""
        return run("ovs-vsctl", f"--db=unix:{self._socket}", "--timeout=20", *words, env=self._environment)

    def appctl(self, *words):
        return run("ovs-appctl", f"--target={self._dir}/vswitchd.ctl", *words, env=self._environment)


class PhysicalSwitch(OpenVSwitch):
    """Its one bridge, `wire`, and the cables to it."""

    def __init__(self, run_dir, netns):
        super().__init__(run_dir, netns)
        self._ports = 0

    def start(self):
        self.start_daemons()
        self.vsctl("add-br", "wire", "--", "set", "bridge", "wire", "datapath_type=netdev",
                   "other-config:mac-aging-time=15")
        return self

    def _plug(self, netns, interface, *settings):
        """A cable from `interface` (created in `netns`) to a new port; returns the port's name."""
        self._ports += 1
        port = f"p{self._ports}"
        veth(netns, interface, self.netns, port)
        netns.tx_offload(interface, False)
        self.vsctl("add-port", "wire", port, *settings)
        return port

    def add_trunk(self, netns, interface, vids):
        """A cable that carries the VLANs `vids`, tagged."""
        return self._plug(netns, interface, "vlan_mode=trunk", f"trunks={','.join(map(str, vids))}")

    def add_bond(self, name, netns, interfaces, vids, *settings):
        """Cables that are one port, a trunk of `vids`; returns their ends here. `settings`: "bond_mode=…", "lacp=active", …"""
        ends = []
        for interface in interfaces:
            self._ports += 1
            ends.append(f"p{self._ports}")
            veth(netns, interface, self.netns, ends[-1])
            netns.tx_offload(interface, False)
        self.vsctl("add-bond", "wire", name, *ends, "vlan_mode=trunk", f"trunks={','.join(map(str, vids))}", *settings)
        return ends

    def port_of(self, mac, vid):
        """Behind which port of the bridge an address was last heard of in a VLAN; None: it was not."""
        for line in self.appctl("fdb/show", "wire").stdout.splitlines()[1:]:
            port, vlan, address, _ = line.split()
            if address == mac and int(vlan) == vid:
                return self.port_names().get(port)
        return None

    def port_names(self):
        """{number: name} of the bridge's ports, as fdb/show numbers them: a bond is called by one of its cables."""
        rows = self.vsctl("--bare", "--columns=ofport,name", "list", "interface").stdout.split()
        return dict(zip(rows[::2], rows[1::2]))

    def add_access(self, netns, interface, vid):
        """A cable that carries VLAN `vid`, untagged."""
        return self._plug(netns, interface, f"tag={vid}")
