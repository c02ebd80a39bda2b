#include "tests/performance/config.h"

#include <fmt/format.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "tests/performance/isolation.h"
#include "tests/performance/wake.h"

namespace patchbay::bench {
namespace {

using Json = nlohmann::json;

void check_count(const Config& config, const char* path) {
  const std::size_t count = config.vnics.size();
  if (config.peer) {
    if (count != 1)
      throw std::runtime_error(fmt::format("{}: with a peer elsewhere there is one vnic, not {}", path, count));
    return;
  }
  const std::size_t paired = count - (config.isolation ? std::min(count, isolation_vnics) : 0);
  if (paired == 0 || (!config.mirror && paired % 2 != 0)) {
    throw std::runtime_error(fmt::format("{}: vnics come in pairs, here are {}", path, paired));
  }
}

}  // namespace

Config read_config(const char* path) {
  std::ifstream file(path);
  if (!file) throw std::runtime_error(fmt::format("{}: cannot be read", path));
  const Json json = Json::parse(file);
  Config config;
  const auto mac_of = [&](const Json& text) {
    const auto mac = MacAddr::parse(text.get<std::string>());
    if (!mac) throw std::runtime_error(fmt::format("{}: {} is no MAC address", path, text.dump()));
    return *mac;
  };
  for (const Json& vnic : json.at("vnics")) {
    config.vnics.push_back({.socket = vnic.at("socket"), .mac = mac_of(vnic.at("mac"))});
  }
  if (json.contains("mirror")) config.mirror = mac_of(json.at("mirror"));
  if (json.contains("peer")) config.peer = mac_of(json.at("peer"));
  config.progress = json.value("progress", "");
  config.isolation = json.value("isolation", config.isolation);
  check_count(config, path);
  config.listens = json.value("role", "connect") == "listen";
  config.packed = json.value("layout", "split") == "packed";
  config.attach_limit_s = json.value("attach_limit_s", config.attach_limit_s);
  config.shape.entries = json.value("ring_entries", config.shape.entries);
  config.shape.pairs = json.value("queue_pairs", config.shape.pairs);
  config.shape.transmit_buffers = json.value("transmit_buffers", config.shape.transmit_buffers);
  config.shape.receive_bytes = json.value("receive_bytes", config.shape.receive_bytes);
  config.shape.frame_bytes_max = json.value("frame_bytes_max", config.shape.frame_bytes_max);
  config.shape.huge_pages = json.value("huge_pages", config.shape.huge_pages);
  config.shape.offloads = json.value("offloads", config.shape.offloads);
  if (json.contains("cpu")) stay_on(json.at("cpu"));
  return config;
}

}  // namespace patchbay::bench
