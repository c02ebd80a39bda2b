// A stand-in for the data plane's workers and control, in one thread: one NIC that DPDK drives, its default queue and the
// queues that are opened, and a list of what came in where. test_vmq_hardware.py asks it.
//
//   queue_probe ADDRESS FIFO ANSWERS
//
// Each line that is written to FIFO is a number and a command; ANSWERS.NUMBER holds the answer, as JSON.
//   ability            sorting, queues, vlan_only, restarts, reason
//   mtu BYTES          of the switch
//   open | close Q     a queue; its number in this program's list
//   filter Q MAC VID | clear Q
//   seen               what came in since the last time: [queue, destination, VLAN of the tag beside or in it, number in it]
//   hold | go          receives nothing meanwhile; | goes on
//   rings              of each queue of the device: frames that the hardware has put there and nobody took
//   sleep              sleeps as a worker does, until an interrupt of any queue or five seconds; whether one came
//   mbufs              how many are in use
//   send INTERFACE MAC VID NUMBER COUNT   frames with numbers from NUMBER on, by the kernel's interface; VID -1: untagged
//   quit
#include <fcntl.h>
#include <fmt/format.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <rte_ethdev.h>
#include <rte_mempool.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>
#include <vector>

#include "base/byte_order.h"
#include "base/unique_fd.h"
#include "dataplane/dpdk/eal.h"
#include "dataplane/ports/ethdev_port.h"

namespace patchbay::dataplane {
namespace {

using nlohmann::json;

class Probe {
 public:
  Probe(const dpdk::Eal& eal, std::string address) : address_(std::move(address)) {
    auto opened = EthdevPort::open(PortId{1}, event_.get(), eal, address_);
    if (!opened) {
      fmt::print(stderr, "{}\n", opened.error().message);
      return;
    }
    port_ = std::move(*opened);
    port_->attach(epoll_.get());
  }
  ~Probe() {
    for (auto& [number, queue] : queues_) port_->close_queue(*queue);
  }
  Probe(const Probe&) = delete;
  Probe& operator=(const Probe&) = delete;

  [[nodiscard]] bool works() const { return port_ != nullptr; }

  void poll() {
    if (held_) return;
    take(*port_, 0);
    for (auto& [number, queue] : queues_) take(*queue, number);
  }

  json answer(const std::string& command, std::istringstream& words) {
    if (command == "ability") {
      const QueueAbility can = port_->queue_ability();
      return {{"sorting", static_cast<int>(can.sorting)},
              {"queues", can.queues},
              {"vlan_only", can.vlan_only},
              {"restarts", can.restarts},
              {"reason", can.reason}};
    }
    if (command == "mtu") {
      std::uint16_t mtu = 0;
      words >> mtu;
      port_->set_switch_mtu(mtu);
      return {};
    }
    if (command == "open") return open();
    if (command == "seen") return std::exchange(seen_, json::array());
    if (command == "hold" || command == "go") {
      held_ = command == "hold";
      return {};
    }
    if (command == "rings") return rings();
    if (command == "sleep") return sleep();
    if (command == "mbufs") return mbufs();
    if (command == "carrier") return port_->device_state()->carrier;
    if (command == "send") return send(words);
    int number = 0;
    words >> number;
    if (!queues_.contains(number)) return {{"error", "no such queue"}};
    if (command == "filter") return filter(number, words);
    if (command == "clear") return said(port_->set_queue_filter(*queues_[number], std::nullopt));
    if (command == "close") {
      queues_[number]->detach();
      port_->close_queue(*queues_[number]);
      queues_.erase(number);
      return {};
    }
    return {{"error", "no such command"}};
  }

 private:
  static json said(const Result<void>& done) { return done ? json() : json{{"error", done.error().message}}; }

  json open() {
    auto queue = port_->open_queue(PortId{static_cast<std::uint32_t>(++opened_ + 1)});
    if (!queue) return {{"error", queue.error().message}};
    (*queue)->attach(epoll_.get());
    queues_[opened_] = std::move(*queue);
    return opened_;
  }

  json filter(int number, std::istringstream& words) {
    std::string mac;
    QueueFilter wanted;
    words >> mac >> wanted.vid;
    const auto parsed = MacAddr::parse(mac);
    if (!parsed) return {{"error", "no address"}};
    wanted.mac = *parsed;
    return said(port_->set_queue_filter(*queues_[number], wanted));
  }

  static json send(std::istringstream& words) {
    std::string interface, mac;
    int vid = 0;
    std::uint32_t number = 0, count = 0;
    words >> interface >> mac >> vid >> number >> count;
    const auto target = MacAddr::parse(mac);
    sockaddr_ll to = {};
    to.sll_family = AF_PACKET;
    to.sll_ifindex = static_cast<int>(if_nametoindex(interface.c_str()));
    const UniqueFd raw(socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0));
    if (!target || to.sll_ifindex == 0) return {{"error", "no such address or interface"}};
    std::array<std::uint8_t, 64> frame{};
    std::copy(target->bytes().begin(), target->bytes().end(), frame.begin());
    frame[6] = 0x02;
    std::uint8_t* at = frame.data() + addresses_size;
    if (vid >= 0) {
      store_be16(at, tpid_8021q);
      store_be16(at + 2, static_cast<std::uint16_t>(vid));
      at += vlan_tag_size;
    }
    store_be16(at, 0x88B5);
    for (const std::uint32_t end = number + count; number < end; ++number) {
      store_be32(at + 2, number);
      if (sendto(raw.get(), frame.data(), frame.size(), 0, reinterpret_cast<sockaddr*>(&to), sizeof to) < 0) {
        return {{"error", std::strerror(errno)}};
      }
    }
    return {};
  }

  void take(Port& port, int number) {
    const std::size_t count = port.receive(burst_);
    for (std::size_t i = 0; i < count; ++i) note(burst_.frames[i], number);
    port.complete(count);
  }

  void note(const Frame& frame, int number) {
    if (frame.head_size < 32) return;
    const std::uint8_t* at = frame.head + addresses_size;
    int vid = frame.tag_tpid != 0 ? frame.tag_tci & 0xFFF : -1;
    if (vid < 0 && load_be16(at) == tpid_8021q) {
      vid = load_be16(at + 2) & 0xFFF;
      at += vlan_tag_size;
    }
    if (load_be16(at) != 0x88B5) return;  // not one of the test's
    seen_.push_back({number, MacAddr::from_wire(frame.head).to_string(), vid, load_be32(at + 2)});
  }

  json rings() {
    std::uint16_t port = 0;
    rte_eth_dev_info info = {};
    const std::string name = address_.substr(0, address_.find(','));
    if (rte_eth_dev_get_port_by_name(name.c_str(), &port) != 0 || rte_eth_dev_info_get(port, &info) != 0) return {};
    json counts = json::array();
    for (std::uint16_t queue = 0; queue < info.nb_rx_queues; ++queue)
      counts.push_back(rte_eth_rx_queue_count(port, queue));
    return counts;
  }

  json sleep() {
    bool work = port_->prepare_sleep();
    for (auto& [number, queue] : queues_) work = queue->prepare_sleep() || work;
    epoll_event event = {};
    const int woken = work ? 0 : epoll_wait(epoll_.get(), &event, 1, 5000);
    port_->woke();
    for (auto& [number, queue] : queues_) queue->woke();
    return {{"work", work}, {"woken", woken}, {"port", woken > 0 ? event.data.u64 : 0}};
  }

  static json mbufs() {
    unsigned used = 0;
    rte_mempool_walk(
        [](rte_mempool* pool, void* sum) { *static_cast<unsigned*>(sum) += rte_mempool_in_use_count(pool); }, &used);
    return used;
  }

  const std::string address_;
  UniqueFd event_{eventfd(0, EFD_NONBLOCK)};
  UniqueFd epoll_{epoll_create1(EPOLL_CLOEXEC)};
  std::unique_ptr<EthdevPort> port_;
  std::map<int, std::unique_ptr<Port>> queues_;
  int opened_ = 0;
  bool held_ = false;
  json seen_ = json::array();
  Burst burst_;
};

int run(const char* address, const char* fifo, const std::string& answers) {
  auto eal = dpdk::Eal::create();
  if (!eal) {
    fmt::print(stderr, "{}\n", eal.error().message);
    return 1;
  }
  Probe probe(**eal, address);
  if (!probe.works()) return 1;
  UniqueFd commands(::open(fifo, O_RDWR | O_NONBLOCK | O_CLOEXEC));
  fmt::print(stderr, "queue_probe: {} is open\n", address);
  std::string line;
  for (;;) {
    probe.poll();
    char byte = 0;
    while (::read(commands.get(), &byte, 1) == 1 && byte != '\n') line += byte;
    if (byte != '\n') continue;
    std::istringstream words(std::exchange(line, {}));
    std::string number, command;
    words >> number >> command;
    if (command == "quit") return 0;
    const std::string target = answers + "." + number;
    std::ofstream(target + ".new") << probe.answer(command, words).dump() << "\n";
    std::rename((target + ".new").c_str(), target.c_str());
  }
}

}  // namespace
}  // namespace patchbay::dataplane

int main(int count, char** words) {
  if (count != 4) {
    fmt::print(stderr, "queue_probe ADDRESS FIFO ANSWERS\n");
    return 2;
  }
  return patchbay::dataplane::run(words[1], words[2], words[3]);
}
