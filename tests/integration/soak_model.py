"""What docs/reference/forwarding.md says, once more and by itself: which frame goes where. The soak holds the daemon
against it. It knows nothing of how the daemon does it, and of the FDB only that it narrows a choice.

Theory  A State is the whole host at one moment and never changes; a Timeline is the row of them. decide() judges one
        frame by one state. A frame was judged somewhere between its sending and its arrival, so it may be as any state
        says that was in force in between: from the moment its change was asked for, to the moment the change after it
        was acknowledged.
"""

import bisect
import threading
from dataclasses import dataclass, field, replace

NO_VLAN = 0
TPID = 0x8100
OTHER_TPIDS = (0x88A8, 0x9100)
LIMIT_ENTRIES = 4096  # of a timeline, between two points of rest


@dataclass(frozen=True)
class Mode:
    """A VLAN mode: untagged, access, trunk, isolated, community, promiscuous. `native`: None: frames without a tag are
    dropped, NO_VLAN: they are in no VLAN."""
    kind: str = "untagged"
    vid: int = NO_VLAN
    allowed: frozenset = frozenset()
    pruned: frozenset = frozenset()
    native: int | None = None
    primary: int = 0
    secondaries: frozenset = frozenset()

    def sends_untagged_in(self):
        if self.kind == "trunk":
            return self.native
        if self.kind in ("isolated", "community"):
            return min(self.secondaries)
        return {"untagged": NO_VLAN, "access": self.vid, "promiscuous": self.primary}[self.kind]

    def hears(self):
        """The VLANs whose frames it gets."""
        return {
            "untagged": lambda: frozenset({NO_VLAN}),
            "access": lambda: frozenset({self.vid}),
            "trunk": lambda: (self.allowed - self.pruned) | (set() if self.native is None else {self.native}),
            "isolated": lambda: frozenset({self.primary}),
            "community": lambda: self.secondaries | {self.primary},
            "promiscuous": lambda: self.secondaries | {self.primary},
        }[self.kind]()

    def may_send_tagged(self, vid):
        return self.kind == "trunk" and vid in self.hears()

    def sees_tag(self, vid):
        return self.kind == "trunk" and vid not in (self.native, NO_VLAN)

    def json(self):
        """As the API takes it."""
        def text(vids):
            return ",".join(map(str, sorted(vids)))
        if self.kind == "access":
            return {"mode": "access", "vid": self.vid}
        if self.kind == "trunk":
            return {"mode": "trunk", "allowed": text(self.allowed), "pruned": text(self.pruned),
                    "native": "untagged" if self.native == NO_VLAN else self.native}
        if self.kind == "promiscuous":
            return {"mode": self.kind, "primary": self.primary, "secondaries": text(self.secondaries)}
        if self.kind in ("isolated", "community"):
            return {"mode": self.kind, "primary": self.primary, "secondary": min(self.secondaries)}
        return {"mode": "untagged"}

    def contradicts(self, other):
        """Whether the two cannot be on one switch: a secondary VLAN belongs to one primary, and is none itself."""
        if not self.secondaries or not other.secondaries:
            return False
        if self.primary in other.secondaries or other.primary in self.secondaries:
            return True
        return self.primary != other.primary and bool(self.secondaries & other.secondaries)


@dataclass(frozen=True)
class Vnic:
    name: str
    switch: str
    made: int  # tells it from others of that name, before and after
    mac: bytes
    is_host: bool = False
    own_mode: Mode = Mode()
    spoofing: bool = False
    trusts_priority: bool = False

    @property
    def port(self):
        return self.name, self.made


@dataclass(frozen=True)
class Switch:
    name: str
    made: int
    kind: str
    uplink: str | None = None
    mtu: int = 1500
    force_vlan: int | None = None

    @property
    def port(self):
        """Its uplink as a port."""
        return f"wire of {self.name}", self.made


class State:
    """The host at one moment. Never changed; with_…() and without_…() give the next one."""

    def __init__(self, switches=(), vnics=()):
        self.switches = {switch.name: switch for switch in switches}
        self.vnics = {vnic.name: vnic for vnic in vnics}
        self.modes = {vnic.name: self._mode(vnic) for vnic in vnics}
        self.hears = {name: mode.hears() for name, mode in self.modes.items()}
        self.ports = {vnic.port: vnic for vnic in vnics}
        self.uplinks = {switch.port: switch for switch in switches if switch.uplink}
        self.of_switch = {name: [vnic for vnic in vnics if vnic.switch == name] for name in self.switches}
        self.memo = {}  # of decide()

    def _mode(self, vnic):
        forced = self.switches[vnic.switch].force_vlan
        return Mode("access", forced) if forced else vnic.own_mode

    def with_vnic(self, vnic):
        return State(self.switches.values(), {**self.vnics, vnic.name: vnic}.values())

    def without_vnic(self, name):
        return State(self.switches.values(), [vnic for vnic in self.vnics.values() if vnic.name != name])

    def with_switch(self, switch):
        return State({**self.switches, switch.name: switch}.values(), self.vnics.values())

    def without_switch(self, name):
        return State([switch for switch in self.switches.values() if switch.name != name], self.vnics.values())

    def refuses_mode(self, vnic, mode):
        """Whether the switch of `vnic` cannot have it in `mode`."""
        forced = self.switches[vnic.switch].force_vlan
        if forced and mode not in (Mode(), Mode("access", forced)):
            return True
        return any(mode.contradicts(other.own_mode) for other in self.of_switch[vnic.switch] if other.name != vnic.name)

    def refuses_force(self, switch, vid):
        return vid is not None and any(vnic.own_mode not in (Mode(), Mode("access", vid))
                                       for vnic in self.of_switch[switch])


@dataclass
class Decision:
    """`to`: what each port gets, byte for byte. `faults`: why it goes no further; where there are several, or it is
    `unsure`, the daemon may name another. `unsure`: what was learned may narrow `to`."""
    to: dict = field(default_factory=dict)
    faults: set = field(default_factory=set)
    unsure: bool = False


def tag_at(frame, at):
    """(tpid, vid, priority) of the tag at `at`; None if there is none, whole."""
    tpid = int.from_bytes(frame[at:at + 2], "big")
    if len(frame) < at + 6 or tpid not in (TPID, *OTHER_TPIDS):
        return None
    tci = int.from_bytes(frame[at + 2:at + 4], "big")
    return tpid, tci & 0xFFF, tci >> 13


def tag(vid, priority=0, tpid=TPID):
    return tpid.to_bytes(2, "big") + (priority << 13 | vid).to_bytes(2, "big")


def decide(state, port, frame):
    """What becomes of `frame`, which comes in at `port` under `state`."""
    if (port, frame) not in state.memo:
        state.memo[port, frame] = _decide(state, port, frame)
    return state.memo[port, frame]


def _decide(state, port, frame):
    vnic = state.ports.get(port)
    switch = state.switches[vnic.switch] if vnic else state.uplinks.get(port)
    if switch is None:
        return Decision(faults={"there is no such port"})
    if len(frame) < 14 or (len(frame) < 18 and int.from_bytes(frame[12:14], "big") in (TPID, *OTHER_TPIDS)):
        return Decision(faults={"frame_too_short"})
    faults = set()
    destination, source = frame[:6], frame[6:12]
    if destination[:5] == bytes.fromhex("0180c20000") and destination[5] < 16:
        faults.add("reserved_address")
    if source[0] & 1 or source == bytes(6):
        faults.add("source_multicast")
    vid, priority, inside = _vlan(state, vnic, frame, faults)
    holder = next((other for other in state.of_switch[switch.name] if other.mac == source and other is not vnic), None)
    if vnic:
        if source != vnic.mac and (holder or not vnic.spoofing):
            faults.add("source_mac")
        if not vnic.trusts_priority:
            priority = 0
    elif holder and {vid, _primary(state, switch, vid)} & state.hears[holder.name]:
        faults.add("source_mac")
    if len(inside) > switch.mtu + 14:
        faults.add("oversize")
    if faults:
        return Decision(faults=faults)
    to, fault, narrowed = _destinations(state, switch, vnic, destination, vid)
    decision = Decision(faults={fault} if fault else set(), unsure=narrowed)
    for target in to:
        decision.to[target.port] = _leaving(state, target, vid, priority, inside)
    return decision


def _primary(state, switch, vid):
    """The primary VLAN of `vid` where it is a secondary on this switch; else `vid`."""
    return next((state.modes[vnic.name].primary for vnic in state.of_switch[switch.name]
                 if vid in state.modes[vnic.name].secondaries), vid)


def _vlan(state, vnic, frame, faults):
    """(VLAN or None, priority, the frame without the tag that says so)."""
    outer = tag_at(frame, 12)
    inside = frame if outer is None or outer[0] != TPID else frame[:12] + frame[16:]
    tpid, vid, priority = outer or (TPID, 0, 0)
    if tpid != TPID or vid == 4095:
        faults.add("vlan_not_allowed")
        return None, 0, inside
    native = state.modes[vnic.name].sends_untagged_in() if vnic else NO_VLAN
    hides = outer is not None and tag_at(inside, 12) is not None
    if vid == 0:
        if native is None or hides:
            faults.add("vlan_not_allowed")
        return native, priority, inside
    if vnic and (not state.modes[vnic.name].may_send_tagged(vid) or (hides and vid == native)):
        faults.add("vlan_not_allowed")
    return vid, priority, inside


def _destinations(state, switch, vnic, destination, vid):
    """(vnics and Switch that get it, the fault if nobody does, whether learning may narrow it)."""
    sender = vnic or switch
    hear = [other for other in state.of_switch[switch.name] if vid in state.hears[other.name]]
    wire = [switch] if switch.uplink and vnic else []
    if destination[0] & 1:
        to = [other for other in hear if other is not sender] + wire
        return to, None if to else "no_destination", False
    named = [other for other in hear if other.mac == destination]
    if named:
        return ([], "same_port", False) if named[0] is sender else (named, None, False)
    # Nobody hears it by its address: it may have been learned, then one of these gets it; or it goes back where it was.
    to = [other for other in hear if other.spoofing and other is not sender] + wire
    pinned = any(other.mac == destination for other in state.of_switch[switch.name])
    learns = any(other.spoofing for other in state.of_switch[switch.name]) and not pinned
    return to, None if to else "no_destination", learns


def _leaving(state, target, vid, priority, inside):
    if isinstance(target, Switch):
        tagged = vid != NO_VLAN or priority
    else:
        tagged = state.modes[target.name].sees_tag(vid)
    return inside[:12] + (tag(vid, priority) if tagged else b"") + inside[12:]


class Timeline:
    """The states, each with the moments from which and until which it may have been in force. Any thread."""

    def __init__(self, state):
        self._lock = threading.Lock()
        self._since = [0.0]
        self._until = [float("inf")]
        self._states = [state]

    @property
    def now(self):
        with self._lock:
            return self._states[-1]

    def ask(self, state, at):
        """A change to `state` is asked for."""
        with self._lock:
            assert len(self._states) < LIMIT_ENTRIES
            self._since.append(at)
            self._until.append(float("inf"))
            self._states.append(state)

    def acknowledged(self, at):
        with self._lock:
            self._until[-2] = at

    def refused(self):
        with self._lock:
            del self._since[-1], self._until[-1], self._states[-1]

    def between(self, sent, received):
        """The states that may have been in force at some moment between the two."""
        with self._lock:
            first = bisect.bisect_left(self._until, sent)
            last = bisect.bisect_right(self._since, received)
            return self._states[first:last]

    def rest(self):
        """Forgets all but the last: nothing is on its way."""
        with self._lock:
            self._states[-1].memo.clear()
            del self._since[:-1], self._until[:-1], self._states[:-1]


def changed(value, **fields):
    return replace(value, **fields)
