// Switches off what an uplink cannot bear of its NIC's offloads, and puts it right again.
//
// Theory  An offload that was on is written to the store before it is switched off, and forgotten after it was switched on
//         again. So whatever ends the daemon in between, the next run knows what to put right: for a NIC that is still an
//         uplink, when that can bear it; for any other, at once. A NIC that has gone comes back with its driver's defaults.
// Threads control's only.
#pragma once
#include <cstdint>
#include <functional>
#include <string>

#include "control/host/nic_watch.h"
#include "control/store/store.h"

namespace patchbay::reconcile {

enum class OffloadNeed : std::uint8_t {
  none,     // all may be as they were
  gro_off,  // the switch asks for frames as they are on the wire
  all_off,  // AF_XDP
};

class OffloadKeeper {
 public:
  OffloadKeeper(store::Store& store, host::NicWatch& nics) : store_(store), nics_(nics) {}

  // Reads what an earlier run left. Errors: as Store::load_switched_off().
  [[nodiscard]] Result<void> load();
  // Switches off what is on and `need` does not bear, and on what it bears and an earlier need had switched off; what cannot
  // be switched on is logged, and tried again by the next call.
  // Errors: not_found, unavailable (the driver refuses), and what the store says; then give_back() puts right what was done.
  [[nodiscard]] Result<void> keep(const std::string& nic, OffloadNeed need);
  void give_back(const std::string& nic) { give_back(nic, OffloadNeed::none); }
  // give_back() for every NIC that `in_use` does not hold for.
  void give_back_unless(const std::function<bool(const std::string& nic)>& in_use);

 private:
  void give_back(const std::string& nic, OffloadNeed need);

  store::Store& store_;
  host::NicWatch& nics_;
  store::SwitchedOff switched_off_;  // as stored
};

}  // namespace patchbay::reconcile
