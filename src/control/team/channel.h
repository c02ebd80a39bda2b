// A team's own way in and out at a member: LACPDUs, markers and announcements, beside the data path.
//
// Theory  A packet socket that hears only the slow protocols, however many other frames come in; and what it sends goes
//         before others where the interface has a queue (priority 7).
// Limits  receives_max frames at a time, then others have their turn.
// Threads control's only.
// Source  packet(7); IEEE 802.3, annex 57A (slow protocols).
#pragma once
#include <boost/asio/io_context.hpp>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "base/result.h"

namespace patchbay::team {

class Channel {
 public:
  using OnFrame = std::function<void(std::span<const std::uint8_t> frame)>;

  static constexpr unsigned receives_max = 16;

  // `heard` is called from the event loop for each frame. Errors: no_resource, unavailable (no permission), not_found.
  [[nodiscard]] static Result<std::unique_ptr<Channel>> open(boost::asio::io_context& loop, const std::string& nic,
                                                             int index, OnFrame heard);
  virtual ~Channel() = default;
  // False: there was no room for it.
  virtual bool send(std::span<const std::uint8_t> frame) = 0;
};

}  // namespace patchbay::team
