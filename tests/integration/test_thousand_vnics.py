"""A thousand vnics on one switch, each with a front-end: they connect, hear one broadcast, cost little, and sleep."""

import http.client
import json
import os
import resource
import socket
import time

import pytest
from front_end import FrontEnd
from lab import netcheck
from lab.lab import Lab
from lab.proc import wait_until
from test_idle import SWITCHES_A_SECOND, context_switches, cpu_seconds

VNICS = 1000
DESCRIPTORS_EACH = 6  # of the test: socket, memory, kicks and calls
MEMORY_KB_EACH = 256
MEMORY_KB_BASE = 150 * 1024


class Api(http.client.HTTPConnection):
    """HTTP on the daemon's socket, one connection for all requests."""

    def __init__(self, path):
        super().__init__("localhost", timeout=60)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(60)
        self.sock.connect(self.path)

    def call(self, method, path, body=None):
        self.request(method, path, json.dumps(body) if body else None, {"Content-Type": "application/json"})
        answer = self.getresponse()
        content = answer.read()
        assert answer.status < 300, content
        return json.loads(content) if content else None


def mac_of(number):
    return f"02:00:00:01:{number >> 8:02x}:{number & 255:02x}"


def memory_kb(pid):
    """Anonymous memory: the guests' own is shared."""
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        return int(next(line.split()[1] for line in file if line.startswith("RssAnon")))


@pytest.fixture
def big():
    needed = VNICS * DESCRIPTORS_EACH + 200
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < max(needed, 10 * VNICS):
        pytest.skip(f"the limit of open files is {hard}: {max(needed, 10 * VNICS)} are needed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, needed), hard))
    with Lab.create(f"t{os.getpid()}-big") as lab:
        lab.daemon.start()
        yield lab
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def timed(what, numbers, act):
    start = time.monotonic()
    result = act()
    numbers[what] = round(time.monotonic() - start, 2)
    return result


def all_connected(api):
    return all(vnic["state"] == "connected" for vnic in api.call("GET", "/v1/vnics"))


def test_a_thousand_vnics_connect_hear_a_broadcast_and_sleep(big, record_property):
    api = Api(big.daemon.api_socket)
    numbers = {}
    empty_kb = memory_kb(big.daemon.process.pid)
    api.call("POST", "/v1/switches", {"name": "lan", "type": "private"})

    def create():
        for number in range(VNICS):
            api.call("POST", "/v1/vnics", {"name": f"v{number}", "switch": "lan", "mac": mac_of(number)})
    timed("create_s", numbers, create)
    shown = {vnic["name"]: vnic["vhost_socket"] for vnic in api.call("GET", "/v1/vnics")}
    ends = [FrontEnd(shown[f"v{number}"], mac_of(number)) for number in range(VNICS)]
    try:
        timed("connect_s", numbers, lambda: [end.start() for end in ends])
        wait_until(lambda: all_connected(api), "all vnics to be connected", 60.0)

        frame = b"\xff" * 6 + ends[0].mac + b"\x88\xb5" + b"to everybody" + bytes(40)
        ends[0].send(frame)
        for end in ends[1:]:
            assert end.wait_frame() == [frame]
        assert ends[0].receive() == []
        [account] = netcheck.settled_accounts(big.daemon)
        assert account.difference == 0 and account.total("drops") == 0, account

        numbers["memory_kb_empty"] = empty_kb
        numbers["memory_kb"] = memory_kb(big.daemon.process.pid)
        numbers["descriptors"] = len(os.listdir(f"/proc/{big.daemon.process.pid}/fd"))
        check_sleep(big, api, numbers)

        api.close()
        big.daemon.stop()
        timed("restart_s", numbers, big.daemon.start)
        for end in ends:
            end.socket.close()
        timed("reconnect_s", numbers, lambda: [end.start_again() for end in ends])
        wait_until(lambda: all_connected(api), "all vnics to be connected again", 60.0)
    finally:
        for end in ends:
            end.close()
        print(numbers)
        record_property("numbers", json.dumps(numbers))
    assert numbers["memory_kb"] <= MEMORY_KB_BASE + VNICS * MEMORY_KB_EACH, numbers


def check_sleep(lab, api, numbers):
    pid = lab.daemon.process.pid
    wait_until(lambda: all_idle(api), "the workers to sleep", 20.0)
    switches, seconds = context_switches(pid), cpu_seconds(pid)
    time.sleep(2.0)  # the length of the time in which nothing may happen
    numbers["idle_switches"] = context_switches(pid) - switches
    numbers["idle_cpu_s"] = round(cpu_seconds(pid) - seconds, 2)
    assert numbers["idle_switches"] < 2 * SWITCHES_A_SECOND and numbers["idle_cpu_s"] < 0.06, numbers


def all_idle(api):
    def counts():
        return [(worker["frames"], worker["sleeps"]) for worker in api.call("GET", "/v1/workers")]
    before = counts()
    time.sleep(0.2)
    return counts() == before
