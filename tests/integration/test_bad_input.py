"""Bad input of every kind while two guests talk: each is refused with a sentence that names the object and the way out,
leaves nothing behind, and costs the two not one frame.

The rest of the list has tests of its own: a NIC that goes and comes back (test_nic_loss.py), two daemons on one state
directory and paths that were taken while the daemon was down (test_bad_start.py), front-ends that break every rule
(test_hostile_front_ends.py), QEMU without shared memory (test_attach.py), each single field of a body and word of a
command line (test_api.py, test_cli.py).
"""

import os
import socket
import threading

import pytest
from conftest import settled
from front_end import FrontEnd
from lab.proc import wait_until
from rest import Rest

MACS = {"a": "02:00:00:00:09:01", "b": "02:00:00:00:09:02"}
SLOW_CLIENTS = 200
POOL_SIZE = 256
LARGE_BODY = 10 << 20
LONG = "x" * 5000


class Talk:
    """Numbered frames from a to b and back, each answered before the next is sent: what is lost is known at once."""

    def __init__(self, host):
        self.rounds = 0
        self.lost = None
        self._ends = {name: FrontEnd(host.json("vnic", "show", name)["vhost_socket"], mac).start()
                      for name, mac in MACS.items()}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        pairs = [(self._ends["a"], self._ends["b"]), (self._ends["b"], self._ends["a"])]
        while not self._stop.is_set() and self.lost is None:
            for source, target in pairs:
                frame = target.mac + source.mac + b"\x88\xb5" + self.rounds.to_bytes(8, "big") + bytes(40)
                source.send(frame)
                if (got := target.wait_frame(60.0)) != [frame]:
                    self.lost = f"round {self.rounds}: sent {frame.hex()}, got {[other.hex() for other in got]}"
                    return
                source.reap()
            self.rounds += 1

    def goes_on(self, rounds=20):
        goal = self.rounds + rounds
        wait_until(lambda: self.lost or self.rounds >= goal, "the guests to talk on", 30.0)
        assert self.lost is None, self.lost

    def close(self):
        self._stop.set()
        self._thread.join(90.0)
        for end in self._ends.values():
            end.close()
        assert self.lost is None, self.lost


@pytest.fixture
def lan(host):
    """An internal switch with two guests that talk, and a host vnic; a private switch whose vnics are in VLAN 7."""
    host.clear()
    host.daemon.do("switch", "create", "lan", "--internal")
    host.daemon.do("switch", "create", "lab", "--private", "--force-vlan", 7)
    host.daemon.do("vnic", "create", "mgmt", "--switch", "lan", "--host", "--vlan", 101)
    host.daemon.do("vnic", "create", "forced", "--switch", "lab")
    for name, mac in MACS.items():
        host.daemon.do("vnic", "create", name, "--switch", "lan", "--mac", mac, "--vlan", 101)
    host.talk = Talk(host)
    host.rest = Rest(host.api_socket)
    try:
        host.talk.goes_on()
        yield host
        host.talk.goes_on()
    finally:
        host.talk.close()
        for name in MACS:
            drops = host.json("vnic", "show", name)["counters"]["drops"]
            assert not any(drops.values()), f"{name}: {drops}"
        host.clear()


def refused(host, *words):
    """The sentence with which the command line is refused; nothing else may have changed."""
    before = settled(host)
    done = host.cli(*words)
    assert done.returncode == 1 and done.stdout == "", done
    assert done.stderr.endswith("\n") and done.stderr.count("\n") == 1 and len(done.stderr) < 500, done.stderr
    assert settled(host) == before
    return done.stderr


# ---- VLAN ids and lists ---------------------------------------------------------------------------------------------

@pytest.mark.parametrize("words, says", [
    (("--vlan", "4095"), ("4095", "1 to 4094")),
    (("--trunk", "4095"), ("4095", "1 to 4094")),
    (("--trunk", "0-10"), ("0", "1 to 4094")),
    (("--trunk", "20-10"), ("20-10",)),
    (("--trunk", "10,,20"), ("vlan.allowed", "1 to 4094")),
    (("--trunk", "10;20"), ("10;20",)),
    (("--trunk", "1-99999999999999999999"), ("1 to 4094",)),
    (("--trunk", ",".join(["10"] * 20000)), ("vlan.allowed", "16384")),
    (("--trunk", "10,20", "--prune", "10-20"), ("10,20", "pruned")),
    (("--trunk", "10,20", "--prune", "20", "--native", "20"), ("20", "pruned")),
    (("--trunk", "10", "--native", "0"), ("0", "1 to 4094")),
    (("--pvlan", "isolated:100:100"), ("100", "primary")),
    (("--pvlan", "isolated:100:4095"), ("4095", "1 to 4094")),
    (("--pvlan", "promiscuous:100:"), ("vlan.secondaries", "1 to 4094")),
    (("--pvlan", "promiscuous:100:99-101"), ("100", "primary")),
], ids=lambda value: " ".join(value)[:40])
def test_wrong_vlan_ids_and_lists(lan, words, says):
    for subject in (("vnic", "set", "mgmt"), ("vnic", "create", "new", "--switch", "lan")):
        before = settled(lan)
        done = lan.cli(*subject, *words)
        assert done.returncode in (1, 2) and done.stdout == "" and len(done.stderr) < 1000, done
        for part in says:
            assert part in done.stderr, done.stderr
        assert settled(lan) == before


def test_a_mode_that_the_switch_or_a_neighbour_rules_out(lan):
    sentence = refused(lan, "vnic", "set", "forced", "--trunk", "10,20")
    assert "forced" in sentence and "lab" in sentence and "7" in sentence
    lan.daemon.do("vnic", "create", "p", "--switch", "lan", "--pvlan", "community:300:301")
    sentence = refused(lan, "vnic", "set", "mgmt", "--pvlan", "isolated:301:302")
    assert "mgmt" in sentence and "301" in sentence and "vnic p" in sentence
    assert "p" in refused(lan, "vnic", "create", "new", "--switch", "lan", "--pvlan", "isolated:400:301")


# ---- Queue pairs and workers ----------------------------------------------------------------------------------------

@pytest.mark.parametrize("words, says", [
    (("--queues", 0), ("queues", "1 to 8")),
    (("--queues", 9), ("queues", "1 to 8")),
    (("--queues", 2**64), ("1 to 8",)),
    (("--queues", "two"), ("two", "1 to 8")),
    (("--worker", 1), ("worker 1", "auto", "--worker-cpus")),
    (("--worker", 256), ("worker", "0 to 255")),
    (("--worker", "any"), ("any", "auto")),
], ids=lambda value: " ".join(str(word) for word in value)[:40])
def test_queues_and_workers_that_there_are_not(lan, words, says):
    for subject in (("vnic", "set", "a"), ("vnic", "create", "new", "--switch", "lan")):
        before = settled(lan)
        done = lan.cli(*subject, *words)
        assert done.returncode in (1, 2) and done.stdout == "" and len(done.stderr) < 1000, done
        for part in says:
            assert part in done.stderr, done.stderr
        assert settled(lan) == before


def test_a_host_vnic_has_one_queue_pair(lan):
    for words in (("vnic", "set", "mgmt"), ("vnic", "create", "new", "--switch", "lan", "--host")):
        sentence = refused(lan, *words, "--queues", 2)
        assert "host vnic" in sentence and "--queues" in sentence, sentence


# ---- Names ----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", ["", " ", "a b", " a", "a/b", "/", "..", "../../etc/passwd", "-x", ".hidden", "a\nb",
                                  "a\x1b[2Jb", "ünïcode", LONG], ids=lambda name: repr(name)[:24])
def test_names_that_are_none(lan, name):
    before = settled(lan)
    for target, body in (("/v1/vnics", {"name": name, "switch": "lan"}),
                         ("/v1/vnics", {"name": name, "switch": "lan", "kind": "host"}),
                         ("/v1/switches", {"name": name, "type": "private"})):
        status, answer = lan.rest.ask("POST", target, body)
        sentence = answer["error"]["message"]
        assert (status, answer["error"]["code"]) == (400, "invalid"), answer
        assert len(sentence) < 500 and sentence.isprintable() and "name" in sentence
        assert name == "" or name not in ("a\nb", "a\x1b[2Jb") or name not in sentence
    assert settled(lan) == before


# ---- The API --------------------------------------------------------------------------------------------------------

def test_a_body_of_10_mb_is_refused_and_the_next_one_is_served(lan):
    before = settled(lan)
    for body in (b" " * LARGE_BODY, b'{"name": "' + b"y" * LARGE_BODY + b'", "switch": "lan"}'):
        status, answer = lan.rest.ask("POST", "/v1/vnics", body)
        assert (status, answer["error"]["code"]) == (413, "invalid")
        assert "1 MiB" in answer["error"]["message"] or "1048576" in answer["error"]["message"], answer
    assert settled(lan) == before
    assert lan.rest.get("/v1/vnics/a")["state"] == "connected"


def test_200_slow_clients_hold_up_nobody(lan):
    """Each has sent a part of its request and then sends a byte now and then; others change things meanwhile."""
    before = settled(lan)
    rest = lan.rest
    slow = []
    try:
        for number in range(SLOW_CLIENTS):
            client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            client.connect(lan.api_socket)
            client.sendall((b"P", b"POST /v1/vnics HTTP/1.1\r\nX: ", b"POST /v1/vnics HTTP/1.1\r\nHost: x\r\n"
                            b"Content-Length: 100\r\n\r\n{", b"GET /v1/show HTTP/1.1\r\nHost: x\r\n\r\n")[number % 4])
            slow.append(client)
        for number in range(20):
            rest.do("POST", "/v1/vnics", {"name": f"n{number}", "switch": "lan",
                                          "vlan": {"mode": "access", "vid": 101}})
            for client in slow[number % 3::4]:
                client.sendall(b" ")
        lan.talk.goes_on()
        assert len(lan.json("vnic", "list")) == len(before[0]["vnics"]) + 20
        for number in range(20):
            rest.do("DELETE", f"/v1/vnics/n{number}")
    finally:
        for client in slow:
            client.close()
    assert settled(lan) == before


# ---- What is taken, used up, or in use ------------------------------------------------------------------------------

def test_a_socket_path_that_is_in_use(lan):
    """Of a vnic here: somebody else's socket where ours belongs. Of the other role: a path that another vnic has."""
    path = os.path.join(lan.run_dir, "vhost", "late.sock")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as foreign:
        foreign.bind(path)
        foreign.listen()
        sentence = refused(lan, "vnic", "create", "late", "--switch", "lan", "--vlan", 101)
        assert "late" in sentence and path in sentence and "in use by a running process" in sentence
    os.unlink(path)
    lan.daemon.do("vnic", "create", "late", "--switch", "lan", "--connect", f"{lan.lab.dir}/one.sock")
    sentence = refused(lan, "vnic", "create", "later", "--switch", "lan", "--connect", f"{lan.lab.dir}/one.sock")
    assert "late" in sentence and f"{lan.lab.dir}/one.sock" in sentence
    own = lan.json("vnic", "show", "a")["vhost_socket"]
    assert own in refused(lan, "vnic", "create", "later", "--switch", "lan", "--connect", own)


def test_more_dynamic_macs_than_the_pool_holds(lan):
    dynamic = sum(vnic["mac_origin"] == "dynamic" for vnic in lan.rest.get("/v1/vnics"))
    made = [f"m{number}" for number in range(POOL_SIZE - dynamic)]
    for name in made:
        lan.rest.do("POST", "/v1/vnics", {"name": name, "switch": "lab"})
    macs = {vnic["mac"] for vnic in lan.rest.get("/v1/vnics")}
    assert len(macs) == POOL_SIZE + len(MACS)
    sentence = refused(lan, "vnic", "create", "straw", "--switch", "lab")
    assert "256" in sentence and "--mac" in sentence and "delete" in sentence
    lan.talk.goes_on()
    lan.daemon.do("vnic", "create", "straw", "--switch", "lab", "--mac", "02:00:00:00:09:77")
    lan.rest.do("DELETE", f"/v1/vnics/{made[0]}")
    freed = lan.rest.do("POST", "/v1/vnics", {"name": "again", "switch": "lab"})
    assert freed["mac"] in macs
    for name in [*made[1:], "straw", "again"]:
        lan.rest.do("DELETE", f"/v1/vnics/{name}")


def test_deleting_what_is_in_use(lan):
    sentence = refused(lan, "switch", "delete", "lan")
    assert all(name in sentence for name in ("lan", "mgmt", "a", "b", "delete"))
    sentence = refused(lan, "switch", "delete", "lab")
    assert "lab" in sentence and "forced" in sentence
    assert "nothing" in refused(lan, "switch", "delete", "nothing")


def test_a_guest_without_shared_memory(lan):
    """A front-end that sets its rings up and never shares memory: shown as such, for as long as it stays."""
    lan.daemon.do("vnic", "create", "deaf", "--switch", "lan", "--vlan", 101)
    end = FrontEnd(lan.json("vnic", "show", "deaf")["vhost_socket"], "02:00:00:00:09:66").connect()
    try:
        end.share_memory = lambda: None
        end.set_up()
        view = wait_until(lambda: told(lan), "the vnic to say that no memory is shared", 20.0)
        assert view["state"] != "connected"
    finally:
        end.close()
    lan.daemon.do("vnic", "delete", "deaf")


def told(host):
    view = host.json("vnic", "show", "deaf")
    return view if "memory" in view["state_reason"] and "share" in view["state_reason"] else None
