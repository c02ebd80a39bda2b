// What the shell is offered: read off a command line like the real one.
#include "completion.h"

#include <gtest/gtest.h>

namespace patchbay::cli {
namespace {

using Words = std::vector<std::string>;

class CompletionTest : public testing::Test {
 protected:
  CompletionTest() {
    app.add_option("--api", context.socket_path)->type_name("SOCKET");
    app.add_flag("--json", context.json);
    add_show(app, context);
    add_nic(app, context);
    add_team(app, context);
    add_switch(app, context);
    add_vnic(app, context);
    add_vmq(app, context);
    add_policy(app, context);
    add_host(app, context);
    add_host_file(app, context);
    add_audit(app, context);
    add_completion(app, context);
  }

  Words offer(const Words& words) {
    return candidates(app, context, words, [this](const std::string& socket_path, const std::string& path) {
      asked = socket_path + " " + path;
      if (path == "/v1/nics") return Words{"eth0", "eth1"};
      if (path == "/v1/switches") return Words{"lan", "lab"};
      if (path == "/v1/teams") return Words{"up1", "up2"};
      if (path == "/v1/policies") return Words{"storage"};
      return Words{"web", "db"};
    });
  }

  Context context;
  CLI::App app{"test", "patchbay"};
  std::string asked;
};

TEST_F(CompletionTest, offers_nouns_and_verbs) {
  EXPECT_EQ(offer({""}), (Words{"apply", "audit", "completion", "export", "host", "nic", "policy", "show", "switch",
                                "team", "vmq", "vnic"}));
  EXPECT_EQ(offer({"sw"}), Words{"switch"});
  EXPECT_EQ(offer({"vnic", ""}), (Words{"attach-args", "create", "delete", "list", "set", "show"}));
  EXPECT_EQ(offer({"vnic", "x"}), Words{});
  EXPECT_EQ(offer({"nonsense", "v"}), Words{}) << "a word that is no command leads nowhere";
  EXPECT_EQ(offer({}), offer({""}));
}

TEST_F(CompletionTest, offers_names_of_the_noun_but_not_for_a_new_object) {
  EXPECT_EQ(offer({"vnic", "show", ""}), (Words{"db", "web"}));
  EXPECT_EQ(offer({"vnic", "delete", "w"}), Words{"web"});
  EXPECT_EQ(offer({"switch", "set", ""}), (Words{"lab", "lan"}));
  EXPECT_EQ(offer({"switch", "fdb", ""}), (Words{"lab", "lan"}));
  EXPECT_EQ(offer({"nic", "show", "eth"}), (Words{"eth0", "eth1"}));
  EXPECT_EQ(offer({"vnic", "create", ""}), Words{});
  EXPECT_EQ(offer({"policy", "show", ""}), Words{"storage"});
  EXPECT_EQ(offer({"policy", "create", ""}), Words{});
  EXPECT_EQ(offer({"audit", ""}), (Words{"db", "lab", "lan", "storage", "up1", "up2", "web"}));
  EXPECT_EQ(offer({"team", "set", ""}), (Words{"up1", "up2"}));
  EXPECT_EQ(offer({"team", "create", ""}), Words{});
}

TEST_F(CompletionTest, offers_options_of_the_verb_and_those_that_may_stand_anywhere) {
  const auto create = offer({"vnic", "create", "new", "--"});
  for (const char* option : {"--switch", "--host", "--mac", "--vlan", "--connect", "--json", "--api", "--help"}) {
    EXPECT_NE(std::find(create.begin(), create.end(), option), create.end()) << option;
  }
  EXPECT_EQ(offer({"switch", "create", "new", "--int"}), Words{"--internal"}) << "of an option group too";
  EXPECT_EQ(offer({"vnic", "create", "new", "--force"}), Words{}) << "of another noun";
  EXPECT_EQ(offer({"--js"}), Words{"--json"});
}

TEST_F(CompletionTest, offers_values_of_an_option) {
  EXPECT_EQ(offer({"vnic", "create", "new", "--switch", ""}), (Words{"lab", "lan"}));
  EXPECT_EQ(offer({"switch", "create", "new", "--external", "eth1"}), Words{"eth1"});
  EXPECT_EQ(offer({"switch", "create", "new", "--external", ""}), (Words{"eth0", "eth1", "up1", "up2"}));
  EXPECT_EQ(offer({"vmq", "list", "--nic", ""}), (Words{"eth0", "eth1", "up1", "up2"}));
  EXPECT_EQ(offer({"vnic", "set", "web", "--vmq-weight", ""}), Words{});
  EXPECT_EQ(offer({"team", "create", "new", "--nics", ""}), (Words{"eth0", "eth1"}));
  EXPECT_EQ(offer({"team", "set", "up1", "--standby", ""}), (Words{"eth0", "eth1", "none"}));
  EXPECT_EQ(offer({"team", "set", "up1", "--mode", ""}), (Words{"lacp", "static", "switch-independent"}));
  EXPECT_EQ(offer({"vnic", "attach-args", "web", "--format", ""}), (Words{"libvirt", "qemu"}));
  EXPECT_EQ(offer({"switch", "set", "lan", "--force-vlan", ""}), Words{"none"});
  EXPECT_EQ(offer({"vnic", "set", "web", "--mac-spoofing", ""}), (Words{"off", "on"}));
  EXPECT_EQ(offer({"vnic", "create", "new", "--trunk", "10", "--native", ""}), Words{"untagged"});
  EXPECT_EQ(offer({"switch", "set", "lan", "--share-with-host", ""}), Words{"none"});
  EXPECT_EQ(offer({"switch", "create", "new", "--share-with-host", ""}), Words{}) << "a name that nobody has";
  EXPECT_EQ(offer({"vnic", "create", "new", "--mac", ""}), Words{}) << "nobody knows";
  EXPECT_EQ(offer({"vnic", "create", "new", "--switch", "=", "la"}), (Words{"lab", "lan"})) << "as bash splits it";
  EXPECT_EQ(offer({"policy", "set", "storage", "--apply-to", ""}), (Words{"host", "none"}));
  EXPECT_EQ(offer({"policy", "create", "new", "--apply-to", "host", "--apply-to", ""}), Words{"host"});
  EXPECT_EQ(offer({"vnic", "set", "web", "--label", ""}), Words{"none"});
  EXPECT_EQ(offer({"host", "set", "--buffer-limit", ""}), Words{"default"});
  EXPECT_EQ(offer({"apply", "-f", ""}), Words{":files"});
  EXPECT_EQ(offer({"completion", ""}), (Words{"bash", "zsh"}));
}

TEST_F(CompletionTest, looks_past_options_and_their_values) {
  EXPECT_EQ(offer({"--json", "vnic", "show", ""}), (Words{"db", "web"}));
  EXPECT_EQ(offer({"vnic", "show", "--api", "/x/api.sock", "w"}), Words{"web"});
  EXPECT_EQ(asked, "/x/api.sock /v1/vnics");
  EXPECT_EQ(offer({"vnic", "--nonsense", "show", "w"}), Words{"web"});
}

}  // namespace
}  // namespace patchbay::cli
