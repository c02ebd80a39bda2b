// A worker with fake ports around one switch, driven pass by pass without a thread.
#pragma once
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "dataplane/dpdk/rcu.h"
#include "dataplane/ports/fake_port.h"
#include "dataplane/worker/worker.h"
#include "tests/support/frames.h"

namespace patchbay::test {

// Port 0 is the uplink; vnics follow, vnic i (from 1) with the address 02:00:00:00:00:0i.
class SwitchBench {
 public:
  struct Vnic {
    std::uint16_t vid = 0;
    dataplane::Port* port = nullptr;  // nothing: a fake port
  };

  explicit SwitchBench(std::vector<Vnic> vnics, bool with_uplink = true)
      : rcu(*dataplane::dpdk::Rcu::create(nullptr)), vnics_(std::move(vnics)), with_uplink_(with_uplink) {
    worker = *dataplane::Worker::create(0, std::nullopt, rcu);
    for (std::uint32_t i = 0; i <= vnics_.size(); ++i) {
      fakes.push_back(std::make_unique<dataplane::FakePort>(PortId{i + 1}));
    }
    publish();
  }

  SwitchBench(const SwitchBench&) = delete;
  SwitchBench& operator=(const SwitchBench&) = delete;

  static std::string mac(std::size_t vnic) { return MacAddr::from_uint64(0x020000000000 + vnic).to_string(); }
  dataplane::Port& port(std::size_t i) const {
    return i != 0 && vnics_[i - 1].port != nullptr ? *vnics_[i - 1].port : *fakes[i];
  }
  void set_vid(std::size_t vnic, std::uint16_t vid) {
    vnics_[vnic - 1].vid = vid;
    publish();
  }
  void publish() {
    auto snapshot = std::make_unique<dataplane::Snapshot>();
    std::vector<forwarding::SwitchTable::Member> members;
    for (std::uint32_t i = 0; i <= vnics_.size(); ++i) {
      if (i == 0) {
        snapshot->entries.push_back({&port(0), 0, {.uplink = true}});
        continue;
      }
      const MacAddr address = *MacAddr::parse(mac(i));
      members.push_back({i, address, vnics_[i - 1].vid});
      snapshot->entries.push_back(
          {&port(i), 0, {.uplink = false, .vid = vnics_[i - 1].vid, .mac = address.to_uint64()}});
    }
    snapshot->switches.emplace_back(members, with_uplink_ ? std::optional(0U) : std::nullopt, std::uint16_t{1500});
    static_cast<void>(worker->publish(std::move(snapshot)));
  }
  // ingress + flood copies - egress - drops over all ports: zero when no frame vanished or came from nowhere.
  [[nodiscard]] std::int64_t imbalance() const {
    std::int64_t balance = 0;
    for (std::size_t i = 0; i < fakes.size(); ++i) {
      const auto counters = port(i).counters();
      balance += static_cast<std::int64_t>(counters.ingress.frames + counters.flood_copies - counters.egress.frames);
      for (const auto drops : counters.drops) balance -= static_cast<std::int64_t>(drops);
    }
    return balance;
  }

  dataplane::dpdk::Rcu rcu;
  std::vector<std::unique_ptr<dataplane::FakePort>> fakes;
  std::unique_ptr<dataplane::Worker> worker;

 private:
  std::vector<Vnic> vnics_;
  bool with_uplink_;
};

}  // namespace patchbay::test
