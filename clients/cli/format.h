// Text for people: aligned tables, lists of fields, and the small phrases that every noun uses.
#pragma once
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "client.h"

namespace patchbay::cli {

struct Column {
  std::string title;
  bool right = false;  // numbers stand right
};

// Rows under titles, as wide as their widest cell; nothing but a sentence if there is no row.
class Table {
 public:
  explicit Table(std::vector<Column> columns) : columns_(std::move(columns)) {}
  // As many cells as there are columns.
  void add(std::vector<std::string> cells);
  // `if_empty`: what to say when there is no row ("no vnics").
  [[nodiscard]] std::string text(std::string_view if_empty) const;

 private:
  std::vector<Column> columns_;
  std::vector<std::vector<std::string>> rows_;
};

// "name   web\n…": the left column as wide as its widest entry.
[[nodiscard]] std::string field_list(const std::vector<std::pair<std::string, std::string>>& fields);

// Control characters, which the name of a kernel interface may hold, become '?'.
[[nodiscard]] std::string printable(std::string_view text);
// A null where there is no such member, so that a server of another version prints as "-" and breaks nothing.
[[nodiscard]] const Json& member_of(const Json& object, const char* member);
// A member as text: strings as they are, numbers in decimal, "-" for null and what is not there.
[[nodiscard]] std::string text_of(const Json& object, const char* member);
// A whole number of zero or more; 0 if there is none.
[[nodiscard]] std::uint64_t number_of(const Json& object, const char* member);
// "14.2 ms"
[[nodiscard]] std::string duration_text(std::uint64_t us);
[[nodiscard]] std::string yes_or_no(const Json& object, const char* member);
// A member that lists texts: "web, db"; "none" if it is empty.
[[nodiscard]] std::string list_text(const Json& object, const char* member);
// What a switch or a policy says of the buffers of vnics: "4M, no frame longer than 500 ms"; "default" if it says nothing.
[[nodiscard]] std::string buffer_setting_text(const Json& object);
// "untagged", "101", "101 (forced)"
[[nodiscard]] std::string vlan_text(const Json& vnic);
// "untagged", "VLAN 101", "VLAN 101 (forced)"
[[nodiscard]] std::string vlan_phrase(const Json& vnic);
// "connected", "negotiating: no memory shared yet"; the reason alone where it says the state too, as "waiting for a
// guest on /run/…" does
[[nodiscard]] std::string state_text(const Json& object);
// "12 frames, 3456 bytes"
[[nodiscard]] std::string traffic_text(const Json& counters, const char* direction);
// "none", or the reasons that are not zero: "no_destination 4, source_mac 2"
[[nodiscard]] std::string drops_text(const Json& counters);
// The sum of all drops.
[[nodiscard]] std::string drops_total(const Json& counters);

}  // namespace patchbay::cli
