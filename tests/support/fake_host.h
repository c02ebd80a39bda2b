// The world around HostService, for tests: NICs that a test makes up, endpoints without sockets, a store in memory.
#pragma once
#include <map>
#include <set>
#include <string>
#include <vector>

#include "control/host/nic_watch.h"
#include "control/host/sharing.h"
#include "control/reconcile/executor.h"
#include "control/store/store.h"

namespace patchbay::test {

class FakeNicWatch final : public host::NicWatch {
 public:
  std::map<std::string, model::Nic> current;
  std::vector<std::string> offload_calls;  // "eth1 rx-vlan-offload off"
  bool offloads_change = true;

  // Puts an Ethernet NIC there, up and with carrier.
  model::Nic& put(const std::string& name, std::uint32_t mtu = 1500) {
    model::Nic& nic = current[name];
    nic = {name, ++last_index_, {}, mtu, true, true, "fake", std::nullopt, true, std::nullopt};
    return nic;
  }
  // One that AF_XDP may be used on, in its driver.
  model::Nic& put_for_xdp(const std::string& name, unsigned queues) {
    model::Nic& nic = put(name);
    nic.driver = "igb";
    nic.queues = queues;
    nic.offloads = {model::OffloadState::on, model::OffloadState::off_fixed, model::OffloadState::on};
    return nic;
  }
  void tell() {
    if (changed_) changed_();
  }

  [[nodiscard]] const std::map<std::string, model::Nic>& nics() const override { return current; }
  bool refresh() override { return false; }
  Result<void> set_offload(const std::string& name, model::NicOffload offload, bool on) override {
    offload_calls.push_back(name + " " + to_string(offload) + (on ? " on" : " off"));
    if (!offloads_change) return fail(ErrorCode::unavailable, "nic " + name + ": the driver keeps it as it is");
    current.at(name).offloads[static_cast<std::size_t>(offload)] =
        on ? model::OffloadState::on : model::OffloadState::off;
    return {};
  }
  void on_change(std::function<void()> changed) override { changed_ = std::move(changed); }

 private:
  std::function<void()> changed_;
  int last_index_ = 0;
};

// Says and does what a test wants. Each call that moves something becomes a line of `calls`.
class FakeSharing final : public host::Sharing {
 public:
  std::vector<std::string> calls;
  std::map<std::string, std::vector<std::string>> carried;  // by NIC: what the host would lose
  std::map<std::string, Error> refusals;                    // by call, or by NIC for check_uplink()
  std::set<std::string> taken;                              // NICs

  [[nodiscard]] std::vector<std::string> take_calls() { return std::exchange(calls, {}); }
  void tell() {
    if (changed_) changed_();
  }

  [[nodiscard]] Result<void> check_uplink(const std::string& nic) const override {
    const auto refusal = refusals.find(nic);
    if (refusal != refusals.end()) return fail(refusal->second);
    return {};
  }
  [[nodiscard]] Result<std::vector<std::string>> of_note(const std::string& interface) const override {
    const auto found = carried.find(interface);
    return found == carried.end() ? std::vector<std::string>{} : found->second;
  }
  [[nodiscard]] Result<void> take(const std::string& nic, const std::string& vnic) override {
    if (auto ok = record("take " + nic + " " + vnic); !ok) return ok;
    taken.insert(nic);
    return {};
  }
  [[nodiscard]] Result<void> give_back(const std::string& nic, const std::string& vnic) override {
    if (auto ok = record("give_back " + nic + " " + vnic); !ok) return ok;
    taken.erase(nic);
    return {};
  }
  [[nodiscard]] bool is_taken(const std::string& nic) const override { return taken.contains(nic); }
  void on_change(std::function<void()> changed) override { changed_ = std::move(changed); }

 private:
  Result<void> record(const std::string& call) {
    calls.push_back(call);
    const auto refusal = refusals.find(call);
    if (refusal != refusals.end()) return fail(refusal->second);
    return {};
  }

  std::function<void()> changed_;
};

class MemoryStore final : public store::Store {
 public:
  store::StoredState stored;
  std::vector<store::AuditEntry> rows;  // of the audit
  store::SwitchedOff switched_off;
  bool is_full = false;
  unsigned saves = 0;

  Result<store::StoredState> load() override { return stored; }
  Result<void> save(const store::Change& change) override {
    if (is_full) return fail(ErrorCode::no_resource, "the disk is full");
    ++saves;
    for (const auto& put : change.put_switches) stored.host.switches[put.name] = put;
    for (const auto& put : change.put_vnics) stored.host.vnics[put.name] = put;
    for (const auto& name : change.removed_vnics) stored.host.vnics.erase(name);
    for (const auto& name : change.removed_switches) stored.host.switches.erase(name);
    for (const auto& put : change.put_teams) stored.host.teams[put.name] = put;
    for (const auto& name : change.removed_teams) stored.host.teams.erase(name);
    for (const auto& put : change.put_policies) stored.host.policies[put.name] = put;
    for (const auto& name : change.removed_policies) stored.host.policies.erase(name);
    if (change.settings) stored.host.settings = *change.settings;
    if (change.mac_pool) stored.mac_pool = change.mac_pool;
    rows.resize(rows.size() - change.audit_taken_back);
    for (auto entry : change.audit) {
      entry.id = static_cast<std::int64_t>(rows.size()) + 1;
      rows.push_back(std::move(entry));
    }
    return {};
  }
  Result<std::vector<store::AuditEntry>> audit(std::size_t count_max, const std::string& name) override {
    std::vector<store::AuditEntry> found;
    for (auto row = rows.rbegin(); row != rows.rend() && found.size() < count_max; ++row) {
      if (name.empty() || row->name == name) found.push_back(*row);
    }
    return found;
  }
  Result<store::SwitchedOff> load_switched_off() override { return switched_off; }
  Result<void> save_switched_off(const std::string& nic, const std::set<model::NicOffload>& offloads) override {
    if (is_full) return fail(ErrorCode::no_resource, "the disk is full");
    switched_off[nic] = offloads;
    if (offloads.empty()) switched_off.erase(nic);
    return {};
  }
};

// What the endpoints of a test did, and what they are to say.
struct FakeEndpoints {
  std::vector<std::string> calls;
  std::map<std::string, Error> refusals;  // by vnic
  std::map<std::string, vhost_user::EndpointStatus> statuses;
  std::map<std::string, vhost_user::EndpointConfig> configs;

  [[nodiscard]] std::vector<std::string> take_calls() { return std::exchange(calls, {}); }
  [[nodiscard]] reconcile::EndpointFactory factory();
};

class FakeEndpoint final : public vhost_user::Endpoint {
 public:
  FakeEndpoint(FakeEndpoints& log, std::string vnic) : log_(log), vnic_(std::move(vnic)) {}
  ~FakeEndpoint() override { log_.calls.push_back("close " + vnic_); }
  [[nodiscard]] vhost_user::EndpointStatus status() const override { return log_.statuses[vnic_]; }
  void set_mtu(std::uint16_t mtu) override { log_.calls.push_back("mtu " + vnic_ + " " + std::to_string(mtu)); }
  void set_queues(std::uint16_t queues) override {
    log_.calls.push_back("queues " + vnic_ + " " + std::to_string(queues));
  }
  void port_failed(dataplane::PortFault) override { log_.calls.push_back("failed " + vnic_); }

 private:
  FakeEndpoints& log_;
  const std::string vnic_;
};

inline reconcile::EndpointFactory FakeEndpoints::factory() {
  return [this](vhost_user::EndpointConfig config,
                const std::function<void()>&) -> Result<std::unique_ptr<vhost_user::Endpoint>> {
    const std::string vnic = config.vnic;
    calls.push_back("open " + vnic + (config.role == vhost_user::Role::connect ? " connect " : " listen ") +
                    config.path);
    if (const auto refusal = refusals.find(vnic); refusal != refusals.end()) return fail(refusal->second);
    configs[vnic] = std::move(config);
    return std::make_unique<FakeEndpoint>(*this, vnic);
  };
}

}  // namespace patchbay::test
