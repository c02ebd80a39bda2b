# What quickstart and test share: the packages, and the build. To be sourced by bash; expects $repository.

packages_build=(build-essential cmake ninja-build pkg-config python3 libdpdk-dev libboost-dev libsqlite3-dev
  nlohmann-json3-dev libyaml-cpp-dev libcli11-dev libspdlog-dev libfmt-dev libexpected-dev libnl-3-dev
  libnl-route-3-dev libnl-genl-3-dev libxdp-dev libbpf-dev libgtest-dev libbenchmark-dev)
packages_run=(qemu-system-x86 openvswitch-switch python3-scapy python3-pytest
  python3-pytest-xdist python3-yaml python3-jsonschema
  busybox-static iperf3 iproute2 iputils-ping ethtool tcpdump cpio xz-utils procps)
packages_test=(clang libclang-rt-dev clang-format dpdk-dev tshark git strace systemd libvirt-daemon libvirt-daemon-driver-qemu
  libvirt-clients)
# What ./bench measures against, and what draws its charts.
packages_bench=(openvswitch-switch-dpdk dpdk-dev python3-matplotlib clang)

say() { printf '== %s\n' "$*"; }
die() { printf '%s: %s\n' "$(basename "$0")" "$*" >&2; exit 1; }
as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; return; fi
  command -v sudo >/dev/null || die "needs root for: $* (run it as root, or install sudo)"
  sudo "$@"
}

# setup_packages PACKAGE...: installs those that are missing; needs no network when none is.
setup_packages() {
  local missing=() package had_ovs=no
  dpkg-query -W -f '${db:Status-Status}' openvswitch-switch 2>/dev/null | grep -qx installed && had_ovs=yes
  for package in "$@"; do
    dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || missing+=("$package")
  done
  if [ ${#missing[@]} = 0 ]; then
    say "all ${#} packages that are needed are installed"
    return
  fi
  command -v apt-get >/dev/null || die "needs Debian 12 or newer (no apt-get here); missing: ${missing[*]}"
  say "installing ${#missing[@]} packages: ${missing[*]}"
  as_root apt-get update -q || die "apt-get update failed: is there a network? missing: ${missing[*]}"
  # No service is to be started by a quickstart: policy-rc.d is how Debian is told.
  local policy=/usr/sbin/policy-rc.d ours=no
  if [ ! -e $policy ]; then
    printf '#!/bin/sh\nexit 101\n' | as_root tee $policy >/dev/null && as_root chmod 755 $policy && ours=yes
  fi
  local status=0
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}" || status=$?
  [ $ours = no ] || as_root rm -f $policy
  [ $status = 0 ] || die "apt-get could not install the packages above"
  if [ $had_ovs = no ] && [[ " ${missing[*]} " == *" openvswitch-switch "* ]] && [ -d /run/systemd/system ]; then
    say "Open vSwitch's system service is not needed (the lab runs one of its own): disabling it"
    as_root systemctl disable -q --now openvswitch-switch.service || true
  fi
}

# build_programs DIR [TARGET...]: patchbayd and patchbay, and these targets.
build_programs() {
  local place=$1
  shift
  say "building patchbayd and patchbay${*:+, $*} in ${place#"$repository"/}/ (minutes at first, seconds later)"
  [ -f "$place/build.ninja" ] ||
    cmake -S "$repository" -B "$place" -G Ninja >"$place.log" 2>&1 || { cat "$place.log"; die "cmake failed"; }
  rm -f "$place.log"
  ninja -C "$place" patchbayd patchbay "$@" || die "the build failed"
}
