"""Processes and waiting: run a command, start a recorded process, wait on a condition with a time limit.

Every thing that outlives a function call (process, namespace, directory) is written to the lab's record *before* it
exists, so that whoever cleans up, even after a kill -9, knows all of it. A process is identified by its id and its
start time: a recycled id is never ended by mistake.
"""

import json
import os
import select
import shlex
import shutil
import signal
import subprocess
import time

RECORD = "record.jsonl"
# The limits of waits and commands here are so many times as long: for programs that are slower than they were built to be.
PATIENCE = float(os.environ.get("PATCHBAY_TEST_PATIENCE", "1"))


class LabError(Exception):
    """Something of the lab did not work; the text says what, and where to look."""


def wait_until(condition, what, limit_s=10.0, every_s=0.05):
    """The first true value of condition(); LabError naming `what` after limit_s."""
    limit_s *= PATIENCE
    end = time.monotonic() + limit_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() >= end:
            raise LabError(f"waited {limit_s:g} s for {what}, in vain")
        time.sleep(every_s)


def run(*command, check=True, limit_s=30.0, **options):
    """Runs a command to its end, output captured as text. LabError with its stderr if it fails and `check`."""
    command = [str(word) for word in command]
    limit_s *= PATIENCE
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit_s, **options)
    except FileNotFoundError as error:
        raise LabError(f"{command[0]} is not installed; ./quickstart and ./test install what they need") from error
    except subprocess.TimeoutExpired as error:
        raise LabError(f"{shlex.join(command)}: no end after {limit_s:g} s") from error
    if check and done.returncode != 0:
        raise LabError(f"{shlex.join(command)}: exit {done.returncode}: {(done.stderr or done.stdout).strip()}")
    return done


def start_time(pid):
    """Start time of a process in clock ticks since boot; None if there is no such process (or only its zombie)."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            fields = file.read().rsplit(")", 1)[1].split()
    except (OSError, IndexError):
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def same_process(pid, started):
    """Whether the process that was recorded as (pid, started) still runs."""
    return started is not None and start_time(pid) == started


class Record:
    """The list of what a lab made, in RUN_DIR/record.jsonl; only ever appended to."""

    def __init__(self, run_dir):
        self.path = os.path.join(run_dir, RECORD)

    def add(self, kind, **fields):
        line = json.dumps({"kind": kind, **fields}) + "\n"
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, line.encode())
        finally:
            os.close(descriptor)

    def read(self):
        try:
            with open(self.path, encoding="utf-8") as file:
                lines = file.read().splitlines()
        except FileNotFoundError:
            return []
        entries = []
        for line in lines:
            try:
                entries.append(json.loads(line))
            except ValueError:  # the writer was killed half-way through this line: it made nothing yet
                continue
        return entries


class Process:
    """A background process of a lab, in a session of its own, recorded by itself before it becomes the program."""

    def __init__(self, record, what, command, log, netns=None, env=None, pass_fds=(), stdin=subprocess.DEVNULL):
        command = [str(word) for word in command]
        if netns:
            command = ["ip", "netns", "exec", netns, *command]  # replaces itself: the id stays
        self.what = what
        self.log = log

        def write_down():  # in the child
            record.add("process", pid=os.getpid(), started=start_time(os.getpid()), what=what)

        if shutil.which(command[0]) is None:
            raise LabError(f"{what}: {command[0]} is not there or not executable")
        with open(log, "ab") as output:
            self.popen = subprocess.Popen(command, stdin=stdin, stdout=output, stderr=output, env=env,
                                          preexec_fn=write_down, start_new_session=True, pass_fds=pass_fds)
        self.pid = self.popen.pid

    def running(self):
        return self.popen.poll() is None

    def check(self):
        """LabError with the log's last lines if the process has ended."""
        if not self.running():
            raise LabError(f"{self.what} ended with {self.popen.returncode}; the end of {self.log}:\n{tail(self.log)}")

    def wait(self, limit_s=10.0):
        limit_s *= PATIENCE
        try:
            return self.popen.wait(limit_s)
        except subprocess.TimeoutExpired as error:
            raise LabError(f"{self.what} (pid {self.pid}) did not end within {limit_s:g} s") from error

    def stop(self, limit_s=5.0):
        """Asks it to end, insists after limit_s; returns its exit status."""
        if self.running():
            self.popen.terminate()
            try:
                self.popen.wait(limit_s * PATIENCE)
            except subprocess.TimeoutExpired:
                self.popen.kill()
        return self.popen.wait()

    def kill(self):
        self.popen.kill()
        return self.popen.wait()


def tail(path, lines=15):
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return "".join(file.readlines()[-lines:])
    except OSError as error:
        return f"({error})"


def end_recorded(entries, limit_s=4.0):
    """Ends the recorded processes that still run, last started first: asks all, then insists."""
    left = [(e["pid"], e["started"], e["what"]) for e in reversed(entries) if e["kind"] == "process"]
    left = [entry for entry in left if same_process(entry[0], entry[1])]
    for signal_number in (signal.SIGTERM, signal.SIGKILL):
        watched = []
        for pid, started, _ in left:
            try:
                descriptor = os.pidfd_open(pid)
            except ProcessLookupError:
                continue
            if not same_process(pid, started):  # checked while the descriptor pins the process
                os.close(descriptor)
                continue
            try:
                signal.pidfd_send_signal(descriptor, signal_number)
            except ProcessLookupError:
                pass
            watched.append(descriptor)
        end = time.monotonic() + limit_s
        for descriptor in watched:
            select.select([descriptor], [], [], max(0.0, end - time.monotonic()))
            os.close(descriptor)
        left = [entry for entry in left if same_process(entry[0], entry[1])]
        if not left:
            return []
    return [f"process {pid} ({what}) does not end" for pid, _, what in left]
