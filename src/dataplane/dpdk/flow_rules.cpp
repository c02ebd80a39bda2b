#include "dataplane/dpdk/flow_rules.h"

#include <rte_ethdev.h>
#include <rte_flow.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <type_traits>
#include <utility>
#include <vector>

namespace patchbay::dataplane::dpdk {
namespace {

// Where a driver has priorities, 0 is the first. Linux's classifier, behind net_tap, wants one for each kind of frame.
constexpr std::uint32_t tagged_priority = 0;
constexpr std::uint32_t untagged_priority = 1;
constexpr std::uint32_t rest_priority = 2;

constexpr std::uint16_t vid_bits = 0x0FFF;
// net_tap of 22.11 writes the descriptors of its queues, two each, into a message of 8 when it starts: more run over its end.
constexpr std::uint16_t tap_queues_max = 4;
constexpr const char* tap_driver = "net_tap";

// Zeros between the fields, too: `= {}` leaves them as they are, and a driver that compares a mask byte by byte finds there
// what it does not know (net_tap refused a rule for them).
template <typename T>
void clear_all_bytes(T& item) noexcept {
  static_assert(std::is_trivially_copyable_v<T>);
  std::memset(static_cast<void*>(&item), 0, sizeof item);
}

// What a driver says of a failure, which is never empty.
std::string said(const rte_flow_error& error, int number) {
  return error.message != nullptr && *error.message != '\0' ? error.message : rte_strerror(number);
}

// A rule in DPDK's words, which point at each other.
struct Rule {
  rte_flow_attr attributes = {};
  rte_flow_item_eth address;
  rte_flow_item_eth address_mask;
  rte_flow_item_vlan tag;
  rte_flow_item_vlan tag_mask;
  rte_flow_action_queue queue = {};
  std::array<rte_flow_item, 3> items = {};
  std::array<rte_flow_action, 2> actions = {};

  explicit Rule(std::uint16_t to) noexcept {
    clear_all_bytes(address);
    clear_all_bytes(address_mask);
    clear_all_bytes(tag);
    clear_all_bytes(tag_mask);
    attributes.ingress = 1;
    attributes.priority = untagged_priority;
    queue.index = to;
    items[0].type = RTE_FLOW_ITEM_TYPE_ETH;
    items[0].spec = &address;
    items[0].mask = &address_mask;
    items[1].type = RTE_FLOW_ITEM_TYPE_END;
    items[2].type = RTE_FLOW_ITEM_TYPE_END;
    actions[0] = {RTE_FLOW_ACTION_TYPE_QUEUE, &queue};
    actions[1] = {RTE_FLOW_ACTION_TYPE_END, nullptr};
  }
  Rule(const Rule&) = delete;
  Rule& operator=(const Rule&) = delete;

  void match_address(MacAddr mac) noexcept {
    std::copy(mac.bytes().begin(), mac.bytes().end(), std::begin(address.dst.addr_bytes));
    std::fill(std::begin(address_mask.dst.addr_bytes), std::end(address_mask.dst.addr_bytes), std::uint8_t{0xFF});
  }
  void match_tag(std::uint16_t vid) noexcept {
    attributes.priority = tagged_priority;
    tag.tci = rte_cpu_to_be_16(vid);
    tag_mask.tci = rte_cpu_to_be_16(vid_bits);
    items[1].type = RTE_FLOW_ITEM_TYPE_VLAN;
    items[1].spec = &tag;
    items[1].mask = &tag_mask;
  }
  // 0, or a negative errno value and a sentence.
  [[nodiscard]] int validate(std::uint16_t port, std::string& why) {
    rte_flow_error error = {};
    int result = rte_flow_validate(port, &attributes, items.data(), actions.data(), &error);
    if (result != 0 && attributes.priority != 0) {  // many drivers have only one priority
      const std::uint32_t wished = std::exchange(attributes.priority, 0);
      rte_flow_error second = {};
      if (wished != rest_priority) result = rte_flow_validate(port, &attributes, items.data(), actions.data(), &second);
    }
    if (result != 0) why = said(error, -result);
    return result;
  }
  [[nodiscard]] rte_flow* create(std::uint16_t port, std::string& why) {
    if (validate(port, why) != 0) return nullptr;
    rte_flow_error error = {};
    rte_flow* const made = rte_flow_create(port, &attributes, items.data(), actions.data(), &error);
    if (made == nullptr) why = said(error, rte_errno);
    return made;
  }
};

}  // namespace

FlowRules::FlowRules(std::uint16_t port, const std::string& driver) noexcept
    : port_(port), is_tap_(driver == tap_driver) {}

bool FlowRules::are_known(std::uint16_t port) noexcept {
  rte_flow_error error = {};
  return rte_flow_flush(port, &error) != -ENOSYS;  // there are none yet
}

std::uint16_t FlowRules::queues_for(const std::string& driver, std::uint16_t most) noexcept {
  return std::min(most, driver == tap_driver ? tap_queues_max : queues_max);
}

std::string FlowRules::start() {
  // What rte_flow_validate() says is not the whole truth, creating is.
  const QueueFilter sample{MacAddr::from_uint64(0x02'00'00'00'00'01), 2};
  if (std::string why = set(1, sample); !why.empty())
    return "it takes no rule that sends an address to a queue: " + why;
  clear(1);
  if (std::string why = send_rest_to_default_queue(); !why.empty()) {
    return "nothing says in which queue frames arrive that no rule names: " + why;
  }
  return {};
}

std::string FlowRules::send_rest_to_default_queue() {
  Rule rest(0);
  rest.attributes.priority = rest_priority;
  std::string why;
  if (rest.create(port_, why) != nullptr) return {};  // it goes with the device
  rte_eth_dev_info info = {};
  if (rte_eth_dev_info_get(port_, &info) != 0) return why;
  if (info.reta_size == 0) return info.flow_type_rss_offloads == 0 ? std::string() : why;  // no hash at all
  std::vector<rte_eth_rss_reta_entry64> table((info.reta_size + RTE_ETH_RETA_GROUP_SIZE - 1U) /
                                              RTE_ETH_RETA_GROUP_SIZE);
  for (auto& part : table) part.mask = ~std::uint64_t{0};
  return rte_eth_dev_rss_reta_update(port_, table.data(), info.reta_size) == 0 ? std::string() : why;
}

std::string FlowRules::set(std::uint16_t queue, const QueueFilter& filter) {
  Rule rule(queue);
  rule.match_address(filter.mac);
  // Without a VLAN the address alone is named, for no rule says "untagged": the switch looks at the tag of what arrives in
  // any case. net_tap of 22.11 takes a rule with a VLAN, and asks the kernel for one that matches no frame.
  if (filter.vid != 0 && !is_tap_) rule.match_tag(filter.vid);
  std::string why;
  rules_[queue] = rule.create(port_, why);
  return rules_[queue] != nullptr ? std::string() : why;
}

void FlowRules::clear(std::uint16_t queue) noexcept {
  rte_flow_error error = {};
  if (rules_[queue] != nullptr) static_cast<void>(rte_flow_destroy(port_, rules_[queue], &error));
  rules_[queue] = nullptr;
}

}  // namespace patchbay::dataplane::dpdk
