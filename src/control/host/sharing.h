// The host's part in a NIC: what it carries for the host, and moving that to a host vnic and back.
//
// Theory  The desired state is "the NIC carries nothing, and the host's IP does not hear it". take() makes it so and may
//         be asked for at any time: after a crash, after a reboot that set the NIC up anew, after a DHCP client renewed
//         a lease. give_back() is its reverse. Nothing of it is remembered outside the kernel.
// Threads control's only.
#pragma once
#include <boost/asio/io_context.hpp>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"

namespace patchbay::host {

class Sharing {
 public:
  // Errors: no_resource, internal.
  [[nodiscard]] static Result<std::unique_ptr<Sharing>> create(boost::asio::io_context& loop);

  virtual ~Sharing() = default;

  // Refuses what cannot be an uplink although it is there: no Ethernet, a port of a bridge or bond, a tap of ours,
  // wireless. Interfaces that are not there pass. Errors: invalid, in_use, internal.
  [[nodiscard]] virtual Result<void> check_uplink(const std::string& nic) const = 0;
  // What the host would lose with the NIC, in words: "192.0.2.1/24", "the default route". Errors: internal.
  [[nodiscard]] virtual Result<std::vector<std::string>> of_note(const std::string& interface) const = 0;

  // Moves all from `nic` to `vnic`, or, with an error, nothing. Errors: not_found, internal, what the kernel says.
  [[nodiscard]] virtual Result<void> take(const std::string& nic, const std::string& vnic) = 0;
  // Moves all from `vnic` to `nic`; nothing if `vnic` is no interface of ours. If the NIC is gone: in_use, unless there
  // is nothing to move.
  [[nodiscard]] virtual Result<void> give_back(const std::string& nic, const std::string& vnic) = 0;
  // Whether take() would find nothing to do.
  [[nodiscard]] virtual bool is_taken(const std::string& nic) const = 0;

  // `changed` is called from the event loop after addresses or routes of a taken NIC changed, once for a batch.
  virtual void on_change(std::function<void()> changed) = 0;
};

}  // namespace patchbay::host
