"""Policies: which value a vnic gets and from whom, that a change reaches running guests, what is refused. And the limit
for the memory of all buffers."""

import itertools

import pytest
import yaml
from conftest import settled
from lab.guest_numbers import number_of
from lab.proc import wait_until
from test_buffers import ENTRIES, MACS, MB, Lan, cost_no_frame


@pytest.fixture
def lan(host):
    """Switches lan and lab; on lan the guests web (labels storage and tier=gold), db (storage) and plain (none), and the
    host vnic mgmt; on lab other (tier=gold)."""
    host.clear()
    for words in (("switch", "create", "lan", "--internal"), ("switch", "create", "lab", "--private"),
                  ("vnic", "create", "web", "--switch", "lan", "--label", "storage", "--label", "tier=gold"),
                  ("vnic", "create", "db", "--switch", "lan", "--label", "storage"),
                  ("vnic", "create", "plain", "--switch", "lan"),
                  ("vnic", "create", "mgmt", "--switch", "lan", "--host"),
                  ("vnic", "create", "other", "--switch", "lab", "--label", "tier=gold")):
        host.daemon.do(*words)
    yield host
    host.daemon.do("host", "set", "--buffer-limit", "default")
    host.clear()


def sizes(host):
    """What is in force: {"web": "4M policy storage", …}."""
    return {vnic["name"]: f"{vnic['buffer']['size']} {vnic['buffer']['size_from']}"
            for vnic in host.json("vnic", "list") if vnic["kind"] == "guest"}


def ages(host):
    return {vnic["name"]: f"{vnic['buffer']['max_age_ms']} {vnic['buffer']['max_age_from']}"
            for vnic in host.json("vnic", "list") if vnic["kind"] == "guest"}


def is_one_sentence(text):
    return text.endswith("\n") and text.count("\n") == 1 and len(text) < 500


def refused(host, *words):
    """The sentence of a refusal that changed nothing."""
    before = settled(host), host.json("export")
    done = host.cli(*words)
    assert (done.returncode, done.stdout) == (1, ""), done
    assert is_one_sentence(done.stderr), done.stderr
    assert (settled(host), host.json("export")) == before
    return done.stderr


# ---- Who says -------------------------------------------------------------------------------------------------------

def test_the_vnic_then_its_switch_then_policies_then_nobody(lan):
    host = lan
    builtin = "1M built_in"
    assert sizes(host) == dict.fromkeys(("web", "db", "plain", "other"), builtin)
    steps = [  # and what is different then
        (("policy", "create", "base", "--buffer", "2M", "--apply-to", "host"),
         dict.fromkeys(("web", "db", "plain", "other"), "2M policy base")),
        (("policy", "create", "wide", "--buffer", "3M", "--apply-to", "switch:lan"),
         dict.fromkeys(("web", "db", "plain"), "3M policy wide")),
        (("policy", "create", "storage", "--buffer", "4M", "--apply-to", "label:storage"),
         dict.fromkeys(("web", "db"), "4M policy storage")),
        (("switch", "set", "lan", "--buffer", "5M"), dict.fromkeys(("web", "db", "plain"), "5M switch")),
        (("vnic", "set", "web", "--buffer", "6M"), {"web": "6M vnic"}),
        (("vnic", "set", "web", "--buffer", "default"), {"web": "5M switch"}),
        (("switch", "set", "lan", "--buffer", "default"),
         {"web": "4M policy storage", "db": "4M policy storage", "plain": "3M policy wide"}),
        (("policy", "set", "storage", "--buffer", "auto:8M"),
         dict.fromkeys(("web", "db"), "auto:8M policy storage")),
        (("policy", "set", "storage", "--buffer", "default"), dict.fromkeys(("web", "db"), "3M policy wide")),
        (("policy", "set", "storage", "--buffer", "0"), dict.fromkeys(("web", "db"), "0 policy storage")),
        (("vnic", "set", "db", "--label", "none"), {"db": "3M policy wide"}),
        (("vnic", "set", "plain", "--label", "storage", "--label", "x=y"), {"plain": "0 policy storage"}),
        (("policy", "set", "wide", "--apply-to", "switch:lab"), {"db": "2M policy base", "other": "3M policy wide"}),
        (("policy", "set", "wide", "--apply-to", "none"), {"other": "2M policy base"}),
        (("policy", "set", "storage", "--apply-to", "host", "--buffer", "2M"), {}),
    ]
    expected = dict.fromkeys(("web", "db", "plain", "other"), builtin)
    for words, difference in steps[:-1]:
        host.daemon.do(*words)
        expected = {**expected, **difference}
        assert sizes(host) == expected, words
    host.daemon.do(*steps[-1][0])
    assert sizes(host) == dict.fromkeys(expected, "2M policy base"), "both say 2M: the first by name is shown"
    assert host.json("vnic", "show", "mgmt")["buffer"]["size_from"] is None, "the kernel queues for it"


def test_each_setting_comes_from_who_says_it(lan):
    host = lan
    host.daemon.do("policy", "create", "base", "--buffer-max-age", "500", "--apply-to", "host")
    host.daemon.do("policy", "create", "storage", "--buffer", "4M", "--apply-to", "label:storage")
    host.daemon.do("policy", "create", "gold", "--buffer-max-age", "none", "--apply-to", "label:tier=gold")
    assert sizes(host)["web"] == "4M policy storage"
    assert ages(host) == {"web": "0 policy gold", "db": "500 policy base", "plain": "500 policy base",
                          "other": "0 policy gold"}
    assert host.json("policy", "show", "base")["vnics"] == ["db", "plain"]
    assert host.json("policy", "show", "storage")["vnics"] == ["db", "web"]


def test_what_is_shown_names_the_policy(lan):
    host = lan
    host.daemon.do("policy", "create", "storage", "--buffer", "4M", "--apply-to", "label:storage", "--apply-to",
                   "switch:lab")
    text = host.daemon.do("vnic", "show", "web")
    assert "4M (policy storage)" in text and "storage, tier=gold" in text, text
    shown = host.daemon.do("policy", "show", "storage").splitlines()
    assert [line.split(None, 1)[1] for line in shown[:1]] == ["storage"]
    assert "label:storage, switch:lab" in shown[2] and "db, other, web" in shown[3], shown
    listed = host.daemon.do("policy", "list").splitlines()
    assert listed[0].split() == ["POLICY", "BUFFER", "APPLIES", "TO", "USED", "BY", "VNICS"]
    assert listed[1].split() == ["storage", "4M", "label:storage,", "switch:lab", "3"]
    assert "\nPOLICY " in host.daemon.do("show")
    host.daemon.do("policy", "set", "storage", "--apply-to", "none")
    assert "\nPOLICY " in host.daemon.do("show") and "nothing" in host.daemon.do("policy", "list")
    host.daemon.do("policy", "delete", "storage")
    assert "\nPOLICY " not in host.daemon.do("show")
    assert host.daemon.do("policy", "list") == "no policies\n"


def test_no_order_of_changes_makes_a_difference(lan):
    """Each order ends in the same host, or is refused with the same pair of policies."""
    host = lan
    changes = [("policy", "create", "p2", "--buffer", "3M", "--apply-to", "label:storage"),
               ("policy", "create", "p3", "--buffer", "4M", "--apply-to", "label:speed"),
               ("vnic", "set", "db", "--label", "speed")]
    ends = set()
    for order in itertools.permutations(changes):
        for words in order:
            host.daemon.do(*words)
        assert "p2" in refused(host, "vnic", "set", "db", "--label", "speed", "--label", "storage")
        ends.add(str(sizes(host)))
        for name in ("p2", "p3"):
            host.daemon.do("policy", "set", name, "--apply-to", "none")
            host.daemon.do("policy", "delete", name)
        host.daemon.do("vnic", "set", "db", "--label", "storage")
    assert len(ends) == 1
    host.daemon.do("vnic", "set", "plain", "--label", "storage", "--label", "speed")
    for order in itertools.permutations(changes[:2]):
        host.daemon.do(*order[0])
        sentence = refused(host, *order[1])
        for part in ("p2 (label storage)", "p3 (label speed)", "vnic plain", "3M and 4M"):
            assert part in sentence
        host.daemon.do("policy", "set", order[0][2], "--apply-to", "none")
        host.daemon.do("policy", "delete", order[0][2])


# ---- What is refused ------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("words, says", [
    (("policy", "create", "base"), ("policy base exists already",)),
    (("policy", "create", "a/b"), ("policy name 'a/b'",)),
    (("policy", "create", ""), ("policy without a name",)),
    (("policy", "create", "x" * 64), ("at most 63",)),
    (("policy", "create", "new", "--buffer", "17M"), ("policy new", "256K to 16M")),
    (("policy", "create", "new", "--buffer-max-age", "3600001"), ("policy new", "3600000")),
    (("policy", "create", "new", "--apply-to", "all"), ("policy new", "\"all\"", "switch:NAME")),
    (("policy", "create", "new", "--apply-to", "switch:wan"), ("policy new: switch wan does not exist",)),
    (("policy", "create", "new", "--apply-to", "label:a=b=c"), ("policy new", "b=c")),
    (("policy", "create", "new", "--apply-to", "none", "--apply-to", "host"), ("\"none\"",)),
    (("policy", "create", "new", "--buffer", "4M", "--apply-to", "host"),
     ("policies base and new give the host different values of buffer, 2M and 4M",)),
    (("policy", "create", "new", "--buffer", "4M", "--apply-to", "label:tier=gold"),
     ("policies new (label tier=gold) and storage (label storage) give vnic web", "4M and 3M")),
    (("policy", "set", "storage", "--apply-to", "host"), ("policies base and storage", "the host")),
    (("policy", "set", "nobody", "--buffer", "1M"), ("policy nobody does not exist", "policy list")),
    (("policy", "delete", "base"), ("policy base applies to the host", "policy set base --apply-to none")),
    (("policy", "delete", "nobody"), ("policy nobody does not exist",)),
    (("policy", "show", "a/b"), ("a/b",)),
    (("switch", "delete", "empty"), ("switch empty: policy storage applies to it", "policy set storage --apply-to")),
    (("vnic", "create", "new", "--switch", "lan", "--label", "storage", "--label", "big"),
     ("vnic new: policies large (label big) and storage (label storage)", "8M and 3M")),
    (("vnic", "set", "db", "--label", "storage", "--label", "big"), ("vnic db", "large", "storage")),
    (("vnic", "set", "web", "--label", "a b"), ("web", "'a b'")),
    (("vnic", "set", "web", "--label", ""), ("web", "label")),
    (("vnic", "set", "web", "--label", "a=1", "--label", "a=2"), ("web", "label a is there twice")),
    (("vnic", "set", "web", "--label", "none", "--label", "a"), ("none",)),
    (("host", "set", "--buffer-limit", "1023K"), ("host", "1M to 64G")),
    (("host", "set", "--buffer-limit", "65G"), ("65G", "1M to 64G")),
    (("host", "set", "--buffer-limit", "lots"), ("lots", "1M to 64G")),
], ids=lambda value: " ".join(value)[:50] if isinstance(value[0], str) else "")
def test_a_refusal_is_one_sentence_and_changes_nothing(lan, words, says):
    for each in (("switch", "create", "empty", "--private"),
                 ("policy", "create", "base", "--buffer", "2M", "--apply-to", "host"),
                 ("policy", "create", "storage", "--buffer", "3M", "--apply-to", "label:storage", "--apply-to",
                  "switch:empty"),
                 ("policy", "create", "large", "--buffer", "8M", "--apply-to", "label:big")):
        lan.daemon.do(*each)
    sentence = refused(lan, *words)
    for part in says:
        assert part in sentence, sentence


@pytest.mark.parametrize("words, says", [
    (("policy", "create", "new", "--colour", "red"), "--colour"),
    (("policy", "create", "new", "--mtu", "1500"), "--mtu"),
    (("policy", "set", "base"), "--buffer"),
    (("policy", "create", "new", "--buffer-max-age", "1s"), "1s"),
    (("policy", "create"), "NAME"),
    (("policy",), "--help"),
    (("host", "set"), "--buffer-limit"),
    (("host", "set", "--buffer-limit", "1M", "--mtu", "1"), "--mtu"),
    (("vnic", "set", "web", "--label"), "--label"),
])
def test_a_wrong_command_line_is_usage(lan, words, says):
    before = settled(lan)
    done = lan.cli(*words)
    assert (done.returncode, done.stdout) == (2, ""), done
    assert says in done.stderr
    assert settled(lan) == before


def test_the_way_out_that_a_refusal_names_works(lan):
    host = lan
    host.daemon.do("policy", "create", "p1", "--buffer", "2M", "--apply-to", "switch:lab")
    host.daemon.do("vnic", "delete", "other")
    refused(host, "switch", "delete", "lab")
    refused(host, "policy", "delete", "p1")
    host.daemon.do("policy", "set", "p1", "--apply-to", "none")
    host.daemon.do("switch", "delete", "lab")
    host.daemon.do("policy", "delete", "p1")


# ---- Files, audit, restarts -----------------------------------------------------------------------------------------

POLICIES = """\
host:
  buffer_limit: 512M
switches:
  lan: {type: private}
policies:
  base: {buffer: auto, apply_to: [host]}
  idle: {}
  storage:
    buffer: 4M
    buffer_max_age_ms: 500
    apply_to: [label:tier=gold, "switch:lan"]
vnics:
  db: {switch: lan}
  web: {switch: lan, labels: [storage, tier=gold]}
"""


def apply(host, tmp_path, text, *words):
    path = tmp_path / "host.yaml"
    path.write_text(text)
    return host.cli("apply", "-f", path, *words)


def test_a_file_has_policies_and_an_export_of_it_changes_nothing(lan, tmp_path):
    host = lan
    done = apply(host, tmp_path, POLICIES)
    assert done.returncode == 0, done
    assert "set host: buffer_limit none -> 512M\n" in done.stdout
    assert "create policy storage: buffer 4M, buffer_max_age_ms 500, apply_to " in done.stdout
    assert sizes(host) == {"db": "4M policy storage", "web": "4M policy storage"}
    assert apply(host, tmp_path, POLICIES).stdout == "nothing to change\n"
    exported = host.daemon.do("export")
    audited = host.json("audit")
    assert apply(host, tmp_path, exported).stdout == "nothing to change\n"
    assert host.json("audit") == audited
    document = yaml.safe_load(exported)
    assert document == host.json("export")
    assert document["policies"] == {
        "base": {"buffer": "auto", "apply_to": ["host"]}, "idle": {"apply_to": []},
        "storage": {"buffer": "4M", "buffer_max_age_ms": 500, "apply_to": ["label:tier=gold", "switch:lan"]}}
    assert document["vnics"]["web"]["labels"] == ["storage", "tier=gold"]
    done = apply(host, tmp_path, exported.replace("4M", "8M", 1))
    assert done.stdout == "set policy storage: buffer 4M -> 8M\n"
    assert sizes(host)["web"] == "8M policy storage"
    host.clear()
    host.daemon.do("host", "set", "--buffer-limit", "default")
    assert apply(host, tmp_path, exported).returncode == 0
    assert host.daemon.do("export") == exported


def test_a_file_without_policies_leaves_them(lan, tmp_path):
    host = lan
    assert apply(host, tmp_path, POLICIES).returncode == 0
    before = host.json("policy", "list"), host.json("host", "show")["buffer"]["limit"]
    assert apply(host, tmp_path, "switches: {lan: {type: private}}\nvnics: {}\n").returncode == 0
    after = [{**policy, "vnics": []} for policy in before[0]]
    assert (host.json("policy", "list"), host.json("host", "show")["buffer"]["limit"]) == (after, before[1])
    assert apply(host, tmp_path, "host: {}\nswitches: {}\npolicies: {}\nvnics: {}\n").returncode == 0
    assert host.json("policy", "list") == []
    assert host.json("host", "show")["buffer"]["limit_from"] == "built_in"


@pytest.mark.parametrize("wrong, right, says", [
    ("    buffer: 4M", "    colour: red",
     "line 9: policies.storage: unknown field \"colour\"; known here: buffer, buffer_max_age_ms, apply_to"),
    ("    buffer: 4M", "    buffer: 4G", "line 9: policies.storage.buffer: buffer \"4G\" is not a size"),
    ("switch:lan", "switch:wan", "line 8: policy storage: switch wan does not exist"),
    ("[host]", "[hosts]", "line 6: policies.base.apply_to: \"hosts\" is nothing that a policy applies to"),
    ("idle: {}", "idle: {buffer: 1M, apply_to: [host]}", "line 7: policies.idle: policies base and idle give the host"),
    ("idle: {}", "idle: {buffer: 1M, apply_to: [\"label:storage\"]}", "line 14: vnic web: policies idle (label storage)"),
    ("512M", "512K", "line 1: host: buffer limit 512K is out of range"),
    ("buffer_limit", "buffers", "line 2: host: unknown field \"buffers\"; known here: buffer_limit"),
    ("[storage, tier=gold]", "[storage, a b]", "line 14: vnics.web.labels: label name 'a b'"),
], ids=lambda value: value.strip()[:20])
def test_one_bad_line_changes_nothing_and_is_named(lan, tmp_path, wrong, right, says):
    host = lan
    assert wrong in POLICIES
    before = settled(host), host.json("export")
    done = apply(host, tmp_path, POLICIES.replace(wrong, right, 1))
    assert (done.returncode, done.stdout) == (1, ""), done
    assert says in done.stderr and is_one_sentence(done.stderr), done.stderr
    assert (settled(host), host.json("export")) == before


def test_every_change_is_a_row_of_the_audit(lan):
    host = lan
    for words in (("policy", "create", "audited", "--buffer", "2M", "--apply-to", "host"),
                  ("policy", "set", "audited", "--apply-to", "none"), ("host", "set", "--buffer-limit", "64M"),
                  ("vnic", "set", "db", "--label", "x"), ("policy", "delete", "audited")):
        host.daemon.do(*words)
    rows = host.json("audit", "--limit", 5)[::-1]
    assert [(row["verb"], row["kind"], row["name"]) for row in rows] == [
        ("create", "policy", "audited"), ("set", "policy", "audited"), ("set", "host", "host"), ("set", "vnic", "db"),
        ("delete", "policy", "audited")]
    assert rows[0]["after"] == {"buffer": "2M", "apply_to": ["host"]} and rows[4]["after"] is None
    assert (rows[2]["before"], rows[2]["after"]) == ({}, {"buffer_limit": "64M"})
    assert rows[3]["after"]["labels"] == ["x"]
    assert [row["verb"] for row in host.json("audit", "audited")] == ["delete", "set", "create"]


@pytest.mark.parametrize("end", ["stop", "kill9"])
def test_everything_is_there_again_after_a_restart(lan, end):
    host = lan
    host.daemon.do("policy", "create", "storage", "--buffer", "4M", "--buffer-max-age", "7", "--apply-to",
                   "label:storage", "--apply-to", "host", "--apply-to", "switch:lan")
    host.daemon.do("host", "set", "--buffer-limit", "64M")
    before = host.daemon.do("export"), sizes(host), host.json("policy", "list"), host.json("host", "show")
    getattr(host.daemon, end)()
    host.daemon.start()
    assert (host.daemon.do("export"), sizes(host), host.json("policy", "list"), host.json("host", "show")) == before
    assert before[3]["buffer"] == {"limit": "64M", "limit_from": "host", "limit_bytes": 64 * MB, "used_bytes": 0}


# ---- With guests ----------------------------------------------------------------------------------------------------

@pytest.fixture
def guests(host):
    """`sender` and `still`, who receives when he is told to, as in test_buffers.py; still has the label quiet."""
    made = Lan(host, ["--private"])
    try:
        made.add("sender")
        made.add("still", "--label", "quiet", entries=ENTRIES)
        yield made
    finally:
        made.close()
        host.daemon.do("host", "set", "--buffer-limit", "default")


def test_a_policy_holds_to_the_frame_for_a_guest_that_is_connected(guests):
    do = guests.host.daemon.do
    do("policy", "create", "quiet", "--buffer", "256K", "--apply-to", "label:quiet")
    kept = MB // 4 // 64
    guests.send(range(ENTRIES + kept + 10))
    assert guests.drops() == {"buffer_full": 10}
    do("policy", "set", "quiet", "--buffer", "2M")
    guests.send(range(ENTRIES + kept, ENTRIES + 20000))
    assert guests.drops() == {"buffer_full": 10}
    do("policy", "set", "quiet", "--apply-to", "none")  # 1M built in: less than what waits
    shown = guests.buffer()
    assert (shown["size_from"], shown["frames"], shown["limit_bytes"]) == ("built_in", 20000, MB)
    guests.receive(range(ENTRIES + 20000))
    assert guests.show()["state"] == "connected"


def test_policies_change_live_under_traffic_and_cost_no_frame(guests):
    """Settings come and go by every level while frames wait and are taken; never more of them than the smallest holds."""
    do = guests.host.daemon.do
    do("policy", "create", "quiet", "--buffer", "4M", "--apply-to", "label:quiet")
    do("policy", "create", "base", "--buffer", "auto", "--apply-to", "host")
    changes = [("policy", "set", "quiet", "--buffer", "256K"), ("policy", "set", "quiet", "--apply-to", "none"),
               ("policy", "set", "base", "--buffer", "auto:2M"), ("vnic", "set", "still", "--label", "none"),
               ("policy", "set", "quiet", "--apply-to", "label:quiet", "--buffer", "1M"),
               ("vnic", "set", "still", "--label", "quiet"), ("policy", "set", "base", "--buffer", "default"),
               ("policy", "set", "quiet", "--apply-to", "switch:lan"),
               ("policy", "set", "quiet", "--apply-to", "label:quiet", "--buffer", "default"),
               ("policy", "set", "base", "--buffer", "256K")]
    cost_no_frame(guests, lambda number: do(*changes[number % len(changes)]), 40)


# ---- The memory of all buffers --------------------------------------------------------------------------------------

def test_the_limit_counts_at_once_and_cannot_go_below_what_is_used(guests, tmp_path):
    host = guests.host
    guests.set("--buffer", "8M")
    host.daemon.do("host", "set", "--buffer-limit", "2M")
    shown = host.json("host", "show")["buffer"]
    assert shown == {"limit": "2M", "limit_from": "host", "limit_bytes": 2 * MB, "used_bytes": 0}
    count = 6000  # of 1000 bytes: 5.7 MB would fit into the vnic's buffer
    guests.send(range(ENTRIES + count), 1000)
    held = guests.buffer()["frames"]
    assert guests.drops() == {"buffer_full": count - held}
    assert MB // 2 // 1000 < held <= MB // 1000, "one guest has at most half of the memory"
    used = host.json("host", "show")["buffer"]["used_bytes"]
    assert held * 1000 <= used <= MB

    host.daemon.do("host", "set", "--buffer-limit", "64M")
    more = range(ENTRIES + count, ENTRIES + count + 3000)
    guests.send(more, 1000)
    assert guests.drops() == {"buffer_full": count - held}, "there is room now"
    used = host.json("host", "show")["buffer"]["used_bytes"]
    assert used > 2 * MB
    sentence = refused(host, "host", "set", "--buffer-limit", "2M")
    assert "buffer limit 2M is less than the" in sentence and "host show" in sentence, sentence
    assert "buffer limit 2M is less" in refused(host, "host", "set", "--buffer-limit", str(2 * MB))
    done = apply(host, tmp_path, yaml.safe_dump({**host.json("export"), "host": {"buffer_limit": "2M"}}))
    assert done.returncode == 1 and "line 1: host: buffer limit 2M is less than the" in done.stderr, done
    assert host.json("host", "show")["buffer"]["limit"] == "64M"

    got = guests.ends["still"].receive_all(ENTRIES + held + len(more))
    assert [number_of(data) for data in got] == [*range(ENTRIES + held), *more]
    wait_until(lambda: host.json("host", "show")["buffer"]["used_bytes"] == 0, "the memory to be free again")
    host.daemon.do("host", "set", "--buffer-limit", "2M")
    guests.check_balance()
    assert guests.show()["state"] == "connected"
