#include "control/team/team.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <array>
#include <thread>
#include <tuple>
#include <utility>

#include "control/team/announcement.h"

namespace patchbay::team {
namespace {

using dataplane::team_no_member;
using std::chrono::milliseconds;

// An announcement is one frame, and may be lost: it is said again after so long.
constexpr std::array announcement_repeats{milliseconds(100), milliseconds(1000)};

constexpr std::uint16_t system_priority = 0x8000;
constexpr std::uint16_t port_priority = 0x8000;
constexpr std::uint16_t standby_port_priority = 0xFFFF;

// The same for all members: a cable has one speed, so a partner that puts no unequal ones together says so by its own keys.
constexpr std::uint16_t member_key = 1;
// A partner that hears that a member leaves needs a moment to send elsewhere.
constexpr milliseconds leave_time{100};

// At a member that no kernel sees; what comes in is fetched by look_at_devices().
class DeviceChannel final : public Channel {
 public:
  DeviceChannel(dataplane::Dataplane& dataplane, PortId port) : dataplane_(dataplane), port_(port) {}
  bool send(std::span<const std::uint8_t> frame) override { return dataplane_.send_control_frame(port_, frame); }

 private:
  dataplane::Dataplane& dataplane_;
  const PortId port_;
};

bool sends_by(const dataplane::TeamPaths& paths, std::size_t member) {
  return std::find(paths.senders.begin(), paths.senders.end(), member) != paths.senders.end();
}

}  // namespace

Team::Team(boost::asio::io_context& loop, dataplane::Dataplane& dataplane, std::string name)
    : dataplane_(dataplane), loop_(loop), name_(std::move(name)), port_(dataplane.open_team()), timer_(loop) {}

Team::~Team() {
  if (!config_.members.empty()) dataplane_.set_team(port_, {}, no_paths());
  dataplane_.close_port(port_, false);
}

std::optional<std::size_t> Team::holder_of(const std::string& nic) const {
  for (std::size_t i = 0; i < slots_.size(); ++i) {
    if (slots_[i].member.nic == nic) return i;
  }
  return std::nullopt;
}

Link Team::link_of(const Slot& slot) const {
  const auto found = links_.find(slot.member.nic);
  return found == links_.end() ? Link{} : found->second;
}

void Team::set(const model::Team& settings, std::vector<Member> members) {
  const Time now = Clock::now();
  settings_ = settings;
  for (const Member& member : members) {
    const auto device = dataplane_.device_state(member.port);
    if (device) links_[member.nic] = {device->carrier, device->speed_mbps};
  }
  take_leave(members, now);
  adopt(std::move(members), now);
  update(now);
}

// Members that leave hand over to the others first, so that no frame finds nobody. A partner that sends to them hears of it,
// and what it sends until then is still taken.
void Team::take_leave(const std::vector<Member>& staying, Time now) {
  std::uint32_t leaving = 0;
  bool told = false;
  for (std::size_t i = 0; i < slots_.size(); ++i) {
    Slot& slot = slots_[i];
    slot.leaves = std::find(staying.begin(), staying.end(), slot.member) == staying.end();
    if (!slot.leaves) continue;
    leaving |= std::uint32_t{1} << i;
    if (!slot.lacp || !slot.lacp->distributing() || !slot.channel) continue;
    slot.channel->send(encode(slot.lacp->leave(now), slot.member.mac));
    told = true;
  }
  if (leaving == 0) return;
  judge_links(now);
  dataplane::TeamPaths paths = make_paths(weigh(), paths_);
  paths.receives |= leaving & paths_.receives;
  take_paths(paths, now);
  if (told) std::this_thread::sleep_for(leave_time);
}

// Members that stay keep what is known of them; their numbers change.
void Team::adopt(std::vector<Member> members, Time now) {
  std::vector<Slot> slots;
  std::vector<std::uint8_t> now_at(slots_.size(), team_no_member);
  for (Member& member : members) {
    const auto before = holder_of(member.nic);
    Slot slot;
    if (before && slots_[*before].member == member) {
      now_at[*before] = static_cast<std::uint8_t>(slots.size());
      slot = std::move(slots_[*before]);
    } else {
      slot.member = std::move(member);
      // The first ones need no proof that their link lasts.
      if (slots_.empty() && link_of(slot).carrier) {
        slot.good_since = now;
        slot.ready = true;
      }
    }
    slots.push_back(std::move(slot));
  }
  slots_ = std::move(slots);
  if (!system_ && !slots_.empty()) system_ = slots_.front().member.mac;
  const bool wants_channel = settings_.mode != model::TeamMode::static_;
  for (Slot& slot : slots_) {
    if (wants_channel && !slot.channel) open_channel(slot);
    if (!wants_channel) slot.channel.reset();
    if (settings_.mode == model::TeamMode::lacp) {
      start_lacp(slot);
    } else {
      slot.lacp.reset();
    }
    slot.individual = slot.individual && slot.lacp != nullptr;
  }
  dataplane::TeamConfig config;
  config.switch_independent = settings_.mode == model::TeamMode::switch_independent;
  config.balance = settings_.balance;
  for (const Slot& slot : slots_) config.members.push_back({slot.member.port, slot.member.mac});
  if (config == config_) return;
  config_ = std::move(config);
  paths_ = renumbered(paths_, now_at);
  dataplane_.set_team(port_, config_, paths_);
}

void Team::open_channel(Slot& slot) {
  slot.trouble.clear();
  if (slot.member.index == 0) {
    slot.channel = std::make_unique<DeviceChannel>(dataplane_, slot.member.port);
    return;
  }
  auto opened =
      Channel::open(loop_, slot.member.nic, slot.member.index,
                    [this, nic = slot.member.nic](std::span<const std::uint8_t> frame) { heard(nic, frame); });
  if (opened) {
    slot.channel = std::move(*opened);
    return;
  }
  slot.trouble = opened.error().message;
  spdlog::warn("team {}: {}", name_, slot.trouble);
}

void Team::start_lacp(Slot& slot) {
  if (slot.lacp) {
    slot.lacp->set_timeout(settings_.lacp_timer == model::LacpTimer::fast);
    return;
  }
  while (slot.number == 0 || std::any_of(slots_.begin(), slots_.end(), [&slot](const Slot& other) {
           return &other != &slot && other.number == slot.number;
         })) {
    ++slot.number;
  }
  LacpEnd actor;
  actor.system_priority = system_priority;
  actor.system = *system_;
  actor.key = member_key;
  actor.port_priority = is_standby(slot) ? standby_port_priority : port_priority;
  actor.port = slot.number;
  actor.state = settings_.lacp_timer == model::LacpTimer::fast ? lacp_short_timeout : std::uint8_t{0};
  slot.lacp = std::make_unique<LacpPort>(actor);
}

void Team::set_link(const std::string& nic, const Link& link) {
  Link& known = links_[nic];
  if (known == link) return;
  known = link;
  if (holder_of(nic)) update(Clock::now());
}

void Team::look_at_devices() {
  std::vector<std::string> nics;
  for (const Slot& slot : slots_) {
    if (slot.member.index == 0) nics.push_back(slot.member.nic);
  }
  for (const std::string& nic : nics) {
    const PortId port = slots_[*holder_of(nic)].member.port;
    if (const auto device = dataplane_.device_state(port)) set_link(nic, {device->carrier, device->speed_mbps});
    for (const auto& frame : dataplane_.take_control_frames(port)) heard(nic, frame);
  }
}

void Team::set_addresses(const std::string& switch_name, std::vector<Address> addresses) {
  std::vector<Address> added;
  for (const Address& address : addresses) {
    if (std::find(addresses_.begin(), addresses_.end(), address) == addresses_.end()) added.push_back(address);
  }
  switch_name_ = switch_name;
  addresses_ = std::move(addresses);
  if (settings_.mode != model::TeamMode::switch_independent || added.empty()) return;
  const Time now = Clock::now();
  say_where(std::move(added), now);
  plan_next(now);
}

// ---- Judging --------------------------------------------------------------------------------------------------------

void Team::heard(const std::string& nic, std::span<const std::uint8_t> frame) {
  const auto at = holder_of(nic);
  if (!at || !slots_[*at].lacp) return;
  Slot& slot = slots_[*at];
  if (const auto answer = marker_response(frame, slot.member.mac)) {
    slot.channel->send(*answer);
    return;
  }
  const auto pdu = decode(frame);
  if (!pdu) return slot.lacp->count_malformed();
  const Time now = Clock::now();
  slot.lacp->receive(*pdu, now);
  update(now);
}

void Team::update(Time now) {
  judge_links(now);
  if (settings_.mode == model::TeamMode::lacp) {
    select_partners();
    run_lacp(now);
    fall_back();
  }
  const Weights weights = weigh();
  take_paths(make_paths(weights, paths_), now);
  note_states(weights);
  announce_again(now);
  plan_next(now);
}

void Team::judge_links(Time now) {
  const auto delay = milliseconds(settings_.failback_delay_ms);
  for (Slot& slot : slots_) {
    if (!link_of(slot).carrier) {
      slot.good_since.reset();
      slot.ready = false;
      continue;
    }
    if (!slot.good_since) slot.good_since = now;
    slot.ready = slot.ready || now - *slot.good_since >= delay;
  }
  // Without any other, a fresh link is better than none.
  if (std::any_of(slots_.begin(), slots_.end(), [](const Slot& slot) { return slot.ready && !slot.leaves; })) return;
  for (Slot& slot : slots_) slot.ready = slot.good_since.has_value();
}

// Of the partners that speak, those that most members have may take part: one system, one key, links of one speed.
void Team::select_partners() {
  using Aggregate = std::tuple<std::uint16_t, MacAddr, std::uint16_t, std::uint16_t>;
  const auto aggregate_of = [](const Slot& slot) {
    const LacpEnd& partner = slot.lacp->partner();
    return Aggregate(partner.system_priority, partner.system, partner.key, slot.lacp->status().actor.key);
  };
  const auto is_candidate = [this](const Slot& slot) {
    const bool speaks = slot.lacp && slot.lacp->receive_state() == LacpPort::Receive::current;
    return speaks && slot.ready && slot.lacp->partner().system != *system_;
  };
  std::map<Aggregate, int> votes;
  for (const Slot& slot : slots_) {
    // A member more, and one that is in use already; the spare one decides nothing while there are others.
    if (is_candidate(slot))
      votes[aggregate_of(slot)] += (is_standby(slot) ? 1 : 4) + (slot.lacp->distributing() ? 1 : 0);
  }
  if (votes.empty()) return;
  const Aggregate chosen = std::max_element(votes.begin(), votes.end(), [](const auto& one, const auto& other) {
                             return one.second < other.second;
                           })->first;
  // A standby member that stepped in goes back only when another one has taken over.
  const bool stepped_in = std::any_of(slots_.begin(), slots_.end(), [this](const Slot& slot) {
    return is_standby(slot) && slot.lacp && slot.lacp->distributing();
  });
  const bool has_others = std::any_of(slots_.begin(), slots_.end(), [&](const Slot& slot) {
    return is_candidate(slot) && !is_standby(slot) && aggregate_of(slot) == chosen &&
           (!stepped_in || slot.lacp->distributing());
  });
  for (Slot& slot : slots_) {
    if (!is_candidate(slot)) continue;
    Selected selected = Selected::unselected;
    if (aggregate_of(slot) == chosen) {
      selected = is_standby(slot) && has_others ? Selected::standby : Selected::selected;
    }
    slot.lacp->set_selected(selected);
  }
}

// While no partner speaks, one member goes on alone, as the port of a switch that does not know of LACP expects it.
void Team::fall_back() {
  const auto may_be_alone = [](const Slot& slot) { return slot.ready && slot.lacp && slot.lacp->defaulted(); };
  const bool somebody_speaks =
      std::any_of(slots_.begin(), slots_.end(), [](const Slot& slot) { return slot.lacp && slot.lacp->has_partner(); });
  const auto was = std::find_if(slots_.begin(), slots_.end(), [&](const Slot& slot) { return slot.individual; });
  const bool goes_on = was != slots_.end() && may_be_alone(*was) && !somebody_speaks;
  if (goes_on) return;
  for (Slot& slot : slots_) slot.individual = false;
  if (somebody_speaks) return;
  const auto first = std::find_if(slots_.begin(), slots_.end(), may_be_alone);
  if (first != slots_.end()) first->individual = true;
}

void Team::run_lacp(Time now) {
  for (Slot& slot : slots_) {
    if (!slot.lacp) continue;
    slot.lacp->set_link(slot.good_since.has_value(), now);
    const auto pdu = slot.lacp->poll(now);
    if (pdu && slot.channel) slot.channel->send(encode(*pdu, slot.member.mac));
  }
}

bool Team::can_carry(const Slot& slot) const {
  if (!slot.ready || slot.leaves) return false;
  return !slot.lacp || slot.lacp->distributing() || slot.individual;
}

Weights Team::weigh() const {
  Weights weights(slots_.size(), 0);
  const bool has_others = std::any_of(slots_.begin(), slots_.end(),
                                      [this](const Slot& slot) { return can_carry(slot) && !is_standby(slot); });
  const bool speeds_known = std::all_of(slots_.begin(), slots_.end(), [this](const Slot& slot) {
    return !can_carry(slot) || link_of(slot).speed_mbps.value_or(0) != 0;
  });
  for (std::size_t i = 0; i < slots_.size(); ++i) {
    const Slot& slot = slots_[i];
    if (!can_carry(slot) || (is_standby(slot) && has_others && !slot.lacp)) continue;
    weights[i] = speeds_known ? *link_of(slot).speed_mbps : 1;
  }
  return weights;
}

void Team::note_states(const Weights& weights) {
  for (std::size_t i = 0; i < slots_.size(); ++i) {
    Slot& slot = slots_[i];
    slot.reason = slot.trouble;
    const auto become = [&slot](MemberState state, std::string reason) {
      slot.state = state;
      if (slot.reason.empty()) slot.reason = std::move(reason);
    };
    if (weights[i] != 0) {
      become(MemberState::active, slot.individual ? "no LACP partner speaks: this member alone carries frames" : "");
    } else if (!slot.good_since) {
      become(MemberState::down, "no carrier");
    } else if (!slot.ready) {
      become(MemberState::holding, fmt::format("the link is back for less than {} ms", settings_.failback_delay_ms));
    } else if (is_standby(slot) && (!slot.lacp || slot.lacp->selected() == Selected::standby)) {
      become(MemberState::standby, "");
    } else if (slot.lacp && slot.lacp->defaulted()) {
      become(MemberState::inactive, "no LACP partner speaks here");
    } else if (slot.lacp && slot.lacp->receive_state() == LacpPort::Receive::expired) {
      become(MemberState::inactive, "waits for an LACP partner to speak");
    } else if (slot.lacp && slot.lacp->partner().system == *system_) {
      become(MemberState::inactive, "is connected to this host itself");
    } else if (slot.lacp && slot.lacp->selected() == Selected::unselected) {
      become(MemberState::inactive,
             "its LACP partner is another one than that of the other members, or has another key");
    } else {
      become(MemberState::inactive, "waits until its LACP partner is ready");
    }
  }
}

// ---- Telling --------------------------------------------------------------------------------------------------------

void Team::take_paths(const dataplane::TeamPaths& wanted, Time now) {
  dataplane::TeamPaths paths = wanted;
  for (std::size_t i = 0; i < slots_.size(); ++i) {
    // A partner may send as soon as we collect, and a little longer to a member that has just become standby.
    const LacpPort* const lacp = slots_[i].lacp.get();
    const bool may_bring = lacp != nullptr && (lacp->collecting() || lacp->selected() == Selected::standby);
    if (may_bring) paths.receives |= std::uint32_t{1} << i;
  }
  if (paths == paths_) return;
  const dataplane::TeamPaths before = std::exchange(paths_, paths);
  dataplane_.set_team_paths(port_, paths_);
  bool lost = false;
  for (std::size_t i = 0; i < slots_.size(); ++i) {
    if (sends_by(before, i) == sends_by(paths_, i)) continue;
    lost = lost || (!sends_by(paths_, i) && !slots_[i].leaves);
    spdlog::info("team {}: {} {}", name_, slots_[i].member.nic,
                 sends_by(paths_, i) ? "carries frames" : "carries frames no longer");
  }
  if (lost && paths_.primary != team_no_member) ++failovers_;
  if (settings_.mode == model::TeamMode::switch_independent) announce_moved(before, now);
  if (moved_home_) moved_home_();
}

std::string Team::home_nic_of(MacAddr mac) const {
  const std::uint8_t member = home_of(mac, settings_.balance, paths_);
  return member < slots_.size() ? slots_[member].member.nic : "";
}

std::vector<Address> Team::addresses_behind() const {
  std::vector<Address> all = addresses_;
  if (!switch_name_.empty()) {
    for (const auto& learned : dataplane_.learned_addresses(switch_name_)) {
      if (learned.port == port_) continue;  // it is out there
      const auto vid = VlanId::from(learned.vid);
      all.push_back({learned.mac, vid ? model::VlanMode(model::Access{*vid}) : model::VlanMode(model::Untagged{})});
    }
  }
  return all;
}

void Team::announce_moved(const dataplane::TeamPaths& before, Time now) {
  std::vector<Address> all = addresses_behind();
  std::erase_if(all, [&](const Address& address) {
    return home_of(address.mac, settings_.balance, paths_) == home_of(address.mac, settings_.balance, before);
  });
  say_where(std::move(all), now);
}

void Team::say_where(std::vector<Address> addresses, Time now) {
  if (repeats_.empty()) moved_.clear();
  std::erase_if(addresses, [this](const Address& address) {
    return home_of(address.mac, settings_.balance, paths_) == team_no_member;
  });
  if (addresses.empty()) return;
  for (Address& address : addresses) {
    announce(address);
    if (std::find(moved_.begin(), moved_.end(), address) == moved_.end()) moved_.push_back(std::move(address));
  }
  repeats_.clear();
  for (const auto delay : announcement_repeats) repeats_.push_back(now + delay);
}

void Team::announce(const Address& address) {
  const std::uint8_t home = home_of(address.mac, settings_.balance, paths_);
  if (home >= slots_.size() || !slots_[home].channel) return;
  for (const std::uint16_t vid : sending_vlans(address.vlan)) {
    if (slots_[home].channel->send(announcement(address.mac, vid))) ++announcements_;
  }
}

void Team::announce_again(Time now) {
  const auto due = std::remove_if(repeats_.begin(), repeats_.end(), [now](Time at) { return at <= now; });
  if (due == repeats_.end()) return;
  repeats_.erase(due, repeats_.end());
  // Who is gone since, or in another VLAN, is not said to be there.
  const std::vector<Address> behind = addresses_behind();
  std::erase_if(moved_, [&behind](const Address& address) {
    return std::find(behind.begin(), behind.end(), address) == behind.end();
  });
  for (const Address& address : moved_) announce(address);
  if (repeats_.empty()) moved_.clear();
}

void Team::plan_next(Time now) {
  Time next = Time::max();
  for (const Slot& slot : slots_) {
    if (slot.lacp) next = std::min(next, slot.lacp->next());
    if (slot.good_since && !slot.ready) {
      next = std::min(next, *slot.good_since + milliseconds(settings_.failback_delay_ms));
    }
  }
  for (const Time repeat : repeats_) next = std::min(next, repeat);
  if (next == Time::max()) {
    timer_.cancel();
    return;
  }
  // Never at once again: what did not happen by now does not happen by asking.
  timer_.expires_at(std::max(next, now + milliseconds(1)));
  timer_.async_wait([this](const boost::system::error_code& error) {
    if (!error) update(Clock::now());
  });
}

Status Team::status() const {
  Status status;
  for (std::size_t i = 0; i < slots_.size(); ++i) {
    const Slot& slot = slots_[i];
    MemberStatus member;
    member.nic = slot.member.nic;
    member.state = slot.state;
    member.reason = slot.reason;
    member.primary = i == paths_.primary;
    if (slot.lacp) member.lacp = slot.lacp->status();
    status.members.push_back(std::move(member));
  }
  status.failovers = failovers_;
  status.announcements = announcements_;
  return status;
}

}  // namespace patchbay::team
