// A live server on a real unix socket, with clients that behave and clients that do not.
#include "control/api/server.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <boost/asio/executor_work_guard.hpp>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <thread>

#include "base/unique_fd.h"
#include "control/api/fake_service.h"
#include "tests/support/lingering_socket.h"

namespace patchbay::api {
namespace {

constexpr int answer_time_ms = 10'000;

// A blocking client.
class Client {
 public:
  explicit Client(const std::string& path) : fd_(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path.data(), path.size());
    connected_ = ::connect(fd_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
  }
  [[nodiscard]] bool connected() const { return connected_; }

  // Gives false once the server does not take any more.
  bool send(std::string_view bytes) {
    while (!bytes.empty()) {
      const auto sent = ::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent <= 0) return false;
      bytes.remove_prefix(static_cast<std::size_t>(sent));
    }
    return true;
  }
  // `bytes`, with the descriptor `fd`.
  bool send_with(std::string_view bytes, int fd) {
    iovec data{const_cast<char*>(bytes.data()), bytes.size()};
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof fd)] = {};
    msghdr header{};
    header.msg_iov = &data;
    header.msg_iovlen = 1;
    header.msg_control = control;
    header.msg_controllen = sizeof control;
    cmsghdr* const part = CMSG_FIRSTHDR(&header);
    part->cmsg_level = SOL_SOCKET;
    part->cmsg_type = SCM_RIGHTS;
    part->cmsg_len = CMSG_LEN(sizeof fd);
    std::memcpy(CMSG_DATA(part), &fd, sizeof fd);
    return ::sendmsg(fd_.get(), &header, MSG_NOSIGNAL) == static_cast<ssize_t>(bytes.size());
  }
  // Reads until `end` stands in what came, or the server closes, or nothing comes for too long.
  std::string read_until(const std::string& end) {
    std::string got;
    while (got.find(end) == std::string::npos) {
      pollfd waiting{fd_.get(), POLLIN, 0};
      if (::poll(&waiting, 1, answer_time_ms) <= 0) return got + "(nothing more came)";
      char bytes[4096];
      const auto size = ::recv(fd_.get(), bytes, sizeof bytes, 0);
      if (size <= 0) return got;
      got.append(bytes, static_cast<std::size_t>(size));
    }
    return got;
  }
  std::string read_to_end() { return read_until("\x01never sent\x01"); }
  void finish_sending() { ::shutdown(fd_.get(), SHUT_WR); }

 private:
  UniqueFd fd_;
  bool connected_ = false;
};

constexpr const char* get_workers = "GET /v1/workers HTTP/1.1\r\nHost: x\r\n\r\n";
constexpr const char* get_workers_last = "GET /v1/workers HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

class ServerTest : public testing::Test {
 protected:
  void SetUp() override {
    char pattern[] = "/tmp/patchbay-api-XXXXXX";
    ASSERT_NE(::mkdtemp(pattern), nullptr);
    directory_ = pattern;
    path_ = directory_ + "/api.sock";
  }
  void TearDown() override {
    stop();
    std::filesystem::remove_all(directory_);
  }

  void start(Limits limits = {}) {
    auto server = Server::create(loop_, service_, path_, std::nullopt, limits);
    ASSERT_TRUE(server) << server.error().message;
    server_ = std::move(*server);
    guard_.emplace(loop_.get_executor());
    thread_ = std::thread([this] { loop_.run(); });
  }
  void stop() {
    guard_.reset();
    loop_.stop();
    if (thread_.joinable()) thread_.join();
    server_.reset();
  }
  // A well-behaved request on a connection of its own, answered in good time.
  void expect_service() {
    Client client(path_);
    ASSERT_TRUE(client.connected());
    client.send(get_workers_last);
    const auto answer = client.read_to_end();
    EXPECT_EQ(answer.rfind("HTTP/1.1 200 OK", 0), 0u) << answer;
    EXPECT_NE(answer.find(R"([{"id":0)"), std::string::npos) << answer;
  }

  boost::asio::io_context loop_{1};
  FakeService service_;
  std::string directory_;
  std::string path_;
  std::unique_ptr<Server> server_;
  std::optional<boost::asio::executor_work_guard<boost::asio::io_context::executor_type>> guard_;
  std::thread thread_;
};

TEST_F(ServerTest, answers_several_requests_on_one_connection) {
  start();
  Client client(path_);
  for (int i = 0; i < 3; ++i) {
    client.send(get_workers);
    EXPECT_NE(client.read_until("}]\n").find("200 OK"), std::string::npos);
  }
}

TEST_F(ServerTest, answers_pipelined_requests_in_order) {
  start();
  Client client(path_);
  client.send(std::string(get_workers) + "GET /v1/nope HTTP/1.1\r\nHost: x\r\n\r\n" + get_workers_last);
  const auto answers = client.read_to_end();
  const auto first = answers.find("200 OK");
  const auto second = answers.find("404 Not Found");
  const auto third = answers.rfind("200 OK");
  ASSERT_NE(second, std::string::npos) << answers;
  EXPECT_LT(first, second);
  EXPECT_LT(second, third);
}

TEST_F(ServerTest, closes_on_garbage_with_a_sentence_and_lives) {
  start();
  for (const auto& garbage : {std::string("\0\xff\x16\x03\x01 nonsense\r\n\r\n", 18), std::string("GET\r\n\r\n"),
                              std::string("\r\n\r\n\r\n"), std::string("GET /v1/show HTTP/9.9\r\n\r\n"),
                              std::string("POST /v1/vnics HTTP/1.1\r\nContent-Length: -1\r\n\r\n"),
                              std::string("POST /v1/vnics HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n")}) {
    Client client(path_);
    client.send(garbage);
    client.finish_sending();
    const auto answer = client.read_to_end();
    EXPECT_TRUE(answer.empty() || answer.rfind("HTTP/1.1 400 Bad Request", 0) == 0) << answer;
  }
  Client client(path_);
  client.send("NOT HTTP AT ALL\r\n\r\n");
  EXPECT_NE(client.read_to_end().find("this is not an HTTP/1.1 request"), std::string::npos);
  expect_service();
}

TEST_F(ServerTest, takes_half_a_request_for_nothing_when_the_client_goes) {
  start();
  for (const char* half : {"POST /v1/vn", "POST /v1/vnics HTTP/1.1\r\nContent-Length: 100\r\n\r\n{\"name\":"}) {
    Client client(path_);
    client.send(half);
    client.finish_sending();
    EXPECT_EQ(client.read_to_end(), "");
  }
  expect_service();
  stop();
  EXPECT_EQ(service_.changes, 0);
}

TEST_F(ServerTest, closes_a_connection_that_is_silent_for_too_long) {
  start({.idle = std::chrono::milliseconds(50)});
  Client silent(path_);
  Client half(path_);
  half.send("GET /v1/wor");
  EXPECT_EQ(silent.read_to_end(), "");
  EXPECT_EQ(half.read_to_end(), "");
}

TEST_F(ServerTest, serves_one_while_two_hundred_are_slow) {
  start();
  std::vector<std::unique_ptr<Client>> slow;
  for (int i = 0; i < 200; ++i) {
    slow.push_back(std::make_unique<Client>(path_));
    ASSERT_TRUE(slow.back()->connected());
    slow.back()->send("GET /v1/workers HTTP/1.1\r\nX: ");
  }
  expect_service();
  slow.front()->send("y\r\nConnection: close\r\n\r\n");
  EXPECT_NE(slow.front()->read_to_end().find("200 OK"), std::string::npos) << "a slow request is answered in the end";
}

TEST_F(ServerTest, refuses_a_connection_too_many_until_one_goes) {
  start({.connections_max = 2});
  auto first = std::make_unique<Client>(path_);
  first->send(get_workers);
  first->read_until("}]\n");
  Client second(path_);
  second.send(get_workers);
  second.read_until("}]\n");
  first->send("GET /v1/");
  second.send("GET /v1/");
  std::this_thread::sleep_for(std::chrono::milliseconds(1));
  Client third(path_);
  const auto refused = third.read_to_end();
  EXPECT_EQ(refused.rfind("HTTP/1.1 503", 0), 0u) << refused;
  EXPECT_NE(refused.find("no_resource"), std::string::npos);
  first->send(get_workers_last + 8);  // the rest; the server closes it
  first->read_to_end();
  first.reset();
  for (int attempt = 0; attempt < 100; ++attempt) {  // its end takes a turn of the loop
    Client again(path_);
    again.send(get_workers_last);
    if (again.read_to_end().find("200 OK") != std::string::npos) return;
    std::this_thread::yield();
  }
  FAIL() << "no connection was freed";
}

TEST_F(ServerTest, tells_the_service_whose_process_asks) {
  start();
  expect_service();
  stop();
  EXPECT_EQ(service_.actor.uid, ::getuid());
}

TEST_F(ServerTest, a_connection_too_many_takes_the_place_of_the_one_idle_longest) {
  start({.connections_max = 3});
  Client busy(path_);
  busy.send("GET /v1/");
  Client idle_longest(path_);
  Client idle(path_);
  for (Client* client : {&idle_longest, &idle}) {
    client->send(get_workers);
    client->read_until("}]\n");
  }
  expect_service();
  EXPECT_EQ(idle_longest.read_to_end(), "");
  for (Client* client : {&busy, &idle}) {
    client->send(client == &busy ? get_workers_last + 8 : get_workers_last);
    EXPECT_NE(client->read_to_end().find("200 OK"), std::string::npos);
  }
}

TEST_F(ServerTest, descriptors_that_block_when_closed_hold_up_nobody) {
  start({.connections_max = 1});
  test::LingeringSocket read_with, closed_with;
  const auto start_time = std::chrono::steady_clock::now();
  Client sender(path_);
  EXPECT_TRUE(sender.send_with("G", read_with.fd()));
  read_with.leave_to_messages();
  EXPECT_EQ(sender.read_to_end(), "") << "whoever sends descriptors is closed";
  Client holder(path_);
  holder.send(get_workers_last);
  EXPECT_TRUE(holder.send_with("G", closed_with.fd()));
  closed_with.leave_to_messages();
  holder.read_to_end();
  expect_service();
  EXPECT_LT(std::chrono::steady_clock::now() - start_time, std::chrono::seconds(10));
}

TEST_F(ServerTest, refuses_a_large_body_with_413) {
  start();
  Client announced(path_);
  announced.send("POST /v1/vnics HTTP/1.1\r\nHost: x\r\nContent-Length: 10485760\r\n\r\n");
  const std::string megabyte(1024 * 1024, ' ');
  for (int i = 0; i < 10; ++i) EXPECT_TRUE(announced.send(megabyte)) << "a client may send it all and then read";
  announced.finish_sending();
  const auto answer = announced.read_to_end();
  EXPECT_EQ(answer.rfind("HTTP/1.1 413", 0), 0u) << answer;
  EXPECT_NE(answer.find("larger than 1048576 bytes"), std::string::npos) << answer;

  Client chunked(path_);
  chunked.send("POST /v1/vnics HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
  for (int i = 0; i < 2; ++i) chunked.send("100000\r\n" + megabyte + "\r\n");
  chunked.finish_sending();
  EXPECT_EQ(chunked.read_to_end().rfind("HTTP/1.1 413", 0), 0u);
  expect_service();
}

TEST_F(ServerTest, reads_a_body_of_exactly_the_limit) {
  start();
  Client client(path_);
  client.send("POST /v1/vnics HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 1048576\r\n\r\n" +
              std::string(1024 * 1024, ' '));
  EXPECT_NE(client.read_to_end().find("not JSON"), std::string::npos);
}

TEST_F(ServerTest, refuses_a_large_header_with_431) {
  start();
  for (const std::size_t size : {std::size_t{20'000}, std::size_t{200'000}}) {
    Client client(path_);
    client.send("GET /v1/vnics/" + std::string(size, 'x') + " HTTP/1.1\r\nHost: x\r\n\r\n");
    client.finish_sending();
    const auto answer = client.read_to_end();
    EXPECT_EQ(answer.rfind("HTTP/1.1 431", 0), 0u) << answer;
  }
  Client client(path_);
  client.send("GET /v1/vnics/" + std::string(5000, 'x') + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  EXPECT_EQ(client.read_to_end().rfind("HTTP/1.1 400", 0), 0u) << "a name of 5000 letters is read, and refused";
}

TEST_F(ServerTest, survives_a_client_that_never_reads) {
  start({.idle = std::chrono::milliseconds(200)});
  Client deaf(path_);
  std::string many;
  for (int i = 0; i < 20'000; ++i) many += get_workers;
  deaf.send(many);  // ends when the server gives up on us
  expect_service();
}

TEST_F(ServerTest, makes_the_socket_for_owner_and_group_and_removes_it) {
  start();
  struct stat status {};
  ASSERT_EQ(::stat(path_.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777, 0660u);
  EXPECT_FALSE(std::filesystem::exists(path_ + ".new"));
  stop();
  EXPECT_FALSE(std::filesystem::exists(path_));
}

TEST_F(ServerTest, replaces_the_socket_of_a_dead_daemon_but_not_of_a_live_one) {
  start();
  boost::asio::io_context loop;
  auto second = Server::create(loop, service_, path_, std::nullopt);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, ErrorCode::in_use);
  expect_service();
  // Dead: bound once, and its process gone without unlink.
  const std::string dead = directory_ + "/dead.sock";
  {
    const UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, dead.data(), dead.size());
    ASSERT_EQ(::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  }
  EXPECT_TRUE(Server::create(loop, service_, dead, std::nullopt));
}

TEST_F(ServerTest, refuses_paths_that_cannot_be_its_socket) {
  const auto code = [&](const std::string& path) {
    const auto server = Server::create(loop_, service_, path, std::nullopt);
    return server ? "created" : to_string(server.error().code);
  };
  std::ofstream(directory_ + "/file") << "precious";
  EXPECT_STREQ(code(directory_ + "/file"), "exists");
  EXPECT_STREQ(code(directory_ + "/none/api.sock"), "not_found");
  EXPECT_STREQ(code(""), "invalid");
  EXPECT_STREQ(code(directory_ + "/" + std::string(104 - directory_.size() - 1, 'x')), "invalid");
  EXPECT_STREQ(code(directory_ + "/" + std::string(103 - directory_.size() - 1, 'x')), "created");
  EXPECT_TRUE(std::filesystem::exists(directory_ + "/file"));
}

TEST_F(ServerTest, gives_the_socket_to_the_group) {
  const gid_t group = ::getegid();
  const auto server = Server::create(loop_, service_, path_, group);
  ASSERT_TRUE(server) << server.error().message;
  struct stat status {};
  ASSERT_EQ(::stat(path_.c_str(), &status), 0);
  EXPECT_EQ(status.st_gid, group);
}

TEST_F(ServerTest, may_go_before_its_clients) {
  start();
  Client idle(path_);
  Client half(path_);
  half.send("GET /v1/");
  expect_service();
  stop();
  loop_.restart();
  loop_.poll();  // what was cancelled is called back, and touches nothing that is gone
  EXPECT_EQ(idle.read_to_end(), "");
  EXPECT_EQ(half.read_to_end(), "");
}

}  // namespace
}  // namespace patchbay::api
