// guest_frames INTERFACE FOLDER: whole frames inside a lab guest, bytes as on the wire.
//
// Lines of standard input, hexadecimal, are sent. What arrives is written to FOLDER/1 in the same form, tags that the
// kernel keeps apart put back; SIGUSR1 ends that file and begins FOLDER/2, and so on, so that a reader takes whole files
// and no frame falls between two. A frame that the kernel does not take ends the program with a message: the counts of
// whoever asked would be wrong from there on.
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
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

enum { frame_max = 16384, receive_bytes = 8 << 20 };
static int frames, number;
static FILE* output;

static void fail(const char* what) {
  perror(what);
  exit(1);
}

static void next_file(const char* folder) {
  char path[256];
  snprintf(path, sizeof path, "%s/%d", folder, ++number);
  if (output && fclose(output) != 0) fail("write");
  output = fopen(path, "w");
  if (!output) fail(path);
}

static void open_socket(const char* interface) {
  const int one = 1, bytes = receive_bytes;
  struct sockaddr_ll address = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL)};
  address.sll_ifindex = (int)if_nametoindex(interface);
  frames = socket(AF_PACKET, SOCK_RAW, 0);  // hears nothing until bind()
  if (frames < 0 || address.sll_ifindex == 0) fail(interface);
  if (setsockopt(frames, SOL_PACKET, PACKET_AUXDATA, &one, sizeof one) != 0) fail("auxdata");
  setsockopt(frames, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof bytes);
  if (bind(frames, (struct sockaddr*)&address, sizeof address) != 0) fail("bind");
}

static void receive_one(void) {
  static uint8_t bytes[frame_max + 4];
  char control[256];
  struct sockaddr_ll from;
  struct iovec place = {bytes + 4, frame_max};
  struct msghdr message = {.msg_name = &from, .msg_namelen = sizeof from, .msg_iov = &place, .msg_iovlen = 1,
                           .msg_control = control, .msg_controllen = sizeof control};
  const ssize_t size = recvmsg(frames, &message, MSG_DONTWAIT);
  if (size < 14 || from.sll_pkttype == PACKET_OUTGOING) return;
  uint8_t* begin = bytes + 4;
  for (struct cmsghdr* c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c)) {
    struct tpacket_auxdata aux;
    if (c->cmsg_level != SOL_PACKET || c->cmsg_type != PACKET_AUXDATA) continue;
    memcpy(&aux, CMSG_DATA(c), sizeof aux);
    if (!(aux.tp_status & TP_STATUS_VLAN_VALID)) continue;
    const uint16_t tpid = aux.tp_status & TP_STATUS_VLAN_TPID_VALID ? aux.tp_vlan_tpid : ETH_P_8021Q;
    begin = bytes;
    memmove(begin, begin + 4, 12);
    const uint16_t tag[2] = {htons(tpid), htons(aux.tp_vlan_tci)};
    memcpy(begin + 12, tag, 4);
  }
  for (const uint8_t* at = begin; at < bytes + 4 + size; ++at) fprintf(output, "%02x", *at);
  fputc('\n', output);
}

static void send_line(const char* line) {
  static uint8_t bytes[frame_max];
  size_t size = 0;
  unsigned value;
  for (; size < sizeof bytes && sscanf(line + 2 * size, "%2x", &value) == 1; ++size) bytes[size] = (uint8_t)value;
  if (size > 0 && send(frames, bytes, size, 0) != (ssize_t)size) fail("send");
}

int main(int count, char** words) {
  if (count != 3) return 2;
  open_socket(words[1]);
  next_file(words[2]);
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGUSR1);
  sigprocmask(SIG_BLOCK, &signals, NULL);
  struct pollfd ready[3] = {{frames, POLLIN, 0}, {0, POLLIN, 0}, {signalfd(-1, &signals, 0), POLLIN, 0}};
  static char line[2 * frame_max + 2];
  setvbuf(stdin, NULL, _IONBF, 0);  // a line that is read is all that is read: poll() tells of the others
  while (poll(ready, 3, -1) >= 0) {
    if (ready[0].revents) receive_one();
    if (ready[1].revents) {
      if (!fgets(line, sizeof line, stdin)) return 0;
      send_line(line);
    }
    if (ready[2].revents && !ready[0].revents) {  // after the last frame that is there
      struct signalfd_siginfo info;
      if (read(ready[2].fd, &info, sizeof info) == sizeof info) next_file(words[2]);
    }
  }
  fail("poll");
}
