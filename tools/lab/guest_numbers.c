// guest_numbers INTERFACE PEER_MAC: numbered frames inside a lab guest, sent to a peer and received from it.
//
// A number counts as sent only when the interface's driver took its frame: the socket bypasses the kernel's queues, which
// would throw frames away without a word while the carrier is off. SIGUSR1 starts and ends sending; SIGUSR2 prints, on
// one line:
//   sent, refused, next number expected, numbers left out, steps back, longest step back, frames the socket lost,
//   microseconds that nothing came for, at most, between two frames since the last report
// and then the gaps, FIRST-LAST each. The first line says "ready". A step back is where a row of numbers comes again.
// Received frames may be longer than those sent.
#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { ether_type = 0x88b5, burst = 16, pause_ms = 2, receive_bytes = 32 << 20, gaps_max = 200 };
struct frame {
  uint8_t to[6], from[6];
  uint16_t type;
  uint32_t number;
  uint8_t rest[44];
} __attribute__((packed));

static uint32_t sent, refused, next, skipped, steps_back, step_back_max, lost;
static uint32_t gaps[gaps_max][2], gap_count;
static uint64_t came_at_us, longest_us;  // came_at_us: 0 after a report

static uint64_t now_us(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static void fail(const char* what) {
  perror(what);
  exit(1);
}

static int open_socket(const char* interface, int protocol, struct frame* frame) {
  const int one = 1, bytes = receive_bytes;
  struct sockaddr_ll address = {.sll_family = AF_PACKET, .sll_protocol = htons(protocol)};
  address.sll_ifindex = (int)if_nametoindex(interface);
  const int fd = socket(AF_PACKET, SOCK_RAW, 0);
  if (fd < 0 || address.sll_ifindex == 0) fail(interface);
  if (setsockopt(fd, SOL_PACKET, PACKET_QDISC_BYPASS, &one, sizeof one) != 0) fail("qdisc bypass");
  setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof bytes);
  struct ifreq request;
  memset(&request, 0, sizeof request);
  strncpy(request.ifr_name, interface, IFNAMSIZ - 1);
  if (ioctl(fd, SIOCGIFHWADDR, &request) != 0) fail("address");
  memcpy(frame->from, request.ifr_hwaddr.sa_data, 6);
  if (bind(fd, (struct sockaddr*)&address, sizeof address) != 0) fail("bind");
  return fd;
}

static void see(uint32_t number) {
  if (number < next) {
    ++steps_back;
    if (next - number > step_back_max) step_back_max = next - number;
  } else if (number > next) {
    skipped += number - next;
    if (gap_count < gaps_max) {
      gaps[gap_count][0] = next;
      gaps[gap_count++][1] = number - 1;
    }
  }
  next = number + 1;
}

static void receive_all(int fd, const uint8_t* self) {
  struct frame frame;
  struct sockaddr_ll from;
  int came = 0;
  for (;;) {
    socklen_t length = sizeof from;
    const ssize_t size = recvfrom(fd, &frame, sizeof frame, MSG_DONTWAIT, (struct sockaddr*)&from, &length);
    if (size < 0) return;
    if (size != sizeof frame || from.sll_pkttype == PACKET_OUTGOING || memcmp(frame.to, self, 6) != 0) continue;
    if (came++ % burst == 0) {  // the clock is dear where a guest is emulated
      const uint64_t now = now_us();
      if (came_at_us != 0 && now - came_at_us > longest_us) longest_us = now - came_at_us;
      came_at_us = now;
    }
    see(ntohl(frame.number));
  }
}

static void send_some(int fd, struct frame* frame) {
  for (int i = 0; i < burst; ++i) {
    frame->number = htonl(sent);
    if (send(fd, frame, sizeof *frame, MSG_DONTWAIT) != (ssize_t)sizeof *frame) {
      ++refused;
      return;
    }
    ++sent;
  }
}

static void report(int fd) {
  struct tpacket_stats stats;
  socklen_t length = sizeof stats;
  if (getsockopt(fd, SOL_PACKET, PACKET_STATISTICS, &stats, &length) == 0) lost += stats.tp_drops;
  printf("%u %u %u %u %u %u %u %llu", sent, refused, next, skipped, steps_back, step_back_max, lost,
         (unsigned long long)longest_us);
  came_at_us = longest_us = 0;
  for (uint32_t i = 0; i < gap_count; ++i) printf(" %u-%u", gaps[i][0], gaps[i][1]);
  printf("\n");
  fflush(stdout);
}

int main(int count, char** words) {
  struct frame frame = {.type = htons(ether_type)};
  if (count != 3 || sscanf(words[2], "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx", &frame.to[0], &frame.to[1], &frame.to[2],
                           &frame.to[3], &frame.to[4], &frame.to[5]) != 6) {
    return 2;
  }
  const int fd = open_socket(words[1], ether_type, &frame);
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGUSR1);
  sigaddset(&signals, SIGUSR2);
  sigprocmask(SIG_BLOCK, &signals, NULL);
  struct pollfd ready[2] = {{fd, POLLIN, 0}, {signalfd(-1, &signals, 0), POLLIN, 0}};
  int sending = 0;
  puts("ready");
  fflush(stdout);
  while (poll(ready, 2, sending ? pause_ms : -1) >= 0) {
    receive_all(fd, frame.from);
    if (sending && !ready[1].revents) send_some(fd, &frame);
    struct signalfd_siginfo info;
    if (ready[1].revents && read(ready[1].fd, &info, sizeof info) == sizeof info) {
      if (info.ssi_signo == SIGUSR1) sending = !sending;
      else report(fd);
    }
  }
  fail("poll");
}
