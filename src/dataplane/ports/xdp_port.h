// A kernel NIC as an uplink: AF_XDP sockets, one for each of its queues.
//
// Theory  The NIC's own program (xdp_program.h) hands each frame to the socket of the queue that it arrived on, before the
//         kernel makes a packet of it: one copy into memory that we share with the kernel. Tags are in the frames' bytes,
//         if the NIC does not strip them: whoever opens this port has seen to that, for stripped tags would be lost
//         without a word.
//         All frames leave through the first queue, so that none overtakes another. They are copied to its memory in
//         send(), and flush() tells the kernel once a pass. When the chunks run out the uplink is full: frames stay in the
//         ring of the guest that sends them, until the socket reports room. That the NIC has gone, control learns from the
//         kernel's notifications and closes the port: these sockets do not tell.
//         Where the NIC's driver has rules for addresses (ntuple_rules.h), queues beside the first can be given to vnics:
//         each is a port of its own then (xdp_queue_port.h). Those that nobody has stay here, whatever comes in by them.
// Limits  model::xdp_queues_max queues; frames as XdpQueue has them. What is in the transmit ring when the process dies is
//         lost, at most tx_chunks frames.
// Threads open(), set_carrier(), kernel_drops(), queues: control. The rest: the worker.
// Source  Linux Documentation/networking/af_xdp.rst.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "dataplane/ports/ntuple_rules.h"
#include "dataplane/ports/uplink_port.h"
#include "dataplane/ports/xdp_program.h"
#include "dataplane/ports/xdp_queue.h"

namespace patchbay::dataplane {

class XdpPort final : public UplinkPort {
 public:
  // Sets the NIC up and receives everything on it until destroyed. What rules and RSS were before is noted in `notes_dir`;
  // empty: nowhere. Errors: as Dataplane::open_uplink().
  [[nodiscard]] static Result<std::unique_ptr<XdpPort>> open(PortId id, int fault_event_fd, const std::string& nic,
                                                             const model::DriverPlan& plan,
                                                             const std::string& notes_dir = {});
  // Puts back what runs left that were killed, as far as that is possible now: the rest stays noted.
  static void put_back_left(const std::string& notes_dir);

  [[nodiscard]] std::uint64_t kernel_drops() noexcept override;

  [[nodiscard]] std::size_t receive(Burst& burst) noexcept override;
  void complete(std::size_t count) noexcept override;
  [[nodiscard]] bool gives_bare_frames() const noexcept override { return true; }
  void flush() noexcept override;
  [[nodiscard]] bool prepare_sleep() noexcept override;
  void on_event(std::uint32_t events) noexcept override;
  // What waits in the transmit ring goes on by them, too.
  [[nodiscard]] Events events() const noexcept override { return Events::work; }
  void attach(int epoll_fd) noexcept override;
  void detach() noexcept override;
  [[nodiscard]] QueueAbility queue_ability() const override;
  [[nodiscard]] Result<std::unique_ptr<Port>> open_queue(PortId id) override;
  void close_queue(Port& queue) override;
  [[nodiscard]] Result<void> set_queue_filter(Port& queue, const std::optional<QueueFilter>& filter) override;
  [[nodiscard]] std::size_t ring_frames() const noexcept override { return queues_.size() * rx_chunks_max; }

 private:
  XdpPort(PortId id, int fault_event_fd) noexcept : UplinkPort(id, fault_event_fd) {}
  [[nodiscard]] std::size_t transmit(std::span<const Frame> frames) noexcept override;
  [[nodiscard]] Result<void> open_queues(const std::string& nic, const model::DriverPlan& plan);
  [[nodiscard]] Result<void> ask_for_all_frames(const std::string& nic);
  void start_sorting(const std::string& notes_dir);
  void watch_queue(const XdpQueue& queue) const noexcept;
  [[nodiscard]] XdpQueue& sender() noexcept { return *queues_.front(); }
  // Sends what waits, takes back what is sent, and asks to be woken if something is left.
  void push() noexcept;
  void wait_for_room(bool wanted) noexcept;

  static constexpr std::uint32_t tx_chunks = 1024;
  static constexpr std::uint32_t rx_chunks_max = 2048;  // a queue
  static constexpr std::uint32_t rx_chunks_min = 512;
  static constexpr std::uint32_t rx_chunks_all =
      16384;  // of all queues together, as long as none gets less than the minimum

  UniqueFd promiscuous_;  // as long as it is open
  std::string nic_;
  std::vector<std::unique_ptr<XdpQueue>> queues_;
  std::vector<const Port*> users_;   // control's: who has the queue of that number; null: this port
  std::vector<XdpProgram> program_;  // one; after the sockets: it goes first
  std::size_t next_queue_ = 0;       // to receive from
  int if_index_ = 0;
  bool waits_for_room_ = false;
  int epoll_fd_ = -1;
  std::string no_rules_;                // why there are none
  std::unique_ptr<NtupleRules> rules_;  // null: the worker sorts. Last: they go first
};

}  // namespace patchbay::dataplane
