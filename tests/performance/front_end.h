// The vhost-user front-end of one vnic of the generator: from a socket to rings that run.
//
// Theory  The messages come in the order in which QEMU sends them. Whether the back-end listens (Patchbay, testpmd) or
//         connects (Open vSwitch) makes no difference once the socket is there.
// Errors  std::runtime_error and std::system_error, naming the socket.
// Source  QEMU, docs/interop/vhost-user.rst.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/unique_fd.h"
#include "tests/performance/driver_queue.h"
#include "tests/performance/shared_memory.h"
#include "tests/support/fake_front_end.h"

namespace patchbay::bench {

inline constexpr std::uint64_t net_f_mrg_rxbuf = std::uint64_t{1} << 15;
inline constexpr std::uint64_t f_version_1 = std::uint64_t{1} << 32;
inline constexpr std::uint64_t net_f_mq = std::uint64_t{1} << 22;
// CSUM, GUEST_CSUM, GUEST_TSO4, HOST_TSO4 and indirect descriptors: what pieces of 64 KB need, both ways.
inline constexpr std::uint64_t offload_features = std::uint64_t{1} << 0 | std::uint64_t{1} << 1 |
                                                  std::uint64_t{1} << 7 | std::uint64_t{1} << 11 |
                                                  std::uint64_t{1} << 28;
inline constexpr std::uint64_t guest_base = 0x10000;           // guest addresses of the shared memory start here,
inline constexpr std::uint64_t front_end_base = 0x7F00000000;  // front-end addresses here

// A unix socket that back-ends connect to. A file that is in the way is replaced.
[[nodiscard]] UniqueFd listen_on(const std::string& path);

class FrontEnd {
 public:
  // `queues`: offsets in `memory` of receive and transmit queue of each pair, in turn, each of `entries`.
  struct Rings {
    std::vector<std::size_t> queues;
    QueueParts parts;  // of either
    std::uint16_t entries = 0;
  };

  [[nodiscard]] static FrontEnd connect(const std::string& path);
  // Waits for the back-end at most `limit_s`.
  [[nodiscard]] static FrontEnd accept(int listener, const std::string& path, int limit_s);

  // Negotiates `features`, then memory and rings. Errors: one of the features is not offered.
  void set_up(const SharedMemory& memory, const Rings& rings, std::uint64_t features);

  [[nodiscard]] std::uint64_t features() const noexcept { return features_; }
  void kick(std::size_t ring) noexcept;
  // The back-end closed the connection.
  [[nodiscard]] bool is_closed() { return socket_.is_closed(); }

 private:
  FrontEnd(UniqueFd socket, std::string path);
  void tell(std::uint32_t request, const test::Bytes& payload, const std::vector<int>& fds = {},
            std::uint32_t flags = test::flag_version_1);
  [[nodiscard]] std::uint64_t ask(std::uint32_t request);
  // tell(), and waits until the back-end says that it did it, where it can say so.
  void tell_and_wait(std::uint32_t request, const test::Bytes& payload, const std::vector<int>& fds = {});
  [[nodiscard]] std::uint64_t read_reply(std::uint32_t request);

  test::FakeFrontEnd socket_;
  std::string path_;
  std::uint64_t features_ = 0;
  std::uint64_t protocol_features_ = 0;
  std::vector<UniqueFd> kick_;
  std::vector<UniqueFd> call_;
};

}  // namespace patchbay::bench
