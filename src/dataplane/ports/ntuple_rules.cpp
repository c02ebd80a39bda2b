#include "dataplane/ports/ntuple_rules.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <utility>

#include "base/byte_order.h"

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
  if (!ask(&driver)) return "";
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

Result<std::unique_ptr<NtupleRules>> NtupleRules::open(Ask ask, std::uint32_t queues, NtupleNote note) {
  std::unique_ptr<NtupleRules> rules(new NtupleRules(std::move(ask), std::move(note)));
  if (const auto refused = rules->take(queues)) return fail(ErrorCode::unavailable, *refused);
  return rules;
}

void NtupleRules::put_back(Ask ask, NtupleNote note) {
  NtupleRules(std::move(ask), std::move(note)).put_back();
}

NtupleRules::~NtupleRules() {
  put_back();
}

void NtupleRules::put_back() noexcept {
  for (const NtupleRule& rule : std::exchange(note_.rules, {})) erase(rule);
  if (const auto before = std::exchange(note_.rss, {}); !before.empty()) {
    const auto now = read_rss();
    if (now && is_ours(*now) && (is_kernels(before, queues_of(ask_)) || !write_rss(before)))
      static_cast<void>(write_rss({}));
  }
  if (std::exchange(note_.switched_on, false)) static_cast<void>(switch_filters(false));
  note_.remove();
}

// The reason why not, or nothing.
std::optional<std::string> NtupleRules::take(std::uint32_t queues) {
  if (queues <= default_queues) return "it has one receive queue";
  driver_ = driver_of(ask_);
  const auto rules = read_rules();
  if (!rules) return fmt::format("driver {} has no ntuple filters", driver_);
  if (rules->used.size() == 1) return "it has 1 ntuple rule that is not Patchbay's";
  if (!rules->used.empty()) return fmt::format("it has {} ntuple rules that are not Patchbay's", rules->used.size());
  const auto on = filters_on();
  if (!on) return fmt::format("driver {} does not say whether its ntuple filters are on", driver_);
  if (!*on) {
    note_.switched_on = true;
    if (!note_.write()) return fmt::format("{} cannot be written: {}", note_.path, std::strerror(errno));
    if (!switch_filters(true)) {
      note_.switched_on = false;
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
  int error = 0;
  for (const bool with_vlan : {true, false}) {
    const NtupleRule rule{nobody, with_vlan, queue};
    with_vlan_ = with_vlan;
    error = insert_noted(rule);
    if (error != 0) continue;
    erase_noted(rule);
    return std::nullopt;
  }
  return fmt::format("driver {} takes no ntuple rule for an address ({})", driver_, std::strerror(error));
}

std::optional<std::string> NtupleRules::set_default_queue() {
  auto before = read_rss();
  if (!before || before->empty()) return fmt::format("driver {} has no RSS table that can be set", driver_);
  if (is_ours(*before)) return std::nullopt;
  note_.rss = std::move(*before);
  if (!note_.write()) return fmt::format("{} cannot be written: {}", note_.path, std::strerror(errno));
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
  int error = insert_noted(rule);
  if (error != 0 && std::exchange(rule.with_vlan, false)) error = insert_noted(rule);
  if (error != 0) return fail(system_error("a filter for " + filter.mac.to_string(), error));
  return {};
}

void NtupleRules::clear(std::uint32_t queue) noexcept {
  const auto found = std::find_if(note_.rules.begin(), note_.rules.end(),
                                  [queue](const NtupleRule& rule) { return rule.queue == queue; });
  if (found != note_.rules.end()) erase_noted(NtupleRule(*found));
}

// Noted first: who starts after a crash between the two finds one rule less, and never one that nobody knows.
int NtupleRules::insert_noted(const NtupleRule& rule) {
  note_.rules.push_back(rule);
  int error = note_.write() ? 0 : errno;
  if (error == 0) error = insert(rule);
  if (error == 0) return 0;
  note_.rules.pop_back();
  static_cast<void>(note_.write());
  return error;
}

void NtupleRules::erase_noted(const NtupleRule& rule) noexcept {
  erase(rule);
  std::erase(note_.rules, rule);
  static_cast<void>(note_.write());
}

int NtupleRules::insert(const NtupleRule& rule) {
  const auto table = read_rules();
  if (!table) return errno;
  std::uint32_t place = RX_CLS_LOC_ANY;
  if (!table->any_place) {
    // From the end, as ethtool does. A place that is taken would be taken over.
    place = table->size;
    do {
      if (place-- == 0) return ENOSPC;
    } while (std::find(table->used.begin(), table->used.end(), place) != table->used.end());
  }
  ethtool_rxnfc request{};
  request.cmd = ETHTOOL_SRXCLSRLINS;
  request.fs = flow_spec_of(rule, place);
  return ask_(&request) ? 0 : errno;
}

void NtupleRules::erase(const NtupleRule& rule) noexcept {
  const auto table = read_rules();
  if (!table) return;  // the NIC has gone
  for (const std::uint32_t place : table->used) {
    ethtool_rxnfc request{};
    request.cmd = ETHTOOL_GRXCLSRULE;
    request.fs.location = place;
    if (!ask_(&request) || !is_rule(request.fs, rule)) continue;
    request.cmd = ETHTOOL_SRXCLSRLDEL;
    request.fs.location = place;
    static_cast<void>(ask_(&request));
  }
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
  const std::uint32_t room = std::min(count.rule_cnt, rules_max);
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
  return ask_(&flags) && filters_on() == on;
}

std::optional<std::vector<std::uint32_t>> NtupleRules::read_rss() const {
  constexpr std::size_t head = offsetof(ethtool_rxfh_indir, ring_index) / sizeof(std::uint32_t);
  static_assert(head == 2);
  ethtool_rxfh_indir size{};
  size.cmd = ETHTOOL_GRXFHINDIR;
  if (!ask_(&size)) return std::nullopt;
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
