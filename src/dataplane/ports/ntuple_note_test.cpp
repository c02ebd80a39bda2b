// What stands in a note, and what is put back by it after a crash, or later.
#include "dataplane/ports/ntuple_note.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "dataplane/ports/xdp_port.h"
#include "model/uplink_driver.h"
#include "tests/support/ntuple_fixture.h"

namespace patchbay::dataplane {
namespace {

using test::foreign_rule;
using test::gone_index;
using test::mac;
using test::NtupleDriver;
using test::other_mac;
using test::Table;
using NtupleNoteTest = test::NtupleFixture;

TEST_F(NtupleNoteTest, takes_away_what_a_killed_run_left_and_nothing_else) {
  driver_.rss = {1, 1, 2, 2, 3, 3, 0, 0};
  driver_.rss_is_set = true;
  auto rules = open();
  ASSERT_TRUE(rules->set(1, {mac, 101}));
  ASSERT_TRUE(rules->set(3, {other_mac, 0}));
  EXPECT_EQ(NtupleNote::paths_in(dir_.path()), std::vector<std::string>{note().path});
  auto noted = read_note();
  ASSERT_TRUE(noted);
  NtupleDriver killed = driver_;
  rules.reset();
  killed.rules[0] = foreign_rule();
  killed.rules[1] = flow_spec_of({{mac, 101}, true, 2}, 1);  // nearly ours
  ASSERT_TRUE(noted->write());
  EXPECT_EQ(NtupleRules::put_back(killed.asks(), *noted), 0);
  EXPECT_EQ(killed.rules.size(), 2U);
  EXPECT_TRUE(killed.rules.contains(0) && killed.rules.contains(1));
  EXPECT_EQ(killed.rss, (Table{1, 1, 2, 2, 3, 3, 0, 0}));
  EXPECT_TRUE(killed.filters_on) << "the others need them";
  EXPECT_FALSE(has_notes());
}

TEST_F(NtupleNoteTest, stays_while_something_cannot_be_put_back_until_the_nic_is_opened_again) {
  auto rules = open();
  ASSERT_TRUE(rules->set(1, {mac, 101}));
  const auto noted = read_note();
  ASSERT_TRUE(noted);
  for (const int error : {ENODEV, EPERM}) {
    driver_.error = error;
    rules.reset();
    ASSERT_TRUE(read_note());
    EXPECT_EQ(*read_note(), *noted);
    EXPECT_EQ(NtupleRules::put_back(driver_.asks(), *noted), error);
    EXPECT_EQ(*read_note(), *noted);
    EXPECT_EQ(refusal(), fmt::format("what Patchbay changed at it before cannot be put back ({}): see {}",
                                     std::strerror(error), note().path));
    EXPECT_EQ(*read_note(), *noted) << "not replaced by a new one";
  }
  driver_.error = 0;
  EXPECT_EQ(driver_.rules.size(), 1U);
  rules = open();
  ASSERT_TRUE(rules);
  EXPECT_TRUE(driver_.rules.empty());
  rules.reset();
  EXPECT_FALSE(driver_.filters_on || driver_.rss_is_set || has_notes());
}

TEST_F(NtupleNoteTest, of_a_nic_that_has_gone_goes) {
  driver_.error = ENODEV;
  NtupleNote made = NtupleNote::of(dir_.path(), gone_index);
  made.switched_on = true;
  ASSERT_TRUE(made.write());
  EXPECT_EQ(NtupleRules::put_back(driver_.asks(), made), 0);
  EXPECT_FALSE(has_notes());
}

TEST_F(NtupleNoteTest, is_of_the_interface_with_its_index_whatever_its_name_is) {
  NtupleNote kept = note();
  kept.path = dir_.path() + "/ntuple+eth7";
  kept.switched_on = true;
  NtupleNote of_another_boot = note();
  of_another_boot.boot += "0";
  NtupleNote gone = NtupleNote::of(dir_.path(), gone_index);
  gone.rules = {{{mac, 101}, true, 1}};
  for (const NtupleNote& made : {kept, of_another_boot, gone}) ASSERT_TRUE(made.write());
  std::ofstream(dir_.path() + "/ntuple+8") << "about";
  XdpPort::put_back_left(dir_.path());
  EXPECT_EQ(NtupleNote::paths_in(dir_.path()), std::vector<std::string>{kept.path})
      << "the loopback interface has no filters";
  EXPECT_EQ(*NtupleNote::read(kept.path), kept);
}

TEST_F(NtupleNoteTest, says_nothing_of_another_boot_or_if_it_is_not_whole) {
  NtupleNote made = note();
  made.switched_on = true;
  made.rss = {0, 1};
  made.rules = {{{mac, 101}, true, 1}, {{other_mac, 0}, false, 2}};
  ASSERT_TRUE(made.write());
  ASSERT_TRUE(read_note());
  EXPECT_EQ(*read_note(), made);
  std::ifstream file(made.path);
  const std::string whole{std::istreambuf_iterator<char>(file), {}};
  for (std::size_t size = 0; size + 1 < whole.size(); ++size) {
    std::ofstream(made.path, std::ios::trunc) << whole.substr(0, size);
    ASSERT_EQ(read_error(), ErrorCode::invalid) << whole.substr(0, size);
  }
  made.boot += "0";
  ASSERT_TRUE(made.write());
  EXPECT_EQ(read_error(), ErrorCode::invalid);
  made.remove();
  EXPECT_EQ(read_error(), ErrorCode::not_found);
  EXPECT_FALSE(has_notes());
}

TEST_F(NtupleNoteTest, is_not_read_above_its_limits) {
  NtupleNote most = note();
  most.rss.assign(NtupleNote::rss_max, 1);
  most.rules.assign(model::xdp_queues_max, {{mac, 4094}, true, model::xdp_queues_max - 1});
  ASSERT_TRUE(most.write());
  ASSERT_TRUE(read_note());
  EXPECT_EQ(*read_note(), most);
  const auto is_refused = [&](auto change) {
    NtupleNote more = most;
    change(more);
    return more.write() && read_error() == ErrorCode::invalid;
  };
  EXPECT_TRUE(is_refused([](NtupleNote& more) { more.rss.push_back(1); }));
  EXPECT_TRUE(is_refused([](NtupleNote& more) { more.rules.push_back(more.rules[0]); }));
  EXPECT_TRUE(is_refused([](NtupleNote& more) { more.rules[0].filter.vid = 4095; }));
  EXPECT_TRUE(is_refused([](NtupleNote& more) { more.rules[0].queue = model::xdp_queues_max; }));
  EXPECT_TRUE(is_refused([](NtupleNote& more) { more.if_index = 0; }));
}

TEST_F(NtupleNoteTest, is_replaced_by_nothing_that_is_not_whole) {
  const NtupleNote made = note();
  ASSERT_TRUE(made.write());
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  rlimit small = before;
  small.rlim_cur = 10;
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
  errno = EPERM;
  const bool written = made.write();  // 10 bytes of it: a short write
  const int error = errno;
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &before), 0);
  EXPECT_FALSE(written);
  EXPECT_EQ(error, ENOSPC);
  EXPECT_EQ(*read_note(), made);
  std::filesystem::create_directory(dir_.path() + "/new+ntuple+1");
  EXPECT_FALSE(made.write()) << "it is written under that name";
  EXPECT_EQ(NtupleNote::paths_in(dir_.path()), std::vector<std::string>{made.path});
}

}  // namespace
}  // namespace patchbay::dataplane
