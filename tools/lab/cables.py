"""Two cables between a namespace's NICs and the physical switch: one port there, a bond, or two trunks that know nothing of
each other."""

from .proc import wait_until

NICS = ("eth1", "eth2")
BOND = "bond0"


class Cables:
    def __init__(self, physical, netns, vids):
        self.ends = []  # at the physical switch, in the order of NICS
        self._physical, self._netns, self._vids = physical, netns, vids

    def plug(self, *settings, bond=True):
        """`settings` of the bond: "bond_mode=…", "lacp=active", …"""
        if bond:
            self.ends = self._physical.add_bond(BOND, self._netns, NICS, self._vids, *settings)
        else:
            self.ends = [self._physical.add_trunk(self._netns, nic, self._vids) for nic in NICS]

    def set_carrier(self, nic, up):
        """As if the cable were pulled at the switch."""
        self._physical.netns.run("ip", "link", "set", self.ends[NICS.index(nic)], "up" if up else "down")

    def silence(self, nic):
        """The cable stays, has carrier, and carries nothing any more."""
        for netns, end in self._ends_of(nic):
            netns.run("tc", "qdisc", "replace", "dev", end, "root", "blackhole")

    def speak(self, nic):
        for netns, end in self._ends_of(nic):
            netns.run("tc", "qdisc", "delete", "dev", end, "root")

    def _ends_of(self, nic):
        return (self._netns, nic), (self._physical.netns, self.ends[NICS.index(nic)])

    def unplug(self):
        for end in self.ends:
            self._physical.netns.run("ip", "link", "delete", end, check=False)
        for port in (BOND, *self.ends):
            self._physical.vsctl("--if-exists", "del-port", "wire", port)
        self.ends = []
        wait_until(lambda: not any(f"{nic}@" in self._netns.run("ip", "-o", "link").stdout for nic in NICS),
                   "the cables to go")
