// LACP at one member: the machines of 802.1AX, fed with what happens and with the time.
//
// Theory  Four machines that share variables: receive (is there a partner, and what does he say), periodic transmission,
//         mux (may frames be taken in, and sent), and transmission with its limit. poll() runs them until nothing changes. Who is
//         selected is the team's to say. We are always active: a partner that is passive is enough.
//         Collecting and distributing are two states, so that nothing is sent before the partner takes it in.
// Limits  Three LACPDUs in a second.
// Threads control's only.
// Source  IEEE 802.1AX-2020, 6.4.9 (receive), 6.4.10 (periodic), 6.4.13 (mux, independent control), 6.4.14 (transmit).
#pragma once
#include <array>
#include <chrono>
#include <cstdint>
#include <optional>

#include "control/team/lacpdu.h"

namespace patchbay::team {

using Clock = std::chrono::steady_clock;
using Time = Clock::time_point;

enum class Selected : std::uint8_t { unselected, standby, selected };

class LacpPort {
 public:
  enum class Receive : std::uint8_t { port_disabled, expired, defaulted, current };
  enum class Mux : std::uint8_t { detached, waiting, attached, collecting, distributing };

  // `actor`: this end; of its state only lacp_short_timeout counts.
  explicit LacpPort(const LacpEnd& actor);

  void set_timeout(bool is_short);
  void set_link(bool up, Time now);
  void set_selected(Selected selected) { selected_ = selected; }
  void receive(const Lacpdu& pdu, Time now);
  void count_malformed() { ++malformed_; }
  // Runs the machines; the LACPDU that is to be sent now, if one is.
  [[nodiscard]] std::optional<Lacpdu> poll(Time now);
  // This port leaves the aggregate for good: the LACPDU that says so, and nothing is sent by it from now on.
  [[nodiscard]] Lacpdu leave(Time now);
  // When poll() is due again, if nothing else happens.
  [[nodiscard]] Time next() const;

  [[nodiscard]] bool has_partner() const { return receive_ == Receive::current || receive_ == Receive::expired; }
  [[nodiscard]] bool collecting() const { return mux_ == Mux::collecting || mux_ == Mux::distributing; }
  [[nodiscard]] bool distributing() const { return mux_ == Mux::distributing; }
  [[nodiscard]] bool defaulted() const { return receive_ == Receive::defaulted; }
  [[nodiscard]] Selected selected() const { return selected_; }
  [[nodiscard]] const LacpEnd& partner() const { return partner_; }
  [[nodiscard]] Receive receive_state() const { return receive_; }
  [[nodiscard]] Mux mux_state() const { return mux_; }
  [[nodiscard]] LacpStatus status() const;

 private:
  void become_expired(Time now);
  void become_defaulted(Time now);
  [[nodiscard]] bool step_mux(Time now);
  void enter(Mux state, Time now);
  void plan_periodic(Time now);
  [[nodiscard]] Lacpdu pdu() const { return {actor_, partner_}; }

  LacpEnd actor_;
  LacpEnd partner_;
  bool link_ = false;
  Selected selected_ = Selected::unselected;
  Receive receive_ = Receive::port_disabled;
  Mux mux_ = Mux::detached;
  bool need_to_transmit_ = false;
  Time current_until_{};
  Time waits_until_{};
  Time periodic_{};
  std::optional<bool> period_is_short_;  // of the time above; nothing: none is planned
  std::array<Time, 3> last_sent_{};      // oldest first
  std::uint64_t sent_ = 0;
  std::uint64_t received_ = 0;
  std::uint64_t malformed_ = 0;
};

}  // namespace patchbay::team
