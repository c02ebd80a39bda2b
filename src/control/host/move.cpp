#include "control/host/move.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <cerrno>

namespace patchbay::host {
namespace {

class Move {
 public:
  Move(const Channel& channel, const std::vector<Item>& items, const Link& from, const Link& to)
      : channel_(channel), items_(items), from_(from), to_(to) {}

  Result<void> run() {
    if (auto ok = add_all(); !ok) {
      take_added_away();
      return ok;
    }
    if (auto ok = remove_all(); !ok) {
      put_removed_back();
      take_added_away();
      return ok;
    }
    return {};
  }

 private:
  static bool is_gone(int error) {
    return error == ENOENT || error == ESRCH || error == EADDRNOTAVAIL || error == ENODEV;
  }

  // 0 or an errno. Notes what is new on the other interface.
  int add(const Item& item) {
    const int error = channel_.request(item.adding(from_, to_));
    if (error == EEXIST) return 0;
    if (error == 0) added_.push_back(&item);
    return error;
  }

  Result<void> add_all() {
    std::vector<const Item*> left;
    for (const Item& item : items_) {
      if (!item.has_gateway()) left.push_back(&item);
    }
    for (const Item& item : items_) {
      if (item.has_gateway()) left.push_back(&item);
    }
    for (;;) {
      std::vector<const Item*> refused;
      int error = 0;
      for (const Item* item : left) {
        const int now = add(*item);
        if (now == 0) continue;
        if (item->kind() != Item::Kind::route) return failed(*item, now);
        refused.push_back(item);
        error = now;
      }
      if (refused.empty()) return {};
      if (refused.size() == left.size()) return failed(*refused.back(), error);
      left = std::move(refused);
    }
  }

  Result<void> remove_all() {
    // Addresses last, and the secondary ones before the primary that would take them along.
    for (auto at = items_.rbegin(); at != items_.rend(); ++at) {
      const Item& item = *at;
      const int error = channel_.request(item.removing(from_, from_));
      if (error != 0 && !is_gone(error)) return failed(item, error);
      removed_.push_back(&item);
    }
    return {};
  }

  void put_removed_back() {
    for (auto at = removed_.rbegin(); at != removed_.rend(); ++at) {
      const Item* item = *at;
      const int error = channel_.request(item->adding(from_, from_));
      if (error != 0 && error != EEXIST) spdlog::error("{}", failed(*item, error).value().message);
    }
  }

  void take_added_away() {
    for (auto at = added_.rbegin(); at != added_.rend(); ++at) {
      const Item* item = *at;
      const int error = channel_.request(item->removing(from_, to_));
      if (error != 0 && !is_gone(error)) spdlog::error("{}", failed(*item, error).value().message);
    }
  }

  [[nodiscard]] tl::unexpected<Error> failed(const Item& item, int error) const {
    return fail(system_error(fmt::format("moving {} from {} to {}", item.text(), from_.name, to_.name), error));
  }

  const Channel& channel_;
  const std::vector<Item>& items_;
  const Link& from_;
  const Link& to_;
  std::vector<const Item*> added_;
  std::vector<const Item*> removed_;
};

}  // namespace

Result<void> move_items(const Channel& channel, const std::vector<Item>& items, const Link& from, const Link& to) {
  return Move(channel, items, from, to).run();
}

}  // namespace patchbay::host
