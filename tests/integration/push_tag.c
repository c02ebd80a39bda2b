// tc programs for test_out_of_band_tags: the tag of VLAN_ID is added on the way out and taken off on the way in, by the
// kernel's own helpers, which keep it beside the frame and not in it. Needs no header but this file.
#define SECTION(name) __attribute__((section(name), used))

struct __sk_buff;
static int (*const vlan_push)(struct __sk_buff*, unsigned short proto, unsigned short tci) = (void*)18;
static int (*const vlan_pop)(struct __sk_buff*) = (void*)19;

SECTION("tc_push") int push(struct __sk_buff* skb) {
  vlan_push(skb, 0x0081, VLAN_ID);  // 0x8100 in network order
  return 0;
}

SECTION("tc_pop") int pop(struct __sk_buff* skb) {
  vlan_pop(skb);
  return 0;
}

SECTION("license") char license_text[] = "GPL";
