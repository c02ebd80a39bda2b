// Receive queues of a kernel NIC that its own driver sorts into: ethtool's ntuple filters.
//
// Theory  Queue 0 stays the default one: the NIC's RSS table is set to it alone, so that what no rule names arrives there.
//         Each other queue can have one rule, which names an address, and the VLAN where the driver takes both; a rule is
//         wider than its filter then, and whoever receives judges each frame. What the driver takes is found out with a rule
//         that is set and deleted again. Rules of somebody else would be for queues that we have given away: where there are
//         any, this is not used.
//         Whatever is changed is put back: by the destructor, or after a crash by what stands in a note (ntuple_note.h), which
//         is written before each change. A rule that is not as we set it, and an RSS table that somebody has set since, stay.
//         So do filters that are on while there are such rules, for drivers drop all of them with the feature. What cannot be
//         put back stays noted, and is tried again whenever the NIC is opened.
// Limits  model::xdp_queues_max queues; the driver's table of rules.
// Threads control's.
// Source  linux/ethtool.h: struct ethtool_rxnfc, struct ethtool_rxfh_indir. In a mask of these a 1 is a bit that counts; VLAN
//         and its mask are in network order (igb, mlx5e and otx2 compare them so).
#pragma once
#include <linux/ethtool.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "dataplane/ports/ntuple_note.h"

namespace patchbay::dataplane {

// As the driver is given it.
[[nodiscard]] ethtool_rx_flow_spec flow_spec_of(const NtupleRule& rule, std::uint32_t location) noexcept;
// Whether what the driver tells of a rule, in any place, is `rule`.
[[nodiscard]] bool is_rule(const ethtool_rx_flow_spec& there, const NtupleRule& rule) noexcept;

class NtupleRules {
 public:
  // A request in ethtool's structures. False, with errno, if the kernel refuses it.
  using Ask = std::function<bool(void* command)>;
  static constexpr std::uint32_t default_queues = 1;

  // Of the interface of that index, whatever its name is. Errno is ENODEV if there is none.
  [[nodiscard]] static Ask ask_interface(unsigned index);
  // Takes the NIC's queues from default_queues on, of `queues` that it has. Errors: unavailable; the message is why the NIC
  // does not sort: a clause about it ("driver veth has no ntuple filters").
  [[nodiscard]] static Result<std::unique_ptr<NtupleRules>> open(Ask ask, std::uint32_t queues, NtupleNote note);
  // What an earlier run left by that note, which goes if all is put back, or if the NIC has gone. Else the errno of what
  // failed, and the note says what is left.
  [[nodiscard]] static int put_back(Ask ask, NtupleNote note);
  ~NtupleRules();
  NtupleRules(const NtupleRules&) = delete;
  NtupleRules& operator=(const NtupleRules&) = delete;

  // That can have a rule at a time.
  [[nodiscard]] std::uint32_t queues() const noexcept { return queues_; }
  [[nodiscard]] std::string reason() const;

  // Frames for the filter go to `queue`, which has no rule. Errors: no_resource, unavailable: then all is as it was.
  [[nodiscard]] Result<void> set(std::uint32_t queue, const QueueFilter& filter);
  // Its frames come by the default queue. A rule that the driver does not delete stays noted.
  void clear(std::uint32_t queue) noexcept;

 private:
  struct Table {
    std::uint32_t size = 0;
    bool any_place = false;  // the driver chooses; else we
    std::vector<std::uint32_t> used;
  };
  struct Inserted {
    int error = 0;         // or the errno
    bool is_noted = true;  // false: it failed because nothing can be noted
    std::uint32_t place = 0;
  };

  NtupleRules(Ask ask, NtupleNote note) : ask_(std::move(ask)), note_(std::move(note)) {}
  [[nodiscard]] std::optional<std::string> take(std::uint32_t queues);
  [[nodiscard]] std::optional<std::string> try_rules(std::uint32_t queue);
  [[nodiscard]] std::optional<std::string> set_default_queue();
  [[nodiscard]] std::optional<std::string> try_rule(const NtupleRule& rule, bool& is_clean);
  [[nodiscard]] std::string unwritable() const;  // the note, by errno
  [[nodiscard]] Inserted insert(const NtupleRule& rule);
  [[nodiscard]] Inserted insert_noted(const NtupleRule& rule);
  [[nodiscard]] bool erase_at(std::uint32_t place) const;
  // 0, or the errno.
  [[nodiscard]] int put_back() noexcept;
  [[nodiscard]] int put_back_rss() const;
  [[nodiscard]] int switch_off() const;
  [[nodiscard]] int erase(const NtupleRule& rule) const;  // 0: none that is equal is left
  int erase_noted(const NtupleRule& rule) noexcept;

  // Nothing: errno says why. E2BIG: there are more than we read.
  [[nodiscard]] std::optional<Table> read_rules() const;
  [[nodiscard]] std::optional<std::vector<std::uint32_t>> places_of(const NtupleRule& rule) const;
  [[nodiscard]] std::optional<bool> filters_on() const;
  [[nodiscard]] bool switch_filters(bool on) const;
  [[nodiscard]] std::optional<std::vector<std::uint32_t>> read_rss() const;
  [[nodiscard]] bool write_rss(const std::vector<std::uint32_t>& table) const;  // an empty one: the driver's own

  Ask ask_;
  NtupleNote note_;
  std::string driver_;
  std::uint32_t queues_ = 0;
  bool with_vlan_ = true;
};

}  // namespace patchbay::dataplane
