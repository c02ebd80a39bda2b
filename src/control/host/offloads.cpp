#include "control/host/offloads.h"

#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/utsname.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <cstring>
#include <optional>
#include <string_view>
#include <vector>

#include "base/ethtool.h"

namespace patchbay::host {
namespace {

using model::NicOffload;
using model::OffloadState;

constexpr std::size_t words_max = 16;  // of feature bits; Linux 6.1 has 2

// struct ethtool_gfeatures, _sfeatures and _sset_info end in arrays without a length: here they have one.
struct GetFeatures {
  std::uint32_t cmd = ETHTOOL_GFEATURES;
  std::uint32_t size = words_max;
  std::array<ethtool_get_features_block, words_max> words{};
};
struct SetFeatures {
  std::uint32_t cmd = ETHTOOL_SFEATURES;
  std::uint32_t size = 0;
  std::array<ethtool_set_features_block, words_max> words{};
};

struct CountStrings {
  std::uint32_t cmd = ETHTOOL_GSSET_INFO;
  std::uint32_t reserved = 0;
  std::uint64_t sets = std::uint64_t{1} << ETH_SS_FEATURES;  // asked for; then those that there are
  std::uint32_t count = 0;
};
static_assert(offsetof(CountStrings, count) == sizeof(ethtool_sset_info));

// The kernel's own names, which `ethtool -k` shows for newer features only.
const char* kernel_name(NicOffload offload) noexcept {
  switch (offload) {
    case NicOffload::rx_vlan:
      return "rx-vlan-hw-parse";
    case NicOffload::rx_vlan_stag:
      return "rx-vlan-stag-hw-parse";
    case NicOffload::gro:
      return "rx-gro";
  }
  return "";
}

// The bit of each offload, in the order of nic_offloads; nothing if the kernel has no such feature.
std::array<std::optional<std::uint32_t>, model::nic_offloads.size()> feature_bits(const UniqueFd& socket,
                                                                                  const std::string& name) {
  std::array<std::optional<std::uint32_t>, model::nic_offloads.size()> bits;
  CountStrings strings;
  if (!ask_ethtool(socket, name, &strings) || strings.sets == 0) return bits;
  const std::size_t count = std::min<std::size_t>(strings.count, words_max * 32);
  std::vector<std::uint8_t> answer(sizeof(ethtool_gstrings) + count * ETH_GSTRING_LEN);
  ethtool_gstrings request{};
  request.cmd = ETHTOOL_GSTRINGS;
  request.string_set = ETH_SS_FEATURES;
  request.len = static_cast<std::uint32_t>(count);
  std::memcpy(answer.data(), &request, sizeof request);
  if (!ask_ethtool(socket, name, answer.data())) return bits;
  for (std::size_t bit = 0; bit < count; ++bit) {
    const auto* text = reinterpret_cast<const char*>(answer.data() + sizeof request + bit * ETH_GSTRING_LEN);
    const std::string_view feature(text, ::strnlen(text, ETH_GSTRING_LEN));
    for (std::size_t i = 0; i < bits.size(); ++i) {
      if (feature == kernel_name(model::nic_offloads[i])) bits[i] = static_cast<std::uint32_t>(bit);
    }
  }
  return bits;
}

OffloadState state_of(const GetFeatures& features, std::uint32_t bit) noexcept {
  const auto& word = features.words[bit / 32];
  const std::uint32_t mask = 1U << (bit % 32);
  const bool fixed = (word.available & mask) == 0 || (word.never_changed & mask) != 0;
  if ((word.active & mask) != 0) return fixed ? OffloadState::on_fixed : OffloadState::on;
  return fixed ? OffloadState::off_fixed : OffloadState::off;
}

unsigned ask_queues(const UniqueFd& socket, const std::string& name) {
  ethtool_channels channels{};
  channels.cmd = ETHTOOL_GCHANNELS;
  if (ask_ethtool(socket, name, &channels)) return channels.combined_count + channels.rx_count;
  ethtool_rxnfc rings{};
  rings.cmd = ETHTOOL_GRXRINGS;
  if (ask_ethtool(socket, name, &rings)) return static_cast<unsigned>(rings.data);
  return 1;  // a driver that knows neither has one
}

bool kernel_has_multi_buffer() {
  utsname system{};
  unsigned major = 0;
  unsigned minor = 0;
  if (::uname(&system) != 0 || std::sscanf(system.release, "%u.%u", &major, &minor) != 2) return false;
  return major > 6 || (major == 6 && minor >= 6);
}

}  // namespace

void ask_offloads(const UniqueFd& socket, model::Nic& nic) {
  nic.queues = ask_queues(socket, nic.name);
  nic.xdp_multi_buffer = kernel_has_multi_buffer();
  GetFeatures features;
  if (!ask_ethtool(socket, nic.name, &features)) return;
  const auto bits = feature_bits(socket, nic.name);
  for (std::size_t i = 0; i < bits.size(); ++i) {
    nic.offloads[i] = bits[i] ? state_of(features, *bits[i]) : OffloadState::off_fixed;
  }
}

Result<void> set_offload(const UniqueFd& socket, const std::string& name, NicOffload offload, bool on) {
  const auto failed = [&](const std::string& why) {
    return fail(ErrorCode::unavailable, "nic " + name + ": " + to_string(offload) + " cannot be switched " +
                                            (on ? "on" : "off") + " (" + why + ")");
  };
  const auto bit = feature_bits(socket, name)[static_cast<std::size_t>(offload)];
  GetFeatures features;
  if (!bit || !ask_ethtool(socket, name, &features)) return failed("the kernel does not know it");
  SetFeatures set;
  set.size = features.size;  // the kernel wants exactly as many words as it has
  const std::uint32_t mask = 1U << (*bit % 32);
  set.words[*bit / 32].valid = mask;
  if (on) set.words[*bit / 32].requested = mask;
  if (!ask_ethtool(socket, name, &set)) return failed(std::strerror(errno));
  if (!ask_ethtool(socket, name, &features)) return failed("it cannot be read back");
  const OffloadState state = state_of(features, *bit);
  const bool is_on = state == OffloadState::on || state == OffloadState::on_fixed;
  return is_on == on ? Result<void>{} : failed("the driver keeps it as it is");
}

}  // namespace patchbay::host
