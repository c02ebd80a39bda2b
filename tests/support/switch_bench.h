// A worker with fake ports around one switch, driven pass by pass without a thread.
#pragma once
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "dataplane/dpdk/rcu.h"
#include "dataplane/ports/fake_port.h"
#include "dataplane/worker/workers.h"
#include "tests/support/frames.h"

namespace patchbay::test {

// Port 0 is the uplink; vnics follow, vnic i (from 1) with the address 02:00:00:00:00:0i.
class SwitchBench {
 public:
  struct Vnic {
    std::uint16_t vid = 0;                               // 0: untagged
    dataplane::Port* port = nullptr;                     // nothing: a fake port
    std::optional<model::VlanMode> vlan = std::nullopt;  // in place of vid
    bool mac_spoofing = false;
    std::uint32_t mac_limit = 100;
    bool trust_priority = false;
    unsigned worker = 0;

    [[nodiscard]] model::VlanMode mode() const {
      if (vlan) return *vlan;
      return vid == 0 ? model::VlanMode(model::Untagged{}) : model::VlanMode(model::Access{*VlanId::from(vid)});
    }
  };

  // The uplink belongs to worker 0.
  explicit SwitchBench(std::vector<Vnic> vnics, bool with_uplink = true, unsigned worker_count = 1)
      : rcu(*dataplane::dpdk::Rcu::create(nullptr)), vnics_(std::move(vnics)), with_uplink_(with_uplink) {
    workers = *dataplane::Workers::create(worker_count, rcu);
    worker = &workers->at(0);
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
  void set_mtu(std::uint16_t mtu) {
    mtu_ = mtu;
    publish();
  }
  // The uplink is a team of which the other end knows nothing.
  void set_reflects(bool on) {
    reflects_ = on;
    publish();
  }
  // Of what comes in at the uplink.
  void set_coalesces(bool on) {
    coalesces_ = on;
    publish();
  }
  void set_vid(std::size_t vnic, std::uint16_t vid) {
    vnics_[vnic - 1].vid = vid;
    publish();
  }
  void change(std::size_t vnic, const Vnic& to) {
    vnics_[vnic - 1] = to;
    const auto old = std::exchange(learners_[vnic], nullptr);  // what was learned is void; in use until published
    publish();
  }
  // As the data plane hands a port over; all workers run.
  void move(std::size_t vnic, unsigned to) {
    workers->at_rest([&] {
      vnics_[vnic - 1].worker = to;
      publish();
    });
    workers->wake();
  }
  // A pass of each worker, in order.
  void poll_all() {
    for (unsigned i = 0; i < workers->count(); ++i) workers->at(i).poll_once();
  }
  void publish() {
    auto snapshot = std::make_unique<dataplane::Snapshot>();
    std::vector<forwarding::SwitchTable::Member> members;
    bool any_spoofs = false;
    for (const Vnic& vnic : vnics_) any_spoofs = any_spoofs || vnic.mac_spoofing;
    for (std::uint32_t i = 0; i <= vnics_.size(); ++i) {
      if (i == 0) {
        auto* const learner = any_spoofs ? learner_of(0, 100) : nullptr;
        snapshot->entries.push_back(
            {&port(0), 0, {.uplink = true, .reflects = reflects_, .learner = learner}, 0, coalesces_});
        continue;
      }
      const Vnic& vnic = vnics_[i - 1];
      const MacAddr address = *MacAddr::parse(mac(i));
      auto* const learner = vnic.mac_spoofing ? learner_of(i, vnic.mac_limit) : nullptr;
      members.push_back({i, address, vnic.mode(), vnic.mac_spoofing, learner});
      snapshot->entries.push_back({&port(i),
                                   0,
                                   {.uplink = false,
                                    .mac = address.to_uint64(),
                                    .mac_spoofing = vnic.mac_spoofing,
                                    .trust_priority = vnic.trust_priority,
                                    .vlans = forwarding::PortVlans::of(vnic.mode()),
                                    .learner = learner},
                                   vnic.worker});
    }
    std::optional<forwarding::SwitchTable::Uplink> uplink;
    if (with_uplink_) uplink = {0, snapshot->entries[0].rule.learner};
    snapshot->switches.emplace_back(members, uplink, mtu_, any_spoofs ? &fdb : nullptr);
    workers->publish(std::move(snapshot));
  }
  // Nothing if port `i` does not learn.
  [[nodiscard]] const forwarding::Learner* learner(std::size_t i) const {
    const auto found = learners_.find(i);
    return found == learners_.end() ? nullptr : found->second.get();
  }
  // ingress + flood copies + cut frames - egress - drops - merged frames over all ports: zero when no frame vanished or came
  // from nowhere.
  [[nodiscard]] std::int64_t imbalance() const {
    std::int64_t balance = 0;
    for (std::size_t i = 0; i < fakes.size(); ++i) {
      const auto counters = port(i).counters();
      balance += static_cast<std::int64_t>(counters.ingress.frames + counters.flood_copies + counters.cut_frames -
                                           counters.egress.frames - counters.merged_frames);
      for (const auto drops : counters.drops) balance -= static_cast<std::int64_t>(drops);
    }
    return balance;
  }

  dataplane::dpdk::Rcu rcu;
  std::vector<std::unique_ptr<dataplane::FakePort>> fakes;
  forwarding::Fdb fdb{1024};
  std::unique_ptr<dataplane::Workers> workers;
  dataplane::Worker* worker = nullptr;  // the first one

 private:
  forwarding::Learner* learner_of(std::size_t i, std::uint32_t limit) {
    auto& learner = learners_[i];
    if (learner == nullptr) learner = std::make_shared<forwarding::Learner>(next_learner_++, limit);
    return learner.get();
  }

  std::map<std::size_t, std::shared_ptr<forwarding::Learner>> learners_;
  forwarding::LearnerId next_learner_ = 1;
  std::vector<Vnic> vnics_;
  bool with_uplink_;
  std::uint16_t mtu_ = 1500;
  bool coalesces_ = false;
  bool reflects_ = false;
};

}  // namespace patchbay::test
