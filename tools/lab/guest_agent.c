// First process of a lab guest once it is set up: runs the commands that come over the second serial port.
//
// A request is one line "ID BASE64(command)", the answer one line "@ID STATUS BASE64(output)". Commands run side by
// side; an answer is sent when its shell has ended, even if something that it left behind still holds its output.
// "hello" is answered by "@ready". Everything else is ignored: the line may start in the middle of something.
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

enum { commands_max = 64, line_max = 1 << 18 };
static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

struct command {
  pid_t pid;  // 0: this place is free
  int output;
  char id[32];
};
static struct command commands[commands_max];
static int port;

static void send_all(const char* bytes, size_t length) {
  while (length > 0) {
    const ssize_t sent = write(port, bytes, length);
    if (sent <= 0) continue;
    bytes += sent;
    length -= (size_t)sent;
  }
}

static size_t decode(const char* text, char* bytes) {
  unsigned bits = 0, count = 0;
  size_t length = 0;
  for (; *text && *text != '='; ++text) {
    const char* found = strchr(alphabet, *text);
    if (!found) break;
    bits = bits << 6 | (unsigned)(found - alphabet);
    count += 6;
    if (count >= 8) bytes[length++] = (char)(bits >> (count -= 8));
  }
  return length;
}

static void send_encoded(const unsigned char* bytes, size_t length) {
  char out[4096];
  size_t filled = 0;
  for (size_t i = 0; i < length; i += 3) {
    const size_t left = length - i;
    const unsigned bits = (unsigned)bytes[i] << 16 | (left > 1 ? (unsigned)bytes[i + 1] << 8 : 0) |
                          (left > 2 ? (unsigned)bytes[i + 2] : 0);
    out[filled++] = alphabet[bits >> 18 & 63];
    out[filled++] = alphabet[bits >> 12 & 63];
    out[filled++] = left > 1 ? alphabet[bits >> 6 & 63] : '=';
    out[filled++] = left > 2 ? alphabet[bits & 63] : '=';
    if (filled > sizeof out - 4) {
      send_all(out, filled);
      filled = 0;
    }
  }
  send_all(out, filled);
}

static void answer(struct command* command, int status) {
  char head[64];
  const int code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  send_all(head, (size_t)snprintf(head, sizeof head, "@%s %d ", command->id, code));
  const off_t length = lseek(command->output, 0, SEEK_END);
  if (length > 0) {
    unsigned char* bytes = mmap(NULL, (size_t)length, PROT_READ, MAP_SHARED, command->output, 0);
    if (bytes != MAP_FAILED) {
      send_encoded(bytes, (size_t)length);
      munmap(bytes, (size_t)length);
    }
  }
  send_all("\n", 1);
  close(command->output);
  command->pid = 0;
}

static void reap(void) {
  int status;
  pid_t pid;
  while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
    for (int i = 0; i < commands_max; ++i) {
      if (commands[i].pid == pid) answer(&commands[i], status);
    }
  }
}

static void start(const char* id, const char* encoded) {
  struct command* command = NULL;
  for (int i = 0; i < commands_max && !command; ++i) {
    if (commands[i].pid == 0) command = &commands[i];
  }
  char* text = malloc(strlen(encoded) + 1);
  if (!command || !text) {
    free(text);
    return;  // the host's time limit tells
  }
  text[decode(encoded, text)] = 0;
  snprintf(command->id, sizeof command->id, "%.31s", id);
  command->output = memfd_create("output", MFD_CLOEXEC);
  // Children that write at the same time must not write over each other: a memfd's position is not locked.
  fcntl(command->output, F_SETFL, O_APPEND);
  command->pid = fork();
  if (command->pid == 0) {
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    setsid();
    dup2(open("/dev/null", O_RDONLY), 0);
    dup2(command->output, 1);
    dup2(command->output, 2);
    execl("/bin/sh", "sh", "-c", text, (char*)NULL);
    _exit(127);
  }
  if (command->pid < 0) command->pid = 0;
  free(text);
}

static void take(char* line) {
  if (strcmp(line, "hello") == 0) {
    send_all("@ready\n", 7);
    return;
  }
  char* space = strchr(line, ' ');
  if (!space || space == line || space - line > 20 || strspn(line, "0123456789") != (size_t)(space - line)) return;
  *space = 0;
  start(line, space + 1);
}

int main(void) {
  port = open("/dev/ttyS1", O_RDWR | O_NOCTTY | O_CLOEXEC);
  if (port < 0) return 1;
  struct termios settings;
  tcgetattr(port, &settings);
  cfmakeraw(&settings);
  settings.c_cflag |= CLOCAL;
  cfsetspeed(&settings, B115200);
  tcsetattr(port, TCSANOW, &settings);
  sigset_t child;
  sigemptyset(&child);
  sigaddset(&child, SIGCHLD);
  sigprocmask(SIG_BLOCK, &child, NULL);
  const int ended = signalfd(-1, &child, SFD_CLOEXEC);
  send_all("@ready\n", 7);

  static char line[line_max];
  size_t length = 0;
  for (;;) {
    struct pollfd sources[2] = {{port, POLLIN, 0}, {ended, POLLIN, 0}};
    poll(sources, 2, -1);
    if (sources[1].revents) {
      struct signalfd_siginfo information;
      if (read(ended, &information, sizeof information) > 0) reap();
    }
    if (!sources[0].revents) continue;
    char chunk[512];
    const ssize_t got = read(port, chunk, sizeof chunk);
    for (ssize_t i = 0; i < got; ++i) {
      if (chunk[i] == '\n') {
        line[length] = 0;
        take(line);
        length = 0;
      } else if (length < line_max - 1) {
        line[length++] = chunk[i];
      }
    }
  }
}
