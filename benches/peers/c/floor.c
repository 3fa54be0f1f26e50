/* The floor once more, in C: that the one in Rust is as low as it goes.
 *
 *   cc -O2 -o floor_c floor.c -lpthread
 *
 * Edges, registered once; a short read has emptied the socket, unless the peer has ended its side;
 * what a write does not take is kept, and nothing is read before it has gone out. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { SCRATCH = 128 * 1024, EVENTS = 1024, MAX_CPUS = 256 };

struct connection {
  int fd;
  int ends;
  char *unsent; /* read, and not yet taken back by the socket */
  size_t unsent_len;
};

struct thread {
  pthread_t id;
  int listener;
  int cpu; /* -1: any */
};

static void fail(const char *what) {
  fprintf(stderr, "c: %s: %s\n", what, strerror(errno));
  exit(1);
}

static int bind_listener(struct sockaddr_in *address) {
  int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  socklen_t len = sizeof *address;
  if (fd < 0) fail("socket");
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  if (bind(fd, (struct sockaddr *)address, sizeof *address) < 0) fail("bind");
  if (listen(fd, 4096) < 0) fail("listen");
  if (getsockname(fd, (struct sockaddr *)address, &len) < 0) fail("getsockname");
  return fd;
}

static void end(struct connection *c) {
  close(c->fd);
  free(c->unsent);
  free(c);
}

static ssize_t send_some(int fd, const char *bytes, size_t len) {
  ssize_t n = write(fd, bytes, len);
  return n < 0 && (errno == EAGAIN || errno == EINTR) ? 0 : n;
}

static void keep(struct connection *c, const char *bytes, size_t len) {
  if (len == 0) return;
  c->unsent = malloc(len);
  if (!c->unsent) fail("malloc");
  memcpy(c->unsent, bytes, len);
  c->unsent_len = len;
}

static void handle(struct connection *c, unsigned events, char *scratch) {
  if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) c->ends = 1;
  if (c->unsent_len && (events & EPOLLOUT)) {
    ssize_t took = send_some(c->fd, c->unsent, c->unsent_len);
    if (took < 0) return end(c);
    c->unsent_len -= took;
    memmove(c->unsent, c->unsent + took, c->unsent_len);
    if (c->unsent_len == 0) {
      free(c->unsent);
      c->unsent = NULL;
    }
  }
  while (c->unsent_len == 0) {
    ssize_t n = read(c->fd, scratch, SCRATCH);
    if (n < 0 && errno == EAGAIN) return;
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return end(c);
    ssize_t took = send_some(c->fd, scratch, n);
    if (took < 0) return end(c);
    keep(c, scratch + took, n - took);
    if (n < SCRATCH && !c->ends) return;
  }
}

static void accept_all(int epoll, int listener) {
  int fd;
  while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
    struct connection *c = calloc(1, sizeof *c);
    if (!c) fail("calloc");
    c->fd = fd;
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = c};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) < 0) fail("epoll_ctl");
  }
  if (errno != EAGAIN && errno != ECONNABORTED && errno != EINTR) fail("accept");
}

static void *serve(void *arg) {
  struct thread *self = arg;
  static _Thread_local struct epoll_event events[EVENTS];
  char *scratch = malloc(SCRATCH);
  int epoll = epoll_create1(EPOLL_CLOEXEC);
  struct epoll_event listening = {.events = EPOLLIN, .data.ptr = NULL};
  if (!scratch || epoll < 0) fail("epoll");
  if (self->cpu >= 0) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(self->cpu, &set);
    if (sched_setaffinity(0, sizeof set, &set) < 0) fail("sched_setaffinity");
  }
  if (epoll_ctl(epoll, EPOLL_CTL_ADD, self->listener, &listening) < 0) fail("epoll_ctl");
  for (;;) {
    int n = epoll_wait(epoll, events, EVENTS, -1);
    if (n < 0 && errno != EINTR) fail("epoll_wait");
    for (int i = 0; i < n; i++) {
      if (events[i].data.ptr) handle(events[i].data.ptr, events[i].events, scratch);
      else accept_all(epoll, self->listener);
    }
  }
  return NULL;
}

int main(int argc, char **argv) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  int threads = 1, cpus[MAX_CPUS], cpu_count = 0, until_stdin_ends = 0;
  for (int i = 1; i < argc; i++) {
    if (!strcmp(argv[i], "--until-stdin-ends")) {
      until_stdin_ends = 1;
    } else if (!strcmp(argv[i], "--threads") && i + 1 < argc) {
      threads = atoi(argv[++i]);
    } else if (!strcmp(argv[i], "--cpus") && i + 1 < argc) {
      for (char *part = strtok(argv[++i], ","); part && cpu_count < MAX_CPUS; part = strtok(NULL, ","))
        cpus[cpu_count++] = atoi(part);
    } else if (!strcmp(argv[i], "--listen") && i + 1 < argc) {
      char *port = strrchr(argv[++i], ':');
      if (port) *port++ = 0;
      if (!port || inet_pton(AF_INET, argv[i], &address.sin_addr) != 1) {
        fprintf(stderr, "c: --listen: an address such as 127.0.0.1:0\n");
        return 2;
      }
      address.sin_port = htons(atoi(port));
    } else {
      fprintf(stderr, "usage: floor_c [--listen A] [--threads N] [--cpus 0,1] [--until-stdin-ends]\n");
      return 2;
    }
  }
  struct rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
  }
  if (threads < 1) threads = 1;
  struct thread *all = calloc(threads, sizeof *all);
  if (!all) fail("calloc");
  for (int i = 0; i < threads; i++) {
    all[i].listener = bind_listener(&address);
    all[i].cpu = cpu_count ? cpus[i % cpu_count] : -1;
    if (pthread_create(&all[i].id, NULL, serve, &all[i]) != 0) fail("pthread_create");
  }
  char text[INET_ADDRSTRLEN];
  inet_ntop(AF_INET, &address.sin_addr, text, sizeof text);
  printf("c listens on %s:%d\n", text, ntohs(address.sin_port));
  fflush(stdout);
  if (until_stdin_ends) {
    while (getchar() != EOF) {}
    return 0;
  }
  for (int i = 0; i < threads; i++) pthread_join(all[i].id, NULL);
  return 0;
}
