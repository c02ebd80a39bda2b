#include "dataplane/ports/ntuple_note.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <net/if.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <memory>
#include <string_view>
#include <system_error>

#include "base/unique_fd.h"
#include "model/uplink_driver.h"

namespace patchbay::dataplane {
namespace {

// No vnic has such names: their files may be beside ours. HostService deletes what begins otherwise and is no vnic's.
constexpr std::string_view prefix = "ntuple+";
constexpr std::string_view fresh_prefix = "new+";  // while a file is written
constexpr const char* end_word = "end";
constexpr std::uint16_t vid_max = 4094;

std::string this_boot() {
  std::ifstream file("/proc/sys/kernel/random/boot_id");
  std::string boot;
  file >> boot;
  return boot;
}

std::string fresh_path_of(const std::string& path) {
  const std::size_t name = path.rfind('/') + 1;
  return fmt::format("{}{}{}", path.substr(0, name), fresh_prefix, path.substr(name));
}

std::string text_of(const NtupleNote& note) {
  std::string text =
      fmt::format("about {}/{}\nswitched_on {:d}\nrss {}", note.boot, note.if_index, note.switched_on, note.rss.size());
  for (const std::uint32_t queue : note.rss) text += fmt::format(" {}", queue);
  text += fmt::format("\nrules {}\n", note.rules.size());
  for (const NtupleRule& rule : note.rules) {
    text += fmt::format("{} {} {:d} {}\n", rule.filter.mac.to_string(), rule.filter.vid, rule.with_vlan, rule.queue);
  }
  return text + end_word + "\n";
}

// What follows `word`.
template <typename Value>
bool read_field(std::istream& from, const char* word, Value& value) {
  std::string found;
  return static_cast<bool>(from >> found >> value) && found == word;
}

bool parse_about(const std::string& about, NtupleNote& note) {
  const std::size_t slash = about.find('/');
  if (slash == std::string::npos) return false;
  note.boot = about.substr(0, slash);
  const char* const end = about.data() + about.size();
  const auto [stopped, error] = std::from_chars(about.data() + slash + 1, end, note.if_index);
  return error == std::errc() && stopped == end && note.if_index != 0;
}

bool read_rule(std::istream& from, NtupleRule& rule) {
  std::string mac;
  if (!(from >> mac >> rule.filter.vid >> rule.with_vlan >> rule.queue)) return false;
  const auto parsed = MacAddr::parse(mac);
  if (!parsed || rule.filter.vid > vid_max || rule.queue >= model::xdp_queues_max) return false;
  rule.filter.mac = *parsed;
  return true;
}

bool read_all(std::istream& from, NtupleNote& note) {
  std::string about;
  std::size_t count = 0;
  if (!read_field(from, "about", about) || !parse_about(about, note) ||
      !read_field(from, "switched_on", note.switched_on) || !read_field(from, "rss", count) ||
      count > NtupleNote::rss_max) {
    return false;
  }
  for (std::uint32_t queue = 0; count != 0 && from >> queue; --count) note.rss.push_back(queue);
  if (count != 0 || !read_field(from, "rules", count) || count > model::xdp_queues_max) return false;
  for (; count != 0; --count) {
    if (!read_rule(from, note.rules.emplace_back())) return false;
  }
  std::string last;
  return from >> last && last == end_word;
}

}  // namespace

NtupleNote NtupleNote::of(const std::string& dir, unsigned if_index) {
  NtupleNote note;
  if (!dir.empty()) note.path = fmt::format("{}/{}{}", dir, prefix, if_index);
  note.boot = this_boot();
  note.if_index = if_index;
  return note;
}

Result<NtupleNote> NtupleNote::read(const std::string& path) {
  if (path.empty()) return fail(ErrorCode::not_found, "nothing is noted");
  NtupleNote note;
  note.path = path;
  errno = 0;
  std::ifstream file(path);
  if (!file) {
    const int error = errno == 0 ? EIO : errno;
    return fail(error == ENOENT ? ErrorCode::not_found : ErrorCode::unavailable,
                fmt::format("{} cannot be read: {}", path, std::strerror(error)));
  }
  if (!read_all(file, note)) return fail(ErrorCode::invalid, path + " is not a whole note");
  if (note.boot != this_boot()) return fail(ErrorCode::invalid, path + " is of an earlier boot");
  return note;
}

std::vector<std::string> NtupleNote::paths_in(const std::string& dir) {
  std::vector<std::string> paths;
  const std::unique_ptr<DIR, int (*)(DIR*)> open(dir.empty() ? nullptr : opendir(dir.c_str()), closedir);
  if (!open) return paths;
  while (const dirent* const entry = readdir(open.get())) {
    const std::string_view name = entry->d_name;
    if (name.starts_with(prefix)) paths.push_back(fmt::format("{}/{}", dir, name));
  }
  return paths;
}

bool NtupleNote::nic_is_gone() const noexcept {
  std::array<char, IF_NAMESIZE> name{};
  return if_indextoname(if_index, name.data()) == nullptr && errno == ENXIO;
}

bool NtupleNote::write() const {
  if (path.empty()) return true;
  const std::string fresh = fresh_path_of(path);
  const std::string text = text_of(*this);
  const UniqueFd fd(open(fresh.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!fd) return false;
  errno = 0;  // a write that is cut short leaves it as it is
  if (::write(fd.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size()) &&
      std::rename(fresh.c_str(), path.c_str()) == 0) {
    return true;
  }
  const int error = errno == 0 ? ENOSPC : errno;
  unlink(fresh.c_str());
  errno = error;
  return false;
}

void NtupleNote::remove() const noexcept {
  if (!path.empty()) unlink(path.c_str());
}

}  // namespace patchbay::dataplane
