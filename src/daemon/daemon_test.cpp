#include <gtest/gtest.h>
#include <linux/capability.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstddef>
#include <cstdlib>
#include <fstream>

#include "base/unique_fd.h"
#include "daemon/options.h"
#include "daemon/process.h"
#include "tests/support/temp_dir.h"

namespace patchbay::daemon {
namespace {

using test::TempDir;

CommandLine parse(std::vector<const char*> arguments) {
  arguments.insert(arguments.begin(), "patchbayd");
  return parse_command_line(static_cast<int>(arguments.size()), arguments.data());
}

// Parses with a configuration file of this text, and flags after it.
CommandLine parse_file(const TempDir& dir, const std::string& text, std::vector<const char*> arguments = {}) {
  const std::string path = dir.path() + "/config.yaml";
  std::ofstream(path) << text;
  arguments.insert(arguments.begin(), {"--config", path.c_str()});
  return parse(arguments);
}

TEST(Options, come_from_flags) {
  const auto parsed = parse({"--state-dir", "/a/./b/", "--run-dir", "/r", "--worker-cpus", "0,3", "--socket-group",
                             "kvm", "--poll", "always"});
  ASSERT_TRUE(parsed.options) << parsed.exit.text;
  EXPECT_EQ(parsed.options->state_dir, "/a/b");
  EXPECT_EQ(parsed.options->run_dir, "/r");
  EXPECT_EQ(parsed.options->worker_cpus, (std::vector<unsigned>{0, 3}));
  EXPECT_EQ(parsed.options->socket_group, "kvm");
  EXPECT_TRUE(parsed.options->always_poll);
}

TEST(Options, have_absolute_paths) {
  const auto parsed = parse({"--state-dir", "s", "--run-dir", "r"});
  ASSERT_TRUE(parsed.options);
  EXPECT_EQ(parsed.options->state_dir.front(), '/');
  EXPECT_TRUE(parsed.options->worker_cpus.empty());
  EXPECT_FALSE(parsed.options->socket_group);
  EXPECT_FALSE(parsed.options->always_poll);
}

TEST(Options, that_make_no_sense_are_a_usage_error) {
  for (const auto& arguments :
       std::vector<std::vector<const char*>>{{},
                                             {"--state-dir", "/s"},
                                             {"--run-dir", "/r"},
                                             {"--state-dir", "/s", "--run-dir", "/r", "--nonsense"},
                                             {"--state-dir", "/s", "--run-dir", "/r", "extra"},
                                             {"--state-dir", "/s", "--run-dir", "/r", "--worker-cpus", "0,"},
                                             {"--state-dir", "/s", "--run-dir", "/r", "--worker-cpus", "a"},
                                             {"--state-dir", "/s", "--run-dir", "/r", "--poll", "sometimes"},
                                             {"--state-dir", "/s", "--run-dir", "/r", "--worker-cpus", "-1"}}) {
    const auto parsed = parse(arguments);
    EXPECT_FALSE(parsed.options);
    EXPECT_EQ(parsed.exit.code, 2) << parsed.exit.text;
    EXPECT_FALSE(parsed.exit.text.empty());
  }
}

TEST(Options, help_is_no_error_and_has_an_example) {
  const auto parsed = parse({"--help"});
  EXPECT_EQ(parsed.exit.code, 0);
  EXPECT_NE(parsed.exit.text.find("Example:"), std::string::npos);
}

TEST(Options, come_from_a_file_and_flags_win) {
  const TempDir dir;
  const auto parsed =
      parse_file(dir, "state-dir: /s\nrun-dir: /r\nworker-cpus: [0, 1]\nsocket-group: kvm\npoll: always\n",
                 {"--run-dir", "/other", "--worker-cpus", "2"});
  ASSERT_TRUE(parsed.options) << parsed.exit.text;
  EXPECT_EQ(parsed.options->state_dir, "/s");
  EXPECT_EQ(parsed.options->run_dir, "/other");
  EXPECT_EQ(parsed.options->worker_cpus, std::vector<unsigned>{2});
  EXPECT_EQ(parsed.options->socket_group, "kvm");
  for (const char* cpus : {"0,1", "[0, 1]", "\"0,1\""}) {
    const auto same = parse_file(dir, std::string("state-dir: /s\nrun-dir: /r\nworker-cpus: ") + cpus);
    ASSERT_TRUE(same.options) << same.exit.text;
    EXPECT_EQ(same.options->worker_cpus, (std::vector<unsigned>{0, 1}));
  }
}

TEST(Options, a_bad_file_is_named_with_line_and_key) {
  struct Case {
    const char* text;
    const char* part;
  };
  for (const Case& c :
       {Case{"state-dir: /s\nrundir: /r\n", "line 2: rundir: unknown key"},
        Case{"state-dir: /s\npoll: never\n", "line 2: poll: \"never\""},
        Case{"state-dir: /s\n\nworker-cpus: many\n", "line 3: worker-cpus: 'many'"},
        Case{"worker-cpus: [0, [1]]\n", "line 1: worker-cpus:"}, Case{"worker-cpus: {a: 1}\n", "line 1: worker-cpus:"},
        Case{"state-dir: [a]\n", "line 1: state-dir:"},
        Case{"run-dir: /r\nrun-dir: /q\n", "line 2: run-dir: this key was given already"},
        Case{"just words\n", "line 1:"}, Case{"a: b\n  c: [\n", "line "}}) {
    const TempDir dir;
    const auto parsed = parse_file(dir, c.text);
    EXPECT_EQ(parsed.exit.code, 1) << c.text;
    EXPECT_NE(parsed.exit.text.find(c.part), std::string::npos) << c.text << parsed.exit.text;
    EXPECT_NE(parsed.exit.text.find(dir.path() + "/config.yaml"), std::string::npos) << parsed.exit.text;
  }
  EXPECT_EQ(parse({"--config", "/nonexistent.yaml"}).exit.code, 1);
  const TempDir dir;
  EXPECT_EQ(parse_file(dir, "").exit.code, 2) << "an empty file is fine, but lacks the directories";
}

TEST(Process, makes_missing_directories_and_leaves_others_alone) {
  const TempDir dir;
  ::chmod(dir.path().c_str(), 0711);
  const std::string inner = dir.path() + "/a/b";
  ASSERT_TRUE(make_directories(inner, 0700));
  ASSERT_TRUE(make_directories(inner, 0755)) << "a second time";
  struct stat status {};
  ASSERT_EQ(::stat(inner.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777, 0700U);
  ASSERT_EQ(::stat(dir.path().c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777, 0711U);
  std::ofstream(dir.path() + "/file") << "x";
  EXPECT_FALSE(make_directories(dir.path() + "/file", 0700));
  EXPECT_FALSE(make_directories(dir.path() + "/file/below", 0700));
}

TEST(Process, finds_groups_by_name_and_number) {
  EXPECT_EQ(*find_group("root"), 0U);
  EXPECT_EQ(*find_group("12345"), 12345U);
  for (const char* bad : {"", "no-such-group-here", "12x", "4294967295", "-1"}) EXPECT_FALSE(find_group(bad)) << bad;
}

TEST(Process, says_when_the_limit_of_open_files_is_too_low_for_the_guests) {
  EXPECT_EQ(descriptor_shortage(1000, 8512), std::nullopt);
  const auto shortage = descriptor_shortage(1001, 8512);
  ASSERT_TRUE(shortage);
  EXPECT_NE(shortage->find("1001 guest vnics"), std::string::npos) << *shortage;
  EXPECT_NE(shortage->find("LimitNOFILE=8520"), std::string::npos) << *shortage;
  EXPECT_EQ(descriptor_shortage(0, 1024), std::nullopt);
}

TEST(Process, may_have_as_many_files_open_as_the_system_allows) {
  raise_descriptor_limit();
  rlimit limit{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &limit), 0);
  EXPECT_EQ(limit.rlim_cur, limit.rlim_max);
  EXPECT_EQ(descriptor_limit(), limit.rlim_cur);
}

TEST(Process, names_the_capabilities_that_it_lacks) {
  const pid_t child = ::fork();  // what a process gives up it does not get back
  ASSERT_GE(child, 0);
  if (child == 0) {
    __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
    __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {};
    if (::syscall(SYS_capset, &header, none) != 0) ::_exit(100);
    const auto missing = missing_capabilities();
    const bool all = missing.size() == 2 && std::string(missing[0].name) == "CAP_NET_ADMIN" &&
                     std::string(missing[1].name) == "CAP_NET_RAW";
    ::_exit(all ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

TEST(Process, tells_the_service_manager_when_it_is_asked_to) {
  ::unsetenv("NOTIFY_SOCKET");
  notify_ready();  // nobody asked
  const TempDir dir;
  for (const std::string& name : {dir.path() + "/notify", "@patchbay-test-" + std::to_string(::getpid())}) {
    const UniqueFd manager(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    name.copy(address.sun_path, sizeof address.sun_path - 1);
    if (name.front() == '@') address.sun_path[0] = '\0';
    const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name.size());
    ASSERT_EQ(::bind(manager.get(), reinterpret_cast<const sockaddr*>(&address), size), 0);
    ::setenv("NOTIFY_SOCKET", name.c_str(), 1);
    notify_ready();
    char text[32] = {};
    EXPECT_EQ(::recv(manager.get(), text, sizeof text, 0), 7) << name;
    EXPECT_STREQ(text, "READY=1");
  }
  ::setenv("NOTIFY_SOCKET", "/nonexistent/notify", 1);
  notify_ready();  // a warning, no more
  ::unsetenv("NOTIFY_SOCKET");
}

}  // namespace
}  // namespace patchbay::daemon
