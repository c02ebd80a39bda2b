"""The REST API of a running patchbayd against its own description: every answer fits openapi.yaml, every refusal is a
sentence with a code, and what was refused changed nothing."""

import json
import os
import re
import socket

import jsonschema
import pytest
import yaml
from conftest import at_rest
from lab.daemon import program
from lab.proc import wait_until
from rest import UnixConnection

NIC = "nic0"
MAC = "02:00:00:00:00:51"
LONG = "x" * 5000


def as_json_schema(node):
    """OpenAPI 3.0 to JSON schema: `nullable` becomes a choice, references stay."""
    if isinstance(node, list):
        return [as_json_schema(part) for part in node]
    if not isinstance(node, dict):
        return node
    plain = {key: as_json_schema(value) for key, value in node.items() if key not in ("nullable", "description")}
    return {"anyOf": [{"type": "null"}, plain]} if node.get("nullable") is True else plain


class Api:
    """Speaks to the daemon, and holds every answer against openapi.yaml."""

    def __init__(self, path):
        self.path = path
        self.description = yaml.safe_load(self.request("GET", "/v1/openapi.yaml")[1])
        self.schemas = {"components": as_json_schema(self.description["components"])}

    def request(self, method, target, body=None):
        connection = UnixConnection(self.path)
        try:
            connection.request(method, target, body)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def ask(self, method, target, body=None):
        """Status and parsed body of an answer that fits the description."""
        text = body if body is None or isinstance(body, (str, bytes)) else json.dumps(body)
        status, answer = self.request(method, target, text)
        if status == 204:
            assert answer == ""
            return status, None
        parsed = json.loads(answer)
        jsonschema.validate(parsed, {"$ref": self.schema_of(method, target, status), **self.schemas})
        return status, parsed

    def schema_of(self, method, target, status):
        if status >= 400:
            return "#/components/schemas/Error"
        path = target.split("?")[0]
        for described, methods in self.description["paths"].items():
            if re.fullmatch(described.replace("{name}", "[^/]+"), path):
                content = methods[method.lower()]["responses"][str(status)]["content"]
                return content["application/json"]["schema"]["$ref"]
        raise AssertionError(f"{path} is not in openapi.yaml")


@pytest.fixture(scope="module")
def api(host):
    host.add_nic(NIC)
    return Api(host.api_socket)


@pytest.fixture
def lan(host, api):
    """An External switch with one guest's vnic and one host vnic, and a Private switch with a forced VLAN."""
    host.clear()
    for target, body in (
            ("/v1/switches", {"name": "lan", "type": "external", "uplink": NIC}),
            ("/v1/switches", {"name": "lab", "type": "private", "force_vlan": 7, "mtu": 9000}),
            ("/v1/vnics", {"name": "web", "switch": "lan", "mac": MAC, "vlan": {"mode": "access", "vid": 101}}),
            ("/v1/vnics", {"name": "mgmt", "switch": "lan", "kind": "host"}),
            ("/v1/vnics", {"name": "probe", "switch": "lab", "labels": ["storage", "tier=gold"]}),
            ("/v1/policies", {"name": "storage", "buffer": "4M", "apply_to": ["label:storage", "switch:lan", "host"]})):
        status, answer = api.ask("POST", target, body)
        assert status == 201, answer
    wait_until(lambda: is_up(api), "uplink and host vnic to be up")
    yield api
    host.clear()


def is_up(api):
    return (api.ask("GET", "/v1/switches/lan")[1]["uplink"]["state"] == "up"
            and api.ask("GET", "/v1/vnics/mgmt")[1]["state"] == "up")


def sockets_and_interfaces(host):
    """What of the host's vnics can be seen from outside the daemon."""
    files = sorted(os.path.join(folder, name) for folder, _, names in os.walk(host.run_dir) for name in names)
    return files, host.netns.run("ls", "/sys/class/net").stdout.split()


def test_every_answer_fits_the_description(lan):
    for target in ("/v1/nics", f"/v1/nics/{NIC}", "/v1/switches", "/v1/switches/lan", "/v1/switches/lab", "/v1/vnics",
                   "/v1/vnics/web", "/v1/vnics/mgmt", "/v1/vnics/probe", "/v1/vnics/web/attach-args",
                   "/v1/vnics/web/attach-args?format=libvirt&memory=256M", "/v1/workers", "/v1/policies", "/v1/policies/storage",
                   "/v1/host", "/v1/show", "/v1/audit",
                   "/v1/audit?object=web&limit=1", "/v1/export?format=json"):
        assert lan.ask("GET", target)[0] == 200, target


def test_an_export_fits_the_description_and_applies_to_nothing(lan):
    host = lan.ask("GET", "/v1/export?format=json")[1]
    status, text = lan.request("GET", "/v1/export")
    assert status == 200 and yaml.safe_load(text) == host
    create = {"teams": "TeamCreate", "switches": "SwitchCreate", "policies": "PolicyCreate", "vnics": "VnicCreate"}
    for section, schema in create.items():
        for name, fields in host[section].items():
            jsonschema.validate({"name": name, **fields}, {"$ref": f"#/components/schemas/{schema}", **lan.schemas})
    for body in (text, host):
        assert lan.ask("POST", "/v1/apply", body) == (200, {"dry_run": False, "changes": []})
    del host["vnics"]["web"]
    host["vnics"]["probe"]["vlan"] = {"mode": "access", "vid": 7}
    for query, dry_run in (("?dry_run=true", True), ("", False), ("?dry_run=false", False)):
        status, answer = lan.ask("POST", "/v1/apply" + query, host)
        assert status == 200 and answer["dry_run"] is dry_run
        assert [(change["verb"], change["name"]) for change in answer["changes"]] == (
            [] if query == "?dry_run=false" else [("delete", "web"), ("set", "probe")])
    assert [row["name"] for row in lan.ask("GET", "/v1/audit?limit=2")[1]] == ["probe", "web"]


def test_objects_show_what_they_were_made_with(lan):
    web = lan.ask("GET", "/v1/vnics/web")[1]
    assert (web["switch"], web["kind"], web["mac"], web["mac_origin"]) == ("lan", "guest", MAC, "static")
    assert web["vlan"] == {"mode": "access", "vid": 101, "forced": False}
    assert (web["state"], web["vhost_role"], web["mtu"]) == ("waiting_for_guest", "listen", 1500)
    assert os.path.exists(web["vhost_socket"])
    mgmt = lan.ask("GET", "/v1/vnics/mgmt")[1]
    assert (mgmt["kind"], mgmt["vhost_socket"], mgmt["state"]) == ("host", None, "up"), mgmt
    probe = lan.ask("GET", "/v1/vnics/probe")[1]
    assert (probe["vlan"], probe["mtu"]) == ({"mode": "access", "vid": 7, "forced": True}, 9000)
    assert (probe["buffer"]["size"], probe["buffer"]["size_from"]) == ("4M", "policy storage")
    assert lan.ask("GET", f"/v1/nics/{NIC}")[1]["switch"] == "lan"
    assert lan.ask("GET", "/v1/switches/lan")[1]["uplink"]["state"] == "up"


def test_a_change_and_a_deletion_show_at_once(lan):
    assert lan.ask("PATCH", "/v1/vnics/web", {"vlan": {"mode": "untagged"}})[1]["vlan"]["vid"] is None
    assert lan.ask("PATCH", "/v1/switches/lab", {"force_vlan": None, "mtu": 2000})[0] == 200
    assert lan.ask("GET", "/v1/vnics/probe")[1]["vlan"]["forced"] is False
    assert lan.ask("PATCH", "/v1/policies/storage", {"buffer_max_age_ms": 5, "apply_to": ["host"]})[1]["buffer"] == "4M"
    assert lan.ask("GET", "/v1/vnics/web")[1]["buffer"]["max_age_from"] == "policy storage"
    assert lan.ask("PATCH", "/v1/host", {"buffer_limit": "64M"})[1]["buffer"]["limit_bytes"] == 64 << 20
    assert lan.ask("PATCH", "/v1/host", {"buffer_limit": None})[1]["buffer"]["limit_from"] == "built_in"
    path = lan.ask("GET", "/v1/vnics/web")[1]["vhost_socket"]
    assert lan.ask("DELETE", "/v1/vnics/web")[0] == 204
    assert not os.path.exists(path)
    assert lan.ask("GET", "/v1/vnics/web")[0] == 404


VNIC = {"name": "new", "switch": "lan"}
SWITCH = {"name": "new", "type": "internal"}


def vid(value):
    return {**VNIC, "vlan": {"mode": "access", "vid": value}}


@pytest.mark.parametrize("method, target, body, status, code, says", [
    ("POST", "/v1/vnics", vid(0), 400, "invalid", "1 to 4094"),
    ("POST", "/v1/vnics", vid(4095), 400, "invalid", "4095"),
    ("POST", "/v1/vnics", vid(4096), 400, "invalid", "4096"),
    ("POST", "/v1/vnics", vid(-1), 400, "invalid", "-1"),
    ("POST", "/v1/vnics", vid(1.5), 400, "invalid", "1.5"),
    ("POST", "/v1/vnics", vid("101"), 400, "invalid", "vlan.vid"),
    ("POST", "/v1/vnics", {**VNIC, "vlan": {"mode": "hybrid"}}, 400, "invalid", "vlan.mode"),
    ("POST", "/v1/vnics", {"name": "new", "switch": "lab", "vlan": {"mode": "access", "vid": 8}}, 400, "invalid", "7"),
    ("POST", "/v1/vnics", {**VNIC, "mac": MAC}, 409, "exists", "web"),
    ("POST", "/v1/vnics", {**VNIC, "mac": "01:00:5e:00:00:01"}, 400, "invalid", "multicast"),
    ("POST", "/v1/vnics", {**VNIC, "mac": "ff:ff:ff:ff:ff:ff"}, 400, "invalid", "ff:ff:ff:ff:ff:ff"),
    ("POST", "/v1/vnics", {**VNIC, "mac": "00:00:00:00:00:00"}, 400, "invalid", "00:00:00:00:00:00"),
    ("POST", "/v1/vnics", {**VNIC, "mac": "02:00:00:00:00"}, 400, "invalid", "mac"),
    ("POST", "/v1/vnics", {**VNIC, "switch": "wan"}, 404, "not_found", "wan"),
    ("POST", "/v1/vnics", {**VNIC, "colour": "red"}, 400, "invalid", "colour"),
    ("POST", "/v1/vnics", {**VNIC, "connect": "/" + "p" * 107}, 400, "invalid", "108"),
    ("POST", "/v1/vnics", {"name": "interface-too-long", "switch": "lan", "kind": "host"}, 400, "invalid", "15"),
    ("POST", "/v1/vnics", {"name": "new", "switch": "lab", "kind": "host"}, 400, "invalid", "private"),
    ("POST", "/v1/vnics", {"name": "web", "switch": "lan"}, 409, "exists", "web"),
    ("POST", "/v1/vnics", {**VNIC, "name": ""}, 400, "invalid", "name"),
    ("POST", "/v1/vnics", {**VNIC, "name": "a/b"}, 400, "invalid", "a/b"),
    ("POST", "/v1/vnics", {**VNIC, "name": "../../x"}, 400, "invalid", "../../x"),
    ("POST", "/v1/vnics", {**VNIC, "name": "a b"}, 400, "invalid", "a b"),
    ("POST", "/v1/vnics", {**VNIC, "name": LONG}, 400, "invalid", "name"),
    ("POST", "/v1/vnics", {**VNIC, "name": "a\0b"}, 400, "invalid", "name"),
    ("POST", "/v1/vnics", {"switch": "lan"}, 400, "invalid", "name"),
    ("POST", "/v1/vnics", "no json", 400, "invalid", "JSON"),
    ("POST", "/v1/vnics", b"{\"name\": \"\xff\"}", 400, "invalid", "JSON"),
    ("POST", "/v1/vnics", "[" * 500_000, 400, "invalid", "levels"),
    ("POST", "/v1/vnics", None, 400, "invalid", "body"),
    ("POST", "/v1/switches", {"name": "wan", "type": "external", "uplink": NIC}, 409, "exists", "lan"),
    ("POST", "/v1/switches", {"name": "wan", "type": "external", "uplink": "eth99"}, 404, "not_found", "eth99"),
    ("POST", "/v1/switches", {"name": "wan", "type": "external"}, 400, "invalid", "uplink"),
    ("POST", "/v1/switches", {**SWITCH, "uplink": NIC}, 400, "invalid", "external"),
    ("POST", "/v1/switches", {**SWITCH, "mtu": 575}, 400, "invalid", "576"),
    ("POST", "/v1/switches", {**SWITCH, "mtu": 9001}, 400, "invalid", "9000"),
    ("POST", "/v1/switches", {**SWITCH, "force_vlan": 4095}, 400, "invalid", "force_vlan"),
    ("POST", "/v1/switches", {**SWITCH, "name": "lan"}, 409, "exists", "lan"),
    ("POST", "/v1/switches", {"name": "new", "type": "nat"}, 400, "invalid", "nat"),
    ("PATCH", "/v1/switches/lan", {"force_vlan": 102}, 409, "in_use", "web"),
    ("PATCH", "/v1/switches/lan", {"type": "private"}, 400, "invalid", "type"),
    ("PATCH", "/v1/switches/wan", {"mtu": 1500}, 404, "not_found", "wan"),
    ("PATCH", "/v1/vnics/web", {"vlan": {"mode": "access", "vid": 4095}, "mac": "02:00:00:00:00:99"}, 400, "invalid",
     "4095"),
    ("PATCH", "/v1/vnics/mgmt", {"mac": MAC}, 409, "exists", "web"),
    ("PATCH", "/v1/vnics/probe", {"vlan": {"mode": "access", "vid": 8}}, 400, "invalid", "7"),
    ("PATCH", "/v1/vnics/nobody", {}, 404, "not_found", "nobody"),
    ("DELETE", "/v1/switches/lan", None, 409, "in_use", "mgmt"),
    ("DELETE", "/v1/switches/lab", None, 409, "in_use", "probe"),
    ("DELETE", "/v1/vnics/nobody", None, 404, "not_found", "nobody"),
    ("POST", "/v1/policies", {"name": "new", "colour": "red"}, 400, "invalid", "colour"),
    ("POST", "/v1/policies", {"name": "new", "buffer": "1M", "apply_to": ["host"]}, 409, "in_use", "storage"),
    ("POST", "/v1/policies", {"name": "new", "apply_to": ["switch:wan"]}, 404, "not_found", "wan"),
    ("POST", "/v1/policies", {"name": "storage"}, 409, "exists", "storage"),
    ("PATCH", "/v1/policies/storage", {"apply_to": "host"}, 400, "invalid", "apply_to"),
    ("PATCH", "/v1/policies/nobody", {}, 404, "not_found", "nobody"),
    ("DELETE", "/v1/policies/storage", None, 409, "in_use", "label storage, switch lan, the host"),
    ("PATCH", "/v1/vnics/web", {"labels": ["a", "a=1"]}, 400, "invalid", "label a"),
    ("PATCH", "/v1/host", {"buffer_limit": "1K"}, 400, "invalid", "1M to 64G"),
    ("PATCH", "/v1/host", {"buffer": "1G"}, 400, "invalid", "buffer_limit"),
    ("GET", "/v1/vnics/a%2Fb", None, 400, "invalid", "a/b"),
    ("GET", f"/v1/vnics/{LONG}", None, 400, "invalid", "5000"),
    ("GET", "/v1/nics/eth99", None, 404, "not_found", "eth99"),
    ("GET", "/v1/vnics/mgmt/attach-args", None, 400, "invalid", "host vnic"),
    ("GET", "/v1/vnics/web/attach-args?format=xen", None, 400, "invalid", "libvirt"),
    ("GET", "/v1/audit?limit=0", None, 400, "invalid", "1 to 10000"),
    ("GET", "/v1/audit?limit=ten", None, 400, "invalid", "ten"),
    ("GET", "/v1/audit?object=a%2Fb", None, 400, "invalid", "a/b"),
    ("GET", "/v1/audit?since=now", None, 400, "invalid", "limit, object"),
    ("GET", "/v1/export?format=xml", None, 400, "invalid", "yaml or json"),
    ("POST", "/v1/apply?dry_run=1", "switches: {}\nvnics: {}", 400, "invalid", "false or true"),
    ("POST", "/v1/apply", "switches: {}\n", 400, "invalid", "vnics"),
    ("POST", "/v1/apply", None, 400, "invalid", "nothing stands here"),
    ("POST", "/v1/apply", "switches: {}\nvnics:\n  a:\n    switch: x\n    colour: red\n", 400, "invalid", "line 5"),
    ("GET", "/v1/apply", None, 405, "invalid", "POST"),
    ("GET", "/v1/nothing", None, 404, "not_found", "/v1/nothing"),
    ("PUT", "/v1/vnics/web", {}, 405, "invalid", "PATCH"),
], ids=lambda value: str(value)[:40])
def test_a_refusal_says_why_and_changes_nothing(host, lan, method, target, body, status, code, says):
    before = at_rest(lan.ask("GET", "/v1/show")[1]), sockets_and_interfaces(host)
    got, answer = lan.ask(method, target, body)
    assert (got, answer["error"]["code"]) == (status, code), answer
    assert says in answer["error"]["message"], answer
    assert len(answer["error"]["message"]) < 500, "a sentence, not an echo"
    assert (at_rest(lan.ask("GET", "/v1/show")[1]), sockets_and_interfaces(host)) == before


def test_a_large_body_is_refused_with_413(lan):
    status, answer = lan.ask("POST", "/v1/vnics", b" " * (10 << 20))
    assert (status, answer["error"]["code"]) == (413, "invalid")


def test_slow_and_broken_clients_hold_up_nobody(lan):
    idle = []
    try:
        for _ in range(200):
            slow = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            slow.connect(lan.path)
            slow.sendall(b"POST /v1/vnics HTTP/1.1\r\nContent-Length: 1000\r\n\r\n{")
            idle.append(slow)
        for garbage in (b"\x16\x03\x01\x02\x00\x01\x00\x01", b"\0" * 70_000, os.urandom(4096)):
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as rude:
                rude.connect(lan.path)
                try:
                    rude.sendall(garbage)
                except (BrokenPipeError, ConnectionResetError):
                    pass  # hung up on: what garbage deserves
        assert lan.ask("GET", "/v1/show")[0] == 200
    finally:
        for slow in idle:
            slow.close()


def test_the_socket_is_for_owner_and_group_only(host, lan):
    assert os.stat(host.api_socket).st_mode & 0o7777 == 0o660


def test_a_second_daemon_does_not_take_the_socket(host, lan):
    before = os.stat(host.api_socket).st_ino
    other_state = os.path.join(os.path.dirname(host.state_dir), "state-of-second")
    os.makedirs(other_state, exist_ok=True)
    second = host.netns.run("timeout", "10", program("patchbayd"), "--state-dir", other_state, "--run-dir",
                            host.run_dir, check=False)
    assert second.returncode not in (0, 124), "a second daemon on one run directory has to give up by itself"
    assert os.stat(host.api_socket).st_ino == before
    assert lan.ask("GET", "/v1/show")[0] == 200


@pytest.mark.parametrize("end", ["stop", "kill9"])
def test_everything_is_there_again_after_a_restart(host, lan, end):
    before = at_rest(lan.ask("GET", "/v1/show")[1])
    getattr(host.daemon, end)()
    host.daemon.start()
    wait_until(lambda: is_up(lan), "uplink and host vnic to be up again")
    assert at_rest(lan.ask("GET", "/v1/show")[1]) == before
