"""Teams through every door: the command, the API, the YAML file, the store. Without guests; what a team does with frames
is tested elsewhere."""

import re

import jsonschema
import pytest
from conftest import settled
from lab.proc import wait_until
from test_api import Api

NICS = ("nic1", "nic2", "nic3")
LONG = "x" * 64


@pytest.fixture(scope="module")
def nics(host):
    for nic in NICS:
        host.add_nic(nic)
    return NICS


@pytest.fixture
def up1(host, nics):
    """The team up1 of nic1 and nic2, and nothing else."""
    host.clear()
    done = host.cli("team", "create", "up1", "--nics", "nic1,nic2")
    assert (done.returncode, done.stdout, done.stderr) == (
        0, "team up1 created: switch-independent, dynamic, NICs nic1, nic2\n", ""), done
    yield host
    host.clear()


@pytest.fixture
def lan(up1):
    """The switch lan on it."""
    done = up1.cli("switch", "create", "lan", "--external", "up1")
    assert (done.returncode, done.stderr) == (0, ""), done
    wait_until(lambda: up1.json("team", "show", "up1")["state"] == "up", "the team to be up")
    return up1


def member(host, nic):
    return next(each for each in host.json("team", "show", "up1")["members"] if each["nic"] == nic)


def test_a_team_shows_what_it_was_made_with(up1):
    team = up1.json("team", "show", "up1")
    assert team["nics"] == ["nic1", "nic2"]
    assert (team["mode"], team["balance"], team["standby"], team["lacp_timer"]) == (
        "switch-independent", "dynamic", None, None)
    assert (team["failback_delay_ms"], team["switch"], team["state"]) == (1000, None, "down")
    assert "switch create NAME --external up1" in team["state_reason"]
    assert [each["driver"] for each in team["members"]] == [None, None], "its NICs are left alone"
    assert up1.json("nic", "show", "nic1")["team"] == "up1"
    assert up1.json("nic", "show", "nic3")["team"] is None
    assert up1.json("team", "list") == [team]
    assert "up1" in up1.cli("team", "list").stdout and "NICs without a switch: nic3" in up1.cli("show").stdout


def test_a_switch_on_a_team_shows_it(lan):
    uplink = lan.json("switch", "show", "lan")["uplink"]
    assert (uplink["nic"], uplink["team"], uplink["state"]) == (None, "up1", "up")
    team = lan.json("team", "show", "up1")
    assert (team["switch"], team["state_reason"]) == ("lan", "")
    assert [each["state"] for each in team["members"]] == ["active", "active"]
    assert all(each["carrier"] and each["driver"] == "packet" for each in team["members"])
    assert [each["primary"] for each in team["members"]].count(True) == 1
    assert lan.json("nic", "show", "nic2")["switch"] == "lan"
    picture = lan.cli("show").stdout
    assert "up1  team, switch-independent, up" in picture and "nic2  active" in picture
    text = lan.cli("team", "show", "up1").stdout
    assert re.search(r"^member +nic1", text, re.MULTILINE), text
    assert re.search(r"^queue model +sum-of-queues$", text, re.MULTILINE), text


def test_every_setting_changes_live_and_alone(lan):
    for words, field, value in (
            (("--balance", "address-hash"), "balance", "address-hash"),
            (("--mode", "static"), "mode", "static"),
            (("--mode", "switch-independent"), "mode", "switch-independent"),
            (("--standby", "nic2"), "standby", "nic2"),
            (("--failback-delay", 0), "failback_delay_ms", 0),
            (("--standby", "none"), "standby", None),
            (("--balance", "vnic-port"), "balance", "vnic-port"),
            (("--nics", "nic1,nic2,nic3"), "nics", ["nic1", "nic2", "nic3"]),
            (("--nics", "nic3,nic1"), "nics", ["nic3", "nic1"])):
        before = lan.json("team", "show", "up1")
        after = lan.json("team", "set", "up1", *words)
        settings = ("nics", "mode", "balance", "standby", "failback_delay_ms", "lacp_timer", "switch")
        assert {name: after[name] for name in settings} == {**{name: before[name] for name in settings}, field: value}
    wait_until(lambda: lan.json("team", "show", "up1")["state"] == "up", "the members to be active")
    assert lan.json("nic", "show", "nic2")["team"] is None
    verbs = [(row["verb"], row["kind"]) for row in lan.json("audit", "up1", "--limit", 10)]
    assert verbs[:9] == [("set", "team")] * 9


def test_lacp_without_a_partner_says_so(lan):
    team = lan.json("team", "set", "up1", "--mode", "lacp", "--lacp-timer", "slow")
    assert (team["mode"], team["lacp_timer"], team["queue_model"]) == ("lacp", "slow", "min-queues")
    wait_until(lambda: member(lan, "nic1")["lacp"]["sent"] > 0, "LACPDUs")
    lacp = member(lan, "nic1")["lacp"]
    assert lacp["partner"] is None and {"active", "aggregation"} <= set(lacp["actor"]["state"])
    assert "lacp actor" in lan.cli("team", "show", "up1").stdout
    assert lan.json("team", "set", "up1", "--mode", "static")["lacp_timer"] is None


def test_a_member_that_loses_its_link_or_goes_is_named_and_comes_back(lan):
    lan.json("team", "set", "up1", "--failback-delay", 0)
    lan.peers.run("ip", "link", "set", "nic2", "down")
    wait_until(lambda: lan.json("team", "show", "up1")["state"] == "degraded", "the loss of one link")
    assert "nic2: no carrier" in lan.json("team", "show", "up1")["state_reason"]
    assert lan.json("switch", "show", "lan")["uplink"]["state"] == "degraded"
    lan.peers.run("ip", "link", "set", "nic2", "up")
    wait_until(lambda: lan.json("team", "show", "up1")["state"] == "up", "the link's return")
    lan.netns.run("ip", "link", "set", "nic1", "down")
    wait_until(lambda: "nic1: the NIC is down" in lan.json("team", "show", "up1")["state_reason"], "nic1 to be down")
    lan.netns.run("ip", "link", "set", "nic1", "up")
    wait_until(lambda: lan.json("team", "show", "up1")["state"] == "up", "its return")
    lan.netns.run("ip", "link", "set", "nic1", "down")
    lan.netns.run("ip", "link", "set", "nic1", "name", "other1")
    wait_until(lambda: "nic1: no such NIC" in lan.json("team", "show", "up1")["state_reason"], "nic1 to be gone")
    assert member(lan, "nic2")["state"] == "active"
    lan.netns.run("ip", "link", "set", "other1", "name", "nic1")
    lan.netns.run("ip", "link", "set", "nic1", "up")
    wait_until(lambda: lan.json("team", "show", "up1")["state"] == "up", "its return under its name")


REFUSALS = [
    (("team", "create", "up1", "--nics", "nic3"), ("up1 exists already",)),
    (("team", "create", "up2", "--nics", "nic2"), ("up2", "nic2", "team up1 already")),
    (("team", "create", "up2", "--nics", "nic3,nic3"), ("nic3 is given twice",)),
    (("team", "create", "up2", "--nics", "nic9"), ("nic nic9 does not exist", "nic list")),
    (("team", "create", "up2", "--nics", "lo"), ("up2", "lo is no Ethernet device")),
    (("team", "create", "up2", "--nics", "a/b"), ("up2", "a/b")),
    (("team", "create", "up2", "--nics", ",".join(f"n{i}" for i in range(33))), ("33 NICs", "1 to 32")),
    (("team", "create", "nic3", "--nics", "nic3"), ("team nic3", "another name")),
    (("team", "create", "lo", "--nics", "nic3"), ("team lo", "network interface of this name")),
    (("team", "create", LONG, "--nics", "nic3"), ("at most 63",)),
    (("team", "create", "a b", "--nics", "nic3"), ("a b",)),
    (("team", "create", "up2", "--nics", "nic3", "--standby", "nic3"), ("only nic nic3",)),
    (("team", "create", "up2", "--nics", "nic3", "--standby", "nic2"), ("standby nic2", "none of its NICs")),
    (("team", "create", "up2", "--nics", "nic3", "--lacp-timer", "slow"), ("only mode lacp",)),
    (("team", "create", "up2", "--nics", "nic3", "--failback-delay", 600001), ("600001", "0 to 600000")),
    (("team", "set", "up1", "--standby", "nic2", "--mode", "static"), ("up1", "mode static", "--standby none")),
    (("team", "set", "up1", "--nics", "nic1,nic9"), ("nic9 does not exist",)),
    (("team", "set", "up9", "--mode", "lacp"), ("up9 does not exist", "team list")),
    (("team", "show", "up9"), ("up9 does not exist",)),
    (("team", "delete", "up9"), ("up9 does not exist",)),
    (("team", "delete", "up1"), ("team up1", "switch lan", "patchbay switch delete lan")),
    (("switch", "create", "wan", "--external", "up1"), ("team up1", "switch lan already")),
    (("switch", "create", "wan", "--external", "nic1"), ("nic1 is in team up1", "team set up1")),
    (("switch", "set", "lan", "--share-with-host", "host0"), ("up1 is a team", "vnic create host0", "by hand")),
    (("switch", "set", "lan", "--mtu", 9000), ("9000", "1500 of nic nic1", "ip link set nic1 mtu 9000")),
    (("switch", "set", "lan", "--driver", "xdp"), ("nic1", "veth")),
    (("vnic", "create", "nic1", "--switch", "lan", "--host"), ("nic1", "team up1")),
    (("vnic", "create", "up1", "--switch", "lan", "--host"), ("up1", "name of a team")),
]


@pytest.mark.parametrize("words, says", REFUSALS, ids=lambda value: "-".join(map(str, value))[:60])
def test_bad_input_gets_a_sentence_and_changes_nothing(lan, words, says):
    before = settled(lan)
    done = lan.cli(*words)
    assert done.returncode == 1, done
    assert done.stderr.endswith("\n") and done.stderr.count("\n") == 1 and len(done.stderr) < 600, done.stderr
    for part in says:
        assert part in done.stderr
    assert settled(lan) == before


@pytest.mark.parametrize("words, says", [
    (("team", "create", "up2"), "--nics"), (("team", "create", "up2", "--nics", "nic3", "--mode", "bond"), "bond"),
    (("team", "set", "up1"), "At least 1 option"), (("team", "set", "up1", "--failback-delay", "1s"), "1s"),
    (("team", "set", "up1", "--balance", "rr"), "rr"), (("team",), "subcommand"),
    (("team", "set", "up1", "--lacp-timer", "1"), "1")])
def test_nonsense_is_a_usage_error(up1, words, says):
    done = up1.cli(*words)
    assert done.returncode == 2 and says in done.stderr, done


def test_nics_that_do_not_go_together_are_refused(up1):
    up1.netns.run("ip", "link", "set", "nic3", "mtu", "1400")
    try:
        done = up1.cli("team", "set", "up1", "--nics", "nic1,nic2,nic3")
        assert done.returncode == 1 and "nic1 has mtu 1500 and nic nic3 has mtu 1400" in done.stderr, done
        assert "ip link set nic3 mtu 1500" in done.stderr
    finally:
        up1.netns.run("ip", "link", "set", "nic3", "mtu", "1500")
    up1.netns.run("ip", "addr", "add", "192.0.2.1/24", "dev", "nic3")
    try:
        done = up1.cli("team", "create", "up2", "--nics", "nic3")
        assert done.returncode == 1 and "team up2" in done.stderr and "192.0.2.1/24" in done.stderr, done
    finally:
        up1.netns.run("ip", "addr", "del", "192.0.2.1/24", "dev", "nic3")
    assert up1.cli("team", "create", "up2", "--nics", "nic3").returncode == 0


FILE = """teams:
  up1:
    nics: [nic2, nic1]
    mode: lacp
    balance: address-hash
    lacp_timer: slow
    standby: nic1
switches:
  lan: {type: external, uplink: up1}
  wan: {type: external, uplink: nic3}
vnics: {}
"""


def test_a_file_makes_teams_and_a_second_time_nothing(up1, tmp_path):
    path = tmp_path / "host.yaml"
    path.write_text(FILE)
    applied = up1.cli("apply", "-f", path)
    assert applied.returncode == 0, applied
    assert applied.stdout.splitlines()[0].startswith("set team up1: nics [\"nic1\",\"nic2\"] -> [\"nic2\",\"nic1\"]")
    assert up1.cli("apply", "-f", path).stdout == "nothing to change\n"
    path.write_text(up1.cli("export").stdout)
    assert "nics: [nic2, nic1]" in path.read_text()
    assert up1.cli("apply", "-f", path).stdout == "nothing to change\n"
    # One NIC from a switch into the team, and back.
    without_wan = FILE.replace("  wan: {type: external, uplink: nic3}\n", "")
    path.write_text(without_wan.replace("nic2, nic1", "nic2, nic1, nic3"))
    assert up1.cli("apply", "-f", path).returncode == 0
    assert up1.json("team", "show", "up1")["nics"] == ["nic2", "nic1", "nic3"]
    path.write_text(FILE)
    assert up1.cli("apply", "-f", path).returncode == 0
    assert up1.json("switch", "show", "wan")["uplink"]["nic"] == "nic3"
    # Without the section they stay; an empty section removes them.
    path.write_text("switches: {}\nvnics: {}\n")
    assert up1.cli("apply", "-f", path).returncode == 0
    assert [team["name"] for team in up1.json("team", "list")] == ["up1"]
    path.write_text("teams: {}\nswitches: {}\nvnics: {}\n")
    assert "delete team up1" in up1.cli("apply", "-f", path).stdout
    assert up1.json("team", "list") == []


@pytest.mark.parametrize("change, says", [
    (("mode: lacp", "mode: bond"), "line 4: teams.up1.mode: \"bond\""),
    (("nic2, nic1", "nic2, nic1, nic9"), "line 2: teams.up1: nic nic9 does not exist"),
    (("uplink: nic3", "uplink: nic1"), "line 10: switch wan: nic nic1 is in team up1"),
    (("standby: nic1", "standby: nic3"), "line 2: team up1: the standby nic3"),
    (("uplink: up1}", "uplink: up1, share_with_host: host0}"), "line 9: switch lan: its uplink up1 is a team")])
def test_a_wrong_file_names_its_line_and_changes_nothing(up1, tmp_path, change, says):
    path = tmp_path / "host.yaml"
    path.write_text(FILE.replace(*change))
    before = settled(up1)
    done = up1.cli("apply", "-f", path)
    assert done.returncode == 1 and says in done.stderr, done
    assert settled(up1) == before


def test_every_answer_fits_the_description(lan):
    api = Api(lan.api_socket)
    for mode in ("lacp", "static", "switch-independent"):
        assert api.ask("PATCH", "/v1/teams/up1", {"mode": mode})[0] == 200
        for target in ("/v1/teams", "/v1/teams/up1", "/v1/nics/nic1", "/v1/switches/lan", "/v1/show", "/v1/audit",
                       "/v1/export?format=json"):
            assert api.ask("GET", target)[0] == 200, target
    fields = api.ask("GET", "/v1/export?format=json")[1]["teams"]["up1"]
    jsonschema.validate({"name": "up1", **fields}, {"$ref": "#/components/schemas/TeamCreate", **api.schemas})
    assert api.ask("POST", "/v1/teams", {"name": "up2", "nics": ["nic3"], "mode": "lacp"})[0] == 201
    assert api.ask("DELETE", "/v1/teams/up2") == (204, None)
    assert api.ask("DELETE", "/v1/teams/up1")[0] == 409


def test_a_team_outlives_kill_9_and_a_restart(lan):
    lan.json("team", "set", "up1", "--standby", "nic2", "--balance", "vnic-port")
    lan.json("vnic", "create", "mgmt", "--switch", "lan", "--host")
    settings = {"nics": ["nic1", "nic2"], "standby": "nic2", "balance": "vnic-port", "switch": "lan"}
    for end in (lan.daemon.kill9, lan.daemon.stop):
        end()
        lan.daemon.start()
        wait_until(lambda: lan.json("team", "show", "up1")["state"] == "up", "the team to be up again")
        team = lan.json("team", "show", "up1")
        assert {name: team[name] for name in settings} == settings
        assert [each["state"] for each in team["members"]] == ["active", "standby"]
