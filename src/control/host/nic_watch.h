// The host's NICs as the kernel has them, kept current.
//
// Theory  One dump of all links at the start, then the kernel's own notifications, each applied to the copy kept here.
//         When the kernel had to drop notifications (ENOBUFS), everything is read anew. What somebody changes by
//         ethtool, queues above all, is told apart from links; all physical NICs are asked again then. NICs are Ethernet
//         devices, physical or not; the loopback and tunnels are left out. PCI Ethernet devices that no network driver
//         has taken are NICs too, called by their address (pci.h).
// Threads control's only.
// Source  rtnetlink(7); drivers and speeds come from ethtool's ioctl, which netlink's link messages lack. The kernel's
//         Documentation/networking/ethtool-netlink.rst (the group "monitor").
#pragma once
#include <boost/asio/io_context.hpp>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "base/result.h"
#include "model/nic.h"

namespace patchbay::host {

class NicWatch {
 public:
  // Reads all NICs and watches from then on. Errors: internal, no_resource (no netlink socket).
  [[nodiscard]] static Result<std::unique_ptr<NicWatch>> create(boost::asio::io_context& loop);

  virtual ~NicWatch() = default;

  // By name.
  [[nodiscard]] virtual const std::map<std::string, model::Nic>& nics() const = 0;
  // Takes in at once what the kernel has told already. True if nics() changed; on_change() is not called for that.
  virtual bool refresh() = 0;
  // Switches an offload of the NIC `name`, reads it back and shows it in nics(). Errors: not_found, unavailable.
  [[nodiscard]] virtual Result<void> set_offload(const std::string& name, model::NicOffload offload, bool on) = 0;
  // `changed` is called from the event loop after nics() changed, once for a batch of notifications.
  virtual void on_change(std::function<void()> changed) = 0;
};

}  // namespace patchbay::host
