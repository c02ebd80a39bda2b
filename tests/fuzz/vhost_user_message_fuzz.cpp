// Everything a front-end can send: a stream of bytes in pieces, with descriptors, through a real socket into Connection
// and Protocol, on a data plane that ends the program when a promise to it is broken.
//
// Input   A list of pieces: one byte of length, one byte that says which descriptors go with it, then that many bytes.
//         The event loop runs after each piece.
#include <boost/asio/io_context.hpp>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <span>
#include <vector>

#include "control/vhost_user/connection.h"
#include "control/vhost_user/protocol.h"
#include "tests/support/fake_front_end.h"
#include "tests/support/recording_dataplane.h"

namespace {

using namespace patchbay;

constexpr std::uint64_t device_features = std::uint64_t{1} << 32 | std::uint64_t{1} << 15;

// One of each kind, made once: a fuzzer runs many thousand inputs a second.
struct Lent {
  UniqueFd event = test::new_eventfd();
  UniqueFd memory = test::new_memfd();
  UniqueFd file = test::new_plain_file();

  // Low half of `choice`: how many; high half: of which kinds.
  [[nodiscard]] std::vector<int> pick(std::uint8_t choice) const {
    std::vector<int> fds(choice & 0xf, choice & 0x10 ? event.get() : memory.get());
    if ((choice & 0xe0) == 0xe0 && !fds.empty()) fds.back() = file.get();
    return fds;
  }
};

void run(std::span<const std::uint8_t> input, const Lent& lent, std::uint16_t queue_pairs) {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) != 0) std::abort();
  boost::asio::io_context loop;
  test::RecordingDataplane dataplane;
  dataplane.record = false;
  vhost_user::TokenBucket announcements{vhost_user::announcements_per_second, vhost_user::announcements_burst,
                                        vhost_user::TokenBucket::Clock::now()};
  std::optional<vhost_user::Protocol> protocol(std::in_place, dataplane, PortId{1}, device_features, queue_pairs,
                                               announcements);
  test::FakeFrontEnd front_end{UniqueFd(ends[0])};

  const vhost_user::Limits limits;
  auto budget = std::make_shared<vhost_user::Connection::Budget>(vhost_user::Connection::Budget{
      vhost_user::TokenBucket(limits.messages_per_second, limits.messages_burst, std::chrono::steady_clock::now()),
      vhost_user::ForeignCloser{}});
  vhost_user::Connection::Owner owner;
  owner.message = [&](vhost_user::Message message) {
    auto outcome = protocol->handle(std::move(message));
    if (protocol->is_linked() == dataplane.links.empty()) std::abort();
    return outcome;
  };
  owner.ended = [&](const std::optional<Error>&) { protocol.reset(); };
  const auto connection = vhost_user::Connection::open(loop, UniqueFd(ends[1]), limits, budget, std::move(owner));
  if (!connection) std::abort();

  while (input.size() >= 2 && protocol) {
    const std::size_t size = std::min<std::size_t>(input[0], input.size() - 2);
    if (size > 0) {
      const auto piece = input.subspan(2, size);
      front_end.send_bytes({piece.begin(), piece.end()}, lent.pick(input[1]));
    }
    loop.restart();
    loop.poll();
    front_end.receive_now();
    input = input.subspan(2 + size);
  }
  (*connection)->close();
  loop.restart();
  loop.poll();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size_bytes) {
  static const Lent lent;
  run({data, size_bytes}, lent, size_bytes % 2 == 0 ? 1 : 3);
  return 0;
}
