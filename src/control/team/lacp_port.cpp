#include "control/team/lacp_port.h"

#include <algorithm>

namespace patchbay::team {
namespace {

using std::chrono::seconds;

constexpr seconds fast_periodic{1};
constexpr seconds slow_periodic{30};
constexpr seconds short_timeout{3};
constexpr seconds long_timeout{90};
constexpr seconds aggregate_wait{2};

const char* name_of(LacpPort::Receive state) {
  switch (state) {
    case LacpPort::Receive::port_disabled:
      return "port-disabled";
    case LacpPort::Receive::expired:
      return "expired";
    case LacpPort::Receive::defaulted:
      return "defaulted";
    case LacpPort::Receive::current:
      return "current";
  }
  return "";
}

const char* name_of(LacpPort::Mux state) {
  switch (state) {
    case LacpPort::Mux::detached:
      return "detached";
    case LacpPort::Mux::waiting:
      return "waiting";
    case LacpPort::Mux::attached:
      return "attached";
    case LacpPort::Mux::collecting:
      return "collecting";
    case LacpPort::Mux::distributing:
      return "distributing";
  }
  return "";
}

bool is_same_port(const LacpEnd& one, const LacpEnd& other) {
  return one.port == other.port && one.port_priority == other.port_priority && one.system == other.system &&
         one.system_priority == other.system_priority && one.key == other.key &&
         ((one.state ^ other.state) & lacp_aggregation) == 0;
}

bool has(const LacpEnd& end, std::uint8_t bit) {
  return (end.state & bit) != 0;
}

void set(LacpEnd& end, std::uint8_t bit, bool on) {
  end.state = static_cast<std::uint8_t>(on ? end.state | bit : end.state & ~bit);
}

}  // namespace

LacpPort::LacpPort(const LacpEnd& actor) : actor_(actor) {
  actor_.state = static_cast<std::uint8_t>((actor.state & lacp_short_timeout) | lacp_active | lacp_aggregation);
}

void LacpPort::set_timeout(bool is_short) {
  if (has(actor_, lacp_short_timeout) == is_short) return;
  set(actor_, lacp_short_timeout, is_short);
  if (receive_ == Receive::defaulted) set(partner_, lacp_short_timeout, is_short);  // as become_defaulted()
  need_to_transmit_ = true;
}

void LacpPort::set_link(bool up, Time now) {
  if (link_ == up) return;
  link_ = up;
  if (up) {
    become_expired(now);
    return;
  }
  receive_ = Receive::port_disabled;
  set(partner_, lacp_in_sync, false);
}

void LacpPort::become_expired(Time now) {
  receive_ = Receive::expired;
  set(partner_, lacp_in_sync, false);
  set(partner_, lacp_short_timeout, true);
  set(actor_, lacp_expired, true);
  current_until_ = now + short_timeout;
}

void LacpPort::become_defaulted(Time now) {
  receive_ = Receive::defaulted;
  partner_ = {};
  // To nobody we speak as often as we want to hear: at two ends that lost each other somebody has to speak first, and 30
  // seconds are long.
  set(partner_, lacp_short_timeout, has(actor_, lacp_short_timeout));
  selected_ = Selected::unselected;
  while (step_mux(now)) {
  }
  set(actor_, lacp_expired, false);
  set(actor_, lacp_defaulted, true);
}

void LacpPort::receive(const Lacpdu& heard, Time now) {
  if (!link_) return;
  ++received_;
  const bool another = !is_same_port(heard.actor, partner_);
  if (another) {
    selected_ = Selected::unselected;  // until the team has looked at the new partner
    while (step_mux(now)) {
    }
  }
  const std::uint8_t told = lacp_active | lacp_short_timeout | lacp_in_sync | lacp_aggregation;
  if (!is_same_port(heard.partner, actor_) || ((heard.partner.state ^ actor_.state) & told) != 0) {
    need_to_transmit_ = true;
  }
  const bool knows_us = is_same_port(heard.partner, actor_) || !has(heard.actor, lacp_aggregation);
  partner_ = heard.actor;
  set(partner_, lacp_in_sync, knows_us && has(heard.actor, lacp_in_sync));
  set(actor_, lacp_expired, false);
  set(actor_, lacp_defaulted, false);
  receive_ = Receive::current;
  current_until_ = now + (has(actor_, lacp_short_timeout) ? short_timeout : long_timeout);
}

void LacpPort::enter(Mux state, Time now) {
  mux_ = state;
  const std::uint8_t before = actor_.state;
  set(actor_, lacp_in_sync, state >= Mux::attached);
  set(actor_, lacp_collecting, state >= Mux::collecting);
  set(actor_, lacp_distributing, state >= Mux::distributing);
  if (actor_.state != before) need_to_transmit_ = true;
  if (state == Mux::waiting) waits_until_ = now + aggregate_wait;
}

// One transition, if there is one.
bool LacpPort::step_mux(Time now) {
  const bool in_sync = has(partner_, lacp_in_sync);
  const Mux before = mux_;
  if (selected_ == Selected::unselected || !link_) {
    if (mux_ == Mux::distributing) {
      enter(Mux::collecting, now);
    } else if (mux_ == Mux::collecting) {
      enter(Mux::attached, now);
    } else if (mux_ != Mux::detached) {
      enter(Mux::detached, now);
    }
    return mux_ != before;
  }
  const bool selected = selected_ == Selected::selected;
  switch (mux_) {
    case Mux::detached:
      enter(Mux::waiting, now);
      break;
    case Mux::waiting:
      if (selected && now >= waits_until_) enter(Mux::attached, now);
      break;
    case Mux::attached:
      if (!selected) {
        // Not back to waiting for two seconds: a standby member is ready.
        enter(Mux::waiting, now);
        waits_until_ = now;
      } else if (in_sync) {
        enter(Mux::collecting, now);
      }
      break;
    case Mux::collecting:
      if (!selected || !in_sync) {
        enter(Mux::attached, now);
      } else if (has(partner_, lacp_collecting)) {
        enter(Mux::distributing, now);
      }
      break;
    case Mux::distributing:
      if (!selected || !in_sync || !has(partner_, lacp_collecting)) enter(Mux::collecting, now);
      break;
  }
  return mux_ != before;
}

void LacpPort::plan_periodic(Time now) {
  if (!link_) {
    period_is_short_.reset();
    return;
  }
  const bool is_short = has(partner_, lacp_short_timeout);
  if (!period_is_short_) {
    periodic_ = now;
  } else if (*period_is_short_ && !is_short) {
    periodic_ = now + slow_periodic;
  } else if (!*period_is_short_ && is_short) {
    periodic_ = std::min(periodic_, now);
  }
  period_is_short_ = is_short;
  if (now < periodic_) return;
  need_to_transmit_ = true;
  periodic_ = now + (is_short ? fast_periodic : slow_periodic);
}

std::optional<Lacpdu> LacpPort::poll(Time now) {
  if (link_ && now >= current_until_) {
    if (receive_ == Receive::current) {
      become_expired(now);
    } else if (receive_ == Receive::expired) {
      become_defaulted(now);
    }
  }
  while (step_mux(now)) {
  }
  plan_periodic(now);
  if (!need_to_transmit_ || !link_) return std::nullopt;
  if (sent_ >= last_sent_.size() && now - last_sent_.front() < fast_periodic) return std::nullopt;
  std::rotate(last_sent_.begin(), last_sent_.begin() + 1, last_sent_.end());
  last_sent_.back() = now;
  need_to_transmit_ = false;
  ++sent_;
  return pdu();
}

Lacpdu LacpPort::leave(Time now) {
  selected_ = Selected::unselected;
  while (step_mux(now)) {
  }
  ++sent_;
  return pdu();
}

Time LacpPort::next() const {
  if (!link_) return Time::max();
  Time due = period_is_short_ ? periodic_ : Time::min();
  if (receive_ == Receive::current || receive_ == Receive::expired) due = std::min(due, current_until_);
  if (mux_ == Mux::waiting && selected_ == Selected::selected) due = std::min(due, waits_until_);
  if (need_to_transmit_) due = std::min(due, last_sent_.front() + fast_periodic);
  return due;
}

LacpStatus LacpPort::status() const {
  LacpStatus status;
  status.actor = actor_;
  if (has_partner() && !partner_.system.is_zero()) status.partner = partner_;
  status.receive = name_of(receive_);
  status.mux = name_of(mux_);
  status.sent = sent_;
  status.received = received_;
  status.malformed = malformed_;
  return status;
}

}  // namespace patchbay::team
