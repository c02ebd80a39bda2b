// A HostService over fakes of everything below it, for its tests.
#pragma once
#include <gtest/gtest.h>

#include <initializer_list>
#include <memory>
#include <string>
#include <vector>

#include "control/reconcile/host_service.h"
#include "tests/support/fake_dataplane.h"
#include "tests/support/fake_host.h"
#include "tests/support/temp_dir.h"

namespace patchbay::reconcile {

using Lines = std::vector<std::string>;

class HostServiceTest : public testing::Test {
 protected:
  HostServiceTest() { nics.put("eth1").mac = MacAddr::from_uint64(0x0200000000e1); }

  void start(std::optional<std::array<std::uint8_t, 4>> host_address = {{10, 1, 0xa, 0xb}}) {
    auto made = HostService::create(loop, dataplane, store, nics, sharing, endpoints.factory(),
                                    {run_path, std::nullopt, host_address, std::chrono::milliseconds(1)});
    ASSERT_TRUE(made) << made.error().message;
    service = std::move(*made);
  }
  void stop() {
    service.reset();
    loop.restart();
  }
  // Runs handlers that are ready, for at least `wait`.
  void turn(std::chrono::milliseconds wait = std::chrono::milliseconds(0)) {
    loop.restart();
    if (wait.count() > 0) loop.run_for(wait);
    loop.poll();
  }

  Result<void> create_switch(const std::string& name, model::SwitchType type, const std::string& uplink = "") {
    return service->create_switch({name, type, uplink, std::nullopt, 1500});
  }
  Result<void> create_vnic(const std::string& name, const std::string& on,
                           model::VnicKind kind = model::VnicKind::guest) {
    return service->create_vnic({name, on, kind, std::nullopt, model::Untagged{}, ""});
  }
  // sw1 on eth1 with the guest vm1 and the host vnic mgmt.
  void fill() {
    ASSERT_TRUE(create_switch("sw1", model::SwitchType::external, "eth1"));
    ASSERT_TRUE(create_vnic("vm1", "sw1"));
    ASSERT_TRUE(create_vnic("mgmt", "sw1", model::VnicKind::host));
    dataplane.calls.clear();
    endpoints.calls.clear();
    store.saves = 0;
  }
  std::string socket_of(const std::string& vnic) { return run_path + "/vhost/" + vnic + ".sock"; }

  boost::asio::io_context loop;
  test::TempDir run_dir;
  std::string run_path = run_dir.path();
  test::FakeDataplane dataplane;
  test::FakeEndpoints endpoints;
  test::FakeNicWatch nics;
  test::FakeSharing sharing;
  test::MemoryStore store;
  std::unique_ptr<HostService> service;
};

inline void expect_error(const Result<void>& result, ErrorCode code, std::initializer_list<std::string> parts) {
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, code) << result.error().message;
  for (const auto& part : parts) {
    EXPECT_NE(result.error().message.find(part), std::string::npos) << part << " in: " << result.error().message;
  }
}

}  // namespace patchbay::reconcile
