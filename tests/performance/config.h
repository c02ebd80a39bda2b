// What the load generator is told in its file: which sockets, and what its vnics are like.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "base/mac_addr.h"
#include "tests/performance/vnic.h"

namespace patchbay::bench {

struct Config {
  struct End {
    std::string socket;
    MacAddr mac;
  };
  std::vector<End> vnics;
  bool listens = false;  // else it connects
  bool packed = false;
  std::optional<MacAddr> mirror;  // whom all send to, and what they send comes back from there
  std::optional<MacAddr> peer;    // of the only vnic, in another process: one_way.h
  std::string progress;           // with a peer: the file in which both keep it; empty: there is none
  bool isolation = false;         // the last four vnics are those of isolation.h
  int attach_limit_s = 30;
  VnicShape shape;
};

// Also moves the calling thread to the "cpu" of the file. Errors: std::exception, naming what is wrong.
[[nodiscard]] Config read_config(const char* path);

}  // namespace patchbay::bench
