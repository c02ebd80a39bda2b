// The XDP program that hands every frame of a NIC to our AF_XDP sockets, and its place on the NIC.
//
// Theory  Six instructions, loaded as they stand: redirect to the socket of the frame's queue, or pass the frame on to the
//         kernel if that queue has none. They need no compiler and no object files at run time. The program is attached by
//         a BPF link, which the kernel takes off when its descriptor closes: when the process ends, however it ends,
//         nothing of ours stays on the NIC. A program of somebody else is never replaced: then attaching fails.
// Limits  queues_max sockets.
// Threads control's.
// Source  bpf(2); Linux Documentation/networking/af_xdp.rst.
#pragma once
#include <cstdint>
#include <string>

#include "base/result.h"
#include "base/unique_fd.h"

namespace patchbay::dataplane {

class XdpProgram {
 public:
  static constexpr const char* name = "patchbay_xsk";  // as bpftool and `ip -details link` show it

  // Loads the program, for queues 0 to `queues` - 1. `multi_buffer`: for frames larger than a chunk.
  // Errors: unavailable (no such thing in this kernel, no permission), no_resource.
  [[nodiscard]] static Result<XdpProgram> load(const std::string& nic, unsigned queues, bool multi_buffer);

  // Frames of `queue` go to `socket` from now on. Errors: unavailable.
  [[nodiscard]] Result<void> set_socket(unsigned queue, int socket);
  // Attaches to the interface; `native`: in its driver, else in the kernel's generic code.
  // Errors: in_use (another program is there; named), unavailable.
  [[nodiscard]] Result<void> attach(int if_index, bool native);

 private:
  explicit XdpProgram(std::string nic) : nic_(std::move(nic)) {}
  [[nodiscard]] Error attach_error(int if_index, bool native, int error) const;

  std::string nic_;
  UniqueFd sockets_;  // map: queue to socket
  UniqueFd program_;
  UniqueFd link_;
};

}  // namespace patchbay::dataplane
