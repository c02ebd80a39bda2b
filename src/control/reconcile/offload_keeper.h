// Switches off what AF_XDP cannot bear on a NIC, and puts it right again.
//
// Theory  An offload that was on is written to the store before it is switched off, and forgotten after it was switched on
//         again. So whatever ends the daemon in between, the next run knows what to put right: for a NIC that AF_XDP uses
//         again, when that ends; for any other, at once. A NIC that has gone comes back with its driver's defaults.
// Threads control's only.
#pragma once
#include <functional>
#include <string>

#include "control/host/nic_watch.h"
#include "control/store/store.h"

namespace patchbay::reconcile {

class OffloadKeeper {
 public:
  OffloadKeeper(store::Store& store, host::NicWatch& nics) : store_(store), nics_(nics) {}

  // Reads what an earlier run left. Errors: as Store::load_switched_off().
  [[nodiscard]] Result<void> load();
  // Switches off every one of nic_offloads that is on. Errors: not_found, unavailable (the driver refuses), and what the
  // store says; then give_back() puts right what was done.
  [[nodiscard]] Result<void> take(const std::string& nic);
  // Switches on what take() switched off. What cannot be switched on is logged, and tried again by the next run.
  void give_back(const std::string& nic);
  // give_back() for every NIC that `in_use` does not hold for.
  void give_back_unless(const std::function<bool(const std::string& nic)>& in_use);

 private:
  store::Store& store_;
  host::NicWatch& nics_;
  store::SwitchedOff switched_off_;  // as stored
};

}  // namespace patchbay::reconcile
