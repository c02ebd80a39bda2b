"""python3 -m lab.suite [--quick | --sanitizer address|thread]: runs every check of the project; one plain line with the
sum at the end.

The line is "N passed, N failed, N skipped". A check that is not a test (format, includes, a build) counts as one.
"""

import argparse
import concurrent.futures
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import xml.etree.ElementTree as xml

from .image import REPOSITORY

# folder, options: the builds in which the unit tests run. Clang's warnings find what gcc's do not, and it makes a
# sanitizer build in about half of gcc's time; neither needs optimisation, nor more debug information than line numbers.
CLANG = ["-DCMAKE_C_COMPILER=clang", "-DCMAKE_CXX_COMPILER=clang++", "-DCMAKE_BUILD_TYPE=None",
         "-DCMAKE_CXX_FLAGS=-O0 -g1", "-DPATCHBAY_PCH=ON"]
GCC = ("build", [])
# Where more than one thread runs: workers, and closers beside the event loop. All else of control is one thread, and there is
# nothing for the thread sanitizer to see in it.
THREADED = r"^(base|dataplane[a-z/]*|control/vhost_user):"
SANITIZERS = (
    ("build-asan", [*CLANG, "-DPATCHBAY_SANITIZE=address,undefined,fuzzer-no-link", "-DPATCHBAY_FUZZ=ON"], None),
    ("build-tsan", [*CLANG, "-DPATCHBAY_SANITIZE=thread"], THREADED),
)
# --sanitizer: the integration tests with a daemon, a CLI and a load generator of a sanitizer build. Optimised a little, for the
# guests wait for them; what is freed stays out of use for 8 MB only, for some tests ask how much memory the daemon keeps.
WHOLE = [*CLANG, "-DCMAKE_CXX_FLAGS=-O1 -g1"]  # the last one counts
SANITIZED = {
    "address": ("build-address", [*WHOLE, "-DPATCHBAY_SANITIZE=address,undefined"], "quarantine_size_mb=8"),
    "thread": ("build-thread", [*WHOLE, "-DPATCHBAY_SANITIZE=thread"], "history_size=4"),
}
SANITIZED_TARGETS = ("patchbayd", "patchbay", "queue_probe", "bench_programs")
FUZZ_S = 30  # each target
# Of what is compiled beside the integration tests, in the time that they leave.
WHEN_IDLE = ("chrt", "--idle", "0")
# Integration tests at once: they wait more than they work. conftest.py says which have to stay together.
INTEGRATION_PROCESSES = 2
SOURCE_FOLDERS = ("src", "clients", "tests")


class Suite:
    def __init__(self, jobs):
        self.jobs = jobs
        self.passed = self.failed = self.skipped = 0
        self.failures = []
        self._counting = threading.Lock()
        # The thread sanitizer does not start where addresses are randomised as widely as new kernels do it.
        self.fixed_addresses = ["setarch", os.uname().machine, "-R"]

    def say(self, text):
        print(f"== {text}", flush=True)

    def count(self, passed, name):
        with self._counting:
            if passed:
                self.passed += 1
            else:
                self.failed += 1
                self.failures.append(name)
        return passed

    def check(self, name, command):
        """One check: passes when the command exits with 0."""
        started = time.monotonic()
        done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
        passed = self.count(done.returncode == 0, name)
        if not passed:
            print((done.stdout + done.stderr)[-12000:])
        self.say(f"{name}: {'passed' if passed else 'FAILED'} ({time.monotonic() - started:.0f} s)")
        return passed

    def format(self):
        files = []
        for top in SOURCE_FOLDERS:
            for folder, _, names in os.walk(os.path.join(REPOSITORY, top)):
                files += [os.path.join(folder, name) for name in names if name.endswith((".h", ".cpp"))]
        self.check("format", ["clang-format", "--dry-run", "-Werror", *sorted(files)])

    def build(self, folder, options, tests=None, priority=(), targets=("all", "bench_programs")):
        """`targets`, or only the unit tests whose names `tests`, a regular expression, finds. `priority`: words before the
        command."""
        place = os.path.join(REPOSITORY, folder)
        launcher = ["-DCMAKE_CXX_COMPILER_LAUNCHER=ccache"] if _installed("ccache") else []
        configure = ["cmake", "-S", REPOSITORY, "-B", place, "-G", "Ninja", *options, *launcher]
        if not self.check(f"{folder}: configure", configure):
            return False
        if tests:
            listed = subprocess.run(["ninja", "-C", place, "-t", "targets", "all"], capture_output=True, text=True,
                                    check=True).stdout
            programs = [line.split(":")[0] for line in listed.splitlines() if "EXECUTABLE_LINKER__pb_" in line]
            targets = [program for program in programs if program.endswith("_test")
                       and re.search(tests, _folder_of(program) + ":")]
        return self.check(f"{folder}: build",
                          [*priority, *self.fixed_addresses, "ninja", "-C", place, "-j", str(self.jobs), *targets])

    def unit_tests(self, folder, tests=None):
        place = os.path.join(REPOSITORY, folder)
        result = os.path.join(place, "ctest.xml")
        if os.path.exists(result):
            os.remove(result)
        self.say(f"{folder}: unit tests")
        done = subprocess.run([*self.fixed_addresses, "ctest", "--test-dir", place, "-j", str(self.jobs),
                               "--output-on-failure", "--no-tests=error", "--output-junit", result,
                               *(["-R", tests] if tests else [])],
                              capture_output=True, text=True, check=False)
        if done.returncode != 0:
            print(done.stdout[-12000:] + done.stderr[-4000:])
        self.add_junit(result, folder, done.returncode)

    def fuzz(self, folder):
        """Each fuzz target from its corpus on, as many at once as there are jobs. What crashes one stays in `folder`."""
        programs = os.path.join(REPOSITORY, folder, "tests", "fuzz")
        names = sorted(name for name in os.listdir(programs) if name.endswith("_fuzz"))
        self.count(bool(names), f"{folder}: fuzz targets")
        with concurrent.futures.ThreadPoolExecutor(self.jobs) as pool:
            list(pool.map(lambda name: self._fuzz_one(os.path.join(programs, name), name), names))

    def _fuzz_one(self, program, name):
        kept = os.path.join(REPOSITORY, "tests", "fuzz", "corpus", name)
        with tempfile.TemporaryDirectory() as found:
            self.check(f"fuzz: {name}", [program, f"-max_total_time={FUZZ_S}", f"-artifact_prefix={program}-",
                                         "-timeout=20", "-rss_limit_mb=4096", found, kept])

    def integration(self, arguments, folder="build", environment=None, prefix=()):
        """With the programs in `folder`. `arguments` of pytest; the files among them instead of all tests. `prefix`: words
        before the command."""
        place = os.path.join(REPOSITORY, folder)
        result = os.path.join(place, "pytest.xml")
        if os.path.exists(result):
            os.remove(result)
        self.say(f"{folder}: integration tests")
        if not any(word.startswith("tests/") for word in arguments):
            arguments = [*arguments, os.path.join("tests", "integration")]
        done = subprocess.run([*prefix, "/usr/bin/python3", "-m", "pytest", "-p", "no:cacheprovider", "--junitxml", result,
                               "-n", str(INTEGRATION_PROCESSES), "--dist", "loadgroup", *arguments],
                              cwd=REPOSITORY, check=False,
                              env={**os.environ, "PATCHBAY_BUILD": place, **(environment or {})})
        self.add_junit(result, "integration", done.returncode)

    def sanitized(self, sanitizer, arguments):
        """The integration tests with programs of a sanitizer build; what it reports counts as a failure each."""
        folder, build, options = SANITIZED[sanitizer]
        if not self.build(folder, build, targets=SANITIZED_TARGETS):
            return
        reports = os.path.join(REPOSITORY, folder, "reports")
        shutil.rmtree(reports, ignore_errors=True)
        os.makedirs(reports)
        os.chmod(reports, 0o1777)  # of daemons that run as another user, too
        self.integration(arguments, folder, {
            f"{word}_OPTIONS": f"{options}:print_stacktrace=1:log_exe_name=1:log_path={reports}/{sanitizer}"
            for word in ("ASAN", "UBSAN", "TSAN")} | {"PATCHBAY_TEST_PATIENCE": "5", "PATCHBAY_SANITIZER": sanitizer},
            self.fixed_addresses)
        for name in sorted(os.listdir(reports)):
            self.count(False, f"{folder}/reports/{name}")
        self.count(not os.listdir(reports), f"{folder}: no report of a sanitizer")

    def add_junit(self, path, name, status):
        """Counts each test of a JUnit file; a run that failed without a failing test counts as one failure."""
        failed_before = self.failed
        try:
            cases = list(xml.parse(path).getroot().iter("testcase"))
        except (OSError, xml.ParseError):
            cases = []
        for case in cases:
            tags = {child.tag for child in case}
            if tags & {"failure", "error"}:
                self.count(False, f"{name}: {case.get('name')}")
            elif "skipped" in tags or case.get("status") in ("notrun", "disabled"):
                self.skipped += 1
            else:
                self.count(True, name)
        if (status != 0 or not cases) and self.failed == failed_before:
            self.count(False, f"{name}: ended with {status} after {len(cases)} tests")


def _folder_of(program):
    """src/pb_control_vhost_user_test: control/vhost_user, as the names of its tests begin."""
    name = re.fullmatch(r".*/pb_(.*)_test", program).group(1)
    return re.sub(r"^(control|dataplane|clients)_", r"\1/", name)


def _installed(program):
    return any(os.access(os.path.join(folder, program), os.X_OK) for folder in os.environ["PATH"].split(":"))


def _everything(suite, arguments):
    suite.format()
    suite.check("include directions", ["/usr/bin/python3", "tools/check_includes.py"])
    suite.check("docs/reference/api.md", ["/usr/bin/python3", "tools/make_api_reference.py", "--check"])
    built = suite.build(*GCC)
    if built:
        suite.unit_tests("build")
    if not arguments.quick:
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            builds = [pool.submit(suite.build, folder, options, tests, WHEN_IDLE) for folder, options, tests in SANITIZERS]
            if built:
                suite.integration(arguments.pytest)
        for (folder, _, tests), build in zip(SANITIZERS, builds):
            if build.result():
                suite.unit_tests(folder, tests)
                if folder == "build-asan":
                    suite.fuzz(folder)


def main():
    parser = argparse.ArgumentParser(prog="test", description="Runs every check of the project.")
    part = parser.add_mutually_exclusive_group()
    part.add_argument("--quick", action="store_true", help="checks and unit tests with gcc only")
    part.add_argument("--sanitizer", choices=SANITIZED, help="the integration tests with a daemon of that sanitizer")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="compilers and unit tests at once")
    parser.add_argument("pytest", nargs="*", help="more arguments for pytest, after --")
    arguments = parser.parse_args()
    suite = Suite(arguments.jobs)
    if arguments.sanitizer:
        suite.sanitized(arguments.sanitizer, arguments.pytest)
    else:
        _everything(suite, arguments)
    for failure in suite.failures:
        print(f"FAILED {failure}")
    print(f"{suite.passed} passed, {suite.failed} failed, {suite.skipped} skipped", flush=True)
    return 1 if suite.failed else 0


if __name__ == "__main__":
    sys.exit(main())
