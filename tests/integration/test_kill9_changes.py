"""The daemon is killed at random moments of a stream of changes, 50 times. Each time it comes back with the last change
that it acknowledged, or with the one after it as well, whole; and the host has exactly what belongs to that."""

import copy
import http.client
import json
import os
import random
import socket
import threading
import time

from lab.proc import wait_until

KILLS = 50
STREAM_S_MAX = 0.12  # the killer comes at a random moment up to here
START_S_MAX = 0.25   # the same for the rounds in which it comes while the daemon starts
NICS = ("nic0", "nic1")
SWITCHES = [f"sw{i}" for i in range(4)]
GUESTS = [f"vm{i}" for i in range(8)]
HOSTS = [f"host{i}" for i in range(5)]


class Api:
    """One connection to the daemon; ask() raises OSError or HTTPException if it goes away before the answer is here."""

    def __init__(self, path):
        self._connection = http.client.HTTPConnection("localhost", timeout=20)
        self._connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._connection.sock.connect(path)

    def ask(self, method, target, body=None):
        self._connection.request(method, target, json.dumps(body) if body is not None else None)
        answer = self._connection.getresponse()
        text = answer.read().decode()
        return answer.status, json.loads(text) if text else None

    def close(self):
        self._connection.close()


def empty_host():
    return {"switches": {}, "vnics": {}}


def seen_host(shown):
    """What `show` says about what was asked for, without what is only counted or found."""
    host = empty_host()
    for one in shown["switches"]:
        host["switches"][one["name"]] = {"type": one["type"], "uplink": one["uplink"]["nic"] if one["uplink"] else None,
                                         "mtu": one["mtu"]}
    for one in shown["vnics"]:
        host["vnics"][one["name"]] = {"switch": one["switch"], "kind": one["kind"], "mac": one["mac"],
                                      "vid": one["vlan"]["vid"]}
    return host


class Changes:
    """Random changes that are valid on a host, each as (method, target, body, the host after it)."""

    def __init__(self, seed):
        self._random = random.Random(seed)
        self._macs = 0

    def next(self, host):
        makers = [self._create_switch, self._set_switch, self._delete_switch, self._create_vnic, self._create_vnic,
                  self._create_vnic, self._set_vnic, self._set_vnic, self._delete_vnic, self._delete_vnic]
        while True:
            made = self._random.choice(makers)(copy.deepcopy(host))
            if made:
                return made

    def _pick(self, names):
        names = sorted(names)
        return self._random.choice(names) if names else None

    def _mac(self):
        self._macs += 1
        return f"02:00:00:01:{self._macs >> 8 & 255:02x}:{self._macs & 255:02x}"

    def _create_switch(self, host):
        name = self._pick(set(SWITCHES) - host["switches"].keys())
        if not name:
            return None
        kind = self._random.choice(("external", "internal", "private"))
        nic = self._pick(set(NICS) - {one["uplink"] for one in host["switches"].values()})
        if kind == "external" and not nic:
            return None
        mtu = self._random.randrange(1280, 1501)
        body = {"name": name, "type": kind, "mtu": mtu, **({"uplink": nic} if kind == "external" else {})}
        host["switches"][name] = {"type": kind, "uplink": nic if kind == "external" else None, "mtu": mtu}
        return "POST", "/v1/switches", body, host

    def _set_switch(self, host):
        name = self._pick(host["switches"])
        if not name:
            return None
        mtu = host["switches"][name]["mtu"] = self._random.randrange(1280, 1501)
        return "PATCH", f"/v1/switches/{name}", {"mtu": mtu}, host

    def _delete_switch(self, host):
        name = self._pick(host["switches"].keys() - {one["switch"] for one in host["vnics"].values()})
        if not name:
            return None
        del host["switches"][name]
        return "DELETE", f"/v1/switches/{name}", None, host

    def _create_vnic(self, host):
        switch = self._pick(host["switches"])
        if not switch:
            return None
        kind = "guest" if host["switches"][switch]["type"] == "private" else self._random.choice(("guest", "host"))
        name = self._pick(set(GUESTS if kind == "guest" else HOSTS) - host["vnics"].keys())
        if not name:
            return None
        vid = self._random.choice((None, 101, 102))
        vnic = host["vnics"][name] = {"switch": switch, "kind": kind, "mac": self._mac(), "vid": vid}
        body = {"name": name, "switch": switch, "kind": kind, "mac": vnic["mac"],
                "vlan": {"mode": "access", "vid": vid} if vid else {"mode": "untagged"}}
        return "POST", "/v1/vnics", body, host

    def _set_vnic(self, host):
        name = self._pick(host["vnics"])
        if not name:
            return None
        vnic = host["vnics"][name]
        body = {}
        if self._random.random() < 0.5:
            vnic["mac"] = body["mac"] = self._mac()
        if self._random.random() < 0.7 or not body:
            vnic["vid"] = self._random.choice((101, 102, 103))
            body["vlan"] = {"mode": "access", "vid": vnic["vid"]}
        return "PATCH", f"/v1/vnics/{name}", body, host

    def _delete_vnic(self, host):
        name = self._pick(host["vnics"])
        if not name:
            return None
        del host["vnics"][name]
        return "DELETE", f"/v1/vnics/{name}", None, host


def start(daemon):
    """Starts the daemon; a connection to it."""
    daemon.launch()

    def connect():
        daemon.process.check()
        try:
            return Api(daemon.api_socket)
        except OSError:
            return None
    return wait_until(connect, "the daemon to listen", 20.0)


def stream_until_killed(api, changes, acknowledged):
    """Makes changes until the daemon is gone. Gives the host after the last acknowledged change, the host after the one
    that was on its way, and how many were acknowledged."""
    count = 0
    while True:
        method, target, body, after = changes.next(acknowledged)
        try:
            status, answer = api.ask(method, target, body)
        except (OSError, http.client.HTTPException, ValueError):
            return acknowledged, after, count
        assert status in (200, 201, 204), (method, target, body, answer)
        acknowledged = after
        count += 1


def check_host(host, api, wanted):
    """Interfaces, sockets and states are what `wanted` needs, no more and no less."""
    hosts = {name: vnic for name, vnic in wanted["vnics"].items() if vnic["kind"] == "host"}
    guests = wanted["vnics"].keys() - hosts.keys()
    links = {link["ifname"]: link for link in json.loads(host.netns.run("ip", "-j", "link").stdout)}
    assert links.keys() == {"lo", *NICS, *hosts}
    for name, vnic in hosts.items():
        assert links[name]["address"] == vnic["mac"]
        assert links[name]["mtu"] == wanted["switches"][vnic["switch"]]["mtu"]
        assert "UP" in links[name]["flags"]
    vhost = os.path.join(host.run_dir, "vhost")
    assert set(os.listdir(vhost)) == {f"{name}.sock" for name in guests}
    for name in guests:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.connect(os.path.join(vhost, f"{name}.sock"))
    assert set(os.listdir(host.run_dir)) == {"api.sock", "lock", "rings", "vhost"}
    assert os.listdir(os.path.join(host.run_dir, "rings")) == []  # no guest connects, so no ring has a position

    def settled():
        shown = api.ask("GET", "/v1/show")[1]
        states = {vnic["name"]: vnic["state"] for vnic in shown["vnics"]}
        states.update({one["name"]: one["uplink"]["state"] for one in shown["switches"] if one["uplink"]})
        wrong = {name: state for name, state in states.items()
                 if state not in (("waiting_for_guest", "negotiating") if name in guests else ("up",))}
        return not wrong
    wait_until(settled, "every object to be realised")


def test_what_was_acknowledged_is_there_after_each_of_50_kills(host):
    for nic in NICS:
        host.add_nic(nic)
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")
    moments = random.Random(seed + 1)
    changes = Changes(seed)
    acknowledged = empty_host()
    total = after_the_change = 0
    api = Api(host.daemon.api_socket)
    for kill in range(KILLS):
        process = host.daemon.process
        killer = threading.Timer(moments.uniform(0, STREAM_S_MAX), process.popen.kill)
        killer.start()
        acknowledged, in_flight, count = stream_until_killed(api, changes, acknowledged)
        killer.join()
        api.close()
        process.wait()
        total += count
        if kill % 5 == 4:  # and once more while it starts
            process = host.daemon.launch()
            time.sleep(moments.uniform(0, START_S_MAX))  # a moment to be killed at, whatever it is doing then
            process.kill()
        api = start(host.daemon)
        seen = seen_host(api.ask("GET", "/v1/show")[1])
        assert seen in (acknowledged, in_flight), f"seed {seed}, kill {kill}"
        after_the_change += seen == in_flight != acknowledged
        acknowledged = seen
        check_host(host, api, acknowledged)
    print(f"{total} changes acknowledged; after {after_the_change} of {KILLS} kills the one in flight was there too")
    assert total > KILLS, "too few changes for the kills to meet one"
    host.clear()
    check_host(host, api, empty_host())
    api.close()
