"""Receive queues of vnics through every door: the command, the API, the YAML file, the store. Without guests; what queues do
with frames is tested elsewhere."""

import re

import jsonschema
import pytest
from lab.proc import wait_until
from test_api import Api

NICS = ("nic1", "nic2")


@pytest.fixture(scope="module")
def nics(host):
    for nic in NICS:
        host.add_nic(nic)
    return NICS


@pytest.fixture
def lan(host, nics):
    """The switch lan on nic1 with the host vnics web (VLAN 101) and db, and nothing else."""
    host.clear()
    for words in (("switch", "create", "lan", "--external", "nic1"),
                  ("vnic", "create", "web", "--switch", "lan", "--host", "--vlan", 101),
                  ("vnic", "create", "db", "--switch", "lan", "--host", "--vmq-weight", 40)):
        done = host.cli(*words)
        assert (done.returncode, done.stderr) == (0, ""), done
    yield host
    host.clear()


def queue_of(host, vnic):
    """Its one queue in `vmq list`, or None."""
    rows = [row for row in host.json("vmq", "list")["queues"] if row["vnic"] == vnic]
    assert len(rows) <= 1, rows
    return rows[0] if rows else None


def reason_of(host, vnic):
    rows = [row["reason"] for row in host.json("vmq", "list")["without_queue"] if row["vnic"] == vnic]
    return rows[0] if rows else None


def test_each_vnic_of_an_external_switch_has_a_queue(lan):
    vmq = lan.json("vmq", "list")
    nic = vmq["nics"][0]
    assert (len(vmq["nics"]), nic["nic"], nic["switch"], nic["team"]) == (1, "nic1", "lan", None)
    assert nic["sorting"] in ("software", "kernel") and nic["queues_max"] > 2 and nic["queues_used"] == 2
    default = vmq["queues"][0]
    assert (default["queue"], default["vnic"], default["mac"], default["vlan"]) == (0, None, None, None)
    for name, vlan in (("web", 101), ("db", 0)):
        row, shown = queue_of(lan, name), lan.json("vnic", "show", name)
        assert (row["nic"], row["mac"], row["vlan"], row["state"]) == ("nic1", shown["mac"], vlan, "running"), row
        assert row["worker"] is not None and row["sorting"] == nic["sorting"]
        assert shown["vmq"]["reason"] is None
        assert [each["queue"] for each in shown["vmq"]["queues"]] == [row["queue"]]
    assert vmq["without_queue"] == []
    assert (lan.json("vnic", "show", "web")["vmq_weight"], lan.json("vnic", "show", "db")["vmq_weight"]) == (100, 40)


def test_the_command_shows_what_the_api_does(lan):
    lan.json("vnic", "set", "db", "--vmq-weight", 0)
    text = lan.cli("vmq", "list").stdout
    row = queue_of(lan, "web")
    assert re.search(rf"^nic1 +{row['queue']} +web +{row['mac']} +101 +running ", text, re.MULTILINE), text
    assert re.search(r"^db +lan +nic1 +vmq_weight is 0$", text, re.MULTILINE), text
    assert lan.cli("vmq", "list", "--nic", "nic1").stdout.splitlines()[0] == text.splitlines()[0]
    shown = lan.cli("vnic", "show", "db").stdout
    assert re.search(r"^vmq weight +0$", shown, re.MULTILINE), shown
    assert re.search(r"^vmq +default queue: vmq_weight is 0$", shown, re.MULTILINE), shown
    shown = lan.cli("vnic", "show", "web").stdout
    assert re.search(rf"^vmq +queue {row['queue']} of nic1, running$", shown, re.MULTILINE), shown


def test_weight_0_gives_the_queue_back_and_another_takes_one_again(lan):
    lan.json("vnic", "set", "web", "--vmq-weight", 0)
    assert queue_of(lan, "web") is None and reason_of(lan, "web") == "vmq_weight is 0"
    assert lan.json("vnic", "show", "web")["vmq"] == {"queues": [], "reason": "vmq_weight is 0"}
    assert queue_of(lan, "db") is not None
    lan.json("vnic", "set", "web", "--vmq-weight", 1)
    assert queue_of(lan, "web")["state"] == "running"


def test_a_queue_goes_by_what_the_vnic_is(lan):
    lan.json("vnic", "set", "web", "--vlan", 102)
    assert queue_of(lan, "web")["vlan"] == 102
    lan.json("vnic", "set", "web", "--mac", "02:00:00:00:00:77")
    assert queue_of(lan, "web")["mac"] == "02:00:00:00:00:77"
    lan.json("vnic", "set", "web", "--trunk", "10,20")
    assert "a trunk hears many VLANs" in reason_of(lan, "web")
    lan.json("vnic", "set", "web", "--pvlan", "isolated:100:101")
    assert queue_of(lan, "web")["vlan"] == 100, "what the wire may bring to it"
    lan.json("vnic", "set", "web", "--pvlan", "community:100:102")
    assert "VLAN 100 and VLAN 102" in reason_of(lan, "web")
    assert lan.cli("vnic", "delete", "web").returncode == 0
    assert queue_of(lan, "web") is None and reason_of(lan, "web") is None
    assert lan.json("vmq", "list")["nics"][0]["queues_used"] == 1


def test_other_switches_have_nothing_to_do_with_it(lan):
    assert lan.cli("switch", "create", "inner", "--internal").returncode == 0
    assert lan.cli("vnic", "create", "host9", "--switch", "inner", "--host", "--vmq-weight", 5).returncode == 0
    assert lan.json("vnic", "show", "host9")["vmq"] is None
    assert reason_of(lan, "host9") is None
    assert re.search(r"^vmq +-$", lan.cli("vnic", "show", "host9").stdout, re.MULTILINE)


def test_a_team_says_by_what_model_its_queues_are_counted(lan):
    for words in (("vnic", "delete", "web"), ("vnic", "delete", "db"), ("switch", "delete", "lan"),
                  ("team", "create", "up1", "--nics", "nic1,nic2", "--balance", "vnic-port"),
                  ("switch", "create", "lan", "--external", "up1"),
                  ("vnic", "create", "web", "--switch", "lan", "--host", "--vlan", 101)):
        done = lan.cli(*words)
        assert (done.returncode, done.stderr) == (0, ""), done
    wait_until(lambda: queue_of(lan, "web") is not None, "its queue")
    vmq = lan.json("vmq", "list", "--nic", "up1")
    assert {(nic["nic"], nic["team"], nic["queue_model"]) for nic in vmq["nics"]} == {
        ("nic1", "up1", "sum-of-queues"), ("nic2", "up1", "sum-of-queues")}
    home = queue_of(lan, "web")["nic"]
    lan.peers.run("ip", "link", "set", home, "down")
    wait_until(lambda: queue_of(lan, "web") is not None and queue_of(lan, "web")["nic"] != home, "it to move")
    lan.peers.run("ip", "link", "set", home, "up")
    lan.json("team", "set", "up1", "--balance", "address-hash")

    def at_both():
        rows = [row["nic"] for row in lan.json("vmq", "list")["queues"] if row["vnic"] == "web"]
        return sorted(rows) == ["nic1", "nic2"]

    wait_until(at_both, "a queue at every member")
    assert lan.json("vmq", "list")["nics"][0]["queue_model"] == "min-queues"
    lan.json("team", "set", "up1", "--nics", "nic2")
    assert queue_of(lan, "web")["nic"] == "nic2"
    assert "min-queues" in lan.cli("vmq", "list").stdout


def test_an_uplink_that_is_gone_has_no_queues_and_gets_them_again(lan):
    lan.netns.run("ip", "link", "del", "nic1")
    wait_until(lambda: lan.json("vmq", "list")["nics"][0]["sorting"] is None, "the loss of nic1")
    vmq = lan.json("vmq", "list")
    assert vmq["queues"] == [] and {row["vnic"] for row in vmq["without_queue"]} == {"web", "db"}
    assert all(row["reason"] for row in vmq["without_queue"])
    lan.add_nic("nic1")
    wait_until(lambda: queue_of(lan, "web") is not None and queue_of(lan, "db") is not None, "their queues")


def test_weights_outlast_the_daemon(lan):
    lan.json("vnic", "set", "web", "--vmq-weight", 7)
    lan.json("vnic", "set", "db", "--vmq-weight", 0)
    lan.daemon.stop()
    lan.daemon.start()
    assert lan.json("vnic", "show", "web")["vmq_weight"] == 7
    assert lan.json("vnic", "show", "db")["vmq_weight"] == 0
    assert queue_of(lan, "web")["vlan"] == 101 and reason_of(lan, "db") == "vmq_weight is 0"


def test_the_file_and_the_audit_have_the_weight(lan, tmp_path):
    text = lan.cli("export").stdout
    assert text.count("vmq_weight: 100") == 1 and text.count("vmq_weight: 40") == 1, text
    path = tmp_path / "host.yaml"
    path.write_text(re.sub(r"\n *vmq_weight: 100", "", text.replace("vmq_weight: 40", "vmq_weight: 0")))
    assert lan.cli("apply", "-f", path).returncode == 0
    assert lan.json("vnic", "show", "web")["vmq_weight"] == 100, "what is not in the file is the default"
    assert reason_of(lan, "db") == "vmq_weight is 0"
    row = lan.json("audit", "db", "--limit", 1)[0]
    assert (row["before"]["vmq_weight"], row["after"]["vmq_weight"], row["apply"]) == (40, 0, True)
    path.write_text(text.replace("vmq_weight: 40", "vmq_weight: 101"))
    done = lan.cli("apply", "-f", path)
    assert done.returncode == 1 and "vnics.db.vmq_weight: 101 is out of range" in done.stderr, done
    assert lan.json("vnic", "show", "db")["vmq_weight"] == 0


@pytest.mark.parametrize("words, code, part", [
    (("vnic", "create", "x", "--switch", "lan", "--host", "--vmq-weight", "101"), 1, "vmq_weight: 101 is out of range"),
    (("vnic", "set", "web", "--vmq-weight", "-1"), 1, "vmq_weight: -1 is out of range"),
    (("vnic", "set", "web", "--vmq-weight", "much"), 2, '"much" is not a weight; give a number from 0 to 100'),
    (("vnic", "set", "web", "--vmq-weight", "99999999999999999999"), 2, "is not a weight"),
    (("vmq", "list", "--nic", "nic2"), 1, "nic2 is no uplink"),
    (("vmq", "list", "--nic", "none"), 1, "none is no uplink"),
    (("vmq", "list", "--nic", ""), 1, "nic: give the name"),
    (("vmq",), 2, "subcommand"),
])
def test_refuses_what_makes_no_sense(lan, words, code, part):
    before = lan.json("vnic", "list")
    done = lan.cli(*words)
    assert done.returncode == code and part in done.stderr, done
    assert [(each["name"], each["vmq_weight"]) for each in lan.json("vnic", "list")] == [
        (each["name"], each["vmq_weight"]) for each in before]


def test_the_api_answers_as_it_says(lan):
    api = Api(lan.api_socket)
    lan.json("vnic", "set", "db", "--vmq-weight", 0)
    for path in ("/v1/vmq", "/v1/vmq?nic=nic1", "/v1/vnics/web", "/v1/vnics/db"):
        assert api.ask("GET", path)[0] == 200, path
    fields = api.ask("GET", "/v1/export?format=json")[1]["vnics"]["db"]
    assert fields["vmq_weight"] == 0
    jsonschema.validate({"name": "db", **fields}, {"$ref": "#/components/schemas/VnicCreate", **api.schemas})
