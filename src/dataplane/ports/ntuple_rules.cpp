#include "dataplane/ports/ntuple_rules.h"

#include <fmt/format.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <utility>

#include "base/byte_order.h"
#include "base/ethtool.h"
#include "base/unique_fd.h"
#include "model/uplink_driver.h"

namespace patchbay::dataplane {
namespace {

constexpr std::uint16_t vid_mask = 0x0FFF;
constexpr std::uint32_t rules_max = 4096;  // that are read: more than a driver has for a NIC that is ours
// For the trial: an address that nobody has, for it is administered locally, and by nobody.
constexpr QueueFilter nobody{MacAddr({0x02, 0x50, 0x42, 0x00, 0x00, 0x00}), 4094};

bool are_zero(const void* bytes, std::size_t size) noexcept {
  const auto* const first = static_cast<const std::uint8_t*>(bytes);
  return std::all_of(first, first + size, [](std::uint8_t byte) { return byte == 0; });
}

bool are_ones(const std::uint8_t* bytes, std::size_t size) noexcept {
  return std::all_of(bytes, bytes + size, [](std::uint8_t byte) { return byte == 0xFF; });
}

// All that no rule names to the default queue.
bool is_ours(const std::vector<std::uint32_t>& rss) noexcept {
  return std::all_of(rss.begin(), rss.end(), [](std::uint32_t queue) { return queue < NtupleRules::default_queues; });
}

// As the kernel fills the table when nobody has set it.
bool is_kernels(const std::vector<std::uint32_t>& rss, std::uint64_t queues) noexcept {
  for (std::size_t i = 0; i < rss.size(); ++i) {
    if (queues == 0 || rss[i] != i % queues) return false;
  }
  return true;
}

std::uint64_t queues_of(const NtupleRules::Ask& ask) {
  ethtool_rxnfc rings{};
  rings.cmd = ETHTOOL_GRXRINGS;
  return ask(&rings) ? rings.data : 0;
}

std::string driver_of(const NtupleRules::Ask& ask) {
  ethtool_drvinfo driver{};
  driver.cmd = ETHTOOL_GDRVINFO;
  if (!ask(&driver)) return "(unknown)";
  return {driver.driver, ::strnlen(driver.driver, sizeof driver.driver)};
}

}  // namespace

ethtool_rx_flow_spec flow_spec_of(const NtupleRule& rule, std::uint32_t location) noexcept {
  ethtool_rx_flow_spec spec{};
  spec.flow_type = ETHER_FLOW;
  std::memcpy(spec.h_u.ether_spec.h_dest, rule.filter.mac.bytes().data(), ETH_ALEN);
  std::memset(spec.m_u.ether_spec.h_dest, 0xFF, ETH_ALEN);
  if (rule.with_vlan) {
    spec.flow_type |= FLOW_EXT;
    store_be16(&spec.h_ext.vlan_tci, rule.filter.vid);
    store_be16(&spec.m_ext.vlan_tci, vid_mask);
  }
  spec.ring_cookie = rule.queue;
  spec.location = location;
  return spec;
}

bool is_rule(const ethtool_rx_flow_spec& there, const NtupleRule& rule) noexcept {
  const auto& mask = there.m_u.ether_spec;
  const bool extended = (there.flow_type & FLOW_EXT) != 0;
  if ((there.flow_type & ~FLOW_EXT) != ETHER_FLOW || there.ring_cookie != rule.queue) return false;
  if (!are_ones(mask.h_dest, ETH_ALEN) || !are_zero(mask.h_source, ETH_ALEN) || mask.h_proto != 0) return false;
  if (MacAddr::from_wire(there.h_u.ether_spec.h_dest) != rule.filter.mac) return false;
  if (extended && (there.m_ext.vlan_etype != 0 || !are_zero(there.m_ext.data, sizeof there.m_ext.data))) return false;
  const std::uint16_t counts = extended ? load_be16(&there.m_ext.vlan_tci) : std::uint16_t{0};
  if (!rule.with_vlan) return counts == 0;
  return counts == vid_mask && (load_be16(&there.h_ext.vlan_tci) & vid_mask) == rule.filter.vid;
}

// ---- Opening, and what is left behind -------------------------------------------------------------------------------

NtupleRules::Ask NtupleRules::ask_interface(unsigned index) {
  auto any = std::make_shared<UniqueFd>(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  return [any, index](void* command) {
    ifreq who{};
    who.ifr_ifindex = static_cast<int>(index);
    return ::ioctl(any->get(), SIOCGIFNAME, &who) == 0 && ask_ethtool(*any, who.ifr_name, command);
  };
}

Result<std::unique_ptr<NtupleRules>> NtupleRules::open(Ask ask, std::uint32_t queues, NtupleNote note) {
  // A note that is still there is of what could not be put back. Ours would replace it.
  auto earlier = NtupleNote::read(note.path);
  if (!earlier && earlier.error().code == ErrorCode::unavailable) return fail(earlier.error());
  if (earlier) {
    if (const int error = put_back(ask, std::move(*earlier)); error != 0) {
      return fail(ErrorCode::unavailable,
                  fmt::format("what Patchbay changed at it before cannot be put back ({}): see {}",
                              std::strerror(error), note.path));
    }
  }
  std::unique_ptr<NtupleRules> rules(new NtupleRules(std::move(ask), std::move(note)));
  if (const auto refused = rules->take(queues)) return fail(ErrorCode::unavailable, *refused);
  return rules;
}

int NtupleRules::put_back(Ask ask, NtupleNote note) {
  NtupleRules rules(std::move(ask), std::move(note));
  const int error = rules.put_back();
  rules.note_ = {};  // the destructor has nothing to try again
  return error;
}

NtupleRules::~NtupleRules() {
  static_cast<void>(put_back());
}

int NtupleRules::put_back() noexcept {
  int failed = 0;
  const auto done = [&failed](int error) {
    if (error != 0) failed = error;
    return error == 0;
  };
  std::erase_if(note_.rules, [this, &done](const NtupleRule& rule) { return done(erase(rule)); });
  if (!note_.rss.empty() && done(put_back_rss())) note_.rss.clear();
  if (note_.switched_on && note_.rules.empty() && done(switch_off())) note_.switched_on = false;
  if (failed != 0 && !note_.nic_is_gone()) {
    static_cast<void>(note_.write());
    return failed;
  }
  note_.remove();
  return 0;
}

int NtupleRules::put_back_rss() const {
  const auto now = read_rss();
  if (!now) return errno;
  if (!is_ours(*now)) return 0;
  if (!is_kernels(note_.rss, queues_of(ask_)) && write_rss(note_.rss)) return 0;
  return write_rss({}) ? 0 : errno;
}

int NtupleRules::switch_off() const {
  const auto table = read_rules();
  if (!table) return errno;
  if (!table->used.empty()) return 0;  // somebody else's, who needs the filters now
  return switch_filters(false) ? 0 : errno;
}

// The reason why not, or nothing.
std::optional<std::string> NtupleRules::take(std::uint32_t queues) {
  if (queues <= default_queues) return "it has one receive queue";
  driver_ = driver_of(ask_);
  const auto rules = read_rules();
  if (!rules && errno == EOPNOTSUPP) return fmt::format("driver {} has no ntuple filters", driver_);
  if (!rules && errno == E2BIG) return fmt::format("it has more than {} ntuple rules", rules_max);
  if (!rules) return fmt::format("driver {} does not tell its ntuple rules ({})", driver_, std::strerror(errno));
  if (rules->used.size() == 1) return "it has 1 ntuple rule that is not Patchbay's";
  if (!rules->used.empty()) return fmt::format("it has {} ntuple rules that are not Patchbay's", rules->used.size());
  const auto on = filters_on();
  if (!on) return fmt::format("driver {} does not say whether its ntuple filters are on", driver_);
  if (!*on) {
    note_.switched_on = true;
    if (!note_.write()) {
      auto refused = unwritable();
      note_.switched_on = false;
      return refused;
    }
    if (!switch_filters(true)) {
      note_.switched_on = filters_on().value_or(true);
      return fmt::format("the ntuple filters of driver {} are off and fixed", driver_);
    }
  }
  if (auto refused = try_rules(queues - 1)) return refused;
  if (auto refused = set_default_queue()) return refused;
  queues_ = queues - default_queues;
  if (const auto now = read_rules(); now && now->size != 0) queues_ = std::min(queues_, now->size);
  return std::nullopt;
}

std::optional<std::string> NtupleRules::try_rules(std::uint32_t queue) {
  std::optional<std::string> refused;
  for (const bool with_vlan : {true, false}) {
    bool is_clean = true;
    with_vlan_ = with_vlan;
    refused = try_rule({nobody, with_vlan, queue}, is_clean);
    if (!refused || !is_clean) break;
  }
  return refused;
}

// The table was empty. `is_clean`: it is again, and another rule can be tried.
std::optional<std::string> NtupleRules::try_rule(const NtupleRule& rule, bool& is_clean) {
  const Inserted inserted = insert_noted(rule);
  is_clean = inserted.is_noted;
  errno = inserted.error;
  if (!inserted.is_noted) return unwritable();
  if (inserted.error != 0)
    return fmt::format("driver {} takes no ntuple rule for an address ({})", driver_, std::strerror(inserted.error));
  const auto places = places_of(rule);
  const bool is_recognised = places && !places->empty();
  if (!is_recognised && inserted.place < RX_CLS_LOC_SPECIAL) static_cast<void>(erase_at(inserted.place));
  const int error = erase_noted(rule);
  const auto table = read_rules();
  is_clean = error == 0 && table && table->used.empty();
  if (!is_clean) return fmt::format("driver {} keeps an ntuple rule that was deleted", driver_);
  if (!is_recognised) return fmt::format("driver {} tells an ntuple rule otherwise than it was set", driver_);
  return std::nullopt;
}

std::string NtupleRules::unwritable() const {
  return fmt::format("{} cannot be written: {}", note_.path, std::strerror(errno));
}

std::optional<std::string> NtupleRules::set_default_queue() {
  auto before = read_rss();
  if (!before || before->empty()) return fmt::format("driver {} has no RSS table that can be set", driver_);
  if (is_ours(*before)) return std::nullopt;
  note_.rss = std::move(*before);
  if (!note_.write()) {
    auto refused = unwritable();
    note_.rss.clear();
    return refused;
  }
  if (write_rss(std::vector<std::uint32_t>(note_.rss.size(), 0))) return std::nullopt;
  const std::string why = std::strerror(errno);
  note_.rss.clear();
  return fmt::format("the RSS table of driver {} cannot be set ({})", driver_, why);
}

std::string NtupleRules::reason() const {
  return fmt::format("driver {} sorts by ntuple filters{}", driver_,
                     with_vlan_ ? "" : ", which name the address and not the VLAN");
}

// ---- Rules ----------------------------------------------------------------------------------------------------------

Result<void> NtupleRules::set(std::uint32_t queue, const QueueFilter& filter) {
  NtupleRule rule{filter, with_vlan_ && filter.vid != 0, queue};
  Inserted inserted = insert_noted(rule);
  if (inserted.error != 0 && inserted.is_noted && std::exchange(rule.with_vlan, false)) inserted = insert_noted(rule);
  if (inserted.error == 0) return {};
  const std::string what = "a filter for " + filter.mac.to_string();
  return fail(system_error(inserted.is_noted ? what : what + ": writing " + note_.path, inserted.error));
}

void NtupleRules::clear(std::uint32_t queue) noexcept {
  for (const NtupleRule& rule : std::vector<NtupleRule>(note_.rules)) {
    if (rule.queue == queue) erase_noted(rule);
  }
}

// Noted first: who starts after a crash between the two finds one rule less, and never one that nobody knows.
NtupleRules::Inserted NtupleRules::insert_noted(const NtupleRule& rule) {
  if (note_.rules.size() >= model::xdp_queues_max) return {ENOSPC};  // of some that could not be deleted
  note_.rules.push_back(rule);
  Inserted inserted;
  inserted.is_noted = note_.write();
  inserted.error = inserted.is_noted ? 0 : errno;
  if (inserted.is_noted) inserted = insert(rule);
  if (inserted.error == 0) return inserted;
  note_.rules.pop_back();
  static_cast<void>(note_.write());
  return inserted;
}

int NtupleRules::erase_noted(const NtupleRule& rule) noexcept {
  if (const int error = erase(rule); error != 0) return error;
  std::erase(note_.rules, rule);
  static_cast<void>(note_.write());
  return 0;
}

NtupleRules::Inserted NtupleRules::insert(const NtupleRule& rule) {
  const auto table = read_rules();
  if (!table) return {errno};
  std::uint32_t place = RX_CLS_LOC_ANY;
  if (!table->any_place) {
    // From the end, as ethtool does. A place that is taken would be taken over.
    place = table->size;
    do {
      if (place-- == 0) return {ENOSPC};
    } while (std::find(table->used.begin(), table->used.end(), place) != table->used.end());
  }
  ethtool_rxnfc request{};
  request.cmd = ETHTOOL_SRXCLSRLINS;
  request.fs = flow_spec_of(rule, place);
  if (!ask_(&request)) return {errno};
  return {0, true, request.fs.location};  // the kernel hands back what the driver chose
}

int NtupleRules::erase(const NtupleRule& rule) const {
  auto places = places_of(rule);
  if (!places) return errno;
  if (places->empty()) return 0;
  for (const std::uint32_t place : *places) {
    if (!erase_at(place)) return errno;
  }
  places = places_of(rule);
  if (!places) return errno;
  return places->empty() ? 0 : EBUSY;
}

bool NtupleRules::erase_at(std::uint32_t place) const {
  ethtool_rxnfc request{};
  request.cmd = ETHTOOL_SRXCLSRLDEL;
  request.fs.location = place;
  return ask_(&request);
}

std::optional<std::vector<std::uint32_t>> NtupleRules::places_of(const NtupleRule& rule) const {
  const auto table = read_rules();
  if (!table) return std::nullopt;
  std::vector<std::uint32_t> places;
  for (const std::uint32_t place : table->used) {
    ethtool_rxnfc request{};
    request.cmd = ETHTOOL_GRXCLSRULE;
    request.fs.location = place;
    if (!ask_(&request)) return std::nullopt;
    if (is_rule(request.fs, rule)) places.push_back(place);
  }
  return places;
}

// ---- What the driver has --------------------------------------------------------------------------------------------

std::optional<NtupleRules::Table> NtupleRules::read_rules() const {
  ethtool_rxnfc count{};
  count.cmd = ETHTOOL_GRXCLSRLCNT;
  if (!ask_(&count)) return std::nullopt;
  Table table;
  table.any_place = (count.data & RX_CLS_LOC_SPECIAL) != 0;
  table.size = static_cast<std::uint32_t>(count.data) & ~RX_CLS_LOC_SPECIAL;
  // The structure ends in an array without a length.
  constexpr std::size_t places_at = offsetof(ethtool_rxnfc, rule_locs);
  const std::uint32_t room = count.rule_cnt;
  if (room > rules_max) {
    errno = E2BIG;
    return std::nullopt;
  }
  std::vector<std::uint8_t> bytes(std::max(sizeof count, places_at + room * sizeof(std::uint32_t)));
  count.cmd = ETHTOOL_GRXCLSRLALL;
  count.data = 0;
  count.rule_cnt = room;
  std::memcpy(bytes.data(), &count, sizeof count);
  if (!ask_(bytes.data())) return std::nullopt;
  std::memcpy(&count, bytes.data(), places_at);
  if (count.data != 0) table.size = static_cast<std::uint32_t>(count.data) & ~RX_CLS_LOC_SPECIAL;
  table.used.resize(std::min(count.rule_cnt, room));
  if (!table.used.empty()) {
    std::memcpy(table.used.data(), bytes.data() + places_at, table.used.size() * sizeof(std::uint32_t));
  }
  return table;
}

std::optional<bool> NtupleRules::filters_on() const {
  ethtool_value flags{ETHTOOL_GFLAGS, 0};
  if (!ask_(&flags)) return std::nullopt;
  return (flags.data & ETH_FLAG_NTUPLE) != 0;
}

bool NtupleRules::switch_filters(bool on) const {
  ethtool_value flags{ETHTOOL_GFLAGS, 0};
  if (!ask_(&flags)) return false;
  flags.cmd = ETHTOOL_SFLAGS;
  flags.data = on ? flags.data | ETH_FLAG_NTUPLE : flags.data & ~std::uint32_t{ETH_FLAG_NTUPLE};
  if (!ask_(&flags)) return false;
  if (filters_on() == on) return true;
  errno = EOPNOTSUPP;
  return false;
}

std::optional<std::vector<std::uint32_t>> NtupleRules::read_rss() const {
  constexpr std::size_t head = offsetof(ethtool_rxfh_indir, ring_index) / sizeof(std::uint32_t);
  static_assert(head == 2);
  ethtool_rxfh_indir size{};
  size.cmd = ETHTOOL_GRXFHINDIR;
  if (!ask_(&size)) return std::nullopt;
  if (size.size > NtupleNote::rss_max) {
    errno = E2BIG;
    return std::nullopt;
  }
  std::vector<std::uint32_t> request{ETHTOOL_GRXFHINDIR, size.size};
  request.resize(head + size.size);
  if (!ask_(request.data())) return std::nullopt;
  request.erase(request.begin(), request.begin() + head);
  return request;
}

bool NtupleRules::write_rss(const std::vector<std::uint32_t>& table) const {
  std::vector<std::uint32_t> request{ETHTOOL_SRXFHINDIR, static_cast<std::uint32_t>(table.size())};
  request.insert(request.end(), table.begin(), table.end());
  return ask_(request.data());
}

}  // namespace patchbay::dataplane
