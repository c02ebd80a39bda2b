#include "control/host/ingress_block.h"

#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>

#include <array>
#include <cerrno>
#include <vector>

namespace patchbay::host {
namespace {

constexpr std::uint32_t table_owned = 2;  // NFT_TABLE_F_OWNER
constexpr const char* chain_name = "ingress";

constexpr std::uint16_t type_of(unsigned message) noexcept {
  return static_cast<std::uint16_t>(NFNL_SUBSYS_NFTABLES << 8U | message);
}

Message frame(std::uint16_t type) {  // of a transaction
  return {type, 0, nfgenmsg{AF_UNSPEC, NFNETLINK_V0, htons(NFNL_SUBSYS_NFTABLES)}};
}

Message in_table(unsigned message, unsigned flags) {
  return {type_of(message), NLM_F_ACK | flags, nfgenmsg{NFPROTO_NETDEV, NFNETLINK_V0, 0}};
}

std::string table_of(const std::string& nic) {
  return "patchbay-" + nic;
}

Message new_table(const std::string& nic) {
  Message message = in_table(NFT_MSG_NEWTABLE, NLM_F_CREATE | NLM_F_EXCL);
  message.put_text(NFTA_TABLE_NAME, table_of(nic));
  message.put_be32(NFTA_TABLE_FLAGS, table_owned);
  return message;
}

Message delete_table(const std::string& nic) {
  Message message = in_table(NFT_MSG_DELTABLE, 0);
  message.put_text(NFTA_TABLE_NAME, table_of(nic));
  return message;
}

Message new_chain(const std::string& nic) {
  Message message = in_table(NFT_MSG_NEWCHAIN, NLM_F_CREATE | NLM_F_EXCL);
  message.put_text(NFTA_CHAIN_TABLE, table_of(nic));
  message.put_text(NFTA_CHAIN_NAME, chain_name);
  const auto hook = message.begin(NFTA_CHAIN_HOOK);
  message.put_be32(NFTA_HOOK_HOOKNUM, NF_NETDEV_INGRESS);
  message.put_be32(NFTA_HOOK_PRIORITY, 0);
  message.put_text(NFTA_HOOK_DEV, nic);
  message.end(hook);
  message.put_text(NFTA_CHAIN_TYPE, "filter");
  message.put_be32(NFTA_CHAIN_POLICY, NF_ACCEPT);
  return message;
}

// `put` puts the attributes of the expression called `name`.
template <typename Put>
void put_expression(Message& message, const char* name, Put put) {
  const auto element = message.begin(NFTA_LIST_ELEM);
  message.put_text(NFTA_EXPR_NAME, name);
  const auto data = message.begin(NFTA_EXPR_DATA);
  put();
  message.end(data);
  message.end(element);
}

// Drops frames whose type, behind the addresses and in front of any tag, is `ether_type`: a tagged frame has another.
Message new_rule(const std::string& nic, std::uint16_t ether_type) {
  Message message = in_table(NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND);
  message.put_text(NFTA_RULE_TABLE, table_of(nic));
  message.put_text(NFTA_RULE_CHAIN, chain_name);
  const auto expressions = message.begin(NFTA_RULE_EXPRESSIONS);
  put_expression(message, "payload", [&message] {
    message.put_be32(NFTA_PAYLOAD_DREG, NFT_REG_1);
    message.put_be32(NFTA_PAYLOAD_BASE, NFT_PAYLOAD_LL_HEADER);
    message.put_be32(NFTA_PAYLOAD_OFFSET, 2 * ETH_ALEN);
    message.put_be32(NFTA_PAYLOAD_LEN, sizeof ether_type);
  });
  put_expression(message, "cmp", [&message, ether_type] {
    message.put_be32(NFTA_CMP_SREG, NFT_REG_1);
    message.put_be32(NFTA_CMP_OP, NFT_CMP_EQ);
    const auto data = message.begin(NFTA_CMP_DATA);
    const std::array<std::uint8_t, 2> wire{static_cast<std::uint8_t>(ether_type >> 8U),
                                           static_cast<std::uint8_t>(ether_type)};
    message.put(NFTA_DATA_VALUE, wire);
    message.end(data);
  });
  put_expression(message, "immediate", [&message] {
    message.put_be32(NFTA_IMMEDIATE_DREG, NFT_REG_VERDICT);
    const auto data = message.begin(NFTA_IMMEDIATE_DATA);
    const auto verdict = message.begin(NFTA_DATA_VERDICT);
    message.put_be32(NFTA_VERDICT_CODE, NF_DROP);
    message.end(verdict);
    message.end(data);
  });
  message.end(expressions);
  return message;
}

}  // namespace

Result<void> IngressBlock::put(const Link& nic) {
  if (is_on(nic)) return {};
  remove(nic.name);
  if (!channel_) {
    auto channel = Channel::open(NETLINK_NETFILTER);
    if (!channel) {
      return fail(channel.error().code, "nic " + nic.name + ": keeping what it receives from the host's IP needs " +
                                            "nf_tables: " + channel.error().message);
    }
    channel_.emplace(std::move(*channel));
  }
  const std::vector<Message> messages{frame(NFNL_MSG_BATCH_BEGIN),   new_table(nic.name),
                                      new_chain(nic.name),           new_rule(nic.name, ETH_P_IP),
                                      new_rule(nic.name, ETH_P_ARP), new_rule(nic.name, ETH_P_IPV6),
                                      frame(NFNL_MSG_BATCH_END)};
  if (const int error = channel_->transaction(messages); error != 0) {
    return fail(system_error("nic " + nic.name + ": keeping what it receives from the host's IP (nf_tables)", error));
  }
  indexes_[nic.name] = nic.index;
  return {};
}

void IngressBlock::remove(const std::string& nic) {
  if (indexes_.erase(nic) == 0) return;
  const std::vector<Message> messages{frame(NFNL_MSG_BATCH_BEGIN), delete_table(nic), frame(NFNL_MSG_BATCH_END)};
  static_cast<void>(channel_->transaction(messages));  // ENOENT: it is gone already, which is what was asked for
}

bool IngressBlock::is_on(const Link& nic) const {
  const auto found = indexes_.find(nic.name);
  return found != indexes_.end() && found->second == nic.index;
}

}  // namespace patchbay::host
