"""Completion in a real bash: what the key would offer."""

import os
import re
import shutil
import subprocess

import pytest
from lab.daemon import program

ASK = """
source <(patchbay completion bash)
COMP_WORDS=(patchbay "$@")
COMP_CWORD=$#
_patchbay patchbay "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
printf '%s\\n' "${COMPREPLY[@]}"
complete -p patchbay
"""


def offered(api_socket, *words):
    environment = dict(os.environ, PATH=f"{os.path.dirname(program('patchbay'))}:{os.environ['PATH']}",
                       PATCHBAY_API=api_socket)
    done = subprocess.run(["bash", "--norc", "-c", ASK, "bash", *words], env=environment, capture_output=True, text=True,
                          timeout=20, check=True)
    *found, registered = done.stdout.splitlines()
    assert registered == "complete -F _patchbay patchbay"
    assert done.stderr == ""
    return [word for word in found if word]


@pytest.fixture
def lab(host):
    host.clear()
    host.daemon.do("switch", "create", "lab", "--private")
    host.daemon.do("vnic", "create", "web", "--switch", "lab")
    host.daemon.do("vnic", "create", "work", "--switch", "lab")
    host.daemon.do("policy", "create", "storage")
    yield host
    host.clear()


@pytest.mark.parametrize("words, wanted", [
    (("vn",), ["vnic"]),
    (("vnic", ""), ["attach-args", "create", "delete", "list", "set", "show"]),
    (("vnic", "show", "w"), ["web", "work"]),
    (("vnic", "show", "we"), ["web"]),
    (("--json", "vnic", "delete", "wo"), ["work"]),
    (("vnic", "create", "new", "--switch", ""), ["lab"]),
    (("vnic", "create", "new", "--sw"), ["--switch"]),
    (("vnic", "attach-args", "web", "--format", "l"), ["libvirt"]),
    (("switch", "create", "new", "--pr"), ["--private"]),
    (("audit", ""), ["lab", "storage", "web", "work"]),
    (("policy", ""), ["create", "delete", "list", "set", "show"]),
    (("policy", "set", ""), ["storage"]),
    (("policy", "create", "new", "--apply-to", "h"), ["host"]),
    (("host", ""), ["set", "show"]),
    (("vnic", "create", ""), []),
    (("nonsense", "w"), []),
], ids=" ".join)
def test_bash_offers(lab, words, wanted):
    assert offered(lab.api_socket, *words) == wanted


def test_every_option_of_a_verb_is_offered(lab):
    text = lab.cli("vnic", "create", "--help").stdout
    options = {names.split(",")[-1] for names in re.findall(r"^ {2,4}(-\S+)", text, re.MULTILINE)}
    assert len(options) >= 6
    assert options - set(offered(lab.api_socket, "vnic", "create", "new", "--")) == set()


def test_without_a_daemon_names_are_missing_and_nothing_else(tmp_path):
    nobody = str(tmp_path / "api.sock")
    assert offered(nobody, "vnic", "show", "") == []
    assert offered(nobody, "vnic", "sh") == ["show"]


def test_the_script_for_zsh_is_one_that_zsh_reads(lab, tmp_path):
    script = lab.daemon.do("completion", "zsh")
    assert script.startswith("#compdef patchbay\n")
    if shutil.which("zsh") is None:
        pytest.skip("zsh is not installed")
    (tmp_path / "_patchbay").write_text(script)
    subprocess.run(["zsh", "-n", tmp_path / "_patchbay"], check=True)
