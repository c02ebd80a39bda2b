#include "control/vhost_user/endpoint.h"

#include <gtest/gtest.h>
#include <sys/inotify.h>
#include <sys/stat.h>

#include <chrono>
#include <fstream>
#include <random>
#include <set>

#include "control/vhost_user/protocol.h"
#include "control/vhost_user/socket_path.h"
#include "tests/support/fake_front_end.h"
#include "tests/support/lingering_socket.h"
#include "tests/support/recording_dataplane.h"

namespace patchbay::vhost_user {
namespace {

namespace asio = boost::asio;
using test::FakeFrontEnd;
using test::memory_table;
using test::u64;
using test::vring_address;
using test::vring_state;

class EndpointTest : public testing::Test {
 protected:
  EndpointTest() {
    char pattern[] = "/tmp/patchbay-test-XXXXXX";
    folder = ::mkdtemp(pattern);
    path = folder + "/vnic.sock";
  }
  ~EndpointTest() override { std::filesystem::remove_all(folder); }

  Result<std::unique_ptr<Endpoint>> create(Role role, const std::string& at, std::uint32_t port = 1) {
    EndpointConfig config;
    config.vnic = "web" + std::to_string(port);
    config.port = PortId{port};
    config.role = role;
    config.path = at;
    return Endpoint::create(loop, dataplane, config, [this] { ++changes; });
  }
  std::unique_ptr<Endpoint> listen(const std::string& at, std::uint32_t port = 1) {
    auto endpoint = create(Role::listen, at, port);
    EXPECT_TRUE(endpoint) << endpoint.error().message;
    return endpoint ? std::move(*endpoint) : nullptr;
  }
  template <typename Condition>
  [[nodiscard]] bool until(Condition condition) {
    return test::until(loop, condition);
  }
  [[nodiscard]] bool until_state(const Endpoint& endpoint, State state) {
    return until([&] { return endpoint.status().state == state; });
  }
  // The next bytes from the back-end: exactly `size_bytes`, or what came until the time was over.
  test::Bytes receive(FakeFrontEnd& front_end, std::size_t size_bytes) {
    test::Bytes bytes;
    static_cast<void>(until([&] {
      const auto more = front_end.receive_now(size_bytes - bytes.size());
      bytes.insert(bytes.end(), more.begin(), more.end());
      return bytes.size() == size_bytes;
    }));
    return bytes;
  }
  std::uint64_t ask(FakeFrontEnd& front_end, std::uint32_t request, const test::Bytes& payload = {},
                    const std::vector<int>& fds = {}, std::uint32_t flags = test::flag_version_1) {
    EXPECT_TRUE(front_end.send(request, payload, fds, flags));
    const auto reply = receive(front_end, 20);
    if (reply.size() != 20) {
      ADD_FAILURE() << "no reply to " << request_name(request);
      return 0;
    }
    EXPECT_EQ(test::Bytes(reply.begin(), reply.begin() + 12),
              test::bytes_of(request, test::flag_version_1 | test::flag_reply, 8U));
    std::uint64_t value = 0;
    std::memcpy(&value, reply.data() + 12, 8);
    return value;
  }
  // What QEMU 7.2 sends from the start of the machine until the guest's driver runs.
  // `mtu`: of QEMU's host_mtu=, in which case the guest's driver takes it from its device.
  void hand_shake(FakeFrontEnd& front_end, std::optional<std::uint16_t> mtu = std::nullopt) {
    const std::uint64_t offered = ask(front_end, 1);
    EXPECT_NE(offered & feature_protocol_features, 0U);
    const std::uint64_t protocol_features = ask(front_end, 15);
    front_end.send(16, u64(protocol_features));
    EXPECT_EQ(ask(front_end, 17), front_end_pairs_max);
    front_end.send(3);
    EXPECT_EQ(ask(front_end, 1), offered);
    for (std::uint32_t ring = 0; ring < 2; ++ring) front_end.send(13, u64(ring), {events[ring].get()});
    if (mtu) {
      EXPECT_EQ(ask(front_end, 20, u64(*mtu), {}, test::flag_version_1 | test::flag_need_reply), 0U);
    }
    front_end.send(2, u64(mtu ? offered : offered & ~feature_net_mtu));
    EXPECT_EQ(ask(front_end, 5, memory_table(1), {memory.get()}, test::flag_version_1 | test::flag_need_reply), 0U);
    for (std::uint32_t ring = 0; ring < 2; ++ring) {
      front_end.send(8, vring_state(ring, 256));
      front_end.send(10, vring_state(ring, 0));
      front_end.send(9, vring_address(ring, 0x1000, 0x2000, 0x3000));
      front_end.send(12, u64(ring), {events[2 + ring].get()});
      front_end.send(13, u64(ring), {events[ring].get()});
    }
    for (std::uint32_t ring = 0; ring < 2; ++ring) {
      EXPECT_EQ(ask(front_end, 18, vring_state(ring, 1), {}, test::flag_version_1 | test::flag_need_reply), 0U);
    }
  }
  // Sends `what` on a new connection; the connection must end and the reason must hold `says`.
  void expect_refused(const char* says, const std::function<void(FakeFrontEnd&)>& what) {
    SCOPED_TRACE(says);
    const auto endpoint = listen(path);
    auto front_end = FakeFrontEnd::connect(path);
    ASSERT_TRUE(front_end);
    what(*front_end);
    ASSERT_TRUE(until_state(*endpoint, State::failed));
    EXPECT_NE(endpoint->status().reason.find(says), std::string::npos) << endpoint->status().reason;
    EXPECT_TRUE(until([&] { return front_end->receive_now().empty() && front_end->is_closed(); }));
    // And it starts afresh.
    auto next = FakeFrontEnd::connect(path);
    ASSERT_TRUE(next);
    hand_shake(*next);
    EXPECT_EQ(endpoint->status().state, State::connected);
  }

  std::string folder;
  std::string path;
  asio::io_context loop;
  test::RecordingDataplane dataplane;
  int changes = 0;
  std::array<UniqueFd, 4> events{test::new_eventfd(), test::new_eventfd(), test::new_eventfd(), test::new_eventfd()};
  UniqueFd memory = test::new_memfd();
};

TEST_F(EndpointTest, goes_from_waiting_to_connected_and_back) {
  const auto endpoint = listen(path);
  EXPECT_EQ(endpoint->status().state, State::waiting_for_guest);
  EXPECT_EQ(endpoint->status().reason, "waiting for a guest on " + path);
  auto front_end = FakeFrontEnd::connect(path);
  ASSERT_TRUE(front_end);
  ASSERT_TRUE(until_state(*endpoint, State::negotiating));
  EXPECT_EQ(endpoint->status().reason, "no memory shared yet");
  hand_shake(*front_end);
  EXPECT_EQ(endpoint->status().state, State::connected);
  EXPECT_EQ(endpoint->status().reason, "");
  EXPECT_EQ(dataplane.links.at(1).rings[1].size, 256);
  EXPECT_TRUE(until([&] { return changes >= 2; }));
  front_end->close();
  ASSERT_TRUE(until_state(*endpoint, State::waiting_for_guest));
  EXPECT_TRUE(dataplane.links.empty());
  auto again = FakeFrontEnd::connect(path);
  ASSERT_TRUE(again);
  hand_shake(*again);
  EXPECT_EQ(endpoint->status().state, State::connected);
}

TEST_F(EndpointTest, shows_the_mtu_that_a_connected_guest_goes_by) {
  const auto endpoint = listen(path);
  endpoint->set_mtu(4074);
  EXPECT_FALSE(endpoint->status().guest_mtu) << "nobody is there";
  for (const std::optional<std::uint16_t> told : {std::optional<std::uint16_t>(9000), std::optional<std::uint16_t>()}) {
    auto front_end = FakeFrontEnd::connect(path);
    ASSERT_TRUE(front_end);
    hand_shake(*front_end, told);
    ASSERT_TRUE(until_state(*endpoint, State::connected));
    const std::uint16_t goes_by = told.value_or(4074);
    EXPECT_EQ(endpoint->status().guest_mtu, goes_by);
    endpoint->set_mtu(1400);
    EXPECT_EQ(endpoint->status().guest_mtu, goes_by) << "the guest does not hear of another MTU";
    front_end->send(18, vring_state(0, 1));
    front_end->send(13, u64(0), {events[0].get()});  // a message that pauses the link is no new guest
    ask(*front_end, 1);
    EXPECT_EQ(endpoint->status().guest_mtu, goes_by);
    front_end->close();
    ASSERT_TRUE(until_state(*endpoint, State::waiting_for_guest));
    EXPECT_FALSE(endpoint->status().guest_mtu);
    endpoint->set_mtu(4074);
  }
}

TEST_F(EndpointTest, answers_get_vring_base_with_what_the_data_plane_gave) {
  const auto endpoint = listen(path);
  auto front_end = FakeFrontEnd::connect(path);
  hand_shake(*front_end);
  dataplane.positions = {17, 4711};
  EXPECT_EQ(ask(*front_end, 11, vring_state(1, 0)), std::uint64_t{4711} << 32 | 1);
  EXPECT_EQ(ask(*front_end, 11, vring_state(0, 0)), std::uint64_t{17} << 32);
  EXPECT_EQ(endpoint->status().state, State::negotiating);
  EXPECT_EQ(endpoint->status().reason, "guest driver not ready yet");
}

TEST_F(EndpointTest, half_a_message_holds_up_nobody_else) {
  const auto slow = listen(path, 1);
  const auto quick = listen(folder + "/other.sock", 2);
  auto half = FakeFrontEnd::connect(path);
  auto whole = FakeFrontEnd::connect(folder + "/other.sock");
  ASSERT_TRUE(half && whole);
  const auto message = test::message_bytes(2, u64(0));
  half->send_bytes(test::Bytes(message.begin(), message.begin() + 5));
  hand_shake(*whole);
  EXPECT_EQ(quick->status().state, State::connected);
  half->send_bytes(test::Bytes(message.begin() + 5, message.begin() + 15));
  EXPECT_NE(ask(*whole, 1), 0U);
  half->send_bytes(test::Bytes(message.begin() + 15, message.end()));
  EXPECT_NE(ask(*half, 1), 0U) << "in pieces, but good";
  EXPECT_EQ(slow->status().state, State::negotiating);
}

TEST_F(EndpointTest, a_message_may_come_byte_by_byte_and_many_in_one_piece) {
  const auto endpoint = listen(path);
  auto front_end = FakeFrontEnd::connect(path);
  for (const std::uint8_t byte : test::message_bytes(16, u64(0))) {
    front_end->send_bytes({byte});
    loop.restart();
    loop.poll();
  }
  test::Bytes many;
  for (int i = 0; i < 500; ++i) {
    const auto message = test::message_bytes(1, {});
    many.insert(many.end(), message.begin(), message.end());
  }
  front_end->send_bytes(many);
  EXPECT_EQ(receive(*front_end, 500 * 20).size(), 500U * 20);
}

TEST_F(EndpointTest, refuses_hostile_messages_and_starts_afresh) {
  expect_refused("at most 1024 are taken", [](FakeFrontEnd& front_end) {
    front_end.send_bytes(test::bytes_of(1U, test::flag_version_1, 1025U));
  });
  expect_refused("version 2", [](FakeFrontEnd& front_end) { front_end.send(1, {}, {}, 2); });
  expect_refused("came as a reply", [](FakeFrontEnd& front_end) { front_end.send(1, {}, {}, 5); });
  expect_refused("GET_CONFIG", [](FakeFrontEnd& front_end) { front_end.send(24, u64(0)); });
  expect_refused("128 queue pairs", [](FakeFrontEnd& front_end) { front_end.send(8, vring_state(256, 64)); });
  expect_refused("came with 0", [](FakeFrontEnd& front_end) { front_end.send(12, u64(0)); });
  expect_refused("no shared memory", [](FakeFrontEnd& front_end) { front_end.send(5, memory_table(0)); });
  expect_refused("payload of 296 bytes", [this](FakeFrontEnd& front_end) {
    front_end.send(5, memory_table(9), std::vector<int>(8, memory.get()));
  });
  expect_refused("more than 8 descriptors", [this](FakeFrontEnd& front_end) {
    front_end.send(5, memory_table(8), std::vector<int>(9, memory.get()));
  });
  expect_refused("more than 8 descriptors",
                 [this](FakeFrontEnd& front_end) { front_end.send(1, {}, std::vector<int>(250, memory.get())); });
  expect_refused("more than 8 descriptors", [this](FakeFrontEnd& front_end) {
    const auto message = test::message_bytes(5, memory_table(8));
    for (const auto byte : message) front_end.send_bytes({byte}, {memory.get()});  // one descriptor a byte
  });
}

TEST_F(EndpointTest, refuses_descriptors_that_could_block_and_starts_afresh) {
  const char* const says = "neither an eventfd nor shared memory";
  const UniqueFd file = test::new_plain_file();
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  const UniqueFd out(ends[0]);
  const UniqueFd in(ends[1]);
  expect_refused(says, [&](FakeFrontEnd& front_end) { front_end.send(12, u64(0), {file.get()}); });
  expect_refused(says, [&](FakeFrontEnd& front_end) { front_end.send(13, u64(0), {in.get()}); });
  expect_refused(says, [&](FakeFrontEnd& front_end) { front_end.send(13, u64(0), {front_end.fd()}); });
  expect_refused(says, [&](FakeFrontEnd& front_end) { front_end.send(5, memory_table(1), {file.get()}); });
  expect_refused("not shared memory",
                 [&](FakeFrontEnd& front_end) { front_end.send(5, memory_table(1), {events[0].get()}); });
  expect_refused("not an eventfd", [&](FakeFrontEnd& front_end) { front_end.send(12, u64(0), {memory.get()}); });
}

TEST_F(EndpointTest, a_descriptor_that_blocks_when_closed_holds_up_nobody) {
  using Send = std::function<void(FakeFrontEnd & front_end, int lingering)>;
  const std::vector<std::pair<const char*, Send>> cases{
      {"with a message", [](auto& front_end, int lingering) { front_end.send(12, u64(0), {lingering}); }},
      {"as one of too many",
       [this](auto& front_end, int lingering) {
         std::vector<int> fds(descriptors_max, events[0].get());
         fds.push_back(lingering);
         front_end.send_bytes({1}, fds);
       }},
      {"behind the message that ends the connection",
       [](auto& front_end, int lingering) {
         front_end.send(1, {}, {}, 99);
         front_end.send_bytes({1}, {lingering});
       }},
  };
  for (const auto& [name, send] : cases) {
    SCOPED_TRACE(name);
    test::LingeringSocket lingering;
    ASSERT_GE(lingering.fd(), 0);
    const auto start = std::chrono::steady_clock::now();
    const auto endpoint = listen(path);
    auto front_end = FakeFrontEnd::connect(path);
    send(*front_end, lingering.fd());
    lingering.leave_to_messages();
    ASSERT_TRUE(until_state(*endpoint, State::failed));
    auto next = FakeFrontEnd::connect(path);
    hand_shake(*next);
    EXPECT_EQ(endpoint->status().state, State::connected);
    EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(10));
  }
}

TEST_F(EndpointTest, a_descriptor_that_blocks_when_closed_may_wait_with_one_that_is_refused_or_not_accepted) {
  const auto start = std::chrono::steady_clock::now();
  test::LingeringSocket refused_with, waiting_with;
  auto endpoint = listen(path);
  auto first = FakeFrontEnd::connect(path);
  hand_shake(*first);
  auto second = FakeFrontEnd::connect(path);
  second->send_bytes({1}, {refused_with.fd()});
  refused_with.leave_to_messages();
  EXPECT_TRUE(until([&] { return second->is_closed(); }));
  EXPECT_NE(ask(*first, 1), 0U);
  auto third = FakeFrontEnd::connect(path);
  third->send_bytes({1}, {waiting_with.fd()});
  waiting_with.leave_to_messages();
  endpoint.reset();
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(10));
}

TEST_F(EndpointTest, closes_a_second_front_end_while_the_first_goes_on) {
  const auto endpoint = listen(path);
  auto first = FakeFrontEnd::connect(path);
  hand_shake(*first);
  auto second = FakeFrontEnd::connect(path);
  ASSERT_TRUE(second);
  EXPECT_TRUE(until([&] { return second->is_closed(); }));
  EXPECT_NE(ask(*first, 1), 0U);
  EXPECT_EQ(endpoint->status().state, State::connected);
}

TEST_F(EndpointTest, takes_a_new_front_end_though_the_old_ones_end_was_not_seen_yet) {
  const auto endpoint = listen(path);
  auto first = FakeFrontEnd::connect(path);
  hand_shake(*first);
  // Unread messages stand before the end of the stream, so the loop finds the newcomer first or second: both must do.
  for (int i = 0; i < 100; ++i) first->send(3);
  first->close();
  auto second = FakeFrontEnd::connect(path);
  ASSERT_TRUE(second);
  hand_shake(*second);
  EXPECT_EQ(endpoint->status().state, State::connected);
}

TEST_F(EndpointTest, connects_once_the_front_end_listens_and_again_after_it_went) {
  auto made = create(Role::connect, path);
  ASSERT_TRUE(made);
  const auto endpoint = std::move(*made);
  ASSERT_TRUE(until([&] { return endpoint->status().reason.find("(No such file") != std::string::npos; }));
  EXPECT_EQ(endpoint->status().reason, "waiting for a front-end to listen on " + path + " (No such file or directory)");
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  const UniqueFd listener(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  ASSERT_EQ(::bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  ASSERT_TRUE(until([&] { return endpoint->status().reason.find("(Connection refused)") != std::string::npos; }));
  ASSERT_EQ(::listen(listener.get(), 1), 0);
  for (int round = 0; round < 2; ++round) {
    UniqueFd accepted;
    ASSERT_TRUE(until([&] {
      accepted = UniqueFd(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
      return static_cast<bool>(accepted);
    }));
    FakeFrontEnd front_end(std::move(accepted));
    hand_shake(front_end);
    EXPECT_EQ(endpoint->status().state, State::connected);
  }
}

TEST_F(EndpointTest, a_failed_connection_is_tried_again_and_keeps_its_reason_meanwhile) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  UniqueFd listener(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  ASSERT_EQ(::bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  ASSERT_EQ(::listen(listener.get(), 1), 0);
  auto made = create(Role::connect, path);
  ASSERT_TRUE(made);
  UniqueFd accepted;
  ASSERT_TRUE(until([&] {
    accepted = UniqueFd(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
    return static_cast<bool>(accepted);
  }));
  listener.reset();
  FakeFrontEnd front_end(std::move(accepted));
  front_end.send(5, memory_table(0));
  ASSERT_TRUE(until_state(**made, State::failed));
  const auto later = std::chrono::steady_clock::now() + std::chrono::milliseconds(250);
  ASSERT_TRUE(until([&] { return std::chrono::steady_clock::now() > later; }));
  EXPECT_EQ((*made)->status().state, State::failed) << "nobody listened since";
  EXPECT_NE((*made)->status().reason.find("no shared memory"), std::string::npos);
}

TEST_F(EndpointTest, makes_its_socket_with_mode_0660_and_removes_it) {
  auto endpoint = listen(path);
  struct stat found {};
  ASSERT_EQ(::lstat(path.c_str(), &found), 0);
  EXPECT_TRUE(S_ISSOCK(found.st_mode));
  EXPECT_EQ(found.st_mode & 0777, 0660U);
  endpoint.reset();
  EXPECT_NE(::lstat(path.c_str(), &found), 0);
  EXPECT_TRUE(std::filesystem::is_empty(folder)) << "no temporary name stays behind";
}

// The names in `folder` that events came for, in order: "created .x", "moved here vnic.sock", "changed vnic.sock", …
std::vector<std::string> read_events(int inotify) {
  std::vector<std::string> seen;
  alignas(inotify_event) std::array<char, 4096> buffer{};
  const ssize_t size = ::read(inotify, buffer.data(), buffer.size());
  for (ssize_t at = 0; at < size;) {
    const auto* const event = reinterpret_cast<const inotify_event*>(buffer.data() + at);
    const std::uint32_t kind = event->mask & IN_ALL_EVENTS;
    const char* const word = kind == IN_MOVED_TO ? "moved here" : kind == IN_ATTRIB ? "changed" : "other";
    seen.push_back(std::string(word) + " " + static_cast<const char*>(event->name));
    at += static_cast<ssize_t>(sizeof *event + event->len);
  }
  return seen;
}

TEST_F(EndpointTest, its_socket_has_mode_and_group_before_anybody_can_see_it) {
  const UniqueFd inotify(::inotify_init1(IN_NONBLOCK | IN_CLOEXEC));
  ASSERT_GE(::inotify_add_watch(inotify.get(), folder.c_str(), IN_CREATE | IN_ATTRIB | IN_MOVED_TO), 0);
  EndpointConfig config;
  config.vnic = "web";
  config.port = PortId{1};
  config.path = path;
  config.socket_group = ::getgid();
  const auto endpoint = Endpoint::create(loop, dataplane, config, nullptr);
  ASSERT_TRUE(endpoint) << endpoint.error().message;
  std::vector<std::string> of_the_path;
  for (const std::string& event : read_events(inotify.get())) {
    if (event.ends_with(" vnic.sock")) of_the_path.push_back(event);
  }
  EXPECT_EQ(of_the_path, (std::vector<std::string>{"moved here vnic.sock"})) << "nothing changes once it is there";
}

TEST_F(EndpointTest, only_sockets_that_nobody_listens_on_are_cleared_away) {
  const auto endpoint = listen(path);
  std::ofstream(folder + "/file.sock") << "x";
  for (const char* name : {"/dead.sock", "/.patchbay.1.5"}) {
    const UniqueFd dead(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    (folder + name).copy(address.sun_path, sizeof address.sun_path - 1);
    ASSERT_EQ(::bind(dead.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  }
  remove_dead_sockets(folder);
  remove_dead_sockets(folder + "/nonexistent");
  std::set<std::string> left;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) left.insert(entry.path().filename());
  EXPECT_EQ(left, (std::set<std::string>{"file.sock", "vnic.sock"}));
  EXPECT_TRUE(FakeFrontEnd::connect(path));
}

TEST_F(EndpointTest, gives_its_socket_to_the_group) {
  EndpointConfig config;
  config.vnic = "web";
  config.path = path;
  config.socket_group = ::getegid();
  const auto endpoint = Endpoint::create(loop, dataplane, config, nullptr);
  ASSERT_TRUE(endpoint);
  struct stat found {};
  ASSERT_EQ(::lstat(path.c_str(), &found), 0);
  EXPECT_EQ(found.st_gid, ::getegid());
}

TEST_F(EndpointTest, replaces_a_socket_that_nobody_listens_on) {
  {
    const UniqueFd dead(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path.copy(address.sun_path, sizeof address.sun_path - 1);
    ASSERT_EQ(::bind(dead.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  }
  const auto endpoint = listen(path);
  EXPECT_TRUE(FakeFrontEnd::connect(path));
}

TEST_F(EndpointTest, refuses_a_path_that_is_taken) {
  const auto endpoint = listen(path);
  const auto second = create(Role::listen, path, 2);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, ErrorCode::in_use);
  EXPECT_TRUE(FakeFrontEnd::connect(path)) << "the first still listens";

  const std::string file = folder + "/file";
  std::ofstream(file) << "mine";
  const auto over_file = create(Role::listen, file, 2);
  ASSERT_FALSE(over_file);
  EXPECT_EQ(over_file.error().code, ErrorCode::in_use);
  EXPECT_TRUE(std::filesystem::is_regular_file(file));
}

TEST_F(EndpointTest, takes_paths_of_1_to_107_bytes_in_directories_that_exist) {
  const std::string longest = folder + "/" + std::string(107 - folder.size() - 1, 'x');
  EXPECT_TRUE(create(Role::listen, longest));
  EXPECT_FALSE(create(Role::listen, longest + "x"));
  EXPECT_FALSE(create(Role::connect, longest + "x"));
  EXPECT_FALSE(create(Role::listen, ""));
  EXPECT_FALSE(create(Role::listen, folder + "/missing/vnic.sock"));
}

TEST_F(EndpointTest, a_fault_of_the_port_ends_the_connection_with_a_reason) {
  const auto endpoint = listen(path);
  auto front_end = FakeFrontEnd::connect(path);
  hand_shake(*front_end);
  endpoint->port_failed(dataplane::PortFault::memory_lost);
  EXPECT_EQ(endpoint->status().state, State::failed);
  EXPECT_NE(endpoint->status().reason.find("memory vanished"), std::string::npos) << endpoint->status().reason;
  EXPECT_TRUE(dataplane.links.empty());
  EXPECT_TRUE(until([&] { return front_end->is_closed(); }));
}

TEST_F(EndpointTest, may_be_deleted_from_its_own_notice) {
  std::unique_ptr<Endpoint> endpoint;
  EndpointConfig config;
  config.vnic = "web";
  config.path = path;
  auto made = Endpoint::create(loop, dataplane, config, [&] { endpoint.reset(); });
  ASSERT_TRUE(made);
  endpoint = std::move(*made);
  auto front_end = FakeFrontEnd::connect(path);
  EXPECT_TRUE(until([&] { return endpoint == nullptr; }));
  EXPECT_TRUE(until([&] { return front_end->is_closed(); }));
}

TEST_F(EndpointTest, random_bytes_and_messages_leak_no_descriptor) {
  static_cast<void>(listen(path));  // the event loop makes descriptors of its own at first use
  // May still count the socket of the line above, which a thread of its own closes.
  const std::size_t before = test::open_descriptors();
  {
    const auto endpoint = listen(path);
    std::mt19937 random(7);
    const auto below = [&random](std::uint32_t limit) { return static_cast<std::uint32_t>(random() % limit); };
    auto front_end = FakeFrontEnd::connect(path);
    const int flags = ::fcntl(front_end->fd(), F_GETFL);
    ::fcntl(front_end->fd(), F_SETFL, flags | O_NONBLOCK);
    for (int i = 0; i < 1500; ++i) {
      test::Bytes payload(below(48));
      for (auto& byte : payload) byte = static_cast<std::uint8_t>(below(3));
      std::vector<int> fds(below(10), below(2) == 0 ? memory.get() : events[0].get());
      if (below(30) == 0) fds.push_back(folder.size() % 2 == 0 ? 0 : 1);
      const bool sent = front_end->send(below(24), payload, fds, below(20) == 0 ? 3U : 1U | below(2) * 8);
      loop.restart();
      loop.poll();
      front_end->receive_now();
      if (!sent || front_end->is_closed()) front_end = FakeFrontEnd::connect(path);
    }
  }
  EXPECT_TRUE(dataplane.links.empty());
  loop.restart();
  loop.poll();
  // Foreign descriptors are closed by threads of their own.
  EXPECT_TRUE(until([&] { return test::open_descriptors() <= before; }))
      << test::open_descriptors() << " now, " << before << " before";
}

}  // namespace
}  // namespace patchbay::vhost_user
