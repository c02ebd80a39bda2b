// A set of VLAN ids, and the list that people write for it: "10,20-29".
#pragma once
#include <bitset>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"
#include "base/vlan_id.h"

namespace patchbay {

class VlanSet {
 public:
  // Ids and ranges "low-high" of 1 to 4094, separated by commas, in any order; they may overlap. Blanks around a comma do
  // no harm. Errors: invalid, with a sentence that quotes the part that is wrong.
  [[nodiscard]] static Result<VlanSet> parse(std::string_view text);

  // The shortest list, in rising order; empty for the empty set. What parse() takes.
  [[nodiscard]] std::string to_string() const;

  void insert(VlanId vid) noexcept { bits_.set(vid.raw()); }
  void erase(VlanId vid) noexcept { bits_.reset(vid.raw()); }
  // `vid` as it stands in a tag: any 12 bits.
  [[nodiscard]] bool contains(std::uint16_t vid) const noexcept { return bits_.test(vid & 0xFFFU); }
  [[nodiscard]] std::size_t size() const noexcept { return bits_.count(); }
  [[nodiscard]] bool empty() const noexcept { return bits_.none(); }

  [[nodiscard]] VlanSet without(const VlanSet& other) const noexcept { return VlanSet(bits_ & ~other.bits_); }
  [[nodiscard]] VlanSet common_with(const VlanSet& other) const noexcept { return VlanSet(bits_ & other.bits_); }

  VlanSet() = default;
  friend bool operator==(const VlanSet&, const VlanSet&) = default;

 private:
  using Bits = std::bitset<4096>;
  explicit VlanSet(const Bits& bits) noexcept : bits_(bits) {}
  Bits bits_;
};

}  // namespace patchbay
