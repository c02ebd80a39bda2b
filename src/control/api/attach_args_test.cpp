#include "control/api/attach_args.h"

#include <gtest/gtest.h>

namespace patchbay::api {
namespace {

reconcile::VnicView web() {
  reconcile::VnicView view;
  view.desired.name = "web";
  view.desired.switch_name = "lan";
  view.desired.mac = MacAddr::from_uint64(0x5254000000aa);
  view.mtu = 1500;
  view.vhost_socket = "/run/patchbay/vhost/web.sock";
  return view;
}

// The arguments without the comment lines.
std::string arguments(const std::string& text) {
  std::string rest = text;
  while (rest.rfind('#', 0) == 0) rest.erase(0, rest.find('\n') + 1);
  return rest;
}

TEST(AttachArgs, qemu_line_of_a_vnic_on_which_patchbay_listens) {
  const auto text = attach_args(web(), {});
  ASSERT_TRUE(text);
  EXPECT_EQ(arguments(*text),
            "-object memory-backend-memfd,id=mem,size=1G,share=on -machine q35,memory-backend=mem "
            "-chardev socket,id=chr-web,path=/run/patchbay/vhost/web.sock,reconnect=1 "
            "-netdev vhost-user,id=net-web,chardev=chr-web,queues=1 "
            "-device virtio-net-pci,netdev=net-web,mac=52:54:00:00:00:aa,rx_queue_size=1024,tx_queue_size=1024,"
            "host_mtu=1500,mq=off,ctrl_guest_offloads=off\n");
  EXPECT_NE(text->find("-m 1G"), std::string::npos) << "says which -m it fits";
}

TEST(AttachArgs, several_queue_pairs_need_multiqueue_and_vectors_for_all) {
  auto view = web();
  view.desired.queues = 4;
  const auto text = attach_args(view, {});
  ASSERT_TRUE(text);
  EXPECT_NE(text->find(",chardev=chr-web,queues=4 "), std::string::npos) << *text;
  EXPECT_NE(text->find(",mq=on,vectors=10,ctrl_guest_offloads=off\n"), std::string::npos) << *text;
  EXPECT_NE(text->find("-smp"), std::string::npos) << "a guest with one CPU uses one pair";
  AttachOptions options;
  options.format = AttachOptions::Format::libvirt;
  EXPECT_NE(attach_args(view, options)->find("<driver queues='4' rx_queue_size"), std::string::npos);
}

TEST(AttachArgs, qemu_listens_where_patchbay_connects) {
  auto view = web();
  view.desired.connect = view.vhost_socket = "/tmp/a b,c.sock";
  AttachOptions options;
  options.memory_mib = 256;
  const auto text = attach_args(view, options);
  ASSERT_TRUE(text);
  EXPECT_NE(text->find("'socket,id=chr-web,path=/tmp/a b,,c.sock,server=on,wait=off'"), std::string::npos) << *text;
  EXPECT_NE(text->find("size=256M"), std::string::npos);
  EXPECT_EQ(text->find("reconnect"), std::string::npos);
}

TEST(AttachArgs, libvirt_elements_in_both_roles) {
  AttachOptions options;
  options.format = AttachOptions::Format::libvirt;
  options.memory_mib = 2048;
  auto view = web();
  auto text = attach_args(view, options);
  ASSERT_TRUE(text);
  for (const char* part :
       {"<memory unit='MiB'>2048</memory>", "<access mode='shared'/>", "<interface type='vhostuser'>",
        "<mac address='52:54:00:00:00:aa'/>", "mode='client'", "<reconnect enabled='yes' timeout='1'/>",
        "rx_queue_size='1024' tx_queue_size='1024'", "<alias name='ua-web'/>", "<qemu:device alias='ua-web'>",
        "<qemu:property name='host_mtu' type='unsigned' value='1500'/>"}) {
    EXPECT_NE(text->find(part), std::string::npos) << part;
  }
  EXPECT_EQ(text->find("<mtu"), std::string::npos) << "with it libvirt does not start the domain";
  view.desired.connect = view.vhost_socket = "/tmp/'<&.sock";
  text = attach_args(view, options);
  ASSERT_TRUE(text);
  EXPECT_NE(text->find("path='/tmp/&apos;&lt;&amp;.sock' mode='server'/>"), std::string::npos) << *text;
  EXPECT_EQ(text->find("reconnect"), std::string::npos);
}

TEST(AttachArgs, a_host_vnic_has_none) {
  auto view = web();
  view.desired.kind = model::VnicKind::host;
  const auto text = attach_args(view, {});
  ASSERT_FALSE(text);
  EXPECT_EQ(text.error().code, ErrorCode::invalid);
}

TEST(AttachArgs, memory_sizes_on_both_sides_of_the_limits) {
  EXPECT_EQ(parse_attach_options({{"memory", "1M"}})->memory_mib, 1u);
  EXPECT_EQ(parse_attach_options({{"memory", "16384G"}})->memory_mib, 16u * 1024 * 1024);
  EXPECT_EQ(parse_attach_options({{"memory", "16777216M"}})->memory_mib, 16u * 1024 * 1024);
  for (const char* bad : {"", "M", "0M", "16777217M", "99999999G", "1k", "1.5G", "-1M", "1 G", "1g", "999999999M"}) {
    EXPECT_FALSE(parse_attach_options({{"memory", bad}})) << bad;
  }
}

}  // namespace
}  // namespace patchbay::api
