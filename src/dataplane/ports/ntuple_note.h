// A note of what is changed at a NIC for the sake of ntuple rules, in a file, for whoever starts after a crash.
//
// Theory  The NIC keeps rules and RSS table when the process ends, and nothing in them says whose they are. So it is noted what
//         was there before, and each rule before it is set. The file is replaced as a whole. It is about one interface of one
//         boot of the system: about another it says nothing. It goes when all is put back; what cannot be put back stays noted.
//         The interface is known by its index, for another one may get its name.
// Limits  model::xdp_queues_max rules, rss_max entries of the RSS table: a note with more is not read.
// Threads control's.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
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
  static constexpr std::size_t rss_max = 16384;

  std::string path;  // empty: nothing is written
  std::string boot;
  unsigned if_index = 0;
  bool switched_on = false;        // the driver's ntuple filters, by us
  std::vector<std::uint32_t> rss;  // the table before; empty: it was not changed
  std::vector<NtupleRule> rules;
  friend bool operator==(const NtupleNote&, const NtupleNote&) = default;

  // Of that interface, in the directory `dir`; empty: nowhere.
  [[nodiscard]] static NtupleNote of(const std::string& dir, unsigned if_index);
  // Errors: not_found; invalid (not whole, above a limit, of another boot: it is good for nothing); unavailable (the file
  // cannot be read).
  [[nodiscard]] static Result<NtupleNote> read(const std::string& path);
  // The paths of the notes in `dir`.
  [[nodiscard]] static std::vector<std::string> paths_in(const std::string& dir);

  [[nodiscard]] bool nic_is_gone() const noexcept;  // no interface has the index

  [[nodiscard]] bool write() const;  // false: errno says why
  void remove() const noexcept;
};

}  // namespace patchbay::dataplane
