"""What a daemon says that cannot start, or cannot have a path: one sentence that names it and the way out, and whoever
was there before goes on undisturbed."""

import contextlib
import os
import shutil
import socket
import sqlite3

import pytest
from lab.daemon import program
from lab.proc import wait_until

MAC = "02:00:00:00:00:61"


@pytest.fixture
def lan(host):
    host.clear()
    host.daemon.do("switch", "create", "lan", "--internal")
    host.daemon.do("vnic", "create", "web", "--switch", "lan", "--mac", MAC)
    yield host
    host.clear()


@pytest.fixture
def other(host):
    """Empty state and run directories, for a second daemon."""
    place = os.path.join(host.lab.dir, "other")
    shutil.rmtree(place, ignore_errors=True)
    os.makedirs(os.path.join(place, "state"))
    os.makedirs(os.path.join(place, "run"))
    return os.path.join(place, "state"), os.path.join(place, "run")


def refusal(host, state_dir, run_dir, *more):
    """The sentence of a patchbayd that does not start."""
    done = host.netns.run("timeout", "20", program("patchbayd"), "--state-dir", state_dir, "--run-dir", run_dir, *more,
                          check=False)
    assert done.returncode == 1, (done.returncode, done.stdout, done.stderr)
    assert done.stderr.startswith("patchbayd: ") and done.stderr.count("\n") == 1, done.stderr
    assert len(done.stderr) < 500
    return done.stderr


def inodes(run_dir):
    return {os.path.join(folder, name): os.stat(os.path.join(folder, name)).st_ino
            for folder, _, names in os.walk(run_dir) for name in names}


@contextlib.contextmanager
def undisturbed(host):
    """The first daemon keeps its process, its sockets and its vnics."""
    before = inodes(host.run_dir), host.json("vnic", "list")
    yield
    assert host.daemon.process.running()
    assert (inodes(host.run_dir), host.json("vnic", "list")) == before
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.connect(os.path.join(host.run_dir, "vhost", "web.sock"))


def test_two_daemons_on_one_state_directory(lan, other):
    with undisturbed(lan):
        said = refusal(lan, lan.state_dir, other[1])
    assert f"state directory {lan.state_dir} is in use by another patchbayd (process {lan.daemon.process.pid})" in said
    assert "--state-dir" in said
    assert "vhost" not in os.listdir(other[1]), "it gave up before it made anything"


def test_two_daemons_on_one_run_directory(lan, other):
    with undisturbed(lan):
        said = refusal(lan, other[0], lan.run_dir)
    assert f"run directory {lan.run_dir} is in use by another patchbayd (process {lan.daemon.process.pid})" in said
    assert "--run-dir" in said


def test_two_daemons_with_the_same_command_line(lan):
    with undisturbed(lan):
        assert "is in use by another patchbayd" in refusal(lan, lan.state_dir, lan.run_dir)


def test_two_daemons_with_directories_of_their_own_leave_each_others_interfaces(lan, other):
    """A start clears away what a killed daemon left: never what belongs to another one."""
    lan.daemon.do("vnic", "create", "mgmt", "--switch", "lan", "--host")
    lan.daemon.kill9()
    second = lan.netns.start("second", program("patchbayd"), "--state-dir", other[0], "--run-dir", other[1])
    try:
        wait_until(lambda: os.path.exists(os.path.join(other[1], "api.sock")), "the second daemon to be ready")
        assert "mgmt" in lan.netns.run("ls", "/sys/class/net").stdout.split()
    finally:
        second.stop()
        lan.daemon.start()
    assert lan.json("vnic", "show", "mgmt")["state"] == "up"


def test_a_state_file_of_a_newer_release_stays_as_it_is(lan, other):
    path = os.path.join(other[0], "patchbay.db")
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("CREATE TABLE things_to_come (a)")
        database.execute("PRAGMA user_version = 999")
        database.commit()
    before = read(path)
    said = refusal(lan, *other)
    assert path in said and "schema version 999" in said and "start the release that wrote it" in said
    assert read(path) == before


@pytest.mark.parametrize("content", [b"this is no database, but somebody's text" * 100, None],
                         ids=["no database", "damaged"])
def test_a_damaged_state_file_is_named(lan, other, content):
    path = os.path.join(other[0], "patchbay.db")
    if content is None:
        with contextlib.closing(sqlite3.connect(os.path.join(lan.state_dir, "patchbay.db"))) as source, \
                contextlib.closing(sqlite3.connect(path)) as copy:
            source.backup(copy)
        size = os.path.getsize(path)
        with open(path, "r+b") as file:
            file.seek(4096)
            file.write(b"x" * (size - 4096))
    else:
        with open(path, "wb") as file:
            file.write(content)
    said = refusal(lan, *other)
    assert path in said and "damaged" in said and "restore a copy" in said


@pytest.mark.parametrize("which", [0, 1], ids=["state", "run"])
def test_a_file_where_a_directory_belongs(lan, other, which):
    places = list(other)
    places[which] = os.path.join(places[which], "file")
    with open(places[which], "w", encoding="ascii") as file:
        file.write("x")
    assert f"{places[which]} is not a directory" in refusal(lan, *places)


def test_a_run_directory_whose_sockets_would_be_too_long(lan, other):
    long = os.path.join(other[1], "d" * 100)
    assert long in refusal(lan, other[0], long)


def test_a_socket_group_that_does_not_exist(lan, other):
    assert "group nobody-has-this does not exist" in refusal(lan, *other, "--socket-group", "nobody-has-this")


def test_something_else_where_the_api_socket_belongs(lan, other):
    path = os.path.join(other[1], "api.sock")
    with open(path, "w", encoding="ascii") as file:
        file.write("precious")
    assert f"{path} exists and is not a socket" in refusal(lan, *other)
    assert read(path) == b"precious"
    os.unlink(path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as foreign:
        foreign.bind(path)
        foreign.listen()
        assert path in refusal(lan, *other)
    os.unlink(path)


@contextlib.contextmanager
def taken(path, how):
    """Something of somebody else at `path`."""
    if how == "file":
        with open(path, "w", encoding="ascii") as file:
            file.write("precious")
        try:
            yield
            assert read(path) == b"precious"
        finally:
            os.unlink(path)
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as foreign:
        foreign.bind(path)
        foreign.listen()
        inode = os.stat(path).st_ino
        try:
            yield
            assert os.stat(path).st_ino == inode
        finally:
            os.unlink(path)


@pytest.mark.parametrize("how", ["file", "socket"])
def test_a_vnic_whose_socket_path_is_taken_is_refused_whole(lan, how):
    path = os.path.join(lan.run_dir, "vhost", "late.sock")
    with taken(path, how):
        done = lan.cli("vnic", "create", "late", "--switch", "lan")
        assert done.returncode == 1 and path in done.stderr and done.stderr.count("\n") == 1, done.stderr
        assert ("not a socket" if how == "file" else "in use by a running process") in done.stderr
        assert [vnic["name"] for vnic in lan.json("vnic", "list")] == ["web"]
    lan.daemon.do("vnic", "create", "late", "--switch", "lan")
    assert lan.json("vnic", "show", "late")["state"] == "waiting_for_guest"


@pytest.mark.parametrize("how", ["file", "socket"])
def test_a_path_that_was_taken_while_the_daemon_was_down_is_shown_and_tried_again(lan, how):
    lan.daemon.do("vnic", "create", "late", "--switch", "lan")
    path = lan.json("vnic", "show", "late")["vhost_socket"]
    lan.daemon.stop()
    with taken(path, how):
        lan.daemon.start()
        view = lan.json("vnic", "show", "late")
        assert view["state"] == "failed" and path in view["state_reason"], view
        assert lan.json("vnic", "show", "web")["state"] == "waiting_for_guest", "the neighbour is not concerned"
    wait_until(lambda: lan.json("vnic", "show", "late")["state"] == "waiting_for_guest", "the vnic to be tried again")


def read(path):
    with open(path, "rb") as file:
        return file.read()
