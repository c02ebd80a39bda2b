"""The administrator of the soak: makes, changes and deletes switches and vnics at random while frames flow, and asks
for what has to be refused. Each change goes to the daemon and to the model."""

import time

from lab.proc import wait_until
from soak_ends import LIMIT_S, GuestEnd, InterfaceEnd, MachineEnd
from soak_model import NO_VLAN, Mode, Switch, Vnic, changed
from soak_traffic import VIDS

MTUS = (576, 1200, 1500, 2000)
NIC_MTU = max(MTUS) + 400
PRIVATE = {100: (101, 102), 200: (201, 202)}  # primary: secondaries
PARKED = 4000  # a VLAN that nobody else is in
VNICS_PER_SWITCH = 7
UPLINKS = ("raw0", "raw1")
MACHINE = "vm"  # the vnic of the QEMU guest: it is changed like the others, but stays


def random_mode(chance):
    kind = chance.choices(("untagged", "access", "trunk", "isolated", "community", "promiscuous"),
                          (12, 28, 25, 10, 15, 10))[0]
    primary = chance.choice(list(PRIVATE))
    secondaries = PRIVATE[primary if chance.random() < 0.95 else 300 - primary]  # now and then another primary's
    if kind == "access":
        return Mode(kind, chance.choice(VIDS[1:3] if chance.random() < 0.5 else VIDS))
    if kind == "trunk":
        allowed = frozenset(chance.sample(VIDS, chance.randint(1, 6)))
        pruned = frozenset(chance.sample(sorted(allowed), chance.randint(0, len(allowed) - 1)))
        native = chance.choice([None, NO_VLAN, *(vid for vid in VIDS if vid not in pruned)])
        return Mode(kind, allowed=allowed, pruned=pruned, native=native)
    if kind in ("isolated", "community"):
        return Mode(kind, primary=primary, secondaries=frozenset({chance.choice(secondaries)}))
    if kind == "promiscuous":
        return Mode(kind, primary=primary, secondaries=frozenset(chance.sample(secondaries, chance.randint(1, 2))))
    return Mode()


class Changes:
    """One change a call of one(). `unbalanced`: switches whose counters went with a port while frames flowed; `gone`:
    {switch: [(port, its last counters), …]} of vnics that were at rest when they went; `base`: the counters of each
    port when the round began."""

    def __init__(self, chance, rest, lab, timeline, traffic):
        self.chance = chance
        self.rest = rest
        self.lab = lab
        self.timeline = timeline
        self.traffic = traffic
        self.unbalanced = set()
        self.gone = {}
        self.base = {}
        self.done = {}
        self._made = 0
        self._macs = 0
        self._weights = {
            self.set_mode: 30, self.set_spoofing: 8, self.set_mac: 6, self.set_priority: 4, self.set_limit: 2,
            self.create_vnic: 12, self.delete_vnic: 8, self.reconnect: 10, self.set_mtu: 5, self.set_force: 5,
            self.replace_switch: 2, self.ask_nonsense: 10,
        }

    def one(self):
        change = self.chance.choices(list(self._weights), list(self._weights.values()))[0]
        change()
        self.done[change.__name__] = self.done.get(change.__name__, 0) + 1

    @property
    def state(self):
        return self.timeline.now

    def _ask(self, state, method, target, body=None):
        """A change that must work, and leads to `state`."""
        self.timeline.ask(state, time.monotonic())
        answer = self.rest.do(method, target, body)
        self.timeline.acknowledged(time.monotonic())
        return answer

    def _refused(self, method, target, body, names):
        status, answer = self.rest.ask(method, target, body)
        assert 400 <= status < 500, f"{method} {target} {body} should be refused: {status} {answer}"
        assert names in answer["error"]["message"], f"{method} {target} {body}: {answer} does not name {names}"

    def _vnic(self):
        return self.chance.choice(list(self.state.vnics.values()))

    def _switch(self):
        return self.chance.choice(list(self.state.switches.values()))

    def _mac(self):
        self._macs += 1
        return bytes((2, 0, 0, 1)) + self._macs.to_bytes(2, "big")

    def _number(self):
        self._made += 1
        return self._made

    # ---- Switches and vnics that come and go ------------------------------------------------------------------------

    def create_switch(self, name, kind, uplink=None):
        switch = Switch(name, self._number(), kind, uplink, self.chance.choice(MTUS))
        body = {"name": name, "type": kind, "mtu": switch.mtu}
        if uplink:
            body["uplink"] = uplink
            end = InterfaceEnd(switch.port, self.traffic_netns(uplink), f"{uplink}-far")
            end.exact = False  # what the wire sends before the uplink is up is nobody's
        self._ask(self.state.with_switch(switch), "POST", "/v1/switches", body)
        if uplink:
            wait_until(lambda: self.rest.get(f"/v1/switches/{name}")["uplink"]["state"] == "up",
                       f"{uplink} to be up", LIMIT_S)
            self._add_end(end)

    def traffic_netns(self, uplink):
        return self.lab.wire[uplink]

    def create_vnic(self):
        room = [switch for switch in self.state.switches.values()
                if len(self.state.of_switch[switch.name]) < VNICS_PER_SWITCH]
        if not room:
            return
        switch = self.chance.choice(room)
        name = self.chance.choice([name for name in (f"v{i}" for i in range(32)) if name not in self.state.vnics])
        is_host = switch.kind != "private" and self.chance.random() < 0.25
        mode = random_mode(self.chance)
        vnic = Vnic(name, switch.name, self._number(), self._mac(), is_host, spoofing=self.chance.random() < 0.2)
        if self.state.refuses_mode(vnic, mode):
            mode = Mode()
        vnic = changed(vnic, own_mode=mode)
        made = self._ask(self.state.with_vnic(vnic), "POST", "/v1/vnics", {
            "name": name, "switch": switch.name, "kind": "host" if is_host else "guest", "mac": vnic.mac.hex(":"),
            "vlan": mode.json(), "mac_spoofing": vnic.spoofing})
        if is_host:
            end = InterfaceEnd(vnic.port, self.lab.host, name, set_up=True)
            end.exact = False  # it hears before anybody listens to it
        else:
            end = GuestEnd(vnic.port, made["vhost_socket"], vnic.mac)
        self._add_end(end)

    def create_machine(self, switch):
        """A vnic with a QEMU guest, which is up when this returns."""
        vnic = Vnic(MACHINE, switch, self._number(), self._mac())
        made = self._ask(self.state.with_vnic(vnic), "POST", "/v1/vnics",
                         {"name": MACHINE, "switch": switch, "mac": vnic.mac.hex(":")})
        vm = self.lab.add_guest(MACHINE, vnic.mac.hex(":"))
        vm.start_vhost(made["vhost_socket"])
        vm.wait_ready()
        wait_until(lambda: self.rest.get(f"/v1/vnics/{MACHINE}")["state"] == "connected", "the guest to connect",
                   LIMIT_S)
        self._add_end(MachineEnd(vnic.port, vm))

    def _add_end(self, end):
        self.traffic.ends = {**self.traffic.ends, end.port: end}

    def _take_end(self, port):
        end = self.traffic.ends[port]
        self.traffic.ends = {key: other for key, other in self.traffic.ends.items() if key != port}
        return end

    def delete_vnic(self):
        vnic = self._vnic()
        if len(self.state.of_switch[vnic.switch]) <= 2 or vnic.name == MACHINE:
            return
        forced = self.state.switches[vnic.switch].force_vlan
        if forced or not self.traffic.ends[vnic.port].exact or self.chance.random() < 0.5:
            self.unbalanced.add(vnic.switch)
        else:
            self._park(vnic)
        self._delete(vnic)

    def _delete(self, vnic):
        end = self._take_end(vnic.port)
        self._ask(self.state.without_vnic(vnic.name), "DELETE", f"/v1/vnics/{vnic.name}")
        with end.lock:
            self.traffic.check(end, end.poll())
            end.close()

    def _park(self, vnic):
        """Brings one vnic to rest while the others go on, so that its counters can be told for the last time."""
        end = self.traffic.ends[vnic.port]
        end.mute()
        mode = Mode("access", PARKED)
        self._ask(self.state.with_vnic(changed(vnic, own_mode=mode, spoofing=False)), "PATCH", f"/v1/vnics/{vnic.name}",
                  {"vlan": mode.json(), "mac_spoofing": False})

        def quiet():
            # Nothing comes to it any more, for the change has been acknowledged; what it sent may still be on its way.
            shown = self.rest.get(f"/v1/vnics/{vnic.name}")
            taken = shown["counters"]["from_guest"]["frames"] - self.base.get(vnic.port, {"in": 0})["in"]
            return shown if end.at_rest() and taken == end.sent else None
        last = wait_until(quiet, f"vnic {vnic.name} to come to rest", LIMIT_S, every_s=0.01)
        self.gone.setdefault(vnic.switch, []).append((vnic.port, last))

    def replace_switch(self):
        """A switch goes with all that is on it, and comes back empty."""
        switch = self._switch()
        if any(vnic.name == MACHINE for vnic in self.state.of_switch[switch.name]):
            return
        self.unbalanced.add(switch.name)
        if self.state.of_switch[switch.name]:
            self._refused("DELETE", f"/v1/switches/{switch.name}", None, switch.name)
        for vnic in self.state.of_switch[switch.name]:
            self._delete(vnic)
        end = self._take_end(switch.port) if switch.uplink else None
        self._ask(self.state.without_switch(switch.name), "DELETE", f"/v1/switches/{switch.name}")
        if end:
            with end.lock:
                self.traffic.check(end, end.poll())
                end.close()
        self.create_switch(switch.name, switch.kind, switch.uplink)

    def reconnect(self):
        guests = [end for end in self.traffic.ends.values() if isinstance(end, GuestEnd)]
        if not guests:
            return
        end = self.chance.choice(guests)
        name = end.port[0]

        def gone():
            return self.rest.get(f"/v1/vnics/{name}")["state"] == "waiting_for_guest"
        with end.lock:
            self.traffic.check(end, end.disconnect(gone))
        time.sleep(self.chance.choice((0.0, 0.05)))
        end.connect()

    # ---- Changes of what is there -----------------------------------------------------------------------------------

    def _set_vnic(self, vnic, body, **fields):
        self._ask(self.state.with_vnic(changed(vnic, **fields)), "PATCH", f"/v1/vnics/{vnic.name}", body)

    def set_mode(self):
        vnic = self._vnic()
        mode = random_mode(self.chance)
        if self.state.refuses_mode(vnic, mode):
            self._refused("PATCH", f"/v1/vnics/{vnic.name}", {"vlan": mode.json()}, vnic.name)
        else:
            self._set_vnic(vnic, {"vlan": mode.json()}, own_mode=mode)

    def set_spoofing(self):
        vnic = self._vnic()
        self._set_vnic(vnic, {"mac_spoofing": not vnic.spoofing}, spoofing=not vnic.spoofing)

    def set_priority(self):
        vnic = self._vnic()
        self._set_vnic(vnic, {"trust_priority": not vnic.trusts_priority}, trusts_priority=not vnic.trusts_priority)

    def set_limit(self):
        vnic = self._vnic()
        self._set_vnic(vnic, {"mac_limit": self.chance.choice((1, 2, 1024))})

    def set_mac(self):
        vnic = self._vnic()
        mac = self._mac()
        self._set_vnic(vnic, {"mac": mac.hex(":")}, mac=mac)
        end = self.traffic.ends[vnic.port]
        if vnic.is_host:  # it is another interface now
            end.exact = False
            end.open()

    def set_mtu(self):
        switch = self._switch()
        mtu = self.chance.choice(MTUS)
        self._ask(self.state.with_switch(changed(switch, mtu=mtu)), "PATCH", f"/v1/switches/{switch.name}",
                  {"mtu": mtu})

    def set_force(self):
        switch = self._switch()
        vid = None if switch.force_vlan or self.chance.random() < 0.3 else self.chance.choice(VIDS)
        body = {"force_vlan": vid}
        if self.state.refuses_force(switch.name, vid):
            self._refused("PATCH", f"/v1/switches/{switch.name}", body, switch.name)
        else:
            self._ask(self.state.with_switch(changed(switch, force_vlan=vid)), "PATCH", f"/v1/switches/{switch.name}",
                      body)

    def ask_nonsense(self):
        vnic, switch = self._vnic(), self._switch()
        other = self.chance.choice(list(self.state.vnics.values()))
        at_vnic, at_switch = f"/v1/vnics/{vnic.name}", f"/v1/switches/{switch.name}"
        cases = [
            ("PATCH", at_vnic, {"vlan": {"mode": "access", "vid": self.chance.choice((0, 4095, 4096, -1))}}, vnic.name),
            ("PATCH", at_vnic, {"vlan": {"mode": "trunk", "allowed": self.chance.choice(("", "5-3", "1-4095", "ten"))}},
             vnic.name),
            ("PATCH", at_vnic, {"vlan": {"mode": "trunk", "allowed": "10,20", "pruned": "20", "native": 20}},
             vnic.name),
            ("PATCH", at_vnic, {"vlan": {"mode": "isolated", "primary": 100, "secondary": 100}}, vnic.name),
            ("PATCH", at_vnic, {"mac": self.chance.choice(("ff:ff:ff:ff:ff:ff", "00:00:00:00:00:00", "02:00"))},
             vnic.name),
            ("PATCH", at_vnic, {"mac_limit": 0}, vnic.name),
            ("PATCH", at_vnic, {"colour": "red"}, "colour"),
            ("PATCH", at_switch, {"mtu": self.chance.choice((0, 575, 9001))}, switch.name),
            ("PATCH", at_switch, {"force_vlan": 4095}, switch.name),
            ("POST", "/v1/vnics", {"name": vnic.name, "switch": vnic.switch}, vnic.name),
            ("POST", "/v1/vnics", {"name": "stray", "switch": "nowhere"}, "nowhere"),
            ("POST", "/v1/switches", {"name": "second", "type": "external", "uplink": UPLINKS[0]}, UPLINKS[0]),
            ("DELETE", "/v1/vnics/nobody", None, "nobody"),
        ]
        if other is not vnic:
            cases.append(("PATCH", at_vnic, {"mac": other.mac.hex(":")}, other.name))
        self._refused(*self.chance.choice(cases))
