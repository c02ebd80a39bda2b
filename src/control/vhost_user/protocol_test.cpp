#include "control/vhost_user/protocol.h"

#include <gtest/gtest.h>

#include <random>

#include "tests/support/fake_front_end.h"
#include "tests/support/recording_dataplane.h"

namespace patchbay::vhost_user {
namespace {

using test::memory_table;
using test::u64;
using test::vring_address;
using test::vring_state;
using Calls = std::vector<std::string>;

constexpr std::uint64_t device_features = std::uint64_t{1} << 32 | std::uint64_t{1} << 15;  // VERSION_1, MRG_RXBUF
constexpr std::uint64_t no_descriptor = 0x100;
constexpr PortId port{7};

std::vector<Descriptor> events(std::size_t count) {
  std::vector<Descriptor> descriptors;
  for (std::size_t i = 0; i < count; ++i) descriptors.push_back({test::new_eventfd(), DescriptorKind::event});
  return descriptors;
}
std::vector<Descriptor> memories(std::size_t count) {
  std::vector<Descriptor> descriptors;
  for (std::size_t i = 0; i < count; ++i) descriptors.push_back({test::new_memfd(), DescriptorKind::memory});
  return descriptors;
}

class ProtocolTest : public testing::Test {
 protected:
  Outcome send(std::uint32_t request, test::Bytes payload, std::vector<Descriptor> descriptors = {},
               bool reply_wanted = false) {
    return protocol->handle(Message{request, reply_wanted, std::move(payload), std::move(descriptors)});
  }
  Outcome send(Request request, test::Bytes payload = {}, std::vector<Descriptor> descriptors = {},
               bool reply_wanted = false) {
    return send(static_cast<std::uint32_t>(request), std::move(payload), std::move(descriptors), reply_wanted);
  }
  // Sends something that must work and has no answer.
  void tell(Request request, test::Bytes payload = {}, std::vector<Descriptor> descriptors = {}) {
    const Outcome outcome = send(request, std::move(payload), std::move(descriptors));
    ASSERT_FALSE(outcome.failure) << outcome.failure->message;
    EXPECT_TRUE(outcome.reply.empty());
  }
  void set_up_ring(std::uint32_t index, std::uint32_t base = 0) {
    tell(Request::set_vring_num, vring_state(index, 256));
    tell(Request::set_vring_base, vring_state(index, base));
    tell(Request::set_vring_addr, vring_address(index, 0x1000 + index, 0x2000 + index, 0x3000 + index));
    tell(Request::set_vring_kick, u64(index), events(1));
    tell(Request::set_vring_call, u64(index), events(1));
  }
  // What QEMU sends until the guest's driver runs, in its order.
  void negotiate(std::uint64_t features = device_features | feature_protocol_features) {
    tell(Request::set_protocol_features, u64(protocol_features_offered));
    tell(Request::set_owner);
    tell(Request::set_features, u64(features));
    tell(Request::set_mem_table, memory_table(2), memories(2));
  }
  void link() {
    negotiate();
    set_up_ring(0);
    set_up_ring(1);
    tell(Request::set_vring_enable, vring_state(0, 1));
    tell(Request::set_vring_enable, vring_state(1, 1));
    ASSERT_TRUE(protocol->is_linked());
    dataplane.calls.clear();
  }
  const dataplane::GuestLink& linked() { return dataplane.links.at(raw(port)); }

  // A new connection of the same vnic.
  void connect_anew() { protocol = std::make_unique<Protocol>(dataplane, port, device_features, 1, announcements); }

  test::RecordingDataplane dataplane;
  TokenBucket announcements{announcements_per_second, announcements_burst, TokenBucket::Clock::now()};
  std::unique_ptr<Protocol> protocol = std::make_unique<Protocol>(dataplane, port, device_features, 1, announcements);
};

test::Bytes reply_u64(Request request, std::uint64_t value) {
  return test::message_bytes(static_cast<std::uint32_t>(request), u64(value), test::flag_version_1 | test::flag_reply);
}

TEST_F(ProtocolTest, offers_the_ports_features_and_protocol_features) {
  EXPECT_EQ(send(Request::get_features).reply,
            reply_u64(Request::get_features, device_features | feature_protocol_features | feature_net_mtu));
  EXPECT_EQ(send(Request::get_protocol_features).reply, reply_u64(Request::get_protocol_features, 0b11101));
  EXPECT_EQ(send(Request::get_queue_num).reply, reply_u64(Request::get_queue_num, 128));
}

TEST_F(ProtocolTest, links_both_rings_after_the_handshake_of_qemu) {
  EXPECT_EQ(protocol->missing(), "no memory shared yet");
  negotiate();
  EXPECT_EQ(protocol->missing(), "guest driver not ready yet");
  set_up_ring(0, 5);
  set_up_ring(1, 65535);
  EXPECT_EQ(dataplane.calls, (Calls{"map 2"})) << "rings are not enabled yet";
  dataplane.positions = {6, 0};
  tell(Request::set_vring_enable, vring_state(0, 1));
  tell(Request::set_vring_enable, vring_state(1, 1));
  EXPECT_EQ(dataplane.calls, (Calls{"map 2", "connect 0", "relink 01"}));
  EXPECT_EQ(protocol->missing(), "");
  EXPECT_EQ(linked().features, device_features) << "without the bit that only the protocol knows";
  EXPECT_EQ(linked().rings[0].size, 256);
  EXPECT_EQ(linked().rings[0].desc_address, 0x1000U);
  EXPECT_EQ(linked().rings[0].used_address, 0x2000U);
  EXPECT_EQ(linked().rings[0].avail_address, 0x3000U);
  EXPECT_EQ(linked().rings[1].position, 65535) << "the front-end's position, for this ring did not run";
  EXPECT_EQ(linked().rings[1].desc_address, 0x1001U);
  EXPECT_GE(linked().rings[1].call_fd, 0);
}

TEST_F(ProtocolTest, rings_run_without_being_enabled_when_protocol_features_were_not_acknowledged) {
  negotiate(device_features);
  set_up_ring(0);
  EXPECT_TRUE(protocol->is_linked());
  tell(Request::set_vring_enable, vring_state(0, 0));
  EXPECT_FALSE(protocol->is_linked());
}

TEST_F(ProtocolTest, features_after_the_rings_link_as_well) {
  tell(Request::set_mem_table, memory_table(1), memories(1));
  set_up_ring(0);
  EXPECT_FALSE(protocol->is_linked());
  tell(Request::set_features, u64(device_features));
  EXPECT_TRUE(protocol->is_linked());
}

TEST_F(ProtocolTest, every_change_of_a_running_link_makes_a_new_one_and_keeps_the_positions) {
  link();
  const struct {
    Request request;
    test::Bytes payload;
    std::size_t event_count;
  } changes[] = {
      {Request::set_vring_call, u64(0), 1},
      {Request::set_vring_call, u64(no_descriptor), 0},
      {Request::set_vring_kick, u64(1), 1},
      {Request::set_vring_num, vring_state(0, 512), 0},
      {Request::set_vring_addr, vring_address(1, 0x10, 0x20, 0x30), 0},
      {Request::set_features, u64(device_features | feature_protocol_features | feature_net_mtu), 0},
  };
  std::uint16_t position = 100;
  for (const auto& change : changes) {
    SCOPED_TRACE(request_name(static_cast<std::uint32_t>(change.request)));
    dataplane.calls.clear();
    dataplane.positions = {++position, static_cast<std::uint16_t>(2 * position)};
    tell(change.request, change.payload, events(change.event_count));
    EXPECT_EQ(dataplane.calls, (Calls{"relink 01"}));
  }
  EXPECT_EQ(linked().rings[0].call_fd, -1);
  EXPECT_EQ(linked().rings[0].size, 512);
  EXPECT_EQ(linked().rings[1].used_address, 0x20U);
  EXPECT_EQ(send(Request::get_vring_base, vring_state(1, 0)).reply,
            test::message_bytes(11, vring_state(1, 2U * position), test::flag_version_1 | test::flag_reply));
}

TEST_F(ProtocolTest, what_changes_nothing_does_not_pause_a_running_link) {
  link();
  tell(Request::set_vring_enable, vring_state(0, 1));
  tell(Request::set_features, u64(device_features | feature_protocol_features));
  tell(Request::set_vring_err, u64(0), events(1));
  tell(Request::set_owner);
  tell(Request::net_set_mtu, u64(1500));
  send(Request::get_features);
  EXPECT_EQ(dataplane.calls, Calls{});
}

TEST_F(ProtocolTest, new_memory_is_mapped_while_the_old_one_still_works) {
  link();
  dataplane.positions = {9, 8};
  tell(Request::set_mem_table, memory_table(1), memories(1));
  EXPECT_EQ(dataplane.calls, (Calls{"map 1", "relink 01"}));
  EXPECT_EQ(dataplane.memories_alive(), 2) << "the protocol's and the link's; the old one is gone";
}

TEST_F(ProtocolTest, get_vring_base_answers_with_the_data_planes_position_and_stops_that_ring_only) {
  link();
  dataplane.positions = {41, 42};
  EXPECT_EQ(send(Request::get_vring_base, vring_state(1, 0)).reply,
            test::message_bytes(11, vring_state(1, 42), test::flag_version_1 | test::flag_reply));
  EXPECT_EQ(dataplane.calls, (Calls{"relink 0"}));
  dataplane.positions = {50, 99};
  EXPECT_EQ(send(Request::get_vring_base, vring_state(0, 0)).reply,
            test::message_bytes(11, vring_state(0, 50), test::flag_version_1 | test::flag_reply));
  EXPECT_FALSE(protocol->is_linked());
  EXPECT_EQ(protocol->missing(), "guest driver not ready yet");
  EXPECT_EQ(send(Request::get_vring_base, vring_state(1, 0)).reply,
            test::message_bytes(11, vring_state(1, 42), test::flag_version_1 | test::flag_reply))
      << "a ring that did not run keeps its position";
  tell(Request::set_vring_enable, vring_state(1, 1));
  EXPECT_FALSE(protocol->is_linked()) << "only a new kick descriptor starts a stopped ring";
  tell(Request::set_vring_kick, u64(1), events(1));
  EXPECT_TRUE(protocol->is_linked());
  EXPECT_EQ(linked().rings[1].position, 42);
}

// ---- Packed rings ----

constexpr std::uint64_t packed_features = device_features | feature_ring_packed;

class PackedProtocolTest : public ProtocolTest {
 protected:
  PackedProtocolTest() {
    protocol = std::make_unique<Protocol>(dataplane, port, packed_features, 1, announcements);
    negotiate(packed_features | feature_protocol_features);
  }
  test::Bytes base_reply(std::uint32_t ring, std::uint32_t position) {
    return test::message_bytes(11, vring_state(ring, position), test::flag_version_1 | test::flag_reply);
  }
};

TEST_F(PackedProtocolTest, takes_bases_of_32_bits_and_sizes_that_are_no_powers_of_two) {
  set_up_ring(0, 0x80058005);  // QEMU gives both sides,
  set_up_ring(1, 0x8000);      // virtio-user one
  tell(Request::set_vring_num, vring_state(0, 1));
  tell(Request::set_vring_num, vring_state(1, 32767));
  for (const std::uint32_t ring : {0U, 1U}) tell(Request::set_vring_enable, vring_state(ring, 1));
  EXPECT_EQ(linked().features, packed_features);
  EXPECT_EQ(linked().rings[0].base, 0x80058005U);
  EXPECT_EQ(linked().rings[0].size, 1U);
  EXPECT_EQ(linked().rings[1].position, 0x8000U);
  EXPECT_EQ(linked().rings[1].size, 32767U);
  for (const std::uint32_t size : {0U, 32769U}) {
    EXPECT_TRUE(send(Request::set_vring_num, vring_state(0, size)).failure) << size;
  }
}

TEST_F(PackedProtocolTest, a_base_is_only_certain_after_the_ring_ran_in_this_session) {
  set_up_ring(0, 0x80008000);
  tell(Request::set_vring_enable, vring_state(0, 1));
  EXPECT_FALSE(linked().rings[0].position_known) << "QEMU says this also after the daemon was killed";
  dataplane.positions = {0x00070007, 0};
  tell(Request::set_vring_call, u64(0), events(1));  // gives the position,
  tell(Request::set_vring_call, u64(0), events(1));  // and takes it along
  EXPECT_TRUE(linked().rings[0].position_known);
  EXPECT_EQ(linked().rings[0].position, 0x00070007U);
  EXPECT_EQ(linked().rings[0].base, 0x80008000U) << "the front-end was not told yet, and would say this again";

  dataplane.positions = {0x00090009, 0};
  EXPECT_EQ(send(Request::get_vring_base, vring_state(0, 0)).reply, base_reply(0, 0x00090009));
  tell(Request::set_vring_kick, u64(0), events(1));
  EXPECT_EQ(linked().rings[0].base, 0x00090009U);
  EXPECT_EQ(linked().rings[0].position, 0x00090009U);

  send(Request::get_vring_base, vring_state(0, 0));
  set_up_ring(0, 0x80008000);  // the guest was reset
  EXPECT_EQ(linked().rings[0].position, 0x80008000U);
  EXPECT_TRUE(linked().rings[0].position_known);
}

TEST_F(ProtocolTest, rings_beyond_the_vnics_take_every_message_and_move_nothing) {
  const std::size_t before = test::open_descriptors();
  for (const std::uint32_t ring : {2U, 3U, 7U, 254U, 255U}) {
    SCOPED_TRACE(ring);
    set_up_ring(ring, 40000 + ring);
    tell(Request::set_vring_err, u64(ring), events(1));
    tell(Request::set_vring_kick, u64(ring | no_descriptor));
    tell(Request::set_vring_enable, vring_state(ring, 1));
  }
  EXPECT_EQ(test::open_descriptors(), before) << "nothing of theirs is kept but the position";
  EXPECT_EQ(dataplane.calls, Calls{});
  link();
  for (const std::uint32_t ring : {2U, 3U, 7U, 254U, 255U}) {
    set_up_ring(ring, 50000 + ring);
    tell(Request::set_vring_enable, vring_state(ring, 0));
    EXPECT_EQ(send(Request::get_vring_base, vring_state(ring, 0)).reply,
              test::message_bytes(11, vring_state(ring, 50000 + ring), test::flag_version_1 | test::flag_reply));
  }
  EXPECT_EQ(dataplane.calls, Calls{}) << "the link of the vnic's own rings is not touched";
  EXPECT_TRUE(protocol->is_linked());
}

// ---- Several queue pairs ----

class MultiqueueProtocolTest : public ProtocolTest {
 protected:
  MultiqueueProtocolTest() {
    protocol = std::make_unique<Protocol>(dataplane, port, device_features, 2, announcements);
  }
  static constexpr std::uint64_t features = device_features | feature_protocol_features | feature_net_mq;
  void enable_pair(std::uint32_t pair, std::uint32_t on) {
    tell(Request::set_vring_enable, vring_state(2 * pair, on));
    tell(Request::set_vring_enable, vring_state(2 * pair + 1, on));
  }
};

TEST_F(MultiqueueProtocolTest, offers_multiqueue_and_says_how_many_pairs) {
  EXPECT_EQ(
      send(Request::get_features).reply,
      reply_u64(Request::get_features, device_features | feature_protocol_features | feature_net_mtu | feature_net_mq));
  EXPECT_FALSE(protocol->is_stuck_at_queues());
  EXPECT_EQ(send(Request::get_queue_num).reply, reply_u64(Request::get_queue_num, 2));
  EXPECT_TRUE(protocol->is_stuck_at_queues()) << "if it goes away now";
  negotiate(features);
  EXPECT_FALSE(protocol->is_stuck_at_queues());
}

TEST_F(MultiqueueProtocolTest, links_the_pairs_that_the_guest_enables) {
  negotiate(features);
  for (const std::uint32_t ring : {0U, 1U, 2U, 3U}) set_up_ring(ring, ring);
  EXPECT_EQ(protocol->queue_pairs_used(), 0);
  enable_pair(0, 1);  // a driver with one CPU, or a boot ROM
  EXPECT_EQ(dataplane.calls, (Calls{"map 2", "connect 0", "relink 01"}));
  EXPECT_EQ(protocol->queue_pairs_used(), 1);
  EXPECT_EQ(linked().features, device_features) << "the data plane does not ask how many there may be";
  dataplane.calls.clear();
  enable_pair(1, 1);
  EXPECT_EQ(dataplane.calls, (Calls{"relink 012", "relink 0123"}));
  EXPECT_EQ(protocol->queue_pairs_used(), 2);
  EXPECT_EQ(linked().rings[3].desc_address, 0x1003U);
  EXPECT_EQ(linked().rings[3].position, 3U);
  dataplane.positions = {10, 11, 12, 13};
  enable_pair(1, 0);
  EXPECT_EQ(protocol->queue_pairs_used(), 1);
  EXPECT_EQ(send(Request::get_vring_base, vring_state(3, 0)).reply,
            test::message_bytes(11, vring_state(3, 13), test::flag_version_1 | test::flag_reply));
}

TEST_F(MultiqueueProtocolTest, a_ring_that_is_being_set_up_does_not_disturb_those_that_run) {
  link();
  set_up_ring(2);
  set_up_ring(3);
  set_up_ring(2);
  EXPECT_EQ(dataplane.calls, Calls{});
  enable_pair(1, 1);
  EXPECT_EQ(dataplane.calls, (Calls{"relink 012", "relink 0123"}));
  dataplane.calls.clear();
  send(Request::get_vring_base, vring_state(2, 0));
  EXPECT_EQ(dataplane.calls, (Calls{"relink 013"}));
  EXPECT_EQ(protocol->queue_pairs_used(), 1);
  tell(Request::set_vring_call, u64(2), events(1));
  EXPECT_EQ(dataplane.calls, (Calls{"relink 013"})) << "it does not run";
}

TEST_F(MultiqueueProtocolTest, a_front_end_with_more_pairs_is_told_the_way_out) {
  const Outcome outcome = send(Request::set_vring_num, vring_state(4, 256));
  ASSERT_TRUE(outcome.failure);
  EXPECT_EQ(
      outcome.failure->message,
      "SET_VRING_NUM names ring 4: a front-end of this vnic may have 2 queue pairs, start QEMU with queues=2 or less");
}

TEST_F(ProtocolTest, a_driver_that_had_several_pairs_is_told_that_there_is_one_now) {
  const Outcome outcome =
      send(Request::set_features, u64(device_features | feature_protocol_features | feature_net_mq));
  ASSERT_TRUE(outcome.failure);
  for (const char* part : {"several queue pairs", "patchbay vnic set", "queues=1"}) {
    EXPECT_NE(outcome.failure->message.find(part), std::string::npos) << outcome.failure->message;
  }
}

TEST_F(ProtocolTest, send_rarp_announces_the_address_in_it_once_for_each_request) {
  // The bytes of the address as they stand in memory: what memcpy() into the number makes of them.
  const test::Bytes mac{0x02, 0x11, 0x22, 0x33, 0x44, 0x55, 0, 0};
  tell(Request::send_rarp, mac);
  EXPECT_EQ(send(Request::send_rarp, mac, {}, true).reply, reply_u64(Request::send_rarp, 0));
  EXPECT_EQ(dataplane.calls, (Calls{"announce 02:11:22:33:44:55", "announce 02:11:22:33:44:55"}));
}

TEST_F(ProtocolTest, announcements_have_a_rate_that_a_new_connection_does_not_reset) {
  const auto start = TokenBucket::Clock::now();
  for (int connection = 0; connection < 10; ++connection) {
    connect_anew();
    for (int i = 0; i < 100; ++i) tell(Request::send_rarp, u64(2));
  }
  const double seconds = std::chrono::duration<double>(TokenBucket::Clock::now() - start).count();
  EXPECT_GE(dataplane.calls.size(), 20U);
  EXPECT_LE(static_cast<double>(dataplane.calls.size()), announcements_burst + seconds * announcements_per_second + 1);
}

TEST_F(ProtocolTest, a_link_that_cannot_be_changed_ends_before_its_descriptors_are_closed) {
  link();
  dataplane.connect_error = make_error(ErrorCode::invalid, "ring 0 lies outside of the guest's memory");
  const Outcome outcome = send(Request::set_vring_kick, u64(0), events(1));
  ASSERT_TRUE(outcome.failure);
  EXPECT_EQ(dataplane.calls, (Calls{"relink 01", "disconnect"}));
  EXPECT_FALSE(protocol->is_linked());
}

TEST_F(ProtocolTest, reset_owner_stops_the_rings) {
  link();
  tell(Request::reset_owner);
  EXPECT_FALSE(protocol->is_linked());
  tell(Request::set_vring_kick, u64(0), events(1));
  EXPECT_TRUE(protocol->is_linked());
}

TEST_F(ProtocolTest, acknowledges_where_asked_and_not_twice) {
  EXPECT_EQ(send(Request::set_owner, {}, {}, true).reply, reply_u64(Request::set_owner, 0));
  EXPECT_EQ(send(Request::set_mem_table, memory_table(1), memories(1), true).reply,
            reply_u64(Request::set_mem_table, 0));
  EXPECT_EQ(send(Request::get_queue_num, {}, {}, true).reply, reply_u64(Request::get_queue_num, 128));
  EXPECT_EQ(send(Request::net_set_mtu, u64(9000), {}, true).reply, reply_u64(Request::net_set_mtu, 0));
  EXPECT_EQ(send(Request::net_set_mtu, u64(67), {}, true).reply, reply_u64(Request::net_set_mtu, 1));
  EXPECT_EQ(send(Request::net_set_mtu, u64(65536), {}, true).reply, reply_u64(Request::net_set_mtu, 1));
  const Outcome bad = send(Request::set_vring_num, vring_state(256, 256), {}, true);
  EXPECT_EQ(bad.reply, reply_u64(Request::set_vring_num, 1));
  EXPECT_TRUE(bad.failure) << "and the connection ends";
}

TEST_F(ProtocolTest, knows_the_mtu_of_a_guest_that_takes_it_from_its_device) {
  negotiate();
  EXPECT_FALSE(protocol->guest_mtu());
  tell(Request::net_set_mtu, u64(9000));
  EXPECT_FALSE(protocol->guest_mtu()) << "its driver did not acknowledge VIRTIO_NET_F_MTU";
  tell(Request::set_features, u64(device_features | feature_protocol_features | feature_net_mtu));
  EXPECT_EQ(protocol->guest_mtu(), 9000);
  EXPECT_EQ(send(Request::net_set_mtu, u64(67), {}, true).reply, reply_u64(Request::net_set_mtu, 1));
  EXPECT_EQ(protocol->guest_mtu(), 9000) << "what was refused changes nothing";
  tell(Request::net_set_mtu, u64(65535));
  EXPECT_EQ(protocol->guest_mtu(), 65535);
}

TEST_F(ProtocolTest, unknown_requests_are_denied_where_asked_and_end_the_connection_where_not) {
  for (const std::uint32_t request : {0U, 6U, 7U, 21U, 24U, 31U, 37U, 77U, 0xffffffffU}) {
    SCOPED_TRACE(request);
    const Outcome denied = send(request, u64(1), events(1), true);
    EXPECT_FALSE(denied.failure);
    EXPECT_EQ(denied.reply, test::message_bytes(request, u64(1), test::flag_version_1 | test::flag_reply));
    const Outcome ended = send(request, u64(1));
    ASSERT_TRUE(ended.failure);
    EXPECT_NE(ended.failure->message.find(request_name(request)), std::string::npos) << ended.failure->message;
  }
}

struct Refused {
  const char* name;
  std::uint32_t request;
  test::Bytes payload;
  std::size_t events;
  std::size_t memories;
  const char* says;  // a part of the sentence
};

TEST_F(ProtocolTest, refuses_what_breaks_a_rule_with_a_sentence) {
  test::Bytes eight_regions_nine_named = memory_table(8);
  eight_regions_nine_named[0] = 9;
  test::Bytes short_table = memory_table(2);
  short_table.pop_back();
  const Refused table[] = {
      {"feature not offered", 2, u64(std::uint64_t{1} << 34), 0, 0, "feature 34 that was not offered"},
      {"protocol feature not offered", 16, u64(0b10), 0, 0, "feature 1 that was not offered"},
      {"no memory regions", 5, memory_table(0), 0, 0, "no shared memory: start QEMU with"},
      {"nine memory regions", 5, eight_regions_nine_named, 0, 8, "9 memory regions, at most 8"},
      {"nine memory regions in full", 5, memory_table(9), 0, 8, "payload of 296 bytes"},
      {"2^32-1 memory regions", 5, test::bytes_of(0xffffffffU, 0U), 0, 1, "at most 8"},
      {"table shorter than its count", 5, short_table, 0, 2, "too short"},
      {"region without descriptor", 5, memory_table(2), 0, 1, "2 regions, but came with 1"},
      {"descriptor without region", 5, memory_table(1), 0, 2, "1 regions, but came with 2"},
      {"eventfd as memory", 5, memory_table(1), 1, 0, "memory region 0 is not shared memory"},
      {"ring 256", 8, vring_state(256, 256), 0, 0,
       "ring 256: a front-end of this vnic may have 128 queue pairs, start QEMU"},
      {"ring 2^31 of num", 8, vring_state(0x80000000, 256), 0, 0, "128 queue pairs"},
      {"ring 256 of addr", 9, vring_address(256, 0, 0, 0), 0, 0, "128 queue pairs"},
      {"ring 256 of base", 10, vring_state(256, 0), 0, 0, "128 queue pairs"},
      {"ring 256 of get base", 11, vring_state(256, 0), 0, 0, "128 queue pairs"},
      {"ring 2^32-1 of get base", 11, vring_state(0xffffffff, 0), 0, 0, "128 queue pairs"},
      {"ring 256 of enable", 18, vring_state(256, 1), 0, 0, "128 queue pairs"},
      {"entries of a ring beyond", 8, vring_state(255, 3), 0, 0, "power of two"},
      {"memory as kick of a ring beyond", 12, u64(255), 0, 1, "not an eventfd"},
      {"two calls of a ring beyond", 13, u64(2), 2, 0, "at most 1"},
      {"position of a ring beyond", 10, vring_state(2, 65536), 0, 0, "16 bits"},
      {"announcement without address", 19, {}, 0, 0, "payload of 0 bytes"},
      {"no entries", 8, vring_state(0, 0), 0, 0, "power of two"},
      {"not a power of two", 8, vring_state(0, 255), 0, 0, "power of two"},
      {"too many entries", 8, vring_state(0, 65536), 0, 0, "up to 32768"},
      {"logging", 9, vring_address(0, 0, 0, 0, 1), 0, 0, "logging"},
      {"position too large", 10, vring_state(0, 65536), 0, 0, "16 bits"},
      {"enabled twice over", 18, vring_state(0, 2), 0, 0, "0 or 1"},
      {"kick without descriptor", 12, u64(0), 0, 0, "has a descriptor, but came with 0"},
      {"kick by polling", 12, u64(no_descriptor), 0, 0, "ioeventfd"},
      {"call without descriptor", 13, u64(0), 0, 0, "has a descriptor, but came with 0"},
      {"call with and without", 13, u64(no_descriptor), 1, 0, "has no descriptor, but came with 1"},
      {"two kicks", 12, u64(0), 2, 0, "at most 1"},
      {"memory as kick", 12, u64(0), 0, 1, "not an eventfd"},
      {"reserved bits", 13, u64(0x10000), 1, 0, "reserved bits"},
      {"payload too short", 2, {1, 2, 3}, 0, 0, "payload of 3 bytes"},
      {"payload too long", 1, u64(0), 0, 0, "payload of 8 bytes"},
      {"descriptor where none belongs", 1, {}, 1, 0, "1 descriptors"},
      {"mtu nobody waits for", 20, u64(1), 0, 0, "host_mtu"},
  };
  for (const Refused& row : table) {
    SCOPED_TRACE(row.name);
    connect_anew();
    auto descriptors = events(row.events);
    for (auto& memory : memories(row.memories)) descriptors.push_back(std::move(memory));
    const Outcome outcome = send(row.request, row.payload, std::move(descriptors));
    EXPECT_TRUE(outcome.reply.empty());
    ASSERT_TRUE(outcome.failure);
    EXPECT_NE(outcome.failure->message.find(row.says), std::string::npos) << outcome.failure->message;
  }
  EXPECT_EQ(dataplane.calls, Calls{}) << "nothing of it reached the data plane";
}

TEST_F(ProtocolTest, takes_the_largest_values_that_are_allowed) {
  tell(Request::set_mem_table, memory_table(8), memories(8));
  EXPECT_EQ(dataplane.last_regions.size(), 8U);
  tell(Request::set_vring_num, vring_state(1, 32768));
  tell(Request::set_vring_num, vring_state(1, 1));
  tell(Request::set_vring_base, vring_state(1, 65535));
  tell(Request::net_set_mtu, u64(65535));
  tell(Request::net_set_mtu, u64(68));
}

TEST_F(ProtocolTest, memory_that_cannot_be_mapped_fails_and_leaves_the_link_as_it_was) {
  link();
  dataplane.map_error = make_error(ErrorCode::invalid, "region 0 is larger than its file");
  const Outcome outcome = send(Request::set_mem_table, memory_table(1), memories(1), true);
  ASSERT_TRUE(outcome.failure);
  EXPECT_EQ(outcome.failure->message, "region 0 is larger than its file");
  EXPECT_EQ(outcome.reply, reply_u64(Request::set_mem_table, 1));
  EXPECT_EQ(dataplane.calls, (Calls{"map 1"}));
}

TEST_F(ProtocolTest, a_ring_that_the_data_plane_refuses_fails) {
  negotiate(device_features);
  dataplane.connect_error = make_error(ErrorCode::invalid, "ring 0 lies outside of the guest's memory");
  tell(Request::set_vring_num, vring_state(0, 256));
  tell(Request::set_vring_addr, vring_address(0, 1, 2, 3));
  const Outcome outcome = send(Request::set_vring_kick, u64(0), events(1));
  ASSERT_TRUE(outcome.failure);
  EXPECT_EQ(outcome.failure->message, "ring 0 lies outside of the guest's memory");
  EXPECT_FALSE(protocol->is_linked());
}

TEST_F(ProtocolTest, disconnects_when_it_goes) {
  link();
  protocol.reset();
  EXPECT_EQ(dataplane.calls, (Calls{"disconnect"}));
  EXPECT_TRUE(dataplane.links.empty());
  EXPECT_EQ(dataplane.memories_alive(), 0);
}

// Messages that are mostly of the right shape with mostly sensible values, so that they get far, and sometimes garbage.
class RandomMessages {
 public:
  // `rings`: those that it is about, mostly.
  RandomMessages(std::uint32_t seed, std::uint32_t rings) : random_(seed), rings_(rings) {}

  std::uint32_t below(std::uint32_t limit) { return static_cast<std::uint32_t>(random_() % limit); }
  bool one_in(std::uint32_t n) { return below(n) == 0; }

  Message next() {
    Message message;
    message.request = one_in(20) ? below(50) : requests[below(std::size(requests))];
    message.reply_wanted = one_in(4);
    message.payload = payload_for(message.request);
    if (message.request == 5 && !message.payload.empty()) message.descriptors = memories(message.payload[0] % 9U);
    const bool wants_event = message.request >= 12 && message.request <= 14;
    if (wants_event != one_in(20)) message.descriptors = events(1);
    if (one_in(50)) message.descriptors = memories(1);
    return message;
  }

 private:
  static constexpr std::uint32_t requests[] = {1,  2,  2,  3,  5,  5,  8,  8,  9,  9, 10,
                                               11, 12, 12, 13, 14, 16, 18, 18, 19, 20};

  test::Bytes payload_for(std::uint32_t request) {
    const std::uint32_t ring = one_in(10) ? below(300) : below(rings_);
    if (one_in(40)) {
      test::Bytes garbage(below(64));
      for (auto& byte : garbage) byte = static_cast<std::uint8_t>(random_());
      return garbage;
    }
    switch (request) {
      case 1:
      case 3:
        return {};
      case 2:
        return u64(device_features | (one_in(2) ? feature_protocol_features : 0));
      case 5:
        return memory_table(one_in(20) ? below(12) : 1 + below(8));
      case 8:
        return vring_state(ring, 1U << below(16));
      case 9:
        return vring_address(ring, random_(), random_(), random_());
      case 16:
        return u64(below(32));
      case 18:
        return vring_state(ring, below(2));
      case 12:
      case 13:
      case 14:
        return u64(ring | (one_in(20) ? no_descriptor : 0));
      default:
        return vring_state(ring, below(65537));
    }
  }

  std::mt19937 random_;
  const std::uint32_t rings_;
};

// With one queue pair, and with three.
class RandomProtocolTest : public ProtocolTest, public testing::WithParamInterface<std::uint16_t> {};
INSTANTIATE_TEST_SUITE_P(Pairs, RandomProtocolTest, testing::Values(1, 3));

TEST_P(RandomProtocolTest, ten_thousand_random_messages_break_no_promise_and_leak_no_descriptor) {
  const auto begin_anew = [this] {
    protocol = std::make_unique<Protocol>(dataplane, port, device_features, GetParam(), announcements);
  };
  begin_anew();
  const std::size_t before = test::open_descriptors();
  dataplane.record = false;
  RandomMessages random(20240601, 2U * GetParam());  // fixed: a failure repeats
  std::size_t linked_count = 0;
  for (int i = 0; i < 10000; ++i) {
    dataplane.positions = {static_cast<std::uint16_t>(random.below(65536)), 3};
    dataplane.connect_error.reset();
    if (random.one_in(50)) dataplane.connect_error = make_error(ErrorCode::invalid, "refused");
    const Outcome outcome = protocol->handle(random.next());
    linked_count += protocol->is_linked() ? 1 : 0;
    ASSERT_EQ(protocol->is_linked(), dataplane.links.contains(raw(port)));
    // After a failure the connection ends; going on now and then shows that nothing breaks even so.
    if (outcome.failure && random.one_in(8)) begin_anew();
  }
  EXPECT_GT(linked_count, 1000U) << "the messages are too random to reach a link";
  protocol.reset();
  EXPECT_EQ(test::open_descriptors(), before);
  EXPECT_EQ(dataplane.memories_alive(), 0);
}

}  // namespace
}  // namespace patchbay::vhost_user
