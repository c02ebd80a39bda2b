// A port for tests: frames go in from a list and come out into a list, both of fixed size.
//
// Limits  frames_max frames each way, of at most frame_bytes; more are a mistake of the test.
#pragma once
#include <sys/epoll.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "dataplane/frame/leaving.h"
#include "dataplane/offload/needs.h"
#include "dataplane/ports/port.h"

namespace patchbay::dataplane {

class FakePort final : public Port {
 public:
  static constexpr std::size_t frames_max = 256;
  static constexpr std::size_t frame_bytes = frame_size_max;
  struct Bytes {
    std::uint8_t* data = nullptr;  // frame_bytes, of the port
    std::size_t size = 0;
    VnetHeader header;      // what the frame needs
    std::uint16_t vid = 0;  // of a frame that was sent: the VLAN it left the switch in
    bool tagged = false;    // the tag that it leaves with, and what that says
    std::uint16_t tci = 0;
    [[nodiscard]] std::string text() const { return {reinterpret_cast<const char*>(data), size}; }
  };

  explicit FakePort(PortId id)
      : Port(id, -1),
        memory_(std::make_unique_for_overwrite<std::uint8_t[]>(2 * frames_max * frame_bytes)),
        waiting_(frames_max),
        sent_(frames_max) {
    for (std::size_t i = 0; i < frames_max; ++i) {
      waiting_[i].data = &memory_[2 * i * frame_bytes];
      sent_[i].data = &memory_[(2 * i + 1) * frame_bytes];
    }
  }

  Events needed_events = Events::none;
  int room_fd = -1;  // what it reports says that there is room

  // A frame that waits to be received; `tpid` and `tci` say that the kernel took a tag out of it, `header` what it needs.
  void arrive(const std::string& bytes, std::uint16_t tpid = 0, std::uint16_t tci = 0, VnetHeader header = {}) {
    if (waiting_count_ == frames_max || bytes.size() > frame_bytes) std::abort();
    Bytes& frame = waiting_[waiting_count_++];
    std::memcpy(frame.data, bytes.data(), bytes.size());
    frame.size = bytes.size();
    frame.header = header;
    tags_[waiting_count_ - 1] = {tpid, tci};
  }
  // Frames that were sent out of the switch here, oldest first.
  [[nodiscard]] std::span<const Bytes> sent() const noexcept { return std::span(sent_).first(sent_count_); }
  void forget_sent() noexcept { sent_count_ = 0; }
  // How many more frames it takes before it is full.
  void set_room(std::size_t frames) noexcept { room_ = frames; }
  void set_takes(Offloads offloads) noexcept { takes_ = offloads; }
  [[nodiscard]] Offloads takes() const noexcept override { return takes_; }
  [[nodiscard]] std::size_t waiting() const noexcept { return waiting_count_ - next_; }

  [[nodiscard]] std::size_t receive(Burst& burst) noexcept override {
    std::size_t count = 0;
    for (; count < burst_max && next_ + given_ < waiting_count_; ++count, ++given_) {
      const Bytes& bytes = waiting_[next_ + given_];
      Frame& frame = burst.frames[count];
      frame = Frame{};
      frame.size = static_cast<std::uint32_t>(bytes.size);
      frame.head_size = static_cast<std::uint32_t>(std::min(bytes.size, head_size_max));
      std::memcpy(burst.heads[count].data(), bytes.data, frame.head_size);
      frame.head = burst.heads[count].data();
      burst.segments_of(count)[0] = {bytes.data + frame.head_size, frame.size - frame.head_size};
      frame.rest = burst.segments_of(count).data();
      frame.rest_count = frame.size > frame.head_size ? 1 : 0;
      frame.tag_tpid = tags_[next_ + given_].tpid;
      frame.tag_tci = tags_[next_ + given_].tci;
      take_needs(frame, bytes.header, offload_all);
    }
    return count;
  }
  void complete(std::size_t count) noexcept override {
    next_ += count;
    given_ = 0;
    if (next_ == waiting_count_) next_ = waiting_count_ = 0;
  }
  [[nodiscard]] std::size_t send(std::span<const Frame> frames) noexcept override {
    std::size_t done = 0;
    for (; done < frames.size() && room_ != 0; ++done, --room_) {
      if (sent_count_ == frames_max) std::abort();
      Bytes& bytes = sent_[sent_count_++];
      const Frame& frame = frames[done];
      std::memcpy(bytes.data, frame.head, frame.head_size);
      bytes.size = frame.head_size;
      for (std::size_t i = 0; i < frame.rest_count; ++i) {
        std::memcpy(bytes.data + bytes.size, frame.rest[i].data, frame.rest[i].size);
        bytes.size += frame.rest[i].size;
      }
      bytes.header = leaving_header(frame);
      bytes.vid = frame.vid;
      bytes.tagged = frame.tag_tpid != 0;
      bytes.tci = bytes.tagged ? frame.tag_tci : std::uint16_t{0};
      count_egress(frame.size);
    }
    return done;
  }
  [[nodiscard]] Events events() const noexcept override { return needed_events; }
  [[nodiscard]] bool prepare_sleep() noexcept override { return waiting() != 0; }
  [[nodiscard]] bool full() const noexcept override { return room_ == 0; }
  void attach(int epoll_fd) noexcept override {
    if (room_fd >= 0) watch(epoll_fd, EPOLL_CTL_ADD, room_fd, static_cast<std::uint32_t>(EPOLLIN));
  }
  void on_event(std::uint32_t) noexcept override { room_ = static_cast<std::size_t>(-1); }
  void detach() noexcept override {}

 private:
  struct Tag {
    std::uint16_t tpid = 0;
    std::uint16_t tci = 0;
  };
  std::unique_ptr<std::uint8_t[]> memory_;  // of all frames; pages are there once they are used
  std::vector<Bytes> waiting_;
  std::vector<Bytes> sent_;
  std::array<Tag, frames_max> tags_{};
  std::size_t waiting_count_ = 0;
  std::size_t next_ = 0;
  std::size_t given_ = 0;  // of those from next_ on, to receive()
  std::size_t sent_count_ = 0;
  std::size_t room_ = static_cast<std::size_t>(-1);
  Offloads takes_ = 0;
};

}  // namespace patchbay::dataplane
