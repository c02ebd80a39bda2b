#include "picture.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "format.h"

namespace patchbay::cli {
namespace {

struct Lines {
  const char* branch;  // to a vnic that others follow
  const char* last;    // to the last vnic
  const char* wire;    // from an uplink down to its switch
};
constexpr Lines utf8_lines = {"├─ ", "└─ ", "│"};
constexpr Lines ascii_lines = {"|- ", "`- ", "|"};

struct Cells {
  std::string name;
  std::string mac;
  std::string vlan;
  std::string state;
};

std::vector<Cells> vnics_of(const Json& host, const std::string& switch_name) {
  std::vector<Cells> found;
  for (const Json& vnic : member_of(host, "vnics")) {
    if (text_of(vnic, "switch") != switch_name) continue;
    const std::string name = text_of(vnic, "name") + (text_of(vnic, "kind") == "host" ? " (host)" : "");
    found.push_back({name, text_of(vnic, "mac"), vlan_phrase(vnic), state_text(vnic)});
  }
  return found;
}

std::string switch_text(const Json& host, const Json& drawn, const Lines& lines) {
  std::string text;
  const Json& uplink = member_of(drawn, "uplink");
  if (uplink.is_object()) {
    text += fmt::format("{}  {}\n{}\n", text_of(uplink, "nic"), state_text(uplink), lines.wire);
  }
  const auto name = text_of(drawn, "name");
  const auto forced = text_of(drawn, "force_vlan");
  text += fmt::format("[{}]  {} switch, MTU {}{}\n", name, text_of(drawn, "type"), text_of(drawn, "mtu"),
                      forced == "-" ? "" : ", every vnic in VLAN " + forced);
  const auto vnics = vnics_of(host, name);
  if (vnics.empty()) return text + lines.last + "no vnics\n";
  std::size_t name_width = 0;
  std::size_t vlan_width = 0;
  for (const auto& vnic : vnics) {
    name_width = std::max(name_width, vnic.name.size());
    vlan_width = std::max(vlan_width, vnic.vlan.size());
  }
  for (const auto& vnic : vnics) {
    text += fmt::format("{}{:<{}}  {}  {:<{}}  {}\n", &vnic == &vnics.back() ? lines.last : lines.branch, vnic.name,
                        name_width, vnic.mac, vnic.vlan, vlan_width, vnic.state);
  }
  return text;
}

std::string free_nics(const Json& host) {
  std::string names;
  for (const Json& nic : member_of(host, "nics")) {
    if (text_of(nic, "switch") == "-") names += (names.empty() ? "" : ", ") + printable(text_of(nic, "name"));
  }
  return names.empty() ? "" : "NICs without a switch: " + names + "\n";
}

}  // namespace

std::string picture(const Json& host, bool utf8) {
  std::string text;
  for (const Json& drawn : member_of(host, "switches")) {
    text += switch_text(host, drawn, utf8 ? utf8_lines : ascii_lines) + "\n";
  }
  if (text.empty()) text = "No switch yet. Make one: patchbay switch create lan --external NIC\n\n";
  return text + free_nics(host);
}

}  // namespace patchbay::cli
