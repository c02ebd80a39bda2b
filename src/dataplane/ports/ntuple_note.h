// A note of what is changed at a NIC for the sake of ntuple rules, in a file, for whoever starts after a crash.
//
// Theory  The NIC keeps rules and RSS table when the process ends, and nothing in them says whose they are. So it is noted what
//         was there before, and each rule before it is set. The file is replaced as a whole. It is about one interface of one
//         boot of the system: about another it says nothing.
// Threads control's.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "dataplane/dataplane.h"

namespace patchbay::dataplane {

// Frames for `filter` go to `queue`; its VLAN counts if `with_vlan`.
struct NtupleRule {
  QueueFilter filter;
  bool with_vlan = false;
  std::uint32_t queue = 0;
  friend bool operator==(const NtupleRule&, const NtupleRule&) = default;
};

struct NtupleNote {
  std::string path;                // empty: nothing is written
  std::string about;               // the boot and the interface
  bool switched_on = false;        // the driver's ntuple filters, by us
  std::vector<std::uint32_t> rss;  // the table before; empty: it was not changed
  std::vector<NtupleRule> rules;
  friend bool operator==(const NtupleNote&, const NtupleNote&) = default;

  // Of the interface `nic`, in the directory `dir`; empty: nowhere.
  [[nodiscard]] static NtupleNote of(const std::string& dir, const std::string& nic);
  // Nothing: it is not whole, or about something else than its name says now.
  [[nodiscard]] static std::optional<NtupleNote> read(const std::string& dir, const std::string& nic);
  // The NICs that have a note in `dir`.
  [[nodiscard]] static std::vector<std::string> nics_in(const std::string& dir);

  [[nodiscard]] bool write() const;  // false: errno says why
  void remove() const noexcept;
};

}  // namespace patchbay::dataplane
