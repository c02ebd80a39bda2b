#include "control/host/nic_watch.h"

#include <netlink/errno.h>
#include <netlink/msg.h>
#include <spdlog/spdlog.h>
#include <sys/socket.h>

#include <boost/asio/posix/stream_descriptor.hpp>
#include <cerrno>

#include "control/host/ethtool.h"
#include "control/host/netlink.h"
#include "control/host/offloads.h"
#include "control/host/pci.h"
#include "model/pci_address.h"

namespace patchbay::host {
namespace {

using boost::asio::posix::stream_descriptor;

class NetlinkNicWatch final : public NicWatch {
 public:
  // `ethtool_events`: nothing where the kernel has none.
  NetlinkNicWatch(boost::asio::io_context& loop, NetlinkSocket events, NetlinkSocket queries, UniqueFd ethtool,
                  NetlinkSocket ethtool_events, UniqueFd uevents)
      : events_(std::move(events)),
        queries_(std::move(queries)),
        ethtool_events_(std::move(ethtool_events)),
        ethtool_(std::move(ethtool)),
        uevents_(std::move(uevents)),
        readable_(loop, nl_socket_get_fd(events_.get())),
        ethtool_readable_(loop),
        uevents_readable_(loop, uevents_.get()) {
    if (ethtool_events_) ethtool_readable_.assign(nl_socket_get_fd(ethtool_events_.get()));
  }

  ~NetlinkNicWatch() override {  // the sockets have owners
    readable_.release();
    if (ethtool_events_) ethtool_readable_.release();
    uevents_readable_.release();
  }

  [[nodiscard]] const std::map<std::string, model::Nic>& nics() const override { return nics_; }
  bool refresh() override {
    receive_links();
    receive_ethtool();
    receive_uevents();
    return std::exchange(dirty_, false);
  }
  Result<void> set_offload(const std::string& name, model::NicOffload offload, bool on) override {
    const auto found = nics_.find(name);
    if (found == nics_.end()) return fail(ErrorCode::not_found, "nic " + name + " does not exist");
    if (auto set = host::set_offload(ethtool_, name, offload, on); !set) return set;
    ask_offloads(ethtool_, found->second);
    return {};
  }
  void on_change(std::function<void()> changed) override { changed_ = std::move(changed); }

  Result<void> start() {
    pci_ = scan_pci();
    if (auto ok = read_all(); !ok) return ok;
    nl_socket_modify_cb(events_.get(), NL_CB_VALID, NL_CB_CUSTOM, &NetlinkNicWatch::on_message, this);
    wait(readable_, &NetlinkNicWatch::receive_links);
    if (ethtool_events_) wait(ethtool_readable_, &NetlinkNicWatch::receive_ethtool);
    wait(uevents_readable_, &NetlinkNicWatch::receive_uevents);
    return {};
  }

 private:
  static int on_message(nl_msg* message, void* self) {
    const int type = nlmsg_hdr(message)->nlmsg_type;
    if (type == RTM_NEWLINK || type == RTM_DELLINK) {
      const auto apply = type == RTM_NEWLINK ? &NetlinkNicWatch::on_new_link : &NetlinkNicWatch::on_del_link;
      nl_msg_parse(message, apply, self);
    }
    return NL_OK;
  }
  // What happens to a link as a port of a bridge, say, is told with that family, and is not about the link itself.
  static bool is_whole(rtnl_link* link) { return rtnl_link_get_family(link) == AF_UNSPEC; }

  static void on_new_link(nl_object* object, void* self) {
    static_cast<NetlinkNicWatch*>(self)->put(reinterpret_cast<rtnl_link*>(object));
  }
  static void on_del_link(nl_object* object, void* self) {
    auto* link = reinterpret_cast<rtnl_link*>(object);
    if (!is_whole(link)) return;
    static_cast<NetlinkNicWatch*>(self)->remove(rtnl_link_get_ifindex(link));
  }

  Result<void> read_all() {
    nl_cache* raw_cache = nullptr;
    if (const int code = rtnl_link_alloc_cache(queries_.get(), AF_UNSPEC, &raw_cache); code < 0) {
      return fail(netlink_error("netlink: links", code));
    }
    const NetlinkCache cache(raw_cache);
    const auto before = std::move(nics_);
    nics_.clear();
    for (nl_object* object = nl_cache_get_first(cache.get()); object != nullptr; object = nl_cache_get_next(object)) {
      put(reinterpret_cast<rtnl_link*>(object));
    }
    put_devices();
    dirty_ = dirty_ || nics_ != before;
    return {};
  }

  // PCI devices come, go and change hands without a word from netlink's links.
  void read_pci() {
    const auto before = nics_;
    pci_ = scan_pci();
    for (auto& [name, nic] : nics_) {
      if (nic.has_interface() && nic.pci) nic.pci = find_pci(nic.pci->address);
    }
    std::erase_if(nics_, [](const auto& known) { return !known.second.has_interface(); });
    put_devices();
    dirty_ = dirty_ || nics_ != before;
  }

  void put_devices() {
    for (const auto& [address, device] : pci_) {
      if (!is_left_to_dpdk(device)) continue;
      model::Nic nic;
      nic.name = address;
      nic.driver = device.driver;
      nic.physical = true;
      nic.pci = device;
      nics_[address] = std::move(nic);
    }
  }

  [[nodiscard]] std::optional<model::PciDevice> find_pci(const std::string& address) {
    if (!model::is_pci_address(address)) return std::nullopt;
    if (!pci_.contains(address)) pci_ = scan_pci();  // the link's notification came before the device's
    const auto found = pci_.find(address);
    return found == pci_.end() ? std::nullopt : std::optional(found->second);
  }

  void put(rtnl_link* link) {
    if (!is_whole(link)) return;
    auto nic = to_nic(link);
    if (!nic) return;
    const EthtoolFacts facts = ask_ethtool(ethtool_, nic->name);
    nic->physical = facts.on_a_bus && nic->driver.empty();
    if (!facts.driver.empty()) nic->driver = facts.driver;
    nic->speed_mbps = facts.speed_mbps;
    if (nic->physical) ask_offloads(ethtool_, *nic);
    nic->pci = find_pci(facts.bus_address);
    const auto known = nics_.find(nic->name);
    if (known != nics_.end() && known->second == *nic) return;
    if (known == nics_.end()) remove(nic->index);  // it was renamed
    nics_[nic->name] = std::move(*nic);
    dirty_ = true;
  }

  void remove(int index) {
    for (auto at = nics_.begin(); at != nics_.end(); ++at) {
      if (at->second.index != index) continue;
      nics_.erase(at);
      dirty_ = true;
      return;
    }
  }

  // Calls `receive` whenever there is something to read.
  void wait(stream_descriptor& readable, void (NetlinkNicWatch::*receive)()) {
    readable.async_wait(stream_descriptor::wait_read,
                        [this, &readable, receive](const boost::system::error_code& error) {
                          if (error) return;  // being destroyed
                          (this->*receive)();
                          wait(readable, receive);
                          if (std::exchange(dirty_, false) && changed_) changed_();
                        });
  }

  struct Taken {
    int datagrams = 0;
    int code = 0;  // libnl's, of what ended it; negative but for -NLE_AGAIN: an error
  };
  // Takes all that is there. libnl reads one datagram a call, and the socket does not block.
  static Taken take_all(const NetlinkSocket& socket) {
    Taken taken;
    constexpr int datagrams_max = 1024;  // a turn of the event loop; the rest is for the next
    do {
      taken.code = nl_recvmsgs_default(socket.get());
    } while (taken.code >= 0 && ++taken.datagrams < datagrams_max);
    return taken;
  }

  void receive_ethtool() {
    if (!ethtool_events_) return;
    const auto [datagrams, code] = take_all(ethtool_events_);
    if (datagrams == 0 && code == -NLE_AGAIN) return;  // neither told nor lost
    for (auto& [name, known] : nics_) {
      if (!known.physical || !known.has_interface()) continue;
      model::Nic nic = known;
      ask_offloads(ethtool_, nic);
      if (nic == known) continue;
      known = std::move(nic);
      dirty_ = true;
    }
  }

  void receive_uevents() {
    if (take_uevents(uevents_)) read_pci();
  }

  void receive_links() {
    const int code = take_all(events_).code;
    if (code >= 0 || code == -NLE_AGAIN) return;
    // ENOBUFS comes as NLE_NOMEM: notifications were lost.
    spdlog::warn("netlink: {}; reading all links anew", nl_geterror(code));
    if (auto ok = read_all(); !ok) spdlog::error("{}", ok.error().message);
  }

  NetlinkSocket events_;
  NetlinkSocket queries_;
  NetlinkSocket ethtool_events_;
  UniqueFd ethtool_;
  UniqueFd uevents_;
  stream_descriptor readable_;
  stream_descriptor ethtool_readable_;
  stream_descriptor uevents_readable_;
  std::map<std::string, model::PciDevice> pci_;  // by address, whoever has them
  std::map<std::string, model::Nic> nics_;
  std::function<void()> changed_;
  bool dirty_ = false;
};

}  // namespace

Result<std::unique_ptr<NicWatch>> NicWatch::create(boost::asio::io_context& loop) {
  // Listening starts before the dump, so that nothing is missed in between.
  auto events = connect_rtnetlink();
  if (!events) return fail(events.error());
  nl_socket_disable_seq_check(events->get());
  nl_socket_set_nonblocking(events->get());
  nl_socket_set_buffer_size(events->get(), 1 << 20, 0);
  if (const int code = nl_socket_add_memberships(events->get(), RTNLGRP_LINK, 0); code < 0) {
    return fail(netlink_error("netlink: link notifications", code));
  }
  auto queries = connect_rtnetlink();
  if (!queries) return fail(queries.error());
  UniqueFd ethtool(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!ethtool) return fail(system_error("ethtool socket", errno));
  auto ethtool_events = connect_ethtool_events();
  if (!ethtool_events) {
    spdlog::warn("{}; a number of queues that changes is seen with the link's next change",
                 ethtool_events.error().message);
  }
  auto uevents = open_uevents();
  if (!uevents) return fail(uevents.error());
  auto watch =
      std::make_unique<NetlinkNicWatch>(loop, std::move(*events), std::move(*queries), std::move(ethtool),
                                        ethtool_events ? std::move(*ethtool_events) : nullptr, std::move(*uevents));
  if (auto ok = watch->start(); !ok) return fail(ok.error());
  return watch;
}

}  // namespace patchbay::host
