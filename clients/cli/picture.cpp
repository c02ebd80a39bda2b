#include "picture.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "format.h"

namespace patchbay::cli {
namespace {

struct Lines {
  const char* branch;     // to a vnic that others follow
  const char* last;       // to the last vnic
  const char* wire;       // from an uplink down to its switch
  const char* first_nic;  // of a team, which stands below
  const char* nic;
};
constexpr Lines utf8_lines = {"├─ ", "└─ ", "│", "┌─ ", "├─ "};
constexpr Lines ascii_lines = {"|- ", "`- ", "|", ",- ", "|- "};

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

// "up1  team, lacp, up", with a line for each NIC before it.
std::string team_text(const Json& host, const std::string& name, const Lines& lines) {
  for (const Json& team : member_of(host, "teams")) {
    if (text_of(team, "name") != name) continue;
    std::string text;
    std::size_t width = 0;
    const Json& members = member_of(team, "members");
    for (const Json& member : members) width = std::max(width, text_of(member, "nic").size());
    for (const Json& member : members) {
      const bool is_first = text.empty();
      text += fmt::format("{}{:<{}}  {}\n", is_first ? lines.first_nic : lines.nic, text_of(member, "nic"), width,
                          state_text(member));
    }
    return text + fmt::format("{}  team, {}, {}\n", name, text_of(team, "mode"), text_of(team, "state"));
  }
  return name + "  team\n";
}

std::string switch_text(const Json& host, const Json& drawn, const Lines& lines) {
  std::string text;
  const Json& uplink = member_of(drawn, "uplink");
  if (uplink.is_object()) {
    const auto team = text_of(uplink, "team");
    text += team == "-" ? fmt::format("{}  {}\n", text_of(uplink, "nic"), state_text(uplink))
                        : team_text(host, team, lines);
    text += fmt::format("{}\n", lines.wire);
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
    if (text_of(nic, "switch") == "-" && text_of(nic, "team") == "-")
      names += (names.empty() ? "" : ", ") + printable(text_of(nic, "name"));
  }
  std::string text = names.empty() ? "" : "NICs without a switch: " + names + "\n";
  std::string teams;
  for (const Json& team : member_of(host, "teams")) {
    if (text_of(team, "switch") == "-") teams += (teams.empty() ? "" : ", ") + text_of(team, "name");
  }
  return text + (teams.empty() ? "" : "Teams without a switch: " + teams + "\n");
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
