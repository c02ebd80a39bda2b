#include "dataplane/ports/ntuple_note.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <net/if.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <fstream>
#include <memory>
#include <sstream>

#include "base/unique_fd.h"

namespace patchbay::dataplane {
namespace {

constexpr std::string_view prefix = "ntuple+";  // no vnic has such a name: their files may be beside ours
constexpr const char* end_word = "end";

std::string path_of(const std::string& dir, const std::string& nic) {
  return dir.empty() ? "" : fmt::format("{}/{}{}", dir, prefix, nic);
}

std::string about(const std::string& nic) {
  std::ifstream file("/proc/sys/kernel/random/boot_id");
  std::string boot;
  file >> boot;
  return fmt::format("{}/{}", boot, if_nametoindex(nic.c_str()));
}

std::string text_of(const NtupleNote& note) {
  std::string text = fmt::format("about {}\nswitched_on {:d}\nrss {}", note.about, note.switched_on, note.rss.size());
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

bool read_all(std::istream& from, NtupleNote& note) {
  std::size_t count = 0;
  if (!read_field(from, "about", note.about) || !read_field(from, "switched_on", note.switched_on) ||
      !read_field(from, "rss", count)) {
    return false;
  }
  for (std::uint32_t queue = 0; count != 0 && from >> queue; --count) note.rss.push_back(queue);
  if (count != 0 || !read_field(from, "rules", count)) return false;
  for (std::string mac; count != 0 && from >> mac; --count) {
    NtupleRule rule;
    const auto parsed = MacAddr::parse(mac);
    if (!parsed || !(from >> rule.filter.vid >> rule.with_vlan >> rule.queue)) return false;
    rule.filter.mac = *parsed;
    note.rules.push_back(rule);
  }
  std::string last;
  return count == 0 && from >> last && last == end_word;
}

}  // namespace

NtupleNote NtupleNote::of(const std::string& dir, const std::string& nic) {
  NtupleNote note;
  note.path = path_of(dir, nic);
  note.about = dataplane::about(nic);
  return note;
}

std::optional<NtupleNote> NtupleNote::read(const std::string& dir, const std::string& nic) {
  NtupleNote note;
  note.path = path_of(dir, nic);
  std::ifstream file(note.path);
  if (!file || !read_all(file, note) || note.about != dataplane::about(nic)) return std::nullopt;
  return note;
}

std::vector<std::string> NtupleNote::nics_in(const std::string& dir) {
  std::vector<std::string> nics;
  const std::unique_ptr<DIR, int (*)(DIR*)> open(dir.empty() ? nullptr : opendir(dir.c_str()), closedir);
  if (!open) return nics;
  while (const dirent* const entry = readdir(open.get())) {
    const std::string_view name = entry->d_name;
    if (name.starts_with(prefix)) nics.emplace_back(name.substr(prefix.size()));
  }
  return nics;
}

bool NtupleNote::write() const {
  if (path.empty()) return true;
  const std::string fresh = path + "+";
  const std::string text = text_of(*this);
  const UniqueFd fd(open(fresh.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!fd) return false;
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
