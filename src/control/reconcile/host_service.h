// The Service of this host: model, store, data plane and kernel put together.
//
// Theory  A change is checked on a copy of the model, saved in one transaction, and reconciled. If what a creation asks
//         for cannot be opened (the interface exists and is somebody else's, the socket's path is taken), the saved
//         change is taken back in the same call: storing first and taking back leaves, at worst, when the daemon is
//         killed in between, an object that is listed with the reason why it does not work; opening first would leave
//         an interface behind that nobody knows of. Addresses that the host shares a NIC by go back to the NIC before
//         the end of the sharing is saved: killed in between, the next start finds the sharing wanted and takes them
//         again, so whatever is stored, no address is on an interface that nobody knows of. What fails later,
//         because the world changed, keeps its reason in the object's state_reason and is tried again when the kernel
//         tells of the NIC, and every `retry_after`.
// Threads control's only; everything happens inside calls and on the event loop.
#pragma once
#include <array>
#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <memory>
#include <optional>
#include <string>

#include "control/host/nic_watch.h"
#include "control/host/sharing.h"
#include "control/reconcile/executor.h"
#include "control/reconcile/service.h"
#include "control/store/store.h"

namespace patchbay::reconcile {

struct HostServiceConfig {
  std::string run_dir;                                      // exists; vhost sockets appear in its directory vhost
  std::optional<unsigned> socket_group;                     // group id that may use those sockets
  std::optional<std::array<std::uint8_t, 4>> host_address;  // for the MAC pool, if this state was never used
  std::chrono::milliseconds retry_after = std::chrono::seconds(2);    // what failed to open
  std::chrono::milliseconds release_after = std::chrono::seconds(5);  // memory of buffers that nothing waits in
};

class HostService final : public Service {
 public:
  // Loads the stored host and opens what it has; what cannot be opened now is shown with its reason. The references
  // outlive the service, and the loop does not run any more when it goes. Errors: what Store::load() says, and invalid,
  // internal (the directory of sockets).
  [[nodiscard]] static Result<std::unique_ptr<HostService>> create(boost::asio::io_context& loop,
                                                                   dataplane::Dataplane& dataplane, store::Store& store,
                                                                   host::NicWatch& nics, host::Sharing& sharing,
                                                                   EndpointFactory make_endpoint,
                                                                   HostServiceConfig config);
  // Closes all ports and sockets. Host interfaces stay.
  ~HostService() override;

  void on_behalf_of(const Actor& actor) override { actor_ = actor; }

  [[nodiscard]] Result<void> create_switch(const SwitchSpec& spec) override;
  [[nodiscard]] Result<void> set_switch(const std::string& name, const SwitchChange& change) override;
  [[nodiscard]] Result<void> delete_switch(const std::string& name) override;
  [[nodiscard]] Result<SwitchView> show_switch(const std::string& name) const override;
  [[nodiscard]] std::vector<SwitchView> list_switches() const override;
  [[nodiscard]] Result<std::vector<FdbRow>> show_fdb(const std::string& switch_name) const override;

  [[nodiscard]] Result<void> create_vnic(const VnicSpec& spec) override;
  [[nodiscard]] Result<void> set_vnic(const std::string& name, const VnicChange& change) override;
  [[nodiscard]] Result<void> delete_vnic(const std::string& name) override;
  [[nodiscard]] Result<VnicView> show_vnic(const std::string& name) const override;
  [[nodiscard]] std::vector<VnicView> list_vnics() const override;

  [[nodiscard]] Result<void> create_team(const model::Team& added) override;
  [[nodiscard]] Result<void> set_team(const std::string& name, const TeamChange& change) override;
  [[nodiscard]] Result<void> delete_team(const std::string& name) override;
  [[nodiscard]] Result<TeamView> show_team(const std::string& name) const override;
  [[nodiscard]] std::vector<TeamView> list_teams() const override;

  [[nodiscard]] Result<void> create_policy(const model::Policy& policy) override;
  [[nodiscard]] Result<void> set_policy(const std::string& name, const PolicyChange& change) override;
  [[nodiscard]] Result<void> delete_policy(const std::string& name) override;
  [[nodiscard]] Result<PolicyView> show_policy(const std::string& name) const override;
  [[nodiscard]] std::vector<PolicyView> list_policies() const override;

  [[nodiscard]] Result<void> set_settings(const HostChange& change) override;
  [[nodiscard]] SettingsView show_settings() const override;

  [[nodiscard]] Result<NicView> show_nic(const std::string& name) const override;
  [[nodiscard]] std::vector<NicView> list_nics() const override;
  [[nodiscard]] Result<VmqView> show_vmq(const std::string& uplink) const override;
  [[nodiscard]] std::vector<dataplane::WorkerStats> list_workers() const override;

  [[nodiscard]] tl::expected<std::vector<ObjectChange>, ApplyRefusal> apply(const HostSpec& spec,
                                                                            bool dry_run) override;
  [[nodiscard]] const model::Host& desired() const override { return state_.host; }
  [[nodiscard]] Result<std::vector<store::AuditEntry>> list_audit(std::size_t count_max,
                                                                  const std::string& name) const override;

 private:
  HostService(boost::asio::io_context& loop, dataplane::Dataplane& dataplane, store::Store& store, host::NicWatch& nics,
              host::Sharing& sharing, EndpointFactory make_endpoint, HostServiceConfig config);

  [[nodiscard]] Result<void> start();
  void remove_leftovers();
  // Of a switch of `host`, a host that is to be.
  [[nodiscard]] Result<void> check_uplink(const model::Host& host, const model::Switch& checked, bool must_exist) const;
  // That `whose` ("switch lan") may use the NIC.
  [[nodiscard]] Result<void> check_nic_there(const std::string& whose, const std::string& nic) const;
  // That the NIC, if it is there, can do what the switch asks for.
  [[nodiscard]] Result<void> check_nic_suits(const model::Switch& checked, const std::string& nic) const;
  // Of a team of `host`, which is new or has other NICs than before.
  [[nodiscard]] Result<void> check_team(const model::Host& host, const model::Team& checked) const;
  [[nodiscard]] Result<void> check_unused_by_host(const model::Team& checked, const std::string& nic) const;
  [[nodiscard]] Result<void> check_no_interface(const std::string& team) const;
  [[nodiscard]] Result<void> check_same_mtu(const model::Team& checked) const;
  [[nodiscard]] Result<void> check_absent_device(const std::string& name) const;
  [[nodiscard]] Result<void> check_device(const model::Switch& checked, const std::string& nic) const;
  [[nodiscard]] Result<void> check_socket(const model::Vnic& checked) const;
  // That the worker which `checked` asks for is there, unless it asked for it before: then another start of patchbayd had
  // it, and until one has it again any worker will do.
  [[nodiscard]] Result<void> check_worker(const model::Vnic& checked) const;
  // Refuses a limit, if it is another one than now, that is less than what buffers use.
  [[nodiscard]] Result<void> check_buffer_limit(const model::HostSettings& next) const;
  [[nodiscard]] Result<MacAddr> draw_mac(model::MacPool& pool) const;
  // Refuses a NIC without which the host would lose addresses or routes.
  [[nodiscard]] Result<void> check_unused_by_host(const model::Host& host, const model::Switch& checked) const;
  // `host` with the vnic `vnic`, which has the MAC of the switch's NIC.
  [[nodiscard]] Result<model::Host> share_nic(model::Host host, const std::string& switch_name,
                                              const std::string& vnic) const;
  // Ends the shares of state_ that `next` has no more. With an error, they go on.
  [[nodiscard]] Result<void> end_shares_except(const model::Host& next);
  // Saves, with an audit row for each object, and reconciles. If one of `created` then failed to open, takes all of it
  // back, rows included, and gives its error.
  [[nodiscard]] Result<void> commit(store::StoredState next, const std::vector<Object>& created = {},
                                    bool apply = false);

  // Of apply(); `next` is the host that it leads to, `given` and `spec` what it was given and that with_shares().
  [[nodiscard]] tl::expected<store::StoredState, ApplyRefusal> state_of(const HostSpec& given) const;
  [[nodiscard]] Result<void> give_mac_of_nic(const model::Switch& on, std::vector<model::Vnic>& vnics) const;
  [[nodiscard]] std::optional<ApplyRefusal> check_teams(const model::Host& next) const;
  [[nodiscard]] Result<void> choose_macs(const HostSpec& spec, std::vector<model::Vnic>& vnics, model::MacPool& pool,
                                         std::size_t& at) const;
  [[nodiscard]] std::optional<ApplyRefusal> check_world(const model::Host& next) const;
  [[nodiscard]] std::vector<Object> created_by(const model::Host& next) const;
  // Of an object that was to be made, now that all steps are done: why it is not open, or is less than was asked for (what
  // a device of DPDK's takes is known only when it is open). Nothing: all is well.
  [[nodiscard]] std::optional<Error> shortcoming_of(const Object& object) const;
  void reconcile();
  void wait_for_faults();
  void retry_later();
  void release_buffers_later();

  [[nodiscard]] bool is_host_vnic(const std::string& interface) const;
  [[nodiscard]] SwitchView view_of(const model::Switch& on, std::vector<std::string> vnics) const;
  [[nodiscard]] UplinkView view_of_uplink(const model::Switch& on) const;
  // What keeps a NIC from being a working uplink, as a phrase; empty: nothing.
  [[nodiscard]] std::string why_down(const std::string& nic) const;
  [[nodiscard]] TeamView view_of(const model::Team& team) const;
  [[nodiscard]] TeamMemberView view_of_member(const std::string& nic, const std::optional<team::Status>& status) const;
  [[nodiscard]] VnicView view_of(const model::Vnic& vnic, const model::PolicyIndex& policies,
                                 const std::vector<vmq::QueueStatus>& queues) const;
  void view_guest_state(VnicView& view) const;
  void view_addresses(VnicView& view) const;
  void view_host_state(VnicView& view) const;
  [[nodiscard]] VmqNicView view_of_queues(const std::string& nic, const model::Switch& on) const;
  [[nodiscard]] VmqQueueView view_of(const vmq::QueueStatus& queue) const;
  // Nothing: its switch has no uplink.
  [[nodiscard]] std::optional<VnicVmqView> vmq_of(const model::Vnic& vnic,
                                                  const std::vector<vmq::QueueStatus>& queues) const;
  [[nodiscard]] NicView view_of(const model::Nic& nic) const;
  void view_device_state(NicView& view) const;

  dataplane::Dataplane& dataplane_;
  store::Store& store_;
  host::NicWatch& nics_;
  host::Sharing& sharing_;
  const HostServiceConfig config_;
  store::StoredState state_;  // as stored
  Actor actor_;
  std::optional<Object> not_opened_;  // for which the last commit() was taken back
  OffloadKeeper offloads_;
  Executor executor_;
  boost::asio::posix::stream_descriptor faults_;
  boost::asio::steady_timer retry_;
  bool retry_armed_ = false;
  boost::asio::steady_timer release_;
  bool release_armed_ = false;
};

}  // namespace patchbay::reconcile
